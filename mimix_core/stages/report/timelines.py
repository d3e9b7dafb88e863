"""Build a timeline of each episode's shots and clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from markupsafe import Markup

from mimix_core.html import svg_charts
from mimix_core.html.svg_charts import StripSegment
from mimix_core.stages.report import labels
from mimix_core.stages.report.run_tables import (
    RunTable,
    TableEntry,
    get_time_base,
    group_entries,
    scene_duration,
)
from mimix_core.tables import BaseRow, ClipRow, Reason, SceneRow, Status

REASON_CLASSES: Mapping[str, str] = {
    Reason.SCENE_TOO_SHORT: "short",
    Reason.SCENE_BLACK: "black",
    Reason.SCENE_FROZEN: "frozen",
    Reason.SCENE_CREDITS: "credits",
    Reason.SCENE_TRANSITION: "transition",
    Reason.NEAR_DUPLICATE: "duplicate",
}
"""Color classes of reasons; all other outcomes are ``taken``, ``failed`` or ``other``."""


@dataclass(frozen=True)
class ShotOutcome:
    """How many shots of an episode had the same outcome."""

    css_class: str
    label: str
    count: int


@dataclass(frozen=True)
class EpisodeView:
    """One episode's timeline."""

    name: str
    show: str
    style: str
    length: str
    clips: int
    outcomes: tuple[ShotOutcome, ...]
    strip: Markup | None
    problem: str


@dataclass(frozen=True)
class FootageEpisode:
    """An episode in the scenes tables. ``unit``: its name."""

    show: str
    unit: str
    id: str


@dataclass(frozen=True)
class FootageSummary:
    """All episodes, by show and name, and their length in seconds."""

    episodes: tuple[FootageEpisode, ...]
    seconds: Fraction


def summarize_footage(scenes: RunTable[SceneRow]) -> FootageSummary:
    """List the episodes, and sum the lengths of all scenes."""
    columns = ("episode_id", "show", "start_pts", "end_pts", "time_base_num", "time_base_den")
    episodes: dict[str, FootageEpisode] = {}
    seconds = Fraction(0)
    for scene in scenes.read(*columns):
        row, name = scene.row, scene.row["episode_id"]
        episodes.setdefault(name, FootageEpisode(row["show"], scene.ref.unit, name))
        seconds += scene_duration(row)
    ordered = sorted(episodes.values(), key=lambda one: (one.show, one.unit, one.id))
    return FootageSummary(tuple(ordered), seconds)


def build_episode_views(
    scenes: Sequence[TableEntry[SceneRow]],
    clips: Sequence[TableEntry[ClipRow]],
    titles: Mapping[str, str],
) -> tuple[EpisodeView, ...]:
    """Build the timelines of the episodes of these scenes, by show and name."""
    clips_by_scene = group_entries(clips, lambda row: row["scene_id"])
    episodes = sorted(
        group_entries(scenes, lambda row: row["episode_id"]).values(),
        key=lambda group: (group[0].row["show"], group[0].ref.unit, group[0].row["episode_id"]),
    )
    return tuple(_episode_view(group, clips_by_scene, titles) for group in episodes)


def _episode_view(
    scenes: Sequence[TableEntry[SceneRow]],
    clips_by_scene: Mapping[str, Sequence[TableEntry[ClipRow]]],
    titles: Mapping[str, str],
) -> EpisodeView:
    unit, first = scenes[0].ref.unit, scenes[0].row
    length = sum((scene_duration(scene.row) for scene in scenes), Fraction(0))
    outcomes: Counter[tuple[str, str]] = Counter()
    shot_segments, clip_segments, clip_count = [], [], 0
    for scene in sorted(scenes, key=lambda scene: scene.row["start_pts"]):
        row = scene.row
        clips = clips_by_scene.get(row["scene_id"], ())
        css_class, outcome = _shot_outcome(scene, clips)
        outcomes[(css_class, outcome)] += 1
        base = get_time_base(row)
        start, end = (
            float((pts - row["origin_pts"]) * base) for pts in (row["start_pts"], row["end_pts"])
        )
        label = f"{labels.format_clock(start)} to {labels.format_clock(end)}, {end - start:.1f} s"
        shot_segments.append(StripSegment(start, end, f"shot {css_class}", f"{label}: {outcome}"))
        clip_segments += [_clip_segment(clip) for clip in clips if clip.row["source_pts"]]
        clip_count += sum(clip.ok for clip in clips)
    strip = None
    if length:
        label = f"{unit}: {len(shot_segments)} shots, {clip_count} clips"
        strip = svg_charts.draw_strip(
            [shot_segments, clip_segments], max(segment.end for segment in shot_segments), label
        )
    return EpisodeView(
        name=unit,
        show=titles.get(first["show"], first["show"]),
        style=first["style"],
        length=labels.format_clock(float(length)),
        clips=clip_count,
        outcomes=tuple(
            ShotOutcome(css_class, outcome, count)
            for (css_class, outcome), count in sorted(
                outcomes.items(), key=lambda item: (-item[1], item)
            )
        ),
        strip=strip,
        problem="" if length else labels.reason_label(str(first["reason"])),
    )


def _clip_segment(clip: TableEntry[ClipRow]) -> StripSegment:
    """Build the segment of a clip, or of a clip rejected after it was decoded."""
    row = clip.row
    start, end = (
        float((row["source_pts"][index] - row["origin_pts"]) * get_time_base(row))
        for index in (0, -1)
    )
    label = f"clip from {labels.format_clock(start)}"
    if clip.ok:
        return StripSegment(start, end, "clip", label)
    css_class, reason = _rejection(row)
    return StripSegment(start, end, f"refused {css_class}", f"no {label}: {reason}")


def _shot_outcome(
    scene: TableEntry[SceneRow], clips: Sequence[TableEntry[ClipRow]]
) -> tuple[str, str]:
    """Return color class and label of a shot: clips, or the reason why it has none."""
    if any(clip.ok for clip in clips):
        return "taken", "clips taken"
    if not scene.ok:
        return _rejection(scene.row)
    return _rejection(clips[0].row) if clips else ("other", "no clip")


def _rejection(row: BaseRow) -> tuple[str, str]:
    """Return color class and label of the reason of a row that is not ok."""
    code = str(row["reason"])
    failed = row["status"] == Status.FAILED
    return "failed" if failed else REASON_CLASSES.get(code, "other"), labels.reason_label(code)
