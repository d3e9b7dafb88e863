"""Overlays: persistent text at the bottom is cropped, credits are rejected, signs remain."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mimix_core import tables
from mimix_core.engine.artifacts import FileRef, digest_file
from mimix_core.settings import OverlaySettings
from mimix_core.stages import overlays
from mimix_core.stages.overlays import (
    frame_sampling,
    stage,
    text_detection,
)
from mimix_core.stages.overlays.text_detection import PixelBox, detect_text
from tests.media_factory import GroundTruth, Shot, commit_table, write_sound, write_video
from tests.stages.overlays.overlays_runner import (
    LONG,
    SHORT,
    SIZE,
    rows_of,
    run,
    scene,
    write,
)


def subtitles(image: np.ndarray, number: int) -> None:
    """A line most of the time, two lines now and then, and in one shot a sign higher up."""
    words = ["Where is the cat?", "It ran up the tree.", "Look out there!", ""][number // 24 % 4]
    if number // 24 % 8 == 1:
        words = "And there it sits now,\n" + words
    write(image, (320, 355, words))
    if LONG <= number < LONG + SHORT:
        write(image, (320, 285, "SALOON"))


@pytest.fixture(scope="module")
def subtitled(tmp_path_factory: pytest.TempPathFactory) -> GroundTruth:
    path = tmp_path_factory.mktemp("subtitled") / "v.mp4"
    return write_video(path, [Shot(n) for n in (LONG, SHORT) * 3], size=SIZE, draw=subtitles)


@pytest.mark.slow
def test_subtitles_are_cropped_and_a_sign_is_not(subtitled: GroundTruth, tmp_path: Path) -> None:
    rows = rows_of(subtitled, tmp_path)
    assert {(row["status"], row["backend"]) for row in rows} == {("ok", "rapidocr")}
    assert {(row["width"], row["height"]) for row in rows} == {SIZE}
    # One rectangle for the complete episode, including scenes too short for a clip.
    (crop,) = {tuple(row[f"crop_{n}"] for n in ("x", "y", "width", "height")) for row in rows}
    assert crop[:3] == (0, 0, 640)
    # Two lines of 22 pixels above 355, the upper one cropped too; the sign at 265..285 remains.
    assert 288 <= crop[3] <= 305 and crop[3] % 2 == 0
    for (start, end), row, frames in zip(subtitled.spans(), rows, (LONG, SHORT) * 3, strict=True):
        assert len(row["sampled_pts"]) >= (2 if frames == LONG else 1)
        assert all(start <= pts < end and pts in subtitled.pts for pts in row["sampled_pts"])
        assert {box["pts"] for box in row["boxes"]} <= set(row["sampled_pts"])
    tops = [box["box"][1] for row in rows for box in row["boxes"]]
    assert len(tops) >= 6 and min(tops) >= crop[3]
    (row,) = [row for row in rows if row["frame_file"]]
    with Image.open(tmp_path / row["frame_file"]) as image:
        assert image.size == SIZE


@pytest.mark.e2e
def test_the_same_episode_gives_the_same_rows_and_images(
    subtitled: GroundTruth, tmp_path: Path
) -> None:
    rows, images = [], []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        rows.append(rows_of(subtitled, tmp_path / name, sampled_frames=4))
        images.append({p.name: p.read_bytes() for p in (tmp_path / name).glob("*.jpg")})
    assert rows[0] == rows[1]
    assert images[0] == images[1] and images[0]


@pytest.mark.e2e
def test_too_deep_a_crop_rejects_every_scene(subtitled: GroundTruth, tmp_path: Path) -> None:
    rows = rows_of(subtitled, tmp_path, max_height_loss=0.1)
    assert {(row["status"], row["reason"]) for row in rows} == {("rejected", "crop_too_deep")}
    assert "at most 10% is allowed" in rows[0]["detail"]
    assert rows[0]["crop_height"] < 0.9 * SIZE[1]


def test_the_backend_none_crops_nothing(subtitled: GroundTruth, tmp_path: Path) -> None:
    for row in rows_of(subtitled, tmp_path, backend="none"):
        assert (row["status"], row["backend"], row["boxes"]) == ("ok", "none", [])
        assert (row["crop_width"], row["crop_height"]) == SIZE


@pytest.mark.slow
def test_a_frame_without_text_is_not_cropped(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", [Shot(LONG), Shot(SHORT)], size=SIZE)
    for row in rows_of(video, tmp_path, sampled_frames=4):
        assert (row["status"], row["boxes"]) == ("ok", [])
        assert (row["crop_width"], row["crop_height"]) == SIZE


@pytest.mark.parametrize("bars", [(0, 44), (80, 0)])
def test_black_borders_are_cropped_and_dark_scenes_are_not(
    tmp_path: Path, bars: tuple[int, int]
) -> None:
    wide, high = bars

    def letterbox(image: np.ndarray, number: int) -> None:
        if number >= LONG * 2:
            # A dark shot: only a lamp in the middle is lit.
            image[:] = 0
            image[150:200, 300:340] = 255
        image[:, :wide] = image[:, SIZE[0] - wide :] = 0
        image[:high] = image[SIZE[1] - high :] = 0

    video = write_video(tmp_path / "v.mp4", [Shot(LONG)] * 3, size=SIZE, draw=letterbox)
    for row in rows_of(video, tmp_path, backend="none"):
        assert row["status"] == "ok"
        x, y, w, h = (row[f"crop_{n}"] for n in ("x", "y", "width", "height"))
        assert wide <= x <= wide + 4 and SIZE[0] - wide - 4 <= x + w <= SIZE[0] - wide
        assert high <= y <= high + 4 and SIZE[1] - high - 4 <= y + h <= SIZE[1] - high
        assert x % 2 == y % 2 == w % 2 == h % 2 == 0


def test_a_failing_detector_fails_every_row(
    subtitled: GroundTruth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(image: np.ndarray) -> list[PixelBox]:
        raise RuntimeError("no more memory")

    monkeypatch.setitem(stage._DETECTORS, "rapidocr", breaking)
    for row in rows_of(subtitled, tmp_path):
        assert (row["status"], row["reason"]) == ("failed", "detector_failed")
        assert "no more memory" in row["detail"]


def test_an_unreadable_file_fails_every_row(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    sound = write_sound(tmp_path / "sound.mkv", 1, beep_at=0.3)
    spans = [(0, 200), (200, 400)]
    for path, reason in ((text, "unreadable_video"), (sound, "no_video_stream")):
        rows = run(path, spans, Fraction(1, 24), tmp_path / path.stem)
        assert [(row["status"], row["reason"]) for row in rows] == [("failed", reason)] * 2


def test_a_scene_past_the_end_of_the_file_fails_alone(
    subtitled: GroundTruth, tmp_path: Path
) -> None:
    end = subtitled.end
    spans = [*subtitled.spans(), (end, end + 10 * (end - subtitled.spans()[-2][0]))]
    rows = run(subtitled.path, spans, subtitled.time_base, tmp_path, backend="none")
    assert [row["status"] for row in rows] == ["ok"] * 6 + ["failed"]
    assert rows[-1]["reason"] == "unreadable_video"


def test_without_usable_scenes_there_are_no_rows(tmp_path: Path) -> None:
    assert run(write_video(tmp_path / "v.mp4", [Shot(4)]).path, [], Fraction(1, 24), tmp_path) == []


def test_an_episode_whose_process_died_has_a_failed_row_per_scene(tmp_path: Path) -> None:
    scenes = commit_table(tmp_path, tables.SCENES, [scene(0, 99), scene(99, 200)])
    video = FileRef(path=tmp_path / "gone.mp4", sha256="0" * 64, size=1)
    inputs = overlays.OverlayInputs(unit="v", show="demo", video=video, scenes=scenes)
    report = stage.failed_rows(inputs, OverlaySettings(), tables.Reason.DECODER_HUNG, "silent")
    tables.validate(tables.OVERLAYS, report.rows)
    assert [(row["status"], row["reason"]) for row in report.rows] == [
        ("failed", "decoder_hung")
    ] * 2


# --- which frames are looked at -------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 50)), max_size=30),
    st.integers(4, 40),
    st.sampled_from([Fraction(33, 16), Fraction(81, 16)]),
)
def test_every_scene_that_fits_a_clip_is_sampled_twice(
    lengths: list[tuple[int, int]], count: int, clip_seconds: Fraction
) -> None:
    scenes, at = [], 7
    for ticks, gap in lengths:
        scenes.append(scene(at, at + ticks))
        at += ticks + gap
    found = frame_sampling.plan_sampling_targets(scenes, count, clip_seconds)
    assert [target.pts for target in found] == sorted(target.pts for target in found)
    for index, one in enumerate(scenes):
        here = [target for target in found if target.scene == index]
        for target in here:
            assert one["start_pts"] <= target.earliest <= target.pts < target.end == one["end_pts"]
        if one["end_pts"] - one["start_pts"] >= clip_seconds * 24:
            assert len(here) >= 2
    assert not scenes or len(found) >= count
    fits = [frame_sampling.fits_clip(one, clip_seconds) for one in scenes]
    short = sum(not fits[target.scene] for target in found)
    assert short <= count
    if scenes and not any(fits):
        assert short == count


# --- standing text --------------------------------------------------------------------------------


def test_a_box_of_much_of_the_frame_is_a_texture_and_no_text() -> None:
    image = np.zeros((720, 1280, 3), np.uint8)
    title, logo, column = (100, 300, 1180, 380), (1100, 20, 1250, 120), (30, 0, 90, 700)
    grass = (0, 0, 1171, 719)
    lines, others = detect_text(image, lambda _: [grass, title, logo, column], 0)
    assert (lines, others) == ((title,), (column, logo))


def test_a_name_next_to_a_role_is_one_row() -> None:
    lines = [(10, 10, 50, 20), (60, 12, 90, 21), (10, 30, 50, 40), (60, 29, 99, 39)]
    assert [len(row) for row in text_detection.group_text_rows(lines)] == [2, 2]


def test_boxes_that_are_not_lines_of_text_are_ignored() -> None:
    shapes = [(0, 0, 90, 30), (50, 20, 60, 30), (10, 60, 60, 70)]
    image = np.zeros((100, 100, 3), np.uint8)
    assert text_detection.detect_text_lines(image, lambda _: shapes, 0) == ((10, 60, 60, 70),)


def test_the_digest_of_the_scenes_is_part_of_the_key(tmp_path: Path) -> None:
    video = tmp_path / "v.mp4"
    video.write_bytes(b"video")
    keys = set()
    for end in (90, 91):
        scenes = commit_table(tmp_path / str(end), tables.SCENES, [scene(0, end)])
        ref = FileRef(path=video, sha256=digest_file(video), size=5)
        inputs = overlays.OverlayInputs(unit="v", show="demo", video=ref, scenes=scenes)
        keys.add(overlays.STAGE.key(inputs, OverlaySettings()))
    assert len(keys) == 2
