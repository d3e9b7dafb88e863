"""Stage ``composites``: plan how many and which, place and render them, say what was not needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Annotated

import cv2
from pydantic import field_validator

from mimix_core import tables
from mimix_core.domain.co_actors import missed
from mimix_core.domain.library import Style
from mimix_core.domain.splits import Split, assign_splits, captioned_episodes, composite_count
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.media import EncodeFailed, ProofFailed
from mimix_core.media.opencv_threads import one_opencv_thread
from mimix_core.settings import CompositeSettings, DatasetSettings
from mimix_core.stages.composites.composite_rows import (
    Stored,
    candidate,
    figure,
    footage,
    made_row,
    unmade_row,
)
from mimix_core.stages.composites.compositing import Look
from mimix_core.stages.composites.pairing import Background, Plan, is_placebo, placebos
from mimix_core.stages.composites.placement import Wishes
from mimix_core.stages.composites.placement_search import Chooser, Chosen, Refused
from mimix_core.stages.composites.render_composite import Encoding, Files, make
from mimix_core.stages.composites.scale_translate import as_boxes, present
from mimix_core.tables import Reason, Row, Table

_MOST_FAILURES = 32
"""When so many in a row cannot be rendered it is not the clips: what remains is left alone."""


class CompositeInputs(FrozenModel):
    """The clips, captions and cutouts of all episodes, and how episodes are split."""

    unit: Annotated[str, ExcludeFromKey()]
    clips: tuple[TableRef, ...]
    captions: tuple[TableRef, ...]
    cutouts: tuple[TableRef, ...]
    split: DatasetSettings

    @field_validator("split")
    @classmethod
    def _only_the_split(cls, split: DatasetSettings) -> DatasetSettings:
        """How many of the composites the dataset takes has no part in making them."""
        return split.model_copy(update={"ratio": None})


@dataclass(frozen=True)
class _Material:
    """What is known before anything is planned, by clip or cutout id.

    ``trained``: the clips that are trained on. ``judged``: all rows of cutouts, by clip.
    ``missed``: whom a cutout's actions name and it would be without.
    """

    clips: Mapping[str, Stored]
    trained: Mapping[str, Stored]
    cutouts: Mapping[str, Stored]
    judged: Mapping[str, list[Row]]
    backgrounds: Sequence[Background]
    missed: Mapping[str, list[str]]


def run(inputs: CompositeInputs, settings: CompositeSettings, out: Path) -> StageReport:
    """One row per pair that was tried, and one per ok cutout that none was tried with.

    Notes say how many were wanted for the ratio, tried and made: pairs can be fewer than wanted.
    """
    material = _material(inputs, settings)
    wanted = composite_count(len(material.trained), Fraction(settings.ratio))
    share = Fraction(settings.placebo)
    for folder in ("videos", "sheets"):
        (out / folder).mkdir()
    with ThreadPoolExecutor(settings.workers) as pool, one_opencv_thread():
        chooser = _chooser(material, settings, pool)
        works = {
            same: _Work(material, settings, out, pool, chooser, same=same, total=wanted)
            for same in (False, True)
        }
        few = placebos(wanted, share)
        works[False].until(wanted - few)
        works[True].until(few)
    made = {same: work.made for same, work in works.items()}
    rows = _ranked(made, share, out) + works[False].unmade + works[True].unmade
    tried = works[False].tried + works[True].tried
    missing = wanted - few - len(made[False])
    rows += [
        _untried(name, material, settings, missing=missing, gave_up=works[False].gave_up)
        for name in material.cutouts
        if not tried[name]
    ]
    originals = len(material.trained)
    good = sum(row["status"] == tables.Status.OK for row in rows)
    notes = {
        "originals": originals,
        "wanted": wanted,
        "tried": tried.total(),
        "made": good,
        "placebos": sum(row["style"] == row["character_style"] for row in tables.usable(rows)),
        "share": round(good / max(good + originals, 1), 6),
    }
    # A cutout counts once, or as often as it is tried.
    return StageReport(rows, sum(max(1, tried[name]) for name in material.cutouts), notes)


def _material(inputs: CompositeInputs, settings: CompositeSettings) -> _Material:
    clips = _usable(inputs.clips, tables.CLIPS)
    told = {
        row["clip_id"]: [(action["name"], action["action"]) for action in row["actions"]]
        for ref in inputs.captions
        for row in tables.usable(tables.read(ref.path, tables.CAPTIONS))
    }
    names = {clip_id: frozenset(name for name, _ in actions) for clip_id, actions in told.items()}
    judged: dict[str, list[Row]] = {}
    for ref in inputs.cutouts:
        for row in tables.read(ref.path, tables.CUTOUTS):
            judged.setdefault(row["clip_id"], []).append(row)
    episodes = captioned_episodes((clip.row for clip in clips.values()), names)
    split = inputs.split
    splits = assign_splits(
        episodes, seed=split.seed, val_share=split.val_share, test_share=split.test_share
    )
    trained = {
        clip_id: clip
        for clip_id, clip in sorted(clips.items())
        if clip_id in names and splits[clip.row["episode_id"]] is Split.TRAIN
    }
    cutouts = dict(sorted(_usable(inputs.cutouts, tables.CUTOUTS).items()))
    backgrounds = [
        Background(clip_id, Style(clip.row["style"]), names[clip_id])
        for clip_id, clip in trained.items()
        if not settings.located_only or names[clip_id] <= _located(judged.get(clip_id, ()))
    ]
    misses = {
        name: missed(told.get(cutout.row["clip_id"], ()), cutout.row["character"])
        for name, cutout in cutouts.items()
    }
    return _Material(clips, trained, cutouts, judged, backgrounds, misses)


def _located(judged: Iterable[Row]) -> set[str]:
    """The characters of a clip of whom it is known where they are."""
    return {row["character"] for row in judged if present(as_boxes(row["boxes"])).any()}


def _usable(refs: Iterable[TableRef], table: Table) -> dict[str, Stored]:
    return {
        row[table.id]: Stored(row, ref.folder / row["file"])
        for ref in refs
        for row in tables.usable(tables.read(ref.path, table))
    }


def _chooser(material: _Material, settings: CompositeSettings, pool: Executor) -> Chooser:
    return Chooser(
        {
            clip_id: footage(clip, material.judged.get(clip_id, ()))
            for clip_id, clip in material.trained.items()
        },
        {name: figure(cutout.row) for name, cutout in material.cutouts.items()},
        Wishes(settings.min_height, settings.max_height, settings.max_covered),
        seed=settings.seed,
        pool=pool,
    )


class _Work:
    """Makes composites of one kind, in the order of their plan, as many as are asked for."""

    def __init__(
        self,
        material: _Material,
        settings: CompositeSettings,
        out: Path,
        pool: Executor,
        chooser: Chooser,
        *,
        same: bool,
        total: int,
    ) -> None:
        self._material, self._settings, self._out, self._pool = material, settings, out, pool
        self._total = total
        self.made: list[Row] = []
        self.unmade: list[Row] = []
        self.tried: Counter[str] = Counter()
        self._failures = 0
        plan = Plan(
            [
                candidate(cutout.row)
                for name, cutout in material.cutouts.items()
                if cutout.row["clip_id"] in material.trained
                and not (settings.alone_only and material.missed[name])
            ],
            material.backgrounds,
            seed=settings.seed,
            same=same,
        )
        self._outcomes = chooser.choose(plan)

    def until(self, count: int) -> None:
        """Make composites until there are ``count`` of them, no pairs are left, or all fail."""
        while len(self.made) < count and not self.gave_up:
            chosen = list(islice(self._placed(), count - len(self.made)))
            if not chosen:
                return
            for row in self._pool.map(self._make, chosen):
                good = row["status"] == tables.Status.OK
                (self.made if good else self.unmade).append(row)
                self._failures = 0 if good else self._failures + 1
                progress.report_progress(len(self.made), self._total, row["composite_id"])

    @property
    def gave_up(self) -> bool:
        """Whether the last ones all failed, so that no more are tried."""
        return self._failures >= _MOST_FAILURES

    def _placed(self) -> Iterator[Chosen]:
        for outcome in self._outcomes:
            self.tried[outcome.pair.cutout_id] += 1
            if isinstance(outcome, Chosen):
                yield outcome
            else:
                self.unmade.append(self._refused(outcome))

    def _refused(self, refused: Refused) -> Row:
        cutout, source, scene = self._of(refused)
        values = unmade_row(cutout, source, scene)
        if refused.broken:
            return tables.failed(Reason.RENDER_FAILED, refused.why, **values)
        return tables.rejected(Reason.NO_PLACE, refused.why, **values)

    def _make(self, chosen: Chosen) -> Row:
        cutout, source, scene = self._of(chosen)
        settings = self._settings
        values = unmade_row(cutout, source, scene)
        name = values["composite_id"]
        video, sheet = f"videos/{name}.mp4", f"sheets/{name}.jpg"
        try:
            make(
                Files(source.path, cutout.path, scene.path),
                chosen.placed.path,
                self._look(cutout.row),
                Encoding(settings.crf, settings.preset),
                self._out / video,
                self._out / sheet,
            )
        except (BadInput, EncodeFailed, ProofFailed, ValueError, cv2.error) as error:
            # One composite that breaks must not take the others with it.
            return tables.failed(Reason.RENDER_FAILED, str(error), **values)
        return made_row(values, chosen, self._out, video, sheet)

    def _look(self, cutout: Row) -> Look:
        # Whoever is cut off below stands nowhere in the picture.
        stands = "bottom" not in cutout["border"]
        return Look(feather=self._settings.feather, shadow=self._settings.shadow * stands)

    def _of(self, outcome: Chosen | Refused) -> tuple[Stored, Stored, Stored]:
        """The cutout, its clip and the background."""
        cutout = self._material.cutouts[outcome.pair.cutout_id]
        trained = self._material.trained
        return cutout, trained[cutout.row["clip_id"]], trained[outcome.pair.background_id]


def _ranked(made: Mapping[bool, list[Row]], share: Fraction, out: Path) -> list[Row]:
    """All that was made, each with its place in the plan; kinds alternate as ``share`` has it.

    When one kind runs out, the plan ends there: what was made of the other beyond is not needed.
    """
    queues = {same: iter(rows) for same, rows in made.items()}
    ranked: list[Row] = []
    while (row := next(queues[is_placebo(len(ranked), share)], None)) is not None:
        ranked.append(row | {"rank": len(ranked)})
    for row in (row for queue in queues.values() for row in queue):
        for file in ("file", "sheet_file"):
            (out / row[file]).unlink()
        detail = "the share of placebos is met without it"
        empty = {"rank": -1, "file": "", "sheet_file": "", "sha256": ""}
        ranked.append(row | tables.rejected(Reason.NOT_NEEDED_FOR_RATIO, detail, **empty))
    return ranked


def _untried(
    name: str, material: _Material, settings: CompositeSettings, *, missing: int, gave_up: bool
) -> Row:
    """The row of a cutout that is in no pair, and why; ``missing``: composites for the ratio."""
    cutout = material.cutouts[name]
    values = unmade_row(cutout, material.clips[cutout.row["clip_id"]], None)
    if cutout.row["clip_id"] not in material.trained:
        detail = "its episode is not in the training split"
        return tables.rejected(Reason.HELD_OUT, detail, **values)
    others = material.missed[name]
    if settings.alone_only and others:
        detail = f"its caption has it act with {' and '.join(others)}"
        return tables.rejected(Reason.ACTS_WITH_OTHERS, detail, **values)
    opposite = Style(cutout.row["style"]).opposite
    if not any(background.style is opposite for background in material.backgrounds):
        located = " of which all named characters were located" * settings.located_only
        detail = f"no {opposite.value} clip to paste onto{located}"
        return tables.rejected(Reason.NO_BACKGROUND, detail, **values)
    if missing > 0 and gave_up:
        detail = f"not tried, for {_MOST_FAILURES} composites in a row could not be rendered"
        return tables.failed(Reason.RENDER_FAILED, detail, **values)
    if missing > 0:
        detail = f"all {opposite.value} clips to paste onto name {cutout.row['character']} already"
        return tables.rejected(Reason.NO_BACKGROUND, detail, **values)
    detail = "the ratio is met without it"
    return tables.rejected(Reason.NOT_NEEDED_FOR_RATIO, detail, **values)


STAGE = Stage(
    name="composites",
    title="Composites",
    description="Paste characters into scenes of the opposite style.",
    row_noun="composites, and unused cutouts",
    phase=Phase.AUGMENTATION,
    upstream=("duplicates", "captions", "cutouts"),
    version=3,
    inputs=CompositeInputs,
    settings=CompositeSettings,
    table=tables.COMPOSITES,
    run=run,
)
