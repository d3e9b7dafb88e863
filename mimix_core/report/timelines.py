"""Each episode as a strip of its shots, and the rectangle that was kept of its picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from markupsafe import Markup

from mimix_core.report import charts, pictures, words
from mimix_core.report.charts import Piece
from mimix_core.report.evidence import Entry, by, seconds, time_base
from mimix_core.tables import Reason, Status

KINDS: Mapping[str, str] = {
    Reason.SCENE_TOO_SHORT: "short",
    Reason.SCENE_BLACK: "black",
    Reason.SCENE_FROZEN: "frozen",
    Reason.SCENE_CREDITS: "credits",
}
"""Outcomes with a colour of their own; ``taken``, ``failed`` and ``other`` are the rest."""


@dataclass(frozen=True)
class Outcome:
    """How many shots of an episode went one way."""

    kind: str
    words: str
    count: int


@dataclass(frozen=True)
class EpisodeView:
    """One episode's timeline."""

    name: str
    show: str
    style: str
    length: str
    clips: int
    outcomes: tuple[Outcome, ...]
    strip: Markup | None
    problem: str


def episode_views(
    scenes: Sequence[Entry], clips: Sequence[Entry], titles: Mapping[str, str], limit: int
) -> tuple[EpisodeView, ...]:
    """The first ``limit`` episodes by show and name."""
    of_scene = by(clips, "scene_id")
    episodes = sorted(
        by(scenes, "episode_id").values(),
        key=lambda rows: (rows[0]["show"], rows[0].ref.unit, rows[0]["episode_id"]),
    )
    return tuple(_episode(rows, of_scene, titles) for rows in episodes[:limit])


def _episode(
    rows: Sequence[Entry], of_scene: Mapping[str, Sequence[Entry]], titles: Mapping[str, str]
) -> EpisodeView:
    first = rows[0]
    length = sum((seconds(row, "start_pts", "end_pts") for row in rows), Fraction(0))
    outcomes: Counter[tuple[str, str]] = Counter()
    shots, taken = [], []
    for row in sorted(rows, key=lambda row: int(row["start_pts"])):
        clips = of_scene.get(row["scene_id"], ())
        kind, text = _outcome(row, clips)
        outcomes[(kind, text)] += 1
        base, origin = time_base(row), row["origin_pts"]
        start, end = (float((row[name] - origin) * base) for name in ("start_pts", "end_pts"))
        label = f"{words.clock(start)} to {words.clock(end)}, {end - start:.1f} s: {text}"
        shots.append(Piece(start, end, f"shot {kind}", label))
        for clip in clips:
            if clip.ok:
                clip_base = time_base(clip)
                begin = float((clip["source_pts"][0] - clip["origin_pts"]) * clip_base)
                finish = float((clip["source_pts"][-1] - clip["origin_pts"]) * clip_base)
                taken.append(Piece(begin, finish, "clip", f"clip from {words.clock(begin)}"))
    strip = None
    if length:
        label = f"{first.ref.unit}: {len(shots)} shots, {len(taken)} clips"
        strip = charts.strip([shots, taken], max(piece.end for piece in shots), label)
    return EpisodeView(
        name=first.ref.unit,
        show=titles.get(first["show"], first["show"]),
        style=first["style"],
        length=words.clock(float(length)),
        clips=len(taken),
        outcomes=tuple(
            Outcome(kind, text, count)
            for (kind, text), count in sorted(outcomes.items(), key=lambda item: (-item[1], item))
        ),
        strip=strip,
        problem="" if length else words.reason(str(first["reason"])),
    )


def _outcome(scene: Entry, clips: Sequence[Entry]) -> tuple[str, str]:
    """What became of a shot: clips, or the reason why it gave none."""
    if any(clip.ok for clip in clips):
        return "taken", "clips taken"
    refused = scene if not scene.ok else next(iter(clips), None)
    if refused is None:
        return "other", "no clip"
    code = str(refused["reason"])
    if refused["status"] == Status.FAILED:
        return "failed", words.reason(code)
    return KINDS.get(code, "other"), words.reason(code)


@dataclass(frozen=True)
class OverlayView:
    """An episode's frame with the text that was found and the rectangle that was kept."""

    name: str
    backend: str
    frame: Markup
    text: str
    why: str


def is_cropped(overlay: Entry) -> bool:
    """Whether text was found, or anything was cut away."""
    size = (overlay["width"], overlay["height"])
    return bool(overlay["boxes"]) or size != (overlay["crop_width"], overlay["crop_height"])


def overlay_views(overlays: Sequence[Entry], width: int) -> tuple[OverlayView, ...]:
    """The given episodes, each with its sampled frame at this width in pixels."""
    return tuple(_overlay(row, width) for row in overlays)


def _overlay(row: Entry, width: int) -> OverlayView:
    size = (row["width"], row["height"])
    kept = (row["crop_x"], row["crop_y"], row["crop_width"], row["crop_height"])
    boxes = [tuple(box["box"]) for box in row["boxes"]]
    with_text = len({box["pts"] for box in row["boxes"]})
    sampled = len(row["sampled_pts"])
    if boxes:
        found = f"Text in {with_text} of {sampled} sampled frames"
    else:
        found = f"No text in {sampled} sampled frames"
    lost = 1 - kept[2] * kept[3] / (size[0] * size[1])
    text = f"{found}; kept {kept[2]} × {kept[3]} of {size[0]} × {size[1]} pixels"
    text += f", {100 * lost:.1f} % cut away." if lost else ": all of it."
    picture = pictures.embed(pictures.still(row.path("frame_file"), width))
    label = f"Frame of {row.ref.unit}. {text}"
    return OverlayView(
        row.ref.unit,
        row["backend"],
        charts.framed(picture.src, size, boxes, kept, label),
        text,
        "" if row.ok else words.reason(str(row["reason"])),
    )
