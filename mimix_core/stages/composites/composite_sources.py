"""Load what composites are planned from: clips, captions and cutouts of the training split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from mimix_core import tables
from mimix_core.domain.co_actors import find_absent_co_actors
from mimix_core.domain.guest_actions import find_absent_things
from mimix_core.domain.library import Style
from mimix_core.domain.splits import Split, assign_splits, captioned_episodes
from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey, OmitDefault
from mimix_core.settings import CompositeSettings, DatasetSettings
from mimix_core.stages.composites.pairing import BackgroundClip
from mimix_core.stages.composites.scale_translate import non_empty_mask
from mimix_core.stages.composites.stored_rows import StoredClip, StoredCutout, StoredRows
from mimix_core.tables import Status


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

    ``train_clips``: the clips of the training split. ``cutouts``: the usable ones.
    ``cutouts_of_clips``: all, rejected ones included, by clip. ``absent_partners``: characters that
    a cutout's actions mention and that would be missing from the composite, by cutout, if there are
    any. ``absent_things``: things without which nothing is said of what the character does, by
    cutout, if there are any. ``vetoes``: composites, cutouts and clips
    left out by hand; a clip among them is not in ``train_clips``.
    """

    clips: Mapping[str, StoredClip]
    train_clips: Mapping[str, StoredClip]
    cutouts: Mapping[str, StoredCutout]
    cutouts_of_clips: Mapping[str, Sequence[StoredCutout]]
    backgrounds: Sequence[BackgroundClip]
    absent_partners: Mapping[str, list[str]]
    absent_things: Mapping[str, tuple[str, ...]]
    vetoes: frozenset[str]

    def is_pasted(self, name: str, settings: CompositeSettings) -> bool:
        """Whether a cutout of the training split has an action of its own, and so can be pasted."""
        return (
            self.cutouts[name].clip_id in self.train_clips
            and name not in self.vetoes
            and not (settings.solo_actions_only and name in self.absent_partners)
            and name not in self.absent_things
        )


def load_sources(inputs: CompositeInputs, settings: CompositeSettings) -> CompositeSources:
    """Load the usable clips, captions and cutouts, and what is missing for each cutout.

    Tables are read one at a time: of all clips and cutouts only what they are selected by is in
    memory.
    """
    clips = _load_usable_clips(inputs.clips)
    names = _load_caption_names(inputs.captions)
    split = inputs.split
    splits = assign_splits(
        captioned_episodes(_episode_columns(clips.values()), names),
        seed=split.seed,
        val_share=split.val_share,
        test_share=split.test_share,
        groups=inputs.groups,
    )
    vetoes = frozenset(inputs.vetoes)
    train_clips = {
        clip_id: clip
        for clip_id, clip in sorted(clips.items())
        if clip_id in names and splits[clip.episode_id] is Split.TRAIN and clip_id not in vetoes
    }
    cutouts_of_clips, located = _load_cutouts(inputs.cutouts)
    cutouts = {
        cutout.cutout_id: cutout
        for group in cutouts_of_clips.values()
        for cutout in group
        if cutout.usable
    }
    cutouts = dict(sorted(cutouts.items()))
    backgrounds = [
        BackgroundClip(clip_id, Style(clip.style), names[clip_id])
        for clip_id, clip in train_clips.items()
        if not settings.require_located_characters
        or names[clip_id] <= located.get(clip_id, frozenset())
    ]
    partners, things = _find_absent(
        inputs.captions, cutouts_of_clips, drop_props=settings.guest_props == "drop"
    )
    return CompositeSources(
        clips, train_clips, cutouts, cutouts_of_clips, backgrounds, partners, things, vetoes
    )


_CLIP_COLUMNS = (
    *("clip_id", "episode_id", "show", "style", "width", "height", "frames", "file", "sha256"),
    *("rate_num", "rate_den"),
)
_CUTOUT_COLUMNS = ("cutout_id", "clip_id", "character", "style", "boxes", "border", "file")


def _load_usable_clips(refs: Sequence[TableRef]) -> dict[str, StoredClip]:
    rows = StoredRows(refs, tables.CLIPS, _CLIP_COLUMNS)
    columns = ("clip_id", "episode_id", "show", "style", "status")
    return {
        row["clip_id"]: StoredClip(
            row["clip_id"],
            intern(row["episode_id"]),
            intern(row["show"]),
            intern(row["style"]),
            rows,
            number,
            position,
        )
        for number, ref in enumerate(refs)
        for position, row in enumerate(tables.iterate(ref.path, tables.CLIPS, columns))
        if row["status"] == Status.OK
    }


def _episode_columns(clips: Iterable[StoredClip]) -> Iterator[tuple[str, str, str]]:
    return ((clip.clip_id, clip.show, clip.episode_id) for clip in clips)


def _load_caption_names(refs: Iterable[TableRef]) -> dict[str, frozenset[str]]:
    """Load the characters that each usable caption names; equal sets are one object."""
    known: dict[frozenset[str], frozenset[str]] = {}
    names: dict[str, frozenset[str]] = {}
    for ref in refs:
        rows = tables.iterate(ref.path, tables.CAPTIONS, ("clip_id", "actions", "status"))
        for row in tables.usable(rows):
            found = frozenset(action["name"] for action in row["actions"])
            names[row["clip_id"]] = known.setdefault(found, found)
    return names


def _load_cutouts(
    refs: Sequence[TableRef],
) -> tuple[dict[str, tuple[StoredCutout, ...]], dict[str, frozenset[str]]]:
    """Load all cutouts by clip, and the characters of each clip that have a box in any frame."""
    rows = StoredRows(refs, tables.CUTOUTS, _CUTOUT_COLUMNS)
    columns = ("cutout_id", "clip_id", "character", "style", "boxes", "status")
    cutouts: dict[str, tuple[StoredCutout, ...]] = {}
    located: dict[str, frozenset[str]] = {}
    for number, ref in enumerate(refs):
        position = 0
        for group in tables.read_groups(ref.path, tables.CUTOUTS, columns):
            has_box = _has_box(group["boxes"])
            for row, boxed in zip(group.drop_columns("boxes").to_pylist(), has_box, strict=True):
                character = intern(row["character"])
                cutout = StoredCutout(
                    row["cutout_id"],
                    row["clip_id"],
                    character,
                    intern(row["style"]),
                    row["status"] == Status.OK,
                    rows,
                    number,
                    position,
                )
                cutouts[cutout.clip_id] = (*cutouts.get(cutout.clip_id, ()), cutout)
                if boxed:
                    others = located.get(cutout.clip_id, frozenset())
                    located[cutout.clip_id] = others | {character}
                position += 1
    return cutouts, located


def _has_box(boxes: pa.ChunkedArray) -> list[bool]:
    """Return whether the rows of a column of boxes have a non-empty box in any frame."""
    found = []
    for chunk in boxes.chunks:
        values = chunk.flatten().flatten().to_numpy(zero_copy_only=False)
        filled = non_empty_mask(values.astype(np.float64).reshape(-1, 4))
        ends = chunk.value_lengths().to_numpy(zero_copy_only=False).cumsum()
        before = np.concatenate([[0], filled.cumsum()])
        found += (np.diff(before[np.concatenate([[0], ends])]) > 0).tolist()
    return found


def _find_absent(
    captions: Iterable[TableRef],
    cutouts_of_clips: Mapping[str, Sequence[StoredCutout]],
    *,
    drop_props: bool,
) -> tuple[dict[str, list[str]], dict[str, tuple[str, ...]]]:
    """Find what is missing for the usable cutouts: characters, and things if props are dropped."""
    partners: dict[str, list[str]] = {}
    things: dict[str, tuple[str, ...]] = {}
    for ref in captions:
        rows = tables.iterate(ref.path, tables.CAPTIONS, ("clip_id", "actions", "status"))
        for row in tables.usable(rows):
            actions = [(action["name"], action["action"]) for action in row["actions"]]
            for cutout in cutouts_of_clips.get(row["clip_id"], ()):
                if not cutout.usable:
                    continue
                if found := find_absent_co_actors(actions, cutout.character):
                    partners[cutout.cutout_id] = found
                if drop_props and (absent := find_absent_things(actions, cutout.character)):
                    things[cutout.cutout_id] = absent
    return partners, things
