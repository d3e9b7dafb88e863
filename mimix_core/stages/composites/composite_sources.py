"""Load what composites are planned from: clips, captions and cutouts of the training split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from mimix_core import tables
from mimix_core.domain.co_actors import find_absent_co_actors
from mimix_core.domain.guest_actions import find_absent_things
from mimix_core.domain.library import Style
from mimix_core.domain.splits import Split, assign_splits, captioned_episodes
from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey, OmitDefault
from mimix_core.settings import CompositeSettings, DatasetSettings
from mimix_core.stages.composites.composite_rows import StoredClip, StoredCutout
from mimix_core.stages.composites.pairing import BackgroundClip
from mimix_core.stages.composites.scale_translate import boxes_array, non_empty_mask
from mimix_core.tables import CaptionRow, CutoutRow


class CompositeInputs(FrozenModel):
    """The clips, captions and cutouts of all episodes, and how episodes are split.

    ``vetoes``: ids of composites, cutouts and clips that people left out. ``earlier_results``:
    folder of the stage's results, from which renders are reused. ``groups``: as in the dataset.
    """

    unit: Annotated[str, ExcludeFromKey()]
    clips: tuple[TableRef, ...]
    captions: tuple[TableRef, ...]
    cutouts: tuple[TableRef, ...]
    split: DatasetSettings
    vetoes: tuple[str, ...] = ()
    groups: Annotated[dict[str, str], OmitDefault()] = Field(default_factory=dict)
    earlier_results: Annotated[Path | None, ExcludeFromKey()] = None

    @field_validator("split")
    @classmethod
    def _drop_dataset_ratio(cls, split: DatasetSettings) -> DatasetSettings:
        """Exclude the dataset's ratio: it does not affect which composites are rendered."""
        return split.model_copy(update={"ratio": None})


@dataclass(frozen=True)
class CompositeSources:
    """Everything that composites are planned from, by clip or cutout id.

    ``train_clips``: the clips of the training split. ``cutout_rows``: all rows of cutouts, rejected
    ones included, by clip. ``absent_partners``: characters that a cutout's actions mention and
    that would be missing from the composite, by cutout. ``absent_things``: things without which
    nothing is said of what the character does, by cutout. ``vetoes``: composites, cutouts and clips
    left out by hand; a clip among them is not in ``train_clips``.
    """

    clips: Mapping[str, StoredClip]
    train_clips: Mapping[str, StoredClip]
    cutouts: Mapping[str, StoredCutout]
    cutout_rows: Mapping[str, list[CutoutRow]]
    backgrounds: Sequence[BackgroundClip]
    absent_partners: Mapping[str, list[str]]
    absent_things: Mapping[str, tuple[str, ...]]
    vetoes: frozenset[str]

    def is_pasted(self, name: str, settings: CompositeSettings) -> bool:
        """Whether a cutout of the training split has an action of its own, and so can be pasted."""
        return (
            self.cutouts[name].row["clip_id"] in self.train_clips
            and name not in self.vetoes
            and not (settings.solo_actions_only and self.absent_partners[name])
            and not self.absent_things[name]
        )


def load_sources(inputs: CompositeInputs, settings: CompositeSettings) -> CompositeSources:
    """Load the usable clips, captions and cutouts, and what is missing for each cutout."""
    clips = _load_usable_clips(inputs.clips)
    actions = {row["clip_id"]: _caption_actions(row) for row in _load_captions(inputs.captions)}
    names = {clip_id: frozenset(name for name, _ in pairs) for clip_id, pairs in actions.items()}
    cutouts: dict[str, StoredCutout] = {}
    cutout_rows: dict[str, list[CutoutRow]] = {}
    for ref in inputs.cutouts:
        rows = tables.read(ref.path, tables.CUTOUTS)
        for row in rows:
            cutout_rows.setdefault(row["clip_id"], []).append(row)
        for row in tables.usable(rows):
            cutouts[row["cutout_id"]] = StoredCutout(row, ref.folder / row["file"])
    split = inputs.split
    splits = assign_splits(
        captioned_episodes((clip.row for clip in clips.values()), names),
        seed=split.seed,
        val_share=split.val_share,
        test_share=split.test_share,
        groups=inputs.groups,
    )
    train_clips = {
        clip_id: clip
        for clip_id, clip in sorted(clips.items())
        if clip_id in names
        and splits[clip.row["episode_id"]] is Split.TRAIN
        and clip_id not in inputs.vetoes
    }
    cutouts = dict(sorted(cutouts.items()))
    backgrounds = [
        BackgroundClip(clip_id, Style(clip.row["style"]), names[clip_id])
        for clip_id, clip in train_clips.items()
        if not settings.require_located_characters
        or names[clip_id] <= _located_characters(cutout_rows.get(clip_id, ()))
    ]
    partners = {
        name: find_absent_co_actors(actions.get(cutout.row["clip_id"], ()), cutout.row["character"])
        for name, cutout in cutouts.items()
    }
    things = {
        name: find_absent_things(actions.get(cutout.row["clip_id"], ()), cutout.row["character"])
        if settings.guest_props == "drop"
        else ()
        for name, cutout in cutouts.items()
    }
    return CompositeSources(
        clips,
        train_clips,
        cutouts,
        cutout_rows,
        backgrounds,
        partners,
        things,
        frozenset(inputs.vetoes),
    )


def _load_usable_clips(refs: Iterable[TableRef]) -> dict[str, StoredClip]:
    return {
        row["clip_id"]: StoredClip(row, ref.folder / row["file"])
        for ref in refs
        for row in tables.usable(tables.read(ref.path, tables.CLIPS))
    }


def _load_captions(refs: Iterable[TableRef]) -> Iterator[CaptionRow]:
    for ref in refs:
        yield from tables.usable(tables.read(ref.path, tables.CAPTIONS))


def _caption_actions(caption: CaptionRow) -> list[tuple[str, str]]:
    return [(action["name"], action["action"]) for action in caption["actions"]]


def _located_characters(rows: Iterable[CutoutRow]) -> set[str]:
    """Return the characters of a clip that have a box in at least one frame."""
    return {row["character"] for row in rows if non_empty_mask(boxes_array(row["boxes"])).any()}
