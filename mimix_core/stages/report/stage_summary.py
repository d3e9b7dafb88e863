"""What went through each stage, and the key numbers: nothing may be lost between in and out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from markupsafe import Markup

from mimix_core.engine.artifacts import Counts
from mimix_core.html import svg_charts
from mimix_core.stages.report import labels
from mimix_core.stages.report.labels import StageWords
from mimix_core.stages.report.report_inputs import StageSummary
from mimix_core.stages.report.run_tables import Entry, seconds
from mimix_core.stages.report.training_curves import Losses


@dataclass(frozen=True)
class Why:
    """How many rows have a reason."""

    code: str
    words: str
    count: int


@dataclass(frozen=True)
class StageFlow:
    """One stage over all its units."""

    name: str
    words: StageWords
    counts: Counts
    whys: tuple[Why, ...]
    units: tuple[StageSummary, ...]
    bar: Markup

    @property
    def adds_up(self) -> bool:
        counts = self.counts
        return counts.rows_in == counts.ok + counts.rejected + counts.failed


def total(counts: Sequence[Counts]) -> Counts:
    """Sum over units or stages."""
    return Counts(
        rows_in=sum(c.rows_in for c in counts),
        ok=sum(c.ok for c in counts),
        rejected=sum(c.rejected for c in counts),
        failed=sum(c.failed for c in counts),
    )


def flows(records: Sequence[StageSummary]) -> tuple[StageFlow, ...]:
    """All stages in the order of the way of the data; stages the page does not know come last."""
    order = {name: index for index, name in enumerate(labels.STAGES)}
    names = sorted({r.stage for r in records}, key=lambda name: (order.get(name, 99), name))
    found = []
    for name in names:
        units = tuple(
            sorted((r for r in records if r.stage == name), key=lambda record: record.unit)
        )
        counts = total([unit.counts for unit in units])
        reasons: Counter[str] = Counter()
        for unit in units:
            reasons.update(unit.reasons)
        whys = tuple(
            Why(code, labels.reason(code), count)
            for code, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        )
        parts = [("ok", counts.ok), ("rejected", counts.rejected), ("failed", counts.failed)]
        label = f"{counts.ok} ok, {counts.rejected} rejected, {counts.failed} failed"
        found.append(
            StageFlow(name, labels.stage(name), counts, whys, units, svg_charts.bar(parts, label))
        )
    return tuple(found)


@dataclass(frozen=True)
class KeyNumber:
    """A number of the page's head."""

    value: str
    label: str


def key_numbers(
    scenes: Sequence[Entry],
    clips: Sequence[Entry],
    captions: Sequence[Entry],
    dataset: Sequence[Entry],
    losses: Losses,
    samples: Sequence[Entry],
) -> tuple[KeyNumber, ...]:
    """How much footage went in and what came out of it."""
    footage = sum((seconds(scene, "start_pts", "end_pts") for scene in scenes), Fraction(0))
    trained = [sample for sample in dataset if sample.ok and sample["split"] == "train"]
    mixed = sum(sample["kind"] == "composite" for sample in trained)
    return (
        KeyNumber(f"{len({scene['episode_id'] for scene in scenes}):,}", "episodes"),
        KeyNumber(labels.clock(float(footage)), "of footage"),
        KeyNumber(f"{_ok(clips):,}", "clips"),
        KeyNumber(f"{_ok(captions):,}", "captions"),
        KeyNumber(f"{mixed:,}", "composites"),
        KeyNumber(share_text(mixed, len(trained)), "of training is mixed"),
        KeyNumber(f"{losses.steps:,}", "training steps"),
        KeyNumber(f"{_ok(samples):,}", "generated videos"),
    )


def share_text(part: int, whole: int) -> str:
    """A share in per cent, with one decimal where it is not whole."""
    if not whole:
        return "0 %"
    percent = Fraction(100 * part, whole)
    return f"{percent.numerator} %" if percent.denominator == 1 else f"{float(percent):.1f} %"


def _ok(items: Sequence[Entry]) -> int:
    return sum(item.ok for item in items)


@dataclass(frozen=True)
class DatasetLine:
    """Samples of one split and show."""

    split: str
    show: str
    style: str
    originals: int
    composites: int


@dataclass(frozen=True)
class DatasetView:
    """What the model learns from."""

    lines: tuple[DatasetLine, ...]
    splits: tuple[tuple[str, int, int, str], ...]
    """Split, originals, composites, their share of the split."""
    originals: int
    composites: int
    share: str
    """The last three: of what is trained on."""
    left_out: tuple[Why, ...]
    bar: Markup


def dataset_view(dataset: Sequence[Entry], titles: dict[str, str]) -> DatasetView:
    """Counts by split, show and kind; rows that are not ok by their reason."""
    kept = [row for row in dataset if row.ok]
    counted = Counter((row["split"], row["show"], row["style"], row["kind"]) for row in kept)
    keys = sorted({key[:3] for key in counted}, key=lambda key: (_split_order(key[0]), key))
    lines = tuple(
        DatasetLine(
            split,
            titles.get(show, show),
            style,
            counted[(split, show, style, "original")],
            counted[(split, show, style, "composite")],
        )
        for split, show, style in keys
    )
    splits = []
    for split in dict.fromkeys(line.split for line in lines):
        originals = sum(line.originals for line in lines if line.split == split)
        composites = sum(line.composites for line in lines if line.split == split)
        splits.append(
            (split, originals, composites, share_text(composites, originals + composites))
        )
    originals = sum(line.originals for line in lines if line.split == "train")
    composites = sum(line.composites for line in lines if line.split == "train")
    left_out = Counter(row["reason"] for row in dataset if not row.ok)
    return DatasetView(
        lines,
        tuple(splits),
        originals,
        composites,
        share_text(composites, originals + composites),
        tuple(Why(code, labels.reason(code), n) for code, n in sorted(left_out.items())),
        svg_charts.bar(
            [("original", originals), ("made", composites)],
            f"{originals} originals, {composites} composites",
        ),
    )


def _split_order(split: str) -> int:
    return {"train": 0, "val": 1, "test": 2}.get(split, 3)
