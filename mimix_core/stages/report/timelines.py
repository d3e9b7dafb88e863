"""Each episode as a strip of its shots, and the rectangle that was kept of its picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from markupsafe import Markup

from mimix_core.html import svg_charts
from mimix_core.html.svg_charts import Piece
from mimix_core.stages.report import labels
from mimix_core.stages.report.run_tables import Entry, by, seconds, time_base
from mimix_core.tables import Reason, Status

KINDS: Mapping[str, str] = {
    Reason.SCENE_TOO_SHORT: "short",
    Reason.SCENE_BLACK: "black",
    Reason.SCENE_FROZEN: "frozen",
    Reason.SCENE_CREDITS: "credits",
    Reason.SCENE_TRANSITION: "transition",
    Reason.NEAR_DUPLICATE: "duplicate",
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
        label = f"{labels.clock(start)} to {labels.clock(end)}, {end - start:.1f} s: {text}"
        shots.append(Piece(start, end, f"shot {kind}", label))
        taken += [_clip(clip) for clip in clips if clip["source_pts"]]
    made = sum(clip.ok for row in rows for clip in of_scene.get(row["scene_id"], ()))
    strip = None
    if length:
        label = f"{first.ref.unit}: {len(shots)} shots, {made} clips"
        strip = svg_charts.strip([shots, taken], max(piece.end for piece in shots), label)
    return EpisodeView(
        name=first.ref.unit,
        show=titles.get(first["show"], first["show"]),
        style=first["style"],
        length=labels.clock(float(length)),
        clips=made,
        outcomes=tuple(
            Outcome(kind, text, count)
            for (kind, text), count in sorted(outcomes.items(), key=lambda item: (-item[1], item))
        ),
        strip=strip,
        problem="" if length else labels.reason(str(first["reason"])),
    )


def _clip(clip: Entry) -> Piece:
    """The bar of a clip, or of one that was turned away after it was looked at."""
    base, origin = time_base(clip), clip["origin_pts"]
    begin, end = (float((clip["source_pts"][index] - origin) * base) for index in (0, -1))
    label = f"clip from {labels.clock(begin)}"
    if clip.ok:
        return Piece(begin, end, "clip", label)
    kind, why = _refusal(clip)
    return Piece(begin, end, f"refused {kind}", f"no {label}: {why}")


def _outcome(scene: Entry, clips: Sequence[Entry]) -> tuple[str, str]:
    """What became of a shot: clips, or the reason why it gave none."""
    if any(clip.ok for clip in clips):
        return "taken", "clips taken"
    refused = scene if not scene.ok else next(iter(clips), None)
    return ("other", "no clip") if refused is None else _refusal(refused)


def _refusal(row: Entry) -> tuple[str, str]:
    """Colour and words of the reason of a row that is not ok."""
    code = str(row["reason"])
    kind = "failed" if row["status"] == Status.FAILED else KINDS.get(code, "other")
    return kind, labels.reason(code)
