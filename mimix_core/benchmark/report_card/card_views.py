"""Describe cells, videos and training samples in words, for the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from mimix_core.benchmark.characters.character_verdicts import Identity
from mimix_core.benchmark.report_card.card_files import (
    TRAINING,
    VIDEOS,
    CardFiles,
    StillRequest,
    video_still,
)
from mimix_core.benchmark.report_card.card_inputs import CardInputs, Resemblance
from mimix_core.benchmark.report_card.pair_charts import draw_meter, format_percent
from mimix_core.benchmark.report_card.pair_scores import (
    CRITERIA,
    LookCounts,
    Pair,
    PairCell,
    PairVideo,
    count_faults,
)
from mimix_core.benchmark.report_card.training_trace import TracedSample, TrainingIndex
from mimix_core.benchmark.tables.table_model import TableCell
from mimix_core.domain.character_names import slugify
from mimix_core.domain.library import Style
from mimix_core.tables import CharacterScoreRow

WORST_VIDEOS = 3
"""Videos shown behind each cell."""

EARLY = 8
"""A clip is shown by the frame at such a part of it: one from its middle takes longer to decode."""

_SIDES = ("first", "second")


@dataclass(frozen=True)
class ShareView:
    """A share in words. ``value`` is an en dash if nothing was measured."""

    title: str
    value: str
    count: str
    interval: str
    meter: Markup


@dataclass(frozen=True)
class VerdictView:
    """What became of a character. ``side``: the color of its box; ``good``: nothing is wrong."""

    name: str
    side: str
    good: bool
    text: str


@dataclass(frozen=True)
class TrainingSampleView:
    """A training sample behind a video. ``file``: empty if the dataset does not have it."""

    title: str
    note: str
    caption: str
    file: str
    still: str
    sheet: str


@dataclass(frozen=True)
class VideoView:
    """One of the worst videos of a cell, and the training samples that are likely behind it."""

    video_id: str
    prompt: str
    file: str
    still: str
    verdicts: tuple[VerdictView, ...]
    samples: tuple[TrainingSampleView, ...]
    unpaired: str


@dataclass(frozen=True)
class CellView:
    """A pair with one background. ``anchor``: of its videos on the page."""

    anchor: str
    background: str
    scored: int
    expected: int
    shares: tuple[ShareView, ...]
    losses: tuple[str, ...]
    composites: int
    videos: tuple[VideoView, ...]


@dataclass(frozen=True)
class PairView:
    """A pair of characters with its cells; ``videos``: of all cells.

    ``resemblance``: of their exemplars, None if it is not known.
    """

    first: str
    second: str
    first_style: str
    second_style: str
    mixes_shows: bool
    resemblance: Resemblance | None
    videos: int
    cells: tuple[CellView, ...]


@dataclass(frozen=True)
class LookView:
    """A cell of the matrix: a count and its share of the row, for shading."""

    text: str
    share: float
    diagonal: bool = False


@dataclass(frozen=True)
class LookRow:
    """One asked-for character of the matrix."""

    name: str
    style: str
    videos: int
    cells: tuple[LookView, ...]


def describe_share(title: str, cell: TableCell) -> ShareView:
    """Put a share into words: percent, count and interval."""
    if cell.value is None or cell.n is None or cell.low is None or cell.high is None:
        return ShareView(title, "–", "not measured", "", Markup())
    return ShareView(
        title,
        format_percent(cell.value),
        f"{round(cell.value * cell.n)} of {cell.n}",
        f"{round(100 * cell.low)}–{round(100 * cell.high)} %",
        draw_meter(cell),
    )


def describe_pair(
    pair: Pair, inputs: CardInputs, index: TrainingIndex, files: CardFiles
) -> tuple[PairView, list[tuple[PairVideo, list[TracedSample]]]]:
    """Describe a pair; copies its worst videos and asks for stills. Returns their traces too."""
    traces: list[tuple[PairVideo, list[TracedSample]]] = []
    cells = []
    for cell in pair.cells:
        worst = [(video, index.trace(video)) for video in cell.videos[:WORST_VIDEOS]]
        traces += worst
        names = (pair.first.name, pair.second.name)
        cells.append(
            CellView(
                anchor="-".join([*map(slugify, names), cell.background.value]),
                background=cell.background.value,
                scored=len(cell.videos),
                expected=cell.expected,
                shares=tuple(describe_share(CRITERIA[key], cell.share(key)) for key in CRITERIA),
                losses=tuple(describe_losses(cell)),
                composites=index.composites_of(names, cell.background),
                videos=tuple(
                    _describe_video(video, samples, inputs, files) for video, samples in worst
                ),
            )
        )
    view = PairView(
        pair.first.name,
        pair.second.name,
        pair.first.style.value,
        pair.second.style.value,
        pair.mixes_shows,
        inputs.resemblances.get(frozenset((pair.first.name, pair.second.name))),
        sum(len(cell.videos) for cell in pair.cells),
        tuple(cells),
    )
    return view, traces


def describe_losses(cell: PairCell) -> list[str]:
    """Say who took whose looks or another style, who is absent and who is there twice."""
    lines = []
    for number, origin in enumerate((cell.first, cell.second)):
        rows = [video.scores[number] for video in cell.videos]
        looks = Counter(row["looks_like"] for row in rows if row["looks_like"])
        mixed = Counter(row["looks_like"] for row in rows if row["identity"] == Identity.MIXED)
        for other, count in looks.most_common():
            lines.append(f"{origin.name} took {other}’s looks {_times(count, mixed[other])}")
        for what, count in (
            (f"lost the {origin.style.value} style", sum(map(_lost_style, rows))),
            ("absent", sum(row["identity"] == Identity.ABSENT for row in rows)),
            ("doubled", sum(row["count"] > 1 for row in rows)),
        ):
            if count:
                lines.append(f"{origin.name} {what} {_times(count)}")
    return lines


def _times(count: int, in_part: int = 0) -> str:
    if not in_part:
        return f"{count}×"
    return f"{count}× ({'' if in_part == count else f'{in_part} '}only in part)"


def _lost_style(row: CharacterScoreRow) -> bool:
    return row["identity"] != Identity.ABSENT and row["in_own_style"] is False


def describe_character(row: CharacterScoreRow) -> str:
    """Say what became of one asked-for character of a video."""
    parts = {
        Identity.RIGHT: "is itself",
        Identity.SWAPPED: f"swapped: looks like {row['looks_like']}",
        Identity.MIXED: f"mixed: not clearly itself, next like {row['looks_like']}",
        Identity.ABSENT: "absent",
    }
    words = [parts[Identity(row["identity"])]]
    if _lost_style(row):
        words.append(f"not in its {row['style']} style")
    if row["count"] > 1:
        words.append(f"there {row['count']} times")
    if row["copied"]:
        words.append("nearly a training frame")
    return ", ".join(words)


def _describe_video(
    video: PairVideo, samples: Sequence[TracedSample], inputs: CardInputs, files: CardFiles
) -> VideoView:
    path = inputs.videos[video.prompt.id]
    names = [row["character"] for row in video.scores]
    unpaired = ""
    if not any(one.kind == "composite" for one in samples):
        unpaired = f"No composite in training shows {names[0]} with {names[1]}."
    return VideoView(
        video_id=video.prompt.id,
        prompt=video.prompt.render(),
        file=files.copy(path, VIDEOS),
        still=files.still(video_still(video, path)),
        verdicts=tuple(
            VerdictView(
                row["character"],
                side,
                not count_faults(row) and not row["copied"],
                describe_character(row),
            )
            for side, row in zip(_SIDES, video.scores, strict=True)
        ),
        samples=tuple(_describe_sample(one, inputs, files) for one in samples),
        unpaired=unpaired,
    )


def _describe_sample(one: TracedSample, inputs: CardInputs, files: CardFiles) -> TrainingSampleView:
    who = " and ".join(one.characters)
    title = {
        "nearest-frame": f"Nearest training frame to {who}’s figure",
        "composite": f"Composite of {who}",
        "clip": f"Clip of {who}",
    }[one.kind]
    if one.sample is None:
        return TrainingSampleView(title, "not in the dataset any more", one.sample_id, "", "", "")
    path = inputs.store / one.sample["video"]
    file = files.copy(path, TRAINING)
    frame = one.sample["frames"] // EARLY if one.frame is None else one.frame
    notes = [f"captions {one.similarity:.2f} alike"]
    if one.kind == "nearest-frame":
        notes = [f"frame {frame}, poses {one.similarity:.2f} alike"]
        file += f"#t={frame * one.sample['rate_den'] / one.sample['rate_num']:.3f}"
    if one.copied:
        notes.append("nearly copied")
    if not one.trained_on:
        notes.append(f"not trained on ({one.sample['split'] or one.sample['reason']})")
    sheet: Path | None = inputs.sheets.get(one.sample_id)
    return TrainingSampleView(
        title,
        ", ".join(notes),
        one.sample["caption"],
        file,
        files.still(StillRequest(path, frame)),
        "" if sheet is None else files.copy(sheet, TRAINING),
    )


def describe_looks(counts: Sequence[LookCounts]) -> list[LookRow]:
    """Describe the matrix of looks: counts, with what is only mixed behind a plus."""
    names = [one.origin.name for one in counts]
    rows = []
    for one in counts:
        cells = []
        for name in names:
            if name == one.origin.name:
                cells.append(_look_view(str(one.right or ""), one.right, one.videos, True))
                continue
            swapped, mixed = one.swapped.get(name, 0), one.mixed.get(name, 0)
            text = f"{swapped}+{mixed}" if mixed else str(swapped or "")
            cells.append(_look_view(text, swapped + mixed, one.videos, False))
        cells.append(_look_view(str(one.absent or ""), one.absent, one.videos, False))
        for style in Style:
            lost, measured = one.styles_lost[style.value]
            text = f"{lost} of {measured}" if measured else "–"
            cells.append(_look_view(text, lost, measured, False))
        rows.append(LookRow(one.origin.name, one.origin.style.value, one.videos, tuple(cells)))
    return rows


def _look_view(text: str, count: int, total: int, diagonal: bool) -> LookView:
    return LookView(text, round(count / total, 3) if total else 0.0, diagonal)
