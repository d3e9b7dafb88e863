"""Summarize crop rectangles of episodes, and shots rejected as credits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from mimix_core.html import svg_charts
from mimix_core.stages.report import labels, thumbnails
from mimix_core.stages.report.run_tables import RunTable, TableEntry
from mimix_core.stages.report.thumbnails import EmbeddedImage
from mimix_core.tables import OverlayRow, Reason

CropRect = tuple[int, int, int, int]
"""x, y, width, height."""


@dataclass(frozen=True)
class OverlayView:
    """A frame of an episode with its detected text and its crop rectangle."""

    name: str
    backend: str
    frame: Markup
    description: str
    rejection: str


@dataclass(frozen=True)
class CreditsView:
    """A frame of credits, and how they were detected."""

    name: str
    image: EmbeddedImage
    shot_count: int
    detail: str


@dataclass(frozen=True)
class CropSummary:
    """Cropped episodes, episodes with credits, and episodes without a crop.

    ``uncropped``: name and number of sampled frames. The totals include episodes not shown.
    """

    cropped: tuple[OverlayView, ...]
    cropped_total: int
    credits: tuple[CreditsView, ...]
    credits_total: int
    uncropped: tuple[tuple[str, int], ...]


def summarize_crops(overlays: RunTable[OverlayRow], width: int, limit: int) -> CropSummary:
    """Show at most ``limit`` episodes of each kind, with frames of ``width`` pixels."""
    cropped: list[OverlayView] = []
    with_credits: list[CreditsView] = []
    uncropped: list[tuple[str, int]] = []
    cropped_total = credits_total = 0
    for _, group in groupby(overlays.read(), key=lambda entry: entry.row["episode_id"]):
        entries = [entry for entry in group if entry.row["width"]]
        if entries and not _is_cropped(entries):
            uncropped.append((entries[0].ref.unit, _sampled_frame_count(entries)))
        elif entries:
            cropped_total += 1
            frame = _find_frame(entries, credits=False)
            if frame is not None and cropped_total <= limit:
                cropped.append(_overlay_view(entries, frame, width))
        if any(map(_is_credits, entries)):
            credits_total += 1
            frame = _find_frame(entries, credits=True)
            if frame is not None and credits_total <= limit:
                with_credits.append(_credits_view(entries, frame, width))
    return CropSummary(
        tuple(cropped), cropped_total, tuple(with_credits), credits_total, tuple(uncropped)
    )


def _is_cropped(entries: Sequence[TableEntry[OverlayRow]]) -> bool:
    """Check whether an episode has overlay text or a crop."""
    return any(
        row["boxes"] or (row["width"], row["height"]) != (row["crop_width"], row["crop_height"])
        for row in (entry.row for entry in entries)
    )


def _is_credits(entry: TableEntry[OverlayRow]) -> bool:
    return bool(entry.row["reason"] == Reason.SCENE_CREDITS)


def _find_frame(
    entries: Sequence[TableEntry[OverlayRow]], *, credits: bool
) -> TableEntry[OverlayRow] | None:
    """Find the entry with an image and most text, either of credits or of anything else."""
    candidates = [
        entry for entry in entries if entry.row["frame_file"] and _is_credits(entry) == credits
    ]
    return max(candidates, key=lambda entry: len(entry.row["boxes"]), default=None)


def _sampled_frame_count(entries: Sequence[TableEntry[OverlayRow]]) -> int:
    return sum(len(entry.row["sampled_pts"]) for entry in entries)


def _overlay_view(
    entries: Sequence[TableEntry[OverlayRow]], frame: TableEntry[OverlayRow], width: int
) -> OverlayView:
    size = (frame.row["width"], frame.row["height"])
    crop = _crop_rect(frame.row)
    # Only the boxes of the shown shot: those of all shots would hide the frame.
    boxes = sorted({_corners(box["box"]) for box in frame.row["boxes"]})
    with_text = len({box["pts"] for entry in entries for box in entry.row["boxes"]})
    sampled = _sampled_frame_count(entries)
    if with_text:
        found = f"Text in {with_text} of {sampled} sampled frames"
    else:
        found = f"No text in {sampled} sampled frames"
    removed = 1 - crop[2] * crop[3] / (size[0] * size[1])
    description = f"{found}; crop of {crop[2]} × {crop[3]} from {size[0]} × {size[1]} pixels"
    description += f", {100 * removed:.1f} % removed." if removed else ": the complete frame."
    rectangles = Counter(_crop_rect(entry.row) for entry in entries)
    others = len(entries) - rectangles[crop]
    if others:
        description += f" {others} of {len(entries)} shots have another crop."
    image = thumbnails.embed_image(
        thumbnails.read_still(frame.path(frame.row["frame_file"]), width)
    )
    label = f"Frame of {frame.ref.unit}. {description}"
    return OverlayView(
        frame.ref.unit,
        frame.row["backend"],
        svg_charts.draw_annotated_frame(image.src, size, boxes, crop, label),
        description,
        "" if frame.ok else labels.reason_label(str(frame.row["reason"])),
    )


def _corners(box: Sequence[int]) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = box
    return x0, y0, x1, y1


def _crop_rect(row: OverlayRow) -> CropRect:
    return row["crop_x"], row["crop_y"], row["crop_width"], row["crop_height"]


def _credits_view(
    entries: Sequence[TableEntry[OverlayRow]], frame: TableEntry[OverlayRow], width: int
) -> CreditsView:
    return CreditsView(
        frame.ref.unit,
        thumbnails.embed_image(thumbnails.read_still(frame.path(frame.row["frame_file"]), width)),
        sum(map(_is_credits, entries)),
        str(frame.row["detail"]),
    )
