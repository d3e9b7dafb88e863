"""Overlays: standing text at the bottom is cut away, a sign in a scene is not."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from mimix_core import overlays, tables
from mimix_core.media import Geometry
from mimix_core.overlays import Box
from mimix_core.refs import file_ref
from mimix_core.settings import OverlaySettings
from tests.media_factory import Shot, write_sound, write_video

SIZE = (640, 368)


def row_of(path: Path, out: Path, **settings: Any) -> tables.Row:
    inputs = overlays.OverlayInputs(unit=path.stem, show="demo", video=file_ref(path))
    report = overlays.run(inputs, OverlaySettings(**settings), out)
    tables.validate(tables.OVERLAYS, report.rows)
    assert report.rows_in == len(report.rows) == 1
    return report.rows[0]


def subtitles(image: np.ndarray, number: int) -> None:
    """A line most of the time, two lines now and then, and for a moment a sign higher up."""
    words = ["Where is the cat?", "It ran up the tree.", "Look out!", ""][number // 24 % 4]
    if number // 24 % 8 == 1:
        words = "And there it sits now,\n" + words
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    style: dict[str, Any] = {
        "font": ImageFont.load_default(22),
        "fill": "white",
        "stroke_width": 2,
        "stroke_fill": "black",
        "align": "center",
    }
    draw.text((320, 355), words, anchor="md", **style)
    if number // 24 == 3:
        draw.text((320, 280), "SALOON", anchor="md", **style)
    image[:] = np.asarray(canvas)


@pytest.fixture(scope="module")
def subtitled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("subtitled")
    return write_video(folder / "v.mp4", [Shot(384)], size=SIZE, draw=subtitles).path


@pytest.mark.slow
def test_subtitles_are_cut_away_and_a_sign_is_not(subtitled: Path, tmp_path: Path) -> None:
    row = row_of(subtitled, tmp_path)
    assert (row["status"], row["backend"]) == ("ok", "rapidocr")
    assert (row["width"], row["height"]) == SIZE
    assert (row["crop_x"], row["crop_y"], row["crop_width"]) == (0, 0, 640)
    # Two lines of 22 pixels above 355, the upper one cut as well; the sign at 260..280 stays.
    assert 285 <= row["crop_height"] <= 305
    assert row["crop_height"] % 2 == 0
    assert len(row["sampled_pts"]) == 16
    tops = [box["box"][1] for box in row["boxes"]]
    assert len(tops) >= 10 and min(tops) >= row["crop_height"]
    with Image.open(tmp_path / row["frame_file"]) as image:
        assert image.size == SIZE
        # The frame chosen for the report shows a two-line subtitle.
        assert (np.asarray(image.convert("L"))[310:325, 200:440] > 220).any()


@pytest.mark.slow
def test_the_same_episode_gives_the_same_row_and_picture(subtitled: Path, tmp_path: Path) -> None:
    rows = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        rows.append(row_of(subtitled, tmp_path / name, sampled_frames=4))
    assert rows[0] == rows[1]
    pictures = [(tmp_path / name / overlays.FRAME_FILE).read_bytes() for name in ("one", "two")]
    assert pictures[0] == pictures[1]


@pytest.mark.slow
def test_a_picture_without_text_stays_whole(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [Shot(96)], size=SIZE).path
    row = row_of(path, tmp_path, sampled_frames=4)
    assert (row["status"], row["boxes"]) == ("ok", [])
    assert (row["crop_width"], row["crop_height"]) == SIZE


def test_the_backend_none_keeps_everything(subtitled: Path, tmp_path: Path) -> None:
    row = row_of(subtitled, tmp_path, backend="none")
    assert (row["status"], row["backend"], row["boxes"]) == ("ok", "none", [])
    assert (row["crop_width"], row["crop_height"]) == SIZE
    assert (tmp_path / row["frame_file"]).is_file()


def test_a_detector_that_breaks_fails_the_row(
    subtitled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(image: np.ndarray) -> list[Box]:
        raise RuntimeError("no more memory")

    monkeypatch.setattr(overlays, "_rapidocr", breaking)
    row = row_of(subtitled, tmp_path)
    assert (row["status"], row["reason"]) == ("failed", "detector_failed")
    assert "no more memory" in row["detail"]


def test_a_cut_too_deep_rejects(
    subtitled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The band is the lower 30 %: its row 6 is row 264 of 368.
    monkeypatch.setattr(overlays, "_rapidocr", lambda image: [(100, 6, 500, 30)])
    row = row_of(subtitled, tmp_path)
    assert (row["status"], row["reason"]) == ("rejected", "crop_too_deep")
    assert row["boxes"][0]["box"] == [100, 264, 500, 288]
    allowed = row_of(subtitled, tmp_path, max_height_loss=0.35)
    assert allowed["status"] == "ok" and allowed["crop_height"] == 260


def test_what_is_no_line_of_text_does_not_count(
    subtitled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = [(0, 0, 400, 100), (50, 20, 60, 60)]
    monkeypatch.setattr(overlays, "_rapidocr", lambda image: shapes)
    assert row_of(subtitled, tmp_path)["boxes"] == []


def test_what_cannot_be_read_is_a_failed_row(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    assert row_of(text, tmp_path)["reason"] == "unreadable_video"
    sound = write_sound(tmp_path / "sound.mkv", 1, beep_at=0.3)
    assert row_of(sound, tmp_path)["reason"] == "no_video_stream"


LINE: Box = (100, 80, 200, 90)


@pytest.mark.parametrize(
    ("frames_with_text", "counts"), [(1, False), (2, False), (3, True), (16, True)]
)
def test_text_counts_from_the_share_on(frames_with_text: int, counts: bool) -> None:
    lines = [[LINE]] * frames_with_text + [[]] * (16 - frames_with_text)
    found = overlays.standing_text(lines, 100, min_share=0.15)
    assert found == (lines if counts else [[]] * 16)


def test_one_frame_is_never_an_overlay() -> None:
    assert overlays.standing_text([[LINE], [], [], []], 100, min_share=0.0) == [[]] * 4


def test_words_change_but_the_band_stays() -> None:
    lines = [[(10 * k, 80 + k % 3, 50 + 10 * k, 90 + k % 3)] for k in range(8)]
    assert overlays.standing_text(lines, 100, min_share=0.9) == lines


def test_the_upper_line_of_a_subtitle_counts_with_the_lower_one() -> None:
    upper, sign = (90, 68, 210, 78), (90, 20, 210, 30)
    lines = [[LINE]] * 9 + [[upper, LINE, sign]]
    assert overlays.standing_text(lines, 100, min_share=0.5)[9] == [upper, LINE]


@given(
    st.integers(10, 2000),
    st.integers(10, 2000),
    st.lists(st.integers(0, 2000), max_size=5),
    st.floats(0, 0.1),
)
def test_what_is_kept_is_even_and_above_every_overlay(
    width: int, height: int, tops: list[int], margin: float
) -> None:
    boxes = [(0, top, 4, top + 4) for top in tops if top < height]
    kept = overlays.kept(Geometry(width, height, Fraction(1)), [boxes], margin)
    assert kept.width in (width, width - 1) and kept.width % 2 == kept.height % 2 == 0
    assert 2 <= kept.height <= height
    if boxes and kept.height > 2:
        assert kept.height <= min(box[1] for box in boxes) - margin * height
    if not boxes:
        assert kept.height >= height - 1
