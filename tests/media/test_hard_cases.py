"""Each hard case alone: the right frames at the right times, from the start and after seeks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mimix_core.media import (
    FrameResizer,
    Rect,
    ScanType,
    VideoReader,
    detect_scan_type,
    open_video,
    plan_crop_resize,
    to_display_rgb,
)
from tests.episode_plan import backdrop
from tests.hard_cases import CASES, Case
from tests.hard_episodes import Episode, write_episode
from tests.media_factory import read_counter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cases")


@cache
def episode(case: str, folder: Path) -> Episode:
    found: Case = next(one for one in CASES if one.name == case)
    return write_episode(found, folder, scenes=2, seconds=2)


def counter_of(frame: Any, video: VideoReader) -> int:
    geometry = video.info.geometry
    return read_counter(to_display_rgb(frame, video.info), None, (geometry.width, geometry.height))


def decode_pixels(frames: Iterator[Any]) -> list[tuple[int, bytes]]:
    return [(frame.pts, frame.to_ndarray().tobytes()) for frame in frames]


@pytest.mark.parametrize("case", [case.name for case in CASES])
def test_every_frame_shows_the_counter_drawn_for_its_time(case: str, folder: Path) -> None:
    truth = episode(case, folder)
    fields = detect_scan_type(truth.path)
    assert fields == truth.case.scan_type
    with open_video(truth.path, threads=2, scan_type=fields) as video:
        frames = list(video.frames())
        assert [frame.pts for frame in frames] == truth.pts
        assert all(frame.time_base == truth.time_base for frame in frames)
        assert video.damage.pts == set()
        pure = [number for first, last in truth.scenes for number in range(first, last + 1)]
        assert len(pure) > len(frames) / 2
        read = {number: counter_of(frames[number], video) for number in pure}
    assert read == {number: truth.counters[number] for number in pure}


@pytest.mark.parametrize("case", [case.name for case in CASES])
def test_frames_after_a_seek_equal_those_of_a_sequential_decode(case: str, folder: Path) -> None:
    truth = episode(case, folder)
    with open_video(truth.path, threads=2, scan_type=truth.case.scan_type) as video:
        sequential = decode_pixels(video.frames())
    count = len(truth.pts)
    for number in (0, 1, count // 3, count // 2 + 1, count - 1):
        wanted = truth.pts[number]
        with open_video(truth.path, threads=2, scan_type=truth.case.scan_type) as video:
            found = decode_pixels(video.frames_from(wanted))
        assert found[0][0] <= wanted
        assert found == sequential[-len(found) :]


def test_a_seek_does_not_decode_from_the_start(folder: Path) -> None:
    truth = episode("open-gops", folder)
    with open_video(truth.path) as video:
        first = next(video.frames_from(truth.pts[-2]))
    assert first.pts > truth.pts[len(truth.pts) // 2]


@pytest.mark.parametrize(
    "case", ["hevc-10-bit", "10-bit-422", "422", "444", "full-range", "bt601", "bt709", "bt2020"]
)
def test_colors_match_those_drawn_in_8_bit_bt709(case: str, folder: Path) -> None:
    truth = episode(case, folder)
    with open_video(truth.path) as video:
        resizer = FrameResizer(video.info, plan_crop_resize(Rect(0, 0, 320, 192), 320, 192, "crop"))
        resized = resizer(video.first_frame)
    assert resized.format.name == "yuv420p"
    image = resized.to_ndarray(format="rgb24", src_colorspace="ITU709").astype(int)
    lower = (slice(112, 192), slice(40, 320))
    drawn, shown = (
        cv2.resize(np.float32(picture[lower]), (14, 4), interpolation=cv2.INTER_AREA)
        for picture in (backdrop(0), image)
    )
    assert np.abs(shown - drawn).max() <= 3


def test_field_order_is_detected_from_the_frames_alone(folder: Path) -> None:
    """With the wrong order the output shows the counter of another instant."""
    truth = episode("interlaced-said-progressive", folder)
    with open_video(truth.path, scan_type=ScanType.BFF) as video:
        numbers = {counter_of(frame, video) for frame in video.frames()}
    assert not numbers & set(truth.counters[2:-2])
