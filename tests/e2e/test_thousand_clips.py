"""Acceptance test of curation: every frame of a thousand clips of hard cases is correct."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import av
import pytest

from mimix_core import tables
from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.settings import ClipSettings, OverlaySettings, SceneSettings
from mimix_core.stages import clips, overlays, scenes
from tests.hard_cases import CASES, MOVING, Case
from tests.hard_episodes import Episode, write_episode
from tests.media_factory import read_counter

FRAMES, RATE = 81, 16


@dataclass(frozen=True)
class Judged:
    """A clip, or a scene without one; ``wrong`` describes what is wrong with it, if anything."""

    name: str
    wrong: str = ""


def curate(episode: Episode, folder: Path, stride: str) -> tuple[Path, list[tables.Row]]:
    """Run the stages as the pipeline does; return the folder and the rows of clips."""
    store = Store(folder / "store")
    unit, video = episode.case.name, file_ref(episode.path)
    found = run_stage(
        store,
        scenes.STAGE,
        scenes.SceneInputs(unit=unit, show="hard", style=Style.CARTOON, video=video),
        SceneSettings(),
    ).ref
    cropped = run_stage(
        store,
        overlays.STAGE,
        overlays.OverlayInputs(unit=unit, show="hard", video=video, scenes=found),
        OverlaySettings(backend="none"),
    ).ref
    made = run_stage(
        store,
        clips.STAGE,
        clips.ClipInputs(unit=unit, video=video, scenes=found, overlays=cropped),
        ClipSettings(
            width=160,
            height=96,
            preset="ultrafast",
            crf=18,
            stride_seconds=Decimal(stride),
            encoder_workers=2,
        ),
    ).ref
    return made.path.parent, tables.read(made.path, tables.CLIPS)


def judge(episode: Episode, folder: Path, row: tables.Row) -> str:
    """Describe what is wrong with a clip, by the ground truth of its episode; empty if nothing."""
    start = Fraction(row["start_num"], row["start_den"])
    ticks = [(start + Fraction(k, RATE)) // episode.time_base for k in range(FRAMES)]
    shown = [bisect_right(episode.pts, tick) - 1 for tick in ticks]
    scene = [(first, last) for first, last in episode.scenes if first <= shown[0] <= last]
    if shown[0] < 0 or not scene:
        return f"starts in no scene, at frame {shown[0]}"
    if shown[-1] > scene[0][1]:
        return f"holds frames after its scene: up to {shown[-1]}, the scene ends at {scene[0][1]}"
    if row["source_pts"] != [episode.pts[number] for number in shown]:
        return "other source frames than the grid asks for"
    wanted = [episode.counters[number] for number in shown]
    read = []
    with av.open(str(folder / row["file"])) as container:
        stream = container.streams.video[0]
        if stream.average_rate != RATE:
            return f"rate {stream.average_rate}"
        for k, frame in enumerate(container.decode(stream)):
            if frame.pts * frame.time_base != Fraction(k, RATE):
                return f"frame {k} stands at {frame.pts * frame.time_base} s"
            image = frame.to_ndarray(format="rgb24")
            try:
                read.append(
                    read_counter(image, row["crop"], (row["source_width"], row["source_height"]))
                )
            except AssertionError as error:
                return f"frame {k}: {error}"
    if len(read) != FRAMES:
        return f"{len(read)} frames"
    differing = [k for k in range(FRAMES) if read[k] != wanted[k]]
    if differing:
        k = differing[0]
        return f"{len(differing)} frames, first {k}: {read[k]} is shown, {wanted[k]} is right"
    return ""


def judged(case: Case, folder: Path, seconds: int, count: int, stride: str) -> Iterator[Judged]:
    """Return all clips of a case, and all its scenes without a clip."""
    folder.mkdir()
    episode = write_episode(case, folder, count, seconds)
    out, rows = curate(episode, folder, stride)
    started = set()
    for row in rows:
        name = f"{case.name}/{row['clip_id']}"
        if row["status"] != tables.Status.OK:
            continue
        wrong = judge(episode, out, row)
        start = Fraction(row["start_num"], row["start_den"]) // episode.time_base
        number = bisect_right(episode.pts, start) - 1
        started |= {k for k, (first, last) in enumerate(episode.scenes) if first <= number <= last}
        yield Judged(name, wrong)
    for missing in set(range(len(episode.scenes))) - started:
        yield Judged(f"{case.name}: scene {missing}", "gave no clip")


def verdict(all_of_them: Sequence[Judged], at_least: int) -> None:
    wrong = [one for one in all_of_them if one.wrong]
    report = "\n".join(f"{one.name}: {one.wrong}" for one in wrong[:40])
    assert not wrong, f"{len(wrong)} of {len(all_of_them)} are wrong:\n{report}"
    assert len(all_of_them) >= at_least


@pytest.mark.e2e
def test_a_thousand_clips_of_hard_cases_are_frame_accurate(tmp_path: Path) -> None:
    found: list[Judged] = []
    for case in (*CASES, *MOVING):
        found += judged(case, tmp_path / case.name, seconds=9, count=5, stride="0.5")
    verdict(found, at_least=1000)


@pytest.mark.e2e
def test_a_few_clips_are_frame_accurate(tmp_path: Path) -> None:
    found: list[Judged] = []
    few = {"dissolves", "variable-rate", "edit-list", "telecine", "moving-dissolves-24"}
    for case in (*CASES, *MOVING):
        if case.name in few:
            found += judged(case, tmp_path / case.name, seconds=8, count=2, stride="0.75")
    verdict(found, at_least=24)
