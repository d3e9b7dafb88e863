"""Clips: each of the 81 frames is the right one, and none is from another scene."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from pydantic import ValidationError

from mimix_core import media, tables
from mimix_core.domain import ids
from mimix_core.domain.library import Style
from mimix_core.domain.timeline import grid_times, preceding_frame_indices
from mimix_core.engine.artifacts import digest_file, file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.media.fingerprint import THUMBNAIL_VALUES
from mimix_core.settings import ClipSettings, OverlaySettings, SceneSettings
from mimix_core.stages import clips, overlays, scenes
from tests.media.test_audio import click_track, write_audio
from tests.media_factory import Shot, read_counter, variable_rate_pts, write_video
from tests.stages.clips.clips_runner import EPISODE, SMALL, ClipsRunner, write_with_sound

CASES: dict[str, dict[str, Any]] = {
    "24.mp4": {},
    "23.976.mp4": {"rate": Fraction(24000, 1001), "b_frames": 3},
    "23.976-ms.mkv": {"rate": Fraction(24000, 1001)},
    "25-late-start.ts": {"rate": Fraction(25)},
    "30.mp4": {"rate": Fraction(30)},
    "10.mp4": {"rate": Fraction(10)},
    "vfr-late-start.mp4": {"pts": variable_rate_pts(325), "time_base": Fraction(1, 1000)},
    "rotated.mp4": {"rotation": 270},
    "mpeg4.avi": {"codec": "mpeg4", "b_frames": 0},
}


@pytest.mark.parametrize("margin", ["0", pytest.param("0.05", marks=pytest.mark.e2e)])
@pytest.mark.parametrize("name", CASES)
def test_every_frame_is_the_last_at_or_before_its_grid_point(
    runner: ClipsRunner, name: str, margin: str
) -> None:
    truth = write_video(runner.folder / name, [Shot(165), Shot(160)], **CASES[name])
    report = runner.run(truth, scene_margin_seconds=margin)
    made = [row for row in report.rows if row["status"] == "ok"]
    assert len(made) >= 2
    assert {row["scene_id"] for row in report.rows} == {
        ids.scene_id(EPISODE, start) for start, _ in truth.spans()
    }
    for row in made:
        (start, end) = next(
            span for span in truth.spans() if ids.scene_id(EPISODE, span[0]) == row["scene_id"]
        )
        # The clips of a scene are consecutive, without gaps, from its start + margin on.
        first = start * truth.time_base + Fraction(margin)
        same = [r["clip_id"] for r in made if r["scene_id"] == row["scene_id"]]
        first += sorted(same).index(row["clip_id"]) * Fraction(81, 16)
        wanted = preceding_frame_indices(truth.pts, truth.time_base, grid_times(first))
        assert row["source_pts"] == [truth.pts[number] for number in wanted]
        assert row["clip_id"] == ids.clip_id(EPISODE, truth.pts[wanted[0]])
        assert all(start <= pts < end for pts in row["source_pts"])
        path = runner.folder / "out" / row["file"]
        assert row["sha256"] == digest_file(path)
        media.verify_clip(path, 160, 96)
        images = media.read_rgb(path)
        assert [read_counter(image, row["crop"]) for image in images] == wanted


@pytest.mark.parametrize(("frames", "expected"), [(5, 7), (33, 1), (49, 0)])
def test_clips_of_fewer_frames_use_shorter_shots(
    runner: ClipsRunner, frames: int, expected: int
) -> None:
    """A shot of 2.5 s, too short for 81 frames: every frame and the length of its audio."""
    sound = write_audio(runner.folder / "sound.mp4", click_track(3), "aac")
    truth = write_with_sound(runner, sound, "both.mp4", [Shot(60)])
    rows = runner.run(truth, frames=frames).rows
    made = [row for row in rows if row["status"] == "ok"]
    assert len(made) == expected
    if not made:
        assert [row["reason"] for row in rows] == ["scene_too_short"]
        assert "2.500 s long, 3.1625 s required" in rows[0]["detail"]
    for number, row in enumerate(sorted(made, key=lambda row: row["clip_id"])):
        start = Fraction("0.05") + number * Fraction(frames, 16)
        wanted = preceding_frame_indices(truth.pts, truth.time_base, grid_times(start, frames))
        assert row["source_pts"] == [truth.pts[index] for index in wanted]
        assert row["frames"] == frames == len(wanted)
        path = runner.folder / "out" / row["file"]
        media.verify_clip(path, 160, 96, frames=frames)
        assert [read_counter(image, row["crop"]) for image in media.read_rgb(path)] == wanted
        with av.open(str(runner.folder / "out" / row["audio_file"])) as container:
            (stream,) = container.streams.audio
            samples = sum(frame.samples for frame in container.decode(audio=0))
            assert samples == round(Fraction(frames, 16) * stream.rate)


@pytest.mark.parametrize(("rate", "frames"), [(16, 4), (16, 32), (16, 85), (24, 122), (24, 125)])
def test_a_length_that_the_vae_cannot_take_is_refused(rate: int, frames: int) -> None:
    with pytest.raises(ValidationError, match=r"4k \+ 1|greater than|longer than 5 s"):
        ClipSettings.model_validate({"frame_rate": rate, "frames": frames})


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("24.mp4", "30.mp4", "vfr-late-start.mp4")
        else pytest.param(name, marks=pytest.mark.e2e)
        for name in CASES
    ],
)
def test_clips_of_24_frames_per_second(runner: ClipsRunner, name: str) -> None:
    """Each frame is the one shown at its point of the 1/24 s grid, whatever the source's rate."""
    truth = write_video(runner.folder / name, [Shot(165), Shot(160)], **CASES[name])
    made = [
        row for row in runner.run(truth, frame_rate=24, frames=121).rows if row["status"] == "ok"
    ]
    assert len(made) >= 2
    for row in made:
        start = Fraction(row["start_num"], row["start_den"])
        wanted = preceding_frame_indices(
            truth.pts, truth.time_base, grid_times(start, 121, Fraction(24))
        )
        assert row["source_pts"] == [truth.pts[number] for number in wanted]
        assert (row["frames"], row["rate_num"], row["rate_den"]) == (121, 24, 1)
        path = runner.folder / "out" / row["file"]
        media.verify_clip(path, 160, 96, frames=121, rate=Fraction(24))
        assert [read_counter(image, row["crop"]) for image in media.read_rgb(path)] == wanted
        # Thumbnails are a quarter of a second apart, as those of clips of 16 frames per second.
        assert len(row["fingerprint"]) == 1 + 21 * THUMBNAIL_VALUES


def test_overlapping_clips_come_from_one_decode(runner: ClipsRunner) -> None:
    truth = write_video(runner.folder / "v.mp4", [Shot(200)])
    report = runner.run(truth, stride_seconds=Decimal("0.5"), scene_margin_seconds="0")
    # (200/24 - 81/16) / 0.5 = 6.5: starts at 0, 0.5 ... 3.0
    assert [row["source_pts"][0] for row in report.rows] == [12 * 512 * k for k in range(7)]
    for row in report.rows:
        first = Fraction(row["source_pts"][0]) * truth.time_base
        wanted = preceding_frame_indices(truth.pts, truth.time_base, grid_times(first))
        images = media.read_rgb(runner.folder / "out" / row["file"])
        assert [read_counter(image, row["crop"]) for image in images] == wanted


def test_clips_that_start_with_the_same_frame_are_merged(runner: ClipsRunner) -> None:
    truth = write_video(runner.folder / "v.mp4", [Shot(60)], rate=Fraction(10))
    report = runner.run(truth, stride_seconds="0.02", scene_margin_seconds="0")
    firsts = [row["source_pts"][0] for row in report.rows]
    assert len(firsts) == len(set(firsts)) >= 9
    assert [row["status"] for row in report.rows] == ["ok"] * len(firsts)


def test_the_crop_excludes_the_overlay(runner: ClipsRunner) -> None:
    def subtitle(image: Any, number: int) -> None:
        image[150:] = (0, 255, 0)

    truth = write_video(runner.folder / "v.mp4", [Shot(130)], draw=subtitle)
    (row,) = runner.run(truth, overlays=[{"crop_height": 148}]).rows
    assert row["crop"] == [36, 0, 246, 148]
    assert (row["source_width"], row["source_height"]) == (320, 192)
    image = media.read_rgb(runner.folder / "out" / row["file"])[40].astype(int)
    green = (image[..., 1] > 200) & (image[..., 0] < 60) & (image[..., 2] < 60)
    assert not green.any()


def test_each_scene_is_cropped_to_its_own_rectangle(runner: ClipsRunner) -> None:
    truth = write_video(runner.folder / "v.mp4", [Shot(130), Shot(130), Shot(130), Shot(30)])
    rows = runner.run(
        truth,
        overlays=[
            {},
            tables.rejected(tables.Reason.SCENE_CREDITS, "rolling credits"),
            {"crop_height": 148},
            tables.failed(tables.Reason.DETECTOR_FAILED, "crashed"),
        ],
    ).rows
    rows = sorted(rows, key=lambda row: row["clip_id"])
    assert [(row["status"], row["reason"]) for row in rows] == [
        ("ok", None),
        ("rejected", "scene_credits"),
        ("ok", None),
        ("failed", "upstream_failed"),
    ]
    assert [row["crop"] for row in rows] == [[0, 0, 320, 192], [], [36, 0, 246, 148], []]
    assert rows[1]["detail"] == "rolling credits" and "crashed" in rows[3]["detail"]


def test_a_clock_that_starts_below_zero(runner: ClipsRunner) -> None:
    """A transport stream whose 33-bit clock wraps: ids do not sort like times."""
    truth = write_video(
        runner.folder / "v.ts",
        [Shot(130)] * 3,
        container_options={"output_ts_offset": "95434.7"},
    )
    assert truth.pts[0] < 0 < truth.pts[-1]
    report = runner.run(truth, scene_margin_seconds="0")
    assert [row["status"] for row in report.rows] == ["ok"] * 3
    for row in report.rows:
        start = Fraction(row["start_num"], row["start_den"])
        wanted = preceding_frame_indices(truth.pts, truth.time_base, grid_times(start))
        images = media.read_rgb(runner.folder / "out" / row["file"])
        assert [read_counter(image, row["crop"]) for image in images] == wanted


def test_frames_of_a_low_rate_source_are_repeated(runner: ClipsRunner) -> None:
    truth = write_video(runner.folder / "v.mp4", [Shot(60)], rate=Fraction(10))
    (row,) = runner.run(truth, scene_margin_seconds="0").rows
    assert row["status"] == "ok" and len(set(row["source_pts"])) < 81
    assert (row["start_num"], row["start_den"]) == (0, 1)


def test_the_same_inputs_give_the_same_bytes(runner: ClipsRunner) -> None:
    truth = write_video(runner.folder / "v.mp4", [Shot(130), Shot(130)])
    reports = [
        runner.run(truth, out=f"out{k}", encoder_workers=k, preset="fast").rows for k in (1, 3)
    ]
    assert all(len(row["fingerprint"]) > 1000 for row in reports[0])
    digests = []
    for number, rows in enumerate(reports):
        path = runner.folder / f"{number}.parquet"
        tables.write(path, tables.CLIPS, rows, stage_key="same")
        digests.append(digest_file(path))
    assert digests[0] == digests[1]


@pytest.mark.parametrize("name", ["episode.mp4", "decoding-order.avi"])
def test_from_the_episode_to_its_clips(tmp_path: Path, store: Store, name: str) -> None:
    truth = write_video(
        tmp_path / name,
        [Shot(150), Shot(20), Shot(30, "black"), Shot(290)],
        rate=Fraction(24000, 1001),
    )
    # AVI counts packets in decoding order: the times are right, but not their order.
    pts = sorted(truth.pts)
    video = file_ref(truth.path)
    found = run_stage(
        store,
        scenes.STAGE,
        scenes.SceneInputs(unit="e", show="demo", style=Style.CARTOON, video=video),
        SceneSettings(),
    ).ref
    overlay = run_stage(
        store,
        overlays.STAGE,
        overlays.OverlayInputs(unit="e", show="demo", video=video, scenes=found),
        OverlaySettings(backend="none"),
    ).ref
    made = run_stage(
        store,
        clips.STAGE,
        clips.ClipInputs(unit="e", video=video, scenes=found, overlays=overlay),
        ClipSettings(**SMALL),
    ).ref
    rows = tables.read(made.path, tables.CLIPS)
    assert [row["reason"] for row in rows] == [None, "scene_too_short", None, None]
    for row in tables.usable(rows):
        images = media.read_rgb(made.folder / row["file"])
        counters = [read_counter(image, row["crop"]) for image in images]
        assert [pts[number] for number in counters] == row["source_pts"]
        opened = [max(n for n in truth.shot_starts if n <= number) for number in counters]
        assert len(set(opened)) == 1
