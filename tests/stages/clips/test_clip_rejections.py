"""Clips that are rejected or fail: each has its reason, and the others are cut."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mimix_core import media, tables
from mimix_core.domain import ids
from mimix_core.errors import StageFailed
from mimix_core.settings import ClipSettings
from mimix_core.stages import clips
from mimix_core.stages.clips import encode_clips
from tests.media_factory import Shot, write_video
from tests.stages.clips.clips_runner import EPISODE, SMALL, ClipsRunner


def test_the_shortest_scene_with_a_clip(runner: ClipsRunner) -> None:
    # 81/16 s are 81 frames at 16/s: 81 frames are enough for a clip, 80 are not.
    truth = write_video(runner.folder / "v.mp4", [Shot(81), Shot(80)], rate=Fraction(16))
    rows = runner.run(truth, scene_margin_seconds="0").rows
    assert sorted((row["status"], row["reason"]) for row in rows) == [
        ("ok", None),
        ("rejected", "scene_too_short"),
    ]
    short = next(row for row in rows if row["status"] == "rejected")
    assert short["clip_id"] == ids.clip_id(EPISODE, truth.spans()[1][0])
    assert "5.000 s" in short["detail"] and short["file"] == ""


def test_a_source_area_below_the_minimum_size_is_not_enlarged(runner: ClipsRunner) -> None:
    truth = write_video(runner.folder / "v.mp4", [Shot(130)])
    remains = {"text_remains": "text at the top left"}
    small = {"crop_width": 112, "crop_height": 64}
    (row,) = runner.run(truth, overlays=[small | remains]).rows
    assert (row["status"], row["reason"]) == ("rejected", "source_too_small")
    assert "x64 pixels of the source would be enlarged to 160x96" in row["detail"]
    assert row["text_remains"] == "text at the top left"
    (row,) = runner.run(
        truth, overlays=[small | remains], min_source_width=0, min_source_height=64, out="again"
    ).rows
    assert (row["status"], row["crop"][3]) == ("ok", 64)
    assert row["text_remains"] == "text at the top left"


def test_scenes_that_are_not_ok_are_ignored(runner: ClipsRunner) -> None:
    truth = write_video(runner.folder / "v.mp4", [Shot(130)])
    report = runner.run(truth, scene=tables.rejected(tables.Reason.SCENE_BLACK, "black"))
    assert report.rows_in == 0 and not list((runner.folder / "out").iterdir())


def test_a_failing_clip_does_not_affect_others(
    runner: ClipsRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = write_video(runner.folder / "v.mp4", [Shot(130), Shot(130), Shot(130)])
    write, prove = media.ClipWriter.write, media.verify_clip
    first, second, third = (ids.clip_id(EPISODE, start) for start, _ in truth.spans())

    def failing_write(self: media.ClipWriter, frame: Any) -> None:
        if self.path.stem == first and self.frames == 50:
            raise media.EncodeFailed("disk full")
        write(self, frame)

    def failing_verification(path: Path, *size: int, **options: Any) -> None:
        if path.stem == second:
            raise media.VerificationFailed("80 frames read back")
        prove(path, *size, **options)

    monkeypatch.setattr(media.ClipWriter, "write", failing_write)
    monkeypatch.setattr(encode_clips, "verify_clip", failing_verification)
    rows = {row["clip_id"]: row for row in runner.run(truth, scene_margin_seconds="0").rows}
    assert [(rows[name]["reason"], rows[name]["detail"]) for name in (first, second, third)] == [
        ("encode_failed", "disk full"),
        ("proof_failed", "80 frames read back"),
        (None, None),
    ]
    assert [path.stem for path in (runner.folder / "out" / "clips").iterdir()] == [third]


def test_a_truncated_stream_fails_only_later_clips(runner: ClipsRunner) -> None:
    truth = write_video(runner.folder / "v.ts", [Shot(130), Shot(130)])
    inputs = runner.inputs(truth)
    data = truth.path.read_bytes()
    truth.path.write_bytes(data[: len(data) * 7 // 10])
    (runner.folder / "out").mkdir()
    report = clips.run(inputs, ClipSettings(**SMALL), runner.folder / "out")
    rows = sorted(report.rows, key=lambda row: row["clip_id"])
    assert rows[0]["status"] == "ok" and rows[1]["status"] == "failed"
    assert [path.stem for path in (runner.folder / "out" / "clips").iterdir()] == [
        rows[0]["clip_id"]
    ]


def test_missing_frames_fail_the_clip(runner: ClipsRunner) -> None:
    truth = write_video(runner.folder / "v.mp4", [Shot(130), Shot(130)])
    wrong = [pts + 1 if number == 150 else pts for number, pts in enumerate(truth.pts)]
    report = runner.run(truth, frame_columns={"pts": wrong})
    rows = sorted(report.rows, key=lambda row: row["clip_id"])
    assert [row["reason"] for row in rows] == [None, "proof_failed"]
    assert f"no frame with PTS {wrong[150]}" in rows[1]["detail"]
    assert report.notes["decoded_straight"] == 1


def test_scenes_of_other_footage_are_rejected(runner: ClipsRunner) -> None:
    truth = write_video(runner.folder / "v.mp4", [Shot(200)])
    with pytest.raises(StageFailed, match="belong together"):
        runner.run(truth, scene={"start_pts": truth.pts[10] + 100}, scene_margin_seconds="0")


def test_filters_reject_a_clip_before_encoding(runner: ClipsRunner) -> None:
    truth = write_video(runner.folder / "v.mp4", [Shot(130)] * 5)
    count = len(truth.pts)
    shot = [number // 130 for number in range(count)]
    report = runner.run(
        truth,
        frame_columns={
            "black": [s == 0 for s in shot],
            "still": [s == 1 for s in shot],
            "sharpness": [0.2 if s == 2 else 100.0 for s in shot],
            "difference": [0.0 if s == 3 else 0.02 for s in shot],
        },
    )
    rows = sorted(report.rows, key=lambda row: row["clip_id"])
    assert [row["reason"] for row in rows] == [
        "clip_black",
        "clip_frozen",
        "clip_blurred",
        "clip_without_motion",
        None,
    ]
    assert [len(row["source_pts"]) for row in rows] == [81] * 5
    assert [bool(row["file"]) for row in rows] == [False] * 4 + [True]
    assert rows[4]["motion"] == pytest.approx(0.02) and rows[0]["black_share"] == 1
    assert [path.stem for path in (runner.folder / "out" / "clips").iterdir()] == [
        rows[4]["clip_id"]
    ]


def test_a_frame_displayed_for_seconds_counts_as_frozen_for_that_time(runner: ClipsRunner) -> None:
    """Variable rate: a span without new frames is one frozen frame."""
    times = [k * 1000 // 24 + (4000 if k >= 80 else 0) for k in range(180)]
    truth = write_video(
        runner.folder / "v.mp4", [Shot(180)], pts=times, time_base=Fraction(1, 1000)
    )
    report = runner.run(truth, scene_margin_seconds="0", stride_seconds=Decimal("1.25"))
    rows = sorted(report.rows, key=lambda row: Fraction(row["start_num"], row["start_den"]))
    # Frame 79 is shown from 3.292 to 7.333 s; clips start at 0, 1.25, 2.5 and 3.75 s.
    assert [round(row["frozen_share"] * 81, 6) for row in rows] == [28, 48, 65, 58]
    assert [row["reason"] for row in rows] == [None, *["clip_frozen"] * 3]


@pytest.mark.parametrize("rate", [16, 24])
def test_a_failed_unit_has_a_row_for_each_scene(runner: ClipsRunner, rate: int) -> None:
    truth = write_video(runner.folder / "v.mp4", [Shot(30), Shot(30)])
    report = clips.stage.failure_report(
        runner.inputs(truth),
        ClipSettings(frame_rate=rate),
        tables.Reason.DECODER_HUNG,
        "said nothing",
    )
    tables.validate(tables.CLIPS, report.rows)
    assert report.rows_in == 2
    assert [row["reason"] for row in report.rows] == ["decoder_hung"] * 2
    assert {(row["rate_num"], row["rate_den"]) for row in report.rows} == {(rate, 1)}
