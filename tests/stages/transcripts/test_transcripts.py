"""Transcripts: the lines of dialogue in a clip, with times relative to the clip."""

from __future__ import annotations

import inspect
import struct
import subprocess
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mimix_core import tables
from mimix_core.engine.artifacts import FileRef, file_ref
from mimix_core.engine.stage import StageReport
from mimix_core.errors import MissingModel
from mimix_core.media import find_ffmpeg
from mimix_core.settings import TranscriptSettings
from mimix_core.stages import transcripts
from mimix_core.stages.transcripts import dialogue, stage
from mimix_core.stages.transcripts.dialogue import DialogueLine, TimedWord
from mimix_core.tables import Reason
from tests.media_factory import Shot, commit_table, write_sound, write_video

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
    row: tables.Row = {
        field.name: [] if pa.types.is_list(field.type) else 0 for field in tables.CLIPS.schema
    }
    for name in (
        "show",
        "style",
        "text_remains",
        "file",
        "sha256",
        "audio_file",
        "audio_sha256",
    ):
        row[name] = ""
    row |= {
        "clip_id": f"demo-c{start}",
        "scene_id": "demo-s0",
        "episode_id": "demo",
        "origin_pts": origin,
        "time_base_num": 1,
        "time_base_den": 1000,
        "start_num": origin + start,
        "start_den": 1000,
        "source_pts": [origin + start + k * 1000 // 16 for k in range(81)],
        "frames": 81,
        "rate_num": 16,
        "rate_den": 1,
        "fingerprint": b"",
    }
    values = {k: v for k, v in row.items() if k not in ("status", "reason", "detail")}
    return tables.ok(**values) | changes


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video without sound and without subtitles."""
    return write_video(tmp_path_factory.mktemp("silent") / "silent.mp4", [Shot(24)]).path


def run(
    folder: Path,
    clips: list[tables.Row],
    *,
    subtitles: str | bytes | None = None,
    suffix: str = ".srt",
    video: Path | None = None,
    model: FileRef | None = None,
    language: str = "",
    **settings: Any,
) -> list[tables.Row]:
    return list(report(folder, clips, subtitles, suffix, video, model, language, settings).rows)


def report(
    folder: Path,
    clips: list[tables.Row],
    subtitles: str | bytes | None = None,
    suffix: str = ".srt",
    video: Path | None = None,
    model: FileRef | None = None,
    language: str = "",
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> StageReport:
    beside = folder / f"words{suffix}"
    if subtitles is not None:
        content = subtitles.encode() if isinstance(subtitles, str) else subtitles
        beside.write_bytes(content)
    if video is None:
        video = folder / "v.mp4"
        video.write_bytes(b"not looked at")
    inputs = transcripts.TranscriptInputs(
        unit="v",
        video=file_ref(video),
        clips=commit_table(folder / "clips", tables.CLIPS, clips),
        subtitles=None if subtitles is None else file_ref(beside),
        subtitles_language=language,
        speech_model=model,
    )
    found = transcripts.run(inputs, TranscriptSettings(**settings), folder)
    tables.validate(tables.TRANSCRIPTS, found.rows)
    assert found.rows_in == len(found.rows)
    return found


@pytest.mark.parametrize("origin", [0, 7200, 123_456])
def test_lines_that_overlap_the_clip_belong_to_it(tmp_path: Path, origin: int) -> None:
    # The clip plays from 2.0 s to 7.0625 s after the episode's first frame.
    (row,) = run(tmp_path, [clip(origin=origin)], subtitles=SRT)
    assert (row["status"], row["backend"]) == ("ok", "subtitles/sidecar")
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
def test_a_line_is_included_only_when_it_overlaps(times: list[tuple[int, int]], start: int) -> None:
    said = [DialogueLine(Fraction(a, 1000), Fraction(a + n, 1000), f"{a} {n}") for a, n in times]
    heard = dialogue.select_clip_lines(clip(start), said)
    begin, end = Fraction(start, 1000), Fraction(start, 1000) + Fraction(81, 16)
    wanted = [line for line in said if min(line.end, end) > max(line.start, begin)]
    assert [line.text for line in heard] == [line.text for line in wanted]
    assert all(0 <= line.start < line.end <= Fraction(81, 16) for line in heard)


def test_a_clip_without_words_is_an_ok_row(tmp_path: Path) -> None:
    rows = run(tmp_path, [clip(), clip(50_000)], subtitles=SRT)
    assert [(row["status"], bool(row["text"])) for row in rows] == [("ok", True), ("ok", False)]


def test_without_subtitles_and_speech_the_text_is_empty(tmp_path: Path, silent: Path) -> None:
    (row,) = run(tmp_path, [clip()], video=silent)
    assert (row["status"], row["backend"], row["text"], row["lines"]) == ("ok", "none", "", [])


def test_clips_that_are_not_ok_are_skipped(tmp_path: Path) -> None:
    short = clip(9000) | tables.rejected(tables.Reason.SCENE_TOO_SHORT, "short")
    assert len(run(tmp_path, [clip(), short], subtitles=SRT)) == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b"hello", "no cue with times"),
        (b"\xff\xfe\x00", "it is empty"),
        (b"\xef\xbb\xbf\xff", "not utf-8-sig"),
        (b"\x81\x8d", "its encoding is not certain"),
        (b"{1}{25}Without a frame rate there is no time.", "it is MicroDVD"),
        (b"[10][20]Another format", "it is MPL2"),
    ],
)
def test_an_unreadable_file_fails_its_clips(
    tmp_path: Path, content: bytes, why: str, silent: Path
) -> None:
    rows = run(tmp_path, [clip(), clip(8000)], subtitles=content, video=silent)
    assert [(row["status"], row["reason"]) for row in rows] == [
        ("failed", "subtitles_unreadable")
    ] * 2
    assert why in rows[0]["detail"] and str(tmp_path) not in rows[0]["detail"]
    assert rows[0]["backend"] == "subtitles/sidecar" and rows[0]["lines"] == []


WORDS = "Olé, señor: ça va?"


@pytest.mark.parametrize(
    ("encoding", "noted"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("cp1252", "cp1252"),
    ],
)
def test_the_encoding_is_detected_and_noted(tmp_path: Path, encoding: str, noted: str) -> None:
    content = SRT.replace("In the middle.", WORDS).encode(encoding)
    found = report(tmp_path, [clip()], content)
    assert WORDS in found.rows[0]["text"]
    assert found.notes["encoding"] == noted


def test_the_fallback_encoding_is_a_setting(tmp_path: Path) -> None:
    content = SRT.replace("In the middle.", "Привет").encode("cp1251")
    (row,) = run(tmp_path, [clip()], subtitles=content, fallback_encoding="cp1251")
    assert "Привет" in row["text"]
    (row,) = run(tmp_path, [clip()], subtitles=content, fallback_encoding="ascii")
    assert row["reason"] == "subtitles_unreadable"
    with pytest.raises(ValidationError, match="no encoding"):
        TranscriptSettings(fallback_encoding="klingon-8")


def test_markup_is_removed_and_sound_notes_remain(tmp_path: Path) -> None:
    marked = SRT.replace("In the middle.", "{\\an8}<font color=red>[DOOR]</font> a &amp; b < c")
    (row,) = run(tmp_path, [clip()], subtitles=marked)
    assert row["lines"][1]["text"] == "[DOOR] a & b < c"
    timed = VTT.replace("In the <b>middle</b>.", "<v Bob>In <00:00:04.500>the <c.loud>middle</c>")
    (row,) = run(tmp_path, [clip()], subtitles=timed, suffix=".vtt")
    assert row["text"] == "In the middle"


def test_old_line_ends_and_html_breaks_are_read(tmp_path: Path) -> None:
    old = SRT.replace("In the middle.", "In the<br/>middle<BR>.").replace("\n", "\r")
    found = report(tmp_path, [clip()], old)
    assert [line["text"] for line in found.rows[0]["lines"]] == [
        "Over the beginning.",
        "In the middle .",
        "Over the end.",
    ]
    assert "unread_cues" not in found.notes


@pytest.mark.parametrize("suffix", [".srt", ".vtt", ".ass"])
def test_a_line_before_the_episode_starts_at_zero(tmp_path: Path, suffix: str) -> None:
    texts = {
        ".srt": "1\n-00:00:01,000 --> 00:00:02,000\nEarly.\n\n"
        "2\n-00:00:03,000 --> -00:00:02,000\nBefore.\n",
        ".vtt": "WEBVTT\n\n-00:00:01.000 --> 00:00:02.000\nEarly.\n\n"
        "-00:00:03.000 --> -00:00:02.000\nBefore.\n",
        ".ass": ASS + "Dialogue: 0,-0:00:01.00,0:00:02.00,Default,,0,0,0,,Early.\n"
        "Dialogue: 0,-0:00:03.00,-0:00:02.00,Default,,0,0,0,,Before.\n",
    }
    (row,) = run(tmp_path, [clip(0)], subtitles=texts[suffix], suffix=suffix)
    heard = [(line["start_ms"], line["end_ms"], line["text"]) for line in row["lines"]]
    assert heard[0] == (0, 2000, "Early.") and "Before." not in row["text"]


def test_cues_with_invalid_times_are_counted(tmp_path: Path) -> None:
    broken = SRT.replace("00:00:04,000 -->", "00:00:O4,OOO -->")
    found = report(tmp_path, [clip()], broken)
    assert found.notes["unread_cues"] == 1


def test_layers_of_one_line_are_merged(tmp_path: Path) -> None:
    layered = ASS + ASS.splitlines()[-1].replace("0,0:", "1,0:", 1) + "\n"
    (row,) = run(tmp_path, [clip()], subtitles=layered, suffix=".ass")
    assert row["text"] == "In the middle."


def test_simultaneous_lines_are_all_included(tmp_path: Path) -> None:
    both = SRT + "\n6\n00:00:04,200 --> 00:00:05,000\n- Me too!\n"
    (row,) = run(tmp_path, [clip()], subtitles=both)
    assert [line["text"] for line in row["lines"]][1:3] == ["In the middle.", "- Me too!"]


def test_the_file_names_the_language(tmp_path: Path) -> None:
    (row,) = run(tmp_path, [clip()], subtitles=SRT, language="ger")
    assert row["language"] == "de"


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


def test_a_video_that_cannot_be_read_fails_its_clips(tmp_path: Path) -> None:
    (row,) = run(tmp_path, [clip()])
    assert (row["status"], row["reason"]) == ("failed", "unreadable_video")


def test_an_episode_whose_process_died_has_a_failed_row_per_clip(tmp_path: Path) -> None:
    inputs = transcripts.TranscriptInputs(
        unit="v",
        video=FileRef(path=tmp_path / "gone.mp4", sha256="0" * 64, size=1),
        clips=commit_table(tmp_path / "clips", tables.CLIPS, [clip(), clip(8000)]),
    )
    found = stage.failed_rows(inputs, Reason.DECODER_CRASHED, "signal 11")
    tables.validate(tables.TRANSCRIPTS, found.rows)
    assert [row["reason"] for row in found.rows] == ["decoder_crashed"] * 2


# --- speech ---------------------------------------------------------------------------------------


def test_times_count_from_the_clip_and_not_from_its_first_frame() -> None:
    """In a source of variable rate the frame shown at g_0 may be seconds old."""
    old = [500, *(2000 + k * 62 for k in range(1, 81))]
    line = DialogueLine(
        Fraction(3), Fraction(4), "Now.", (TimedWord(Fraction(3), Fraction(4), "Now."),)
    )
    (heard,) = dialogue.select_clip_lines(clip(2000, source_pts=old), [line])
    assert (heard.start, heard.end) == (1, 2)
    assert [(word.start, word.end) for word in heard.words] == [(1, 2)]
    assert (
        dialogue.select_clip_lines(
            clip(2000, source_pts=old), [DialogueLine(Fraction(1), Fraction(2), "Old.")]
        )
        == []
    )


@given(st.lists(st.integers(1, 900), min_size=1, max_size=12), st.integers(0, 3000))
def test_each_word_is_in_one_of_consecutive_clips(gaps: list[int], at: int) -> None:
    words = []
    for number, gap in enumerate(gaps):
        words.append(TimedWord(Fraction(at, 1000), Fraction(at + gap, 1000), f"w{number}"))
        at += gap
    line = DialogueLine(
        words[0].start, words[-1].end, " ".join(w.text for w in words), tuple(words)
    )
    # Clips of 81/16 s, one after the other.
    clips = [clip(0, start_num=k * 81, start_den=16) for k in range(3)]
    heard = [
        word for c in clips for part in dialogue.select_clip_lines(c, [line]) for word in part.words
    ]
    assert [word.text for word in heard] == [
        word.text for word in words if word.start + word.end < 6 * Fraction(81, 16)
    ]
    assert all(0 <= word.start <= word.end <= Fraction(81, 16) for word in heard)


def test_speech_without_a_model_is_a_clear_error(tmp_path: Path, silent: Path) -> None:
    with pytest.raises(MissingModel, match=r"transcripts\.asr_model"):
        run(tmp_path, [clip()], video=silent, asr_backend="faster-whisper")


def test_a_folder_without_a_model_is_a_clear_error(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper")
    (tmp_path / "model").mkdir()
    video = write_sound(tmp_path / "v.mkv", 1, beep_at=0.5, video=True)
    with pytest.raises(MissingModel, match="not a faster-whisper model"):
        run(
            tmp_path,
            [clip()],
            video=video,
            asr_backend="faster-whisper",
            model=file_ref(tmp_path / "model"),
        )


def listening(heard: list[np.ndarray]) -> type:
    """A stand-in for WhisperModel that transcribes each beep with its time.

    It takes what the real one takes and gives the real one's types.
    """
    whisper = pytest.importorskip("faster_whisper")
    transcribe = inspect.signature(whisper.WhisperModel.transcribe)
    kinds = whisper.transcribe

    def filled(kind: type, **known: Any) -> Any:
        return kind(**dict.fromkeys(kind.__dataclass_fields__) | known)

    class Ear:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def transcribe(self, samples: np.ndarray, **options: Any) -> tuple[Iterator[Any], Any]:
            transcribe.bind(self, samples, **options)
            assert options["word_timestamps"] is True
            heard.append(samples)
            at = float(np.flatnonzero(np.abs(samples) > 0.1)[0]) / 16_000
            words = [
                filled(kinds.Word, start=at + k / 4, end=at + (k + 1) / 4, word=f" {text}")
                for k, text in enumerate(("Beep,", "beep!"))
            ]
            segment = filled(
                kinds.Segment, start=at, end=at + 0.5, text=" Beep, beep!", words=words
            )
            length = len(samples) / 16_000
            info = filled(kinds.TranscriptionInfo, language="en", duration=length)
            return iter([segment]), info

    return Ear


def test_speech_is_assigned_to_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whisper = pytest.importorskip("faster_whisper")
    heard: list[np.ndarray] = []
    monkeypatch.setattr(whisper, "WhisperModel", listening(heard))
    video = write_sound(tmp_path / "v.mkv", 10, beep_at=7.5, video=True)
    rows = run(
        tmp_path,
        [clip(0), clip(5000)],
        video=video,
        asr_backend="faster-whisper",
        model=file_ref(tmp_path / "v.mkv"),
    )
    assert [row["backend"] for row in rows] == ["faster-whisper"] * 2
    assert [row["text"] for row in rows] == ["", "Beep, beep!"]
    assert [row["language"] for row in rows] == ["en"] * 2
    assert rows[1]["lines"][0]["start_ms"] == pytest.approx(2500, abs=2)
    assert [word["text"] for word in rows[1]["words"]] == ["Beep,", "beep!"]
    assert rows[1]["words"][1]["start_ms"] == pytest.approx(2750, abs=2)
    # Subtitles come first: nothing is listened to.
    run(
        tmp_path,
        [clip(0)],
        video=video,
        subtitles=SRT,
        asr_backend="faster-whisper",
        model=file_ref(tmp_path / "v.mkv"),
    )
    assert len(heard) == 1


def test_an_episode_without_audio_has_backend_none(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper")
    video = write_video(tmp_path / "mute.mp4", [Shot(24)]).path
    (row,) = run(
        tmp_path, [clip(0)], video=video, asr_backend="faster-whisper", model=file_ref(tmp_path)
    )
    assert (row["status"], row["backend"], row["text"]) == ("ok", "none", "")
