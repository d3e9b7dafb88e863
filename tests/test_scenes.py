"""Scenes: cuts to the frame, and what is black, frozen or no video at all."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mimix_core import ids, scenes, tables
from mimix_core.library import Style
from mimix_core.refs import file_ref
from mimix_core.settings import SceneSettings
from mimix_core.stage import run_stage
from mimix_core.store import Store
from tests.media_factory import Shot, Truth, write_sound, write_video

SHOTS = [Shot(40), Shot(31), Shot(55), Shot(24)]


def rows_of(path: Path, out: Path, **settings: Any) -> list[tables.Row]:
    inputs = scenes.SceneInputs(
        unit=path.stem, show="demo", style=Style.CARTOON, video=file_ref(path)
    )
    report = scenes.run(inputs, SceneSettings(**settings), out)
    tables.validate(tables.SCENES, report.rows)
    assert report.rows_in == len(report.rows)
    return list(report.rows)


def spans(rows: list[tables.Row]) -> list[tuple[int, int]]:
    return [(row["start_pts"], row["end_pts"]) for row in rows]


def vfr(frames: int) -> list[int]:
    """Milliseconds: now 24, now 60, now 12 frames a second."""
    times, now = [], 700
    for number in range(frames):
        times.append(now)
        now += (42, 17, 83)[number // 20 % 3]
    return times


CASES: dict[str, dict[str, Any]] = {
    "24.mp4": {},
    "23.976.mp4": {"rate": Fraction(24000, 1001), "b_frames": 3},
    "25.ts": {"rate": Fraction(25)},
    "30.mkv": {"rate": Fraction(30)},
    "vfr.mp4": {"pts": vfr(150), "time_base": Fraction(1, 1000)},
    "rotated.mp4": {"rotation": 90},
}


@pytest.mark.parametrize("detector", [("adaptive", 3.0), ("content", 27.0)])
@pytest.mark.parametrize("name", CASES)
def test_every_cut_is_found_to_the_frame(
    tmp_path: Path, name: str, detector: tuple[str, float]
) -> None:
    truth = write_video(tmp_path / name, SHOTS, **CASES[name])
    rows = rows_of(truth.path, tmp_path, detector=detector[0], threshold=detector[1])
    assert spans(rows) == truth.spans()
    assert [row["frames"] for row in rows] == [shot.frames for shot in SHOTS]
    assert {row["origin_pts"] for row in rows} == {truth.pts[0]}
    assert {Fraction(r["time_base_num"], r["time_base_den"]) for r in rows} == {truth.time_base}
    assert {(row["width"], row["height"]) for row in rows} == {(320, 192)}


def test_no_shot_is_merged_however_short_or_near_the_ends(tmp_path: Path) -> None:
    truth = write_video(tmp_path / "v.mp4", [Shot(1), Shot(30), Shot(5), Shot(30), Shot(1)])
    assert spans(rows_of(truth.path, tmp_path)) == truth.spans()


def test_black_and_frozen_shots_are_rejected_and_held_drawings_are_not(tmp_path: Path) -> None:
    shots = [Shot(30), Shot(30, "black"), Shot(30, hold=3), Shot(30, "still")]
    truth = write_video(tmp_path / "v.mp4", shots)
    rows = rows_of(truth.path, tmp_path)
    assert spans(rows) == truth.spans()
    assert [row["reason"] for row in rows] == [None, "scene_black", None, "scene_frozen"]
    assert [row["status"] for row in rows] == ["ok", "rejected", "ok", "rejected"]
    assert [row["black_share"] for row in rows] == [0, 1, 0, 0]
    assert rows[2]["frozen_share"] == 0 and rows[3]["frozen_share"] == 1
    assert rows[0]["motion"] > rows[2]["motion"] > rows[3]["motion"] >= 0
    assert rows[0]["sharpness"] > rows[1]["sharpness"]


def test_the_limits_are_settings(tmp_path: Path) -> None:
    truth = write_video(tmp_path / "v.mp4", [Shot(30, "black"), Shot(30)])
    rows = rows_of(truth.path, tmp_path, max_black_share=1.0, max_frozen_share=1.0)
    assert [row["status"] for row in rows] == ["ok", "ok"]


def broken(folder: Path) -> dict[str, tuple[Path, str]]:
    truth: Truth = write_video(folder / "whole.mkv", [Shot(48)])
    content = bytearray(truth.path.read_bytes())
    text, empty = folder / "text.mp4", folder / "empty.mp4"
    text.write_text("not a video\n" * 99)
    empty.touch()
    headless = folder / "headless.mp4"
    headless.write_bytes(content[3000:])
    return {
        "text": (text, "unreadable_video"),
        "empty": (empty, "unreadable_video"),
        "headless": (headless, "unreadable_video"),
        "sound": (write_sound(folder / "sound.mkv", 1, beep_at=0.2), "no_video_stream"),
    }


def test_what_cannot_be_read_is_one_failed_row_with_its_reason(tmp_path: Path) -> None:
    for name, (path, reason) in broken(tmp_path).items():
        (row,) = rows_of(path, tmp_path)
        assert (row["status"], row["reason"]) == ("failed", reason), name
        assert row["scene_id"] == ids.scene_id(ids.episode_id("demo", file_ref(path).sha256), 0)
        assert row["detail"] and str(tmp_path) not in row["detail"]


def test_the_same_episode_gives_the_same_table_with_any_threads(tmp_path: Path) -> None:
    truth = write_video(tmp_path / "v.mp4", SHOTS[:2])
    digests = set()
    for threads in (1, 2):
        other = Store(tmp_path / f"store{threads}")
        inputs = scenes.SceneInputs(
            unit="v", show="demo", style=Style.REALISTIC, video=file_ref(truth.path)
        )
        settings = SceneSettings(decode_threads=threads)
        digests.add(run_stage(other, scenes.STAGE, inputs, settings).ref.sha256)
    assert len(digests) == 1
