"""Subtitle streams in the video file: each kind, the clock, and which stream is read."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import av
import pytest

from mimix_core.media import find_ffmpeg
from tests.media_factory import Shot, write_video
from tests.stages.transcripts.transcripts_runner import clip, report, run

# --- subtitle streams -----------------------------------------------------------------------------


def with_streams(
    path: Path, *streams: tuple[str, str, str], offset: str = "0", kind: str = "srt"
) -> Path:
    """A video with a text stream for each (text of an .srt, language, disposition)."""
    folder = path.parent
    video = write_video(folder / "bare.mp4", [Shot(24 * 9)], size=(64, 64)).path
    # -itsoffset shifts all that the file holds: the video then starts at that time.
    command = [find_ffmpeg(), "-v", "error", "-y", "-itsoffset", offset, "-i", str(video)]
    for number, (text, _, _) in enumerate(streams):
        (folder / f"{number}.srt").write_text(text)
        command += ["-itsoffset", offset, "-i", str(folder / f"{number}.srt")]
    command += ["-map", "0:v", "-c:v", "copy", "-c:s", kind, "-copyts"]
    for number, (_, language, disposition) in enumerate(streams):
        command += ["-map", f"{number + 1}:s", f"-metadata:s:s:{number}", f"language={language}"]
        command += [f"-disposition:s:{number}", disposition]
    subprocess.run([*command, str(path)], check=True)
    return path


def subtitle(text: str) -> str:
    return f"1\n00:00:04,000 --> 00:00:05,250\n{text}\n"


@pytest.mark.parametrize(
    ("kind", "suffix"), [("srt", ".mkv"), ("ass", ".mkv"), ("webvtt", ".mkv"), ("mov_text", ".mp4")]
)
def test_each_kind_of_text_stream_is_read(tmp_path: Path, kind: str, suffix: str) -> None:
    video = with_streams(
        tmp_path / f"v{suffix}", (subtitle("In the\n<i>middle</i>."), "eng", "0"), kind=kind
    )
    (row,) = run(tmp_path, [clip()], video=video)
    assert (row["status"], row["backend"], row["language"]) == ("ok", "subtitles/embedded", "en")
    assert row["lines"] == [{"start_ms": 2000, "end_ms": 3250, "text": "In the middle."}]


def test_streams_are_on_the_containers_clock(tmp_path: Path) -> None:
    video = with_streams(tmp_path / "v.mkv", (subtitle("Late start."), "eng", "0"), offset="7")
    with av.open(str(video)) as container:
        first = next(container.decode(video=0))
        origin = round(first.pts * first.time_base * 1000)
    assert origin == 7000
    (row,) = run(tmp_path, [clip(origin=origin)], video=video)
    assert row["lines"] == [{"start_ms": 2000, "end_ms": 3250, "text": "Late start."}]


def test_the_best_stream_is_selected(tmp_path: Path) -> None:
    video = with_streams(
        tmp_path / "v.mkv",
        (subtitle("signs"), "eng", "forced"),
        (subtitle("deutsch"), "ger", "default"),
        (subtitle("[english]"), "eng", "hearing_impaired"),
        (subtitle("english"), "eng", "0"),
    )
    for language, text in (("", "deutsch"), ("en", "english"), ("de-AT", "deutsch")):
        (row,) = report(tmp_path, [clip()], video=video, settings={"language": language}).rows
        assert row["text"] == text


TWO_LANGUAGES = "".join(
    f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\n你去哪里了 {n}\nWhere have you been, is it {n}?\n\n"
    for n in range(1, 7)
)


@pytest.mark.parametrize("where", ["srt beside", "ass"])
def test_of_a_stream_or_file_in_two_languages_the_asked_one_is_read(
    tmp_path: Path, where: str
) -> None:
    beside, video = TWO_LANGUAGES, None
    if where != "srt beside":
        beside = None
        video = with_streams(tmp_path / "v.mkv", (TWO_LANGUAGES, "chi", "0"), kind=where)
    expected = {
        "en": "Where have you been, is it 3?",
        "zh": "你去哪里了 3",
        "": "你去哪里了 3 Where have you been, is it 3?",
    }
    for language, text in expected.items():
        found = report(
            tmp_path, [clip()], beside, video=video, settings={"language": language}, language="zh"
        )
        (row,) = found.rows
        assert row["lines"][1]["text"] == text
        assert row["language"] == (language or "zh")
        assert found.notes.get("lines_in_another_language", 0) == (6 if language else 0)


def test_a_sidecar_file_comes_first(tmp_path: Path) -> None:
    video = with_streams(tmp_path / "v.mkv", (subtitle("inside"), "eng", "0"))
    (row,) = run(tmp_path, [clip()], video=video, subtitles=subtitle("beside"))
    assert (row["backend"], row["text"]) == ("subtitles/sidecar", "beside")


def test_forced_streams_are_skipped_and_noted(tmp_path: Path) -> None:
    signs = with_streams(tmp_path / "signs.mkv", (subtitle("SALOON"), "eng", "forced"))
    found = report(tmp_path, [clip()], video=signs)
    assert (found.rows[0]["backend"], found.rows[0]["text"]) == ("none", "")
    assert found.notes["forced_subtitle_streams"] == 1


def pgs(path: Path) -> Path:
    """A Blu-ray subtitle file of one empty display set."""

    def segment(kind: int, body: bytes) -> bytes:
        return b"PG" + struct.pack(">IIBH", 90_000, 0, kind, len(body)) + body

    composition = struct.pack(">HHBHBBBB", 64, 64, 0x10, 0, 0x80, 0, 0, 0)
    path.write_bytes(segment(0x16, composition) + segment(0x80, b""))
    return path


def test_image_subtitles_are_skipped_and_noted(tmp_path: Path) -> None:
    bare = write_video(tmp_path / "bare.mp4", [Shot(48)], size=(64, 64)).path
    video = tmp_path / "v.mkv"
    inputs = ["-i", str(bare), "-i", str(pgs(tmp_path / "pictures.sup"))]
    command = [find_ffmpeg(), "-v", "error", *inputs, "-map", "0", "-map", "1", "-c", "copy"]
    subprocess.run([*command, str(video)], check=True)
    found = report(tmp_path, [clip()], video=video)
    assert (found.rows[0]["status"], found.rows[0]["backend"]) == ("ok", "none")
    assert found.notes["picture_subtitle_streams"] == 1
