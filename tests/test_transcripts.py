"""Transcripts: the lines heard in a clip, with times of its own."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core import tables, transcripts
from mimix_core.errors import BadInput, MissingModel
from mimix_core.refs import FileRef, file_ref
from mimix_core.settings import TranscriptSettings
from mimix_core.transcripts import Line
from tests.media_factory import Shot, committed, write_sound, write_video

SRT = """1
00:00:00,500 --> 00:00:01,500
Too early.

2
00:00:01,900 --> 00:00:02,100
<i>Over the</i>
beginning.

3
00:00:04,000 --> 00:00:05,250
In the middle.

4
00:00:07,000 --> 00:00:09,000
Over the end.

5
00:00:07,063 --> 00:00:09,000
Too late.
"""
VTT = "WEBVTT\n\n00:00:04.000 --> 00:00:05.250\nIn the <b>middle</b>.\n"
ASS = (
    "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name\n\n[Events]\n"
    "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    "Comment: 0,0:00:04.00,0:00:05.25,Default,,0,0,0,,not said\n"
    "Dialogue: 0,0:00:04.00,0:00:05.25,Default,,0,0,0,,{\\i1}In the\\Nmiddle.\n"
)


def clip(start: int = 2000, *, origin: int = 0, **changes: Any) -> tables.Row:
    """A clip that starts ``start`` ms after the episode's first frame."""
    row = tables.ok(
        clip_id=f"demo-c{start}",
        scene_id="demo-s0",
        episode_id="demo",
        show="demo",
        style="cartoon",
        origin_pts=origin,
        time_base_num=1,
        time_base_den=1000,
        source_pts=[origin + start + k * 1000 // 16 for k in range(81)],
        source_width=320,
        source_height=192,
        crop=[0, 0, 320, 192],
        width=160,
        height=96,
        frames=81,
        rate_num=16,
        rate_den=1,
        file="clips/x.mp4",
        sha256="",
    )
    return row | changes


def run(
    folder: Path,
    clips: list[tables.Row],
    *,
    subtitles: str | None = None,
    suffix: str = ".srt",
    video: Path | None = None,
    model: FileRef | None = None,
    **settings: Any,
) -> list[tables.Row]:
    sidecar = folder / f"words{suffix}"
    if subtitles is not None:
        sidecar.write_text(subtitles, encoding="utf-8")
    if video is None:
        video = folder / "v.mp4"
        video.write_bytes(b"not looked at")
    inputs = transcripts.TranscriptInputs(
        unit="v",
        video=file_ref(video),
        clips=committed(folder / "clips", tables.CLIPS, clips),
        subtitles=None if subtitles is None else file_ref(sidecar),
        speech_model=model,
    )
    report = transcripts.run(inputs, TranscriptSettings(**settings), folder)
    tables.validate(tables.TRANSCRIPTS, report.rows)
    assert report.rows_in == len(report.rows)
    return list(report.rows)


@pytest.mark.parametrize("origin", [0, 7200, 123_456])
def test_lines_that_touch_the_clip_are_its_lines(tmp_path: Path, origin: int) -> None:
    # The clip plays from 2.0 s to 7.0625 s after the episode's first frame.
    (row,) = run(tmp_path, [clip(origin=origin)], subtitles=SRT)
    assert (row["status"], row["backend"]) == ("ok", "subtitles")
    assert row["text"] == "Over the beginning.\nIn the middle.\nOver the end."
    assert row["lines"] == [
        {"start_ms": 0, "end_ms": 100, "text": "Over the beginning."},
        {"start_ms": 2000, "end_ms": 3250, "text": "In the middle."},
        {"start_ms": 5000, "end_ms": 5062, "text": "Over the end."},
    ]


@pytest.mark.parametrize(("suffix", "text"), [(".vtt", VTT), (".ass", ASS), (".srt", SRT)])
def test_each_format_is_read(tmp_path: Path, suffix: str, text: str) -> None:
    (row,) = run(tmp_path, [clip()], subtitles=text, suffix=suffix)
    assert {"start_ms": 2000, "end_ms": 3250, "text": "In the middle."} in row["lines"]
    assert "not said" not in row["text"]


@given(
    st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 6_000)), min_size=1, max_size=20),
    st.integers(0, 15_000),
)
def test_a_line_is_in_when_and_only_when_it_overlaps(
    times: list[tuple[int, int]], start: int
) -> None:
    lines = [Line(Fraction(a, 1000), Fraction(a + n, 1000), f"{a} {n}") for a, n in times]
    heard = transcripts.spoken(clip(start), lines)
    begin, end = Fraction(start, 1000), Fraction(start, 1000) + Fraction(81, 16)
    wanted = [line for line in lines if min(line.end, end) > max(line.start, begin)]
    assert [line.text for line in heard] == [line.text for line in wanted]
    assert all(0 <= line.start < line.end <= Fraction(81, 16) for line in heard)


def test_a_clip_without_words_is_an_ok_row(tmp_path: Path) -> None:
    rows = run(tmp_path, [clip(), clip(50_000)], subtitles=SRT)
    assert [(row["status"], bool(row["text"])) for row in rows] == [("ok", True), ("ok", False)]


def test_without_subtitles_and_speech_the_text_is_empty(tmp_path: Path) -> None:
    (row,) = run(tmp_path, [clip()])
    assert (row["status"], row["backend"], row["text"], row["lines"]) == ("ok", "none", "", [])


def test_clips_that_are_not_ok_are_not_taken_up(tmp_path: Path) -> None:
    short = clip(9000) | tables.rejected(tables.Reason.SCENE_TOO_SHORT, "short")
    assert len(run(tmp_path, [clip(), short], subtitles=SRT)) == 1


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xfe\x00\x41"])
def test_subtitles_that_are_none_are_bad_input(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.srt"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"broken\.srt: not readable"):
        transcripts.read_subtitles(path)


def test_speech_without_a_model_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match=r"transcripts\.model"):
        run(tmp_path, [clip()], speech="faster-whisper")


def test_a_folder_that_is_no_model_is_a_clear_error(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper")
    (tmp_path / "model").mkdir()
    video = write_sound(tmp_path / "v.mkv", 1, beep_at=0.5, video=True)
    with pytest.raises(MissingModel, match="not a faster-whisper model"):
        run(
            tmp_path,
            [clip()],
            video=video,
            speech="faster-whisper",
            model=file_ref(tmp_path / "model"),
        )


def listening(heard: list[np.ndarray]) -> type:
    """A stand-in for WhisperModel that reports when it heard a beep."""

    class Ear:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def transcribe(self, samples: np.ndarray, **_: object) -> tuple[list[Any], Any]:
            heard.append(samples)
            beep = float(np.flatnonzero(np.abs(samples) > 0.1)[0]) / 16_000
            segment = SimpleNamespace(start=beep, end=beep + 0.1, text=" Beep! ")
            return [segment], SimpleNamespace(duration=len(samples) / 16_000)

    return Ear


def test_speech_is_laid_on_the_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whisper = pytest.importorskip("faster_whisper")
    heard: list[np.ndarray] = []
    monkeypatch.setattr(whisper, "WhisperModel", listening(heard))
    video = write_sound(tmp_path / "v.mkv", 10, beep_at=7.5, video=True)
    rows = run(
        tmp_path,
        [clip(0), clip(5000)],
        video=video,
        speech="faster-whisper",
        model=file_ref(tmp_path / "v.mkv"),
    )
    assert [row["backend"] for row in rows] == ["faster-whisper"] * 2
    assert [row["text"] for row in rows] == ["", "Beep!"]
    assert rows[1]["lines"][0]["start_ms"] == pytest.approx(2500, abs=2)
    # Subtitles come first: nothing is listened to.
    run(
        tmp_path,
        [clip(0)],
        video=video,
        subtitles=SRT,
        speech="faster-whisper",
        model=file_ref(tmp_path / "v.mkv"),
    )
    assert len(heard) == 1


def test_a_silent_episode_says_that_nobody_listened(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper")
    video = write_video(tmp_path / "mute.mp4", [Shot(24)]).path
    (row,) = run(
        tmp_path, [clip(0)], video=video, speech="faster-whisper", model=file_ref(tmp_path)
    )
    assert (row["status"], row["backend"], row["text"]) == ("ok", "none", "")
