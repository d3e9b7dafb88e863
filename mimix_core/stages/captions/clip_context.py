"""What is known of a workspace's clips, to check captions of any origin against."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from mimix_core.project.workspace import SourceEpisode
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.caption_inputs import Dialogue
from mimix_core.stages.captions.caption_validation import Rules
from mimix_core.stages.captions.token_count import token_counter
from mimix_core.tables import Row


def episode_id_of(clip_id: str) -> str:
    """The episode in a clip's id."""
    return clip_id.rpartition("-c")[0]


@dataclass(frozen=True)
class Known:
    """``episodes`` by id, ``said`` and ``seen`` by clip; ``names``: of the whole library."""

    episodes: Mapping[str, SourceEpisode]
    said: Mapping[str, Dialogue]
    seen: Mapping[str, Collection[str]]
    settings: CaptionSettings
    names: tuple[str, ...]

    def rules(self, row: Row) -> Rules | None:
        """The rules of a row's clip or composite; None for one of no episode of the library."""
        of_clip = episode_id_of(row["clip_id"])
        episode = self.episodes.get(of_clip)
        composite = episode is None
        if episode is None:
            # A composite is named after the cut-out and, last, its background.
            endings = ((f"-on-{name}", one) for name, one in self.episodes.items())
            episode = next((one for ending, one in endings if of_clip.endswith(ending)), None)
        if episode is None:
            return None
        said = self.said.get(row["clip_id"])
        return Rules(
            roster=self.names if composite else episode.show.roster(),
            style=episode.show.style,
            max_words=self.settings.max_words * (2 if composite else 1),
            max_tokens=self.settings.max_tokens,
            count_tokens=self._count_tokens,
            english=self.settings.language == "en",
            said=said.text if said is not None and said.known else None,
            seen=self.seen.get(row["clip_id"]),
        )

    @cached_property
    def _count_tokens(self) -> Callable[[str], int] | None:
        folder = self.settings.tokenizer
        return None if folder is None else token_counter(folder)
