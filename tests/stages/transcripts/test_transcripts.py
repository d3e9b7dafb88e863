"""Transcripts: the lines of dialogue in a clip, with times relative to the clip."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mimix_core import tables
from mimix_core.engine.artifacts import FileRef
from mimix_core.settings import TranscriptSettings
from mimix_core.stages import transcripts
from mimix_core.stages.transcripts import dialogue, stage
from mimix_core.stages.transcripts.dialogue import DialogueLine
from mimix_core.tables import Reason
from tests.media_factory import commit_table
from tests.stages.transcripts.transcripts_runner import ASS, SRT, VTT, clip, report, run


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


def test_a_video_that_cannot_be_read_fails_its_clips(tmp_path: Path) -> None:
    (row,) = run(tmp_path, [clip()])
    assert (row["status"], row["reason"]) == ("failed", "unreadable_video")


def test_an_episode_whose_process_died_has_a_failed_row_per_clip(tmp_path: Path) -> None:
    inputs = transcripts.TranscriptInputs(
        unit="v",
        video=FileRef(path=tmp_path / "gone.mp4", sha256="0" * 64, size=1),
        clips=commit_table(tmp_path / "clips", tables.CLIPS, [clip(), clip(8000)]),
    )
    found = stage.failed_rows(inputs, TranscriptSettings(), Reason.DECODER_CRASHED, "signal 11")
    tables.validate(tables.TRANSCRIPTS, found.rows)
    assert [row["reason"] for row in found.rows] == ["decoder_crashed"] * 2
