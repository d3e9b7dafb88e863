"""What was kept of each episode's picture, and which shots were turned away as credits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mimix_core.html import svg_charts
from mimix_core.stages.report import labels, thumbnails
from mimix_core.stages.report.run_tables import Entry, by
from mimix_core.stages.report.thumbnails import Picture
from mimix_core.tables import Reason

Kept = tuple[int, int, int, int]
"""x, y, width, height."""


@dataclass(frozen=True)
class OverlayView:
    """An episode's frame with the text that was found and the rectangle that was kept."""

    name: str
    backend: str
    frame: Markup
    text: str
    why: str


@dataclass(frozen=True)
class CreditsView:
    """A frame of credits, and what told them."""

    name: str
    picture: Picture
    shots: int
    detail: str


@dataclass(frozen=True)
class Framing:
    """Episodes that were cropped, credits that were found, and episodes whose picture is whole.

    ``whole``: name and number of frames looked at. ``*_in_all`` count those that are not shown too.
    """

    cropped: tuple[OverlayView, ...]
    cropped_in_all: int
    credits: tuple[CreditsView, ...]
    credits_in_all: int
    whole: tuple[tuple[str, int], ...]


def framing(overlays: Sequence[Entry], width: int, limit: int) -> Framing:
    """At most ``limit`` episodes of each kind, with frames of ``width`` pixels."""
    episodes = [
        [row for row in rows if row["width"]] for rows in by(overlays, "episode_id").values()
    ]
    cropped = [rows for rows in episodes if rows and _is_cropped(rows)]
    credited = [rows for rows in episodes if any(map(_is_credits, rows))]
    return Framing(
        cropped=tuple(
            _overlay(rows, width) for rows in cropped[:limit] if _with_frame(rows, credits=False)
        ),
        cropped_in_all=len(cropped),
        credits=tuple(
            _credits(rows, width) for rows in credited[:limit] if _with_frame(rows, credits=True)
        ),
        credits_in_all=len(credited),
        whole=tuple(
            (rows[0].ref.unit, _looked_at(rows))
            for rows in episodes
            if rows and not _is_cropped(rows)
        ),
    )


def _is_cropped(rows: Sequence[Entry]) -> bool:
    """Whether text was found in an episode, or anything was cut away."""
    return any(
        row["boxes"] or (row["width"], row["height"]) != (row["crop_width"], row["crop_height"])
        for row in rows
    )


def _is_credits(row: Entry) -> bool:
    return bool(row["reason"] == Reason.SCENE_CREDITS)


def _with_frame(rows: Sequence[Entry], *, credits: bool) -> Entry | None:
    """The row of credits, or of anything else, that has a picture: the one with most text."""
    found = [row for row in rows if row["frame_file"] and _is_credits(row) == credits]
    return max(found, key=lambda row: len(row["boxes"]), default=None)


def _looked_at(rows: Sequence[Entry]) -> int:
    return sum(len(row["sampled_pts"]) for row in rows)


def _overlay(rows: Sequence[Entry], width: int) -> OverlayView:
    shown = _with_frame(rows, credits=False)
    assert shown is not None
    size = (shown["width"], shown["height"])
    kept = _kept(shown)
    # Of the shot that is shown only: those of all shots would hide what lies below them.
    boxes = sorted({tuple(box["box"]) for box in shown["boxes"]})
    with_text = len({box["pts"] for row in rows for box in row["boxes"]})
    sampled = _looked_at(rows)
    if with_text:
        found = f"Text in {with_text} of {sampled} sampled frames"
    else:
        found = f"No text in {sampled} sampled frames"
    lost = 1 - kept[2] * kept[3] / (size[0] * size[1])
    text = f"{found}; kept {kept[2]} × {kept[3]} of {size[0]} × {size[1]} pixels"
    text += f", {100 * lost:.1f} % cut away." if lost else ": all of it."
    rectangles = Counter(_kept(row) for row in rows)
    others = len(rows) - rectangles[kept]
    if others:
        text += f" {others} of {len(rows)} shots keep another part."
    picture = thumbnails.embed(thumbnails.still(shown.path("frame_file"), width))
    label = f"Frame of {shown.ref.unit}. {text}"
    return OverlayView(
        shown.ref.unit,
        shown["backend"],
        svg_charts.framed(picture.src, size, boxes, kept, label),
        text,
        "" if shown.ok else labels.reason(str(shown["reason"])),
    )


def _kept(row: Entry) -> Kept:
    return row["crop_x"], row["crop_y"], row["crop_width"], row["crop_height"]


def _credits(rows: Sequence[Entry], width: int) -> CreditsView:
    shown = _with_frame(rows, credits=True)
    assert shown is not None
    return CreditsView(
        shown.ref.unit,
        thumbnails.embed(thumbnails.still(shown.path("frame_file"), width)),
        sum(map(_is_credits, rows)),
        str(shown["detail"]),
    )
