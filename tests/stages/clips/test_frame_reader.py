"""Reading frames at given times: what is decoded, from where, and that pixels stay the same."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core import media
from mimix_core.stages.clips.frame_reader import (
    MIN_SEEK_GAP,
    SelectiveFrameReader,
    plan_seek_segments,
)
from mimix_core.stages.clips.planning import FrameIndex, read_frame_index
from tests.media_factory import (
    Shot,
    write_video,
)
from tests.stages.clips.clips_runner import (
    ClipsRunner,
    frame_rows,
)


@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=40, unique=True),
    st.lists(st.integers(0, 400), max_size=12, unique=True),
)
def test_seek_segments_cover_every_wanted_frame_once_from_a_preceding_keyframe(
    wanted: list[int], keys: list[int]
) -> None:
    # Some decoders mark no keyframe at all.
    wanted, keys = sorted(wanted), sorted({0, *keys} if keys else ())
    parts = list(plan_seek_segments(wanted, keys))
    assert [number for _, part in parts for number in part] == wanted
    for key, part in parts:
        assert key in [*keys, 0] and key <= part[0]
    for (_, before), (key, _) in pairwise(parts):
        assert key - before[-1] >= MIN_SEEK_GAP


SEEK_CASES: dict[str, dict[str, Any]] = {
    "h264.mp4": {"b_frames": 3},
    "h264.mkv": {"b_frames": 3},
    "h264-late-start.ts": {"b_frames": 3},
    "mpeg4.avi": {"codec": "mpeg4", "b_frames": 0},
    "mpeg2.mpg": {"codec": "mpeg2video", "rate": Fraction(25)},
}


@pytest.mark.parametrize("name", SEEK_CASES)
def test_selective_reading_gives_the_pixels_of_a_sequential_decode(
    runner: ClipsRunner, name: str
) -> None:
    truth = write_video(
        runner.folder / name, [Shot(120), Shot(120), Shot(120)], gop=40, **SEEK_CASES[name]
    )
    pq.write_table(frame_rows(truth), runner.folder / "frames.parquet")
    frames = read_frame_index(runner.folder / "frames.parquet")
    decoded: list[int] = []

    def read_selected(
        wanted: Sequence[int], index: FrameIndex
    ) -> tuple[SelectiveFrameReader, list[Any]]:
        reader = SelectiveFrameReader(
            truth.path,
            media.ScanType.PROGRESSIVE,
            index,
            threads=2,
            on_frame=lambda: decoded.append(1),
        )
        return reader, [
            (number, frame.pts, frame.to_ndarray().tobytes())
            for number, frame in reader.read_frames(wanted)
        ]

    wanted = [*range(90, 110, 2), *range(240, 300, 3), 355]
    sequential_reader, sequential = read_selected(range(len(truth.pts)), frames)
    assert [pts for _, pts, _ in sequential] == truth.pts and sequential_reader.seeks <= 1
    decoded.clear()
    reader, selected = read_selected(wanted, frames)
    assert selected == [sequential[number] for number in wanted]
    assert len(decoded) < 200 and not reader.sequential_fallback
