"""Collect what is known about a workspace's clips, to check captions of any origin."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Generic, Protocol, TypeVar

from mimix_core.domain.ids import episode_id_of_clip, episode_id_of_composite
from mimix_core.engine.artifacts import TableRef
from mimix_core.project.workspace import SourceEpisode
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.caption_inputs import ClipDialogue
from mimix_core.stages.captions.caption_validation import CaptionRules
from mimix_core.stages.captions.token_count import load_token_counter
from mimix_core.tables import CaptionRow

_TABLES_IN_MEMORY = 16

Value_co = TypeVar("Value_co", covariant=True)


class ClipLookup(Protocol[Value_co]):
    """What is known about clips, by clip_id: a dict, or tables of episodes."""

    def get(self, clip_id: str, /) -> Value_co | None:
        """Return what is known about a clip, or None."""
        ...


class EpisodeTables(Generic[Value_co]):
    """What tables of one episode each contain about a clip; the last few are in memory.

    ``refs``: by episode id. ``load`` reads a table by clip_id.
    """

    def __init__(
        self,
        refs: Mapping[str, TableRef],
        load: Callable[[TableRef], Mapping[str, Value_co]],
    ) -> None:
        self._refs = refs
        self._load = lru_cache(_TABLES_IN_MEMORY)(load)

    def get(self, clip_id: str, /) -> Value_co | None:
        """Return what is known about a clip, or None."""
        ref = self._refs.get(episode_id_of_clip(clip_id))
        return None if ref is None else self._load(ref).get(clip_id)


@dataclass(frozen=True)
class ClipContext:
    """What is known about a workspace's clips.

    ``episodes``: by id. ``dialogues`` and ``located`` (characters): by clip_id.
    ``character_names``: of the complete library.
    """

    episodes: Mapping[str, SourceEpisode]
    dialogues: ClipLookup[ClipDialogue]
    located: ClipLookup[Collection[str]]
    settings: CaptionSettings
    character_names: tuple[str, ...]

    def rules(self, row: CaptionRow) -> CaptionRules | None:
        """Return the rules for a row's clip or composite; None if its episode is unknown."""
        episode_id = episode_id_of_clip(row["clip_id"])
        episode = self.episodes.get(episode_id)
        is_composite = episode is None
        if episode is None:
            # A composite is named after its cutout, followed by its background.
            background = episode_id_of_composite(row["clip_id"], self.episodes)
            episode = self.episodes.get(background) if background is not None else None
        if episode is None:
            return None
        dialogue = self.dialogues.get(row["clip_id"])
        return CaptionRules(
            roster=self.character_names if is_composite else episode.show.roster(),
            style=episode.show.style,
            max_words=self.settings.max_words * (2 if is_composite else 1),
            max_tokens=self.settings.max_tokens,
            count_tokens=self._count_tokens,
            english=self.settings.language == "en",
            dialogue=dialogue.text if dialogue is not None and dialogue.available else None,
            located=self.located.get(row["clip_id"]),
        )

    @cached_property
    def _count_tokens(self) -> Callable[[str], int] | None:
        folder = self.settings.tokenizer
        return None if folder is None else load_token_counter(folder)
