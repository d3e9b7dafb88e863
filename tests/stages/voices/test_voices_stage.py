"""Stage ``voices``: the voice of each line, and what music, silence and broken audio cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mimix_core import tables
from mimix_core.engine.artifacts import file_ref
from mimix_core.settings import VoiceSettings
from mimix_core.stages import voices
from mimix_core.tables import Reason
from tests.characters.onnx_file import DIMENSIONS, write_model
from tests.media_factory import Shot, commit_table, write_video
from tests.stages.voices.episode_factory import Spoken, commit_clips, encode, write_episode
from tests.voice_factory import HIGH, LOW

LINES = (Spoken("Hello", LOW), Spoken("Hi", HIGH), Spoken("Bye", LOW))


def test_each_line_has_the_vector_of_its_voice(tmp_path: Path) -> None:
    lines = (*LINES, Spoken("", HIGH), Spoken("♪ La la", "music"), Spoken("...", "silence"))
    rows = encode(tmp_path, write_episode(tmp_path / "e.mkv", lines), lines)
    by_text = {row["text"]: row for row in rows}
    rows = [by_text[line.text] for line in lines if line.text]
    assert len(rows) == len(by_text) == 5
    assert [row["line_id"] for row in rows[:2]] == ["demo-c0-l01000", "demo-c5000-l01000"]
    assert [row["status"] for row in rows] == ["ok"] * 3 + ["rejected"] * 2
    assert {row["reason"] for row in rows[3:]} == {Reason.NO_VOICE}
    assert rows[4]["detail"] == "0.0 s of speech in 3.0 s, at least 0.5 s wanted"
    assert all(2500 < row["speech_ms"] <= 3000 for row in rows[:3])
    low, high, low_again = (np.array(row["vector"]) for row in rows[:3])
    assert low @ low_again > low @ high + 0.1
    assert rows[3]["vector"] == rows[4]["vector"] == []


def test_two_lines_that_start_together_are_two(tmp_path: Path) -> None:
    clips, transcripts = commit_clips(tmp_path, [Spoken("Hello", LOW)])
    (row,) = tables.read(transcripts.path, tables.TRANSCRIPTS)
    row["lines"] = [*row["lines"], {**row["lines"][0], "text": "Hi"}]
    both = commit_table(tmp_path / "both", tables.TRANSCRIPTS, [dict(row)])
    inputs = voices.VoiceInputs(
        unit="e",
        video=write_episode(tmp_path / "e.mkv", [Spoken("Hello", LOW)]),
        clips=clips,
        transcripts=both,
    )
    found = voices.run(inputs, VoiceSettings(backend="spectral-statistics"), tmp_path).rows
    assert [one["line_id"] for one in found] == ["demo-c0-l01000", "demo-c0-l01000-1"]


def test_a_speaker_model_is_read_from_its_file(tmp_path: Path) -> None:
    clips, transcripts = commit_clips(tmp_path, LINES)
    inputs = voices.VoiceInputs(
        unit="e",
        video=write_episode(tmp_path / "e.mkv", LINES),
        clips=clips,
        transcripts=transcripts,
        weights=file_ref(write_model(tmp_path / "model.onnx")),
    )
    found = voices.run(inputs, VoiceSettings(backend="wespeaker"), tmp_path).rows
    assert [len(row["vector"]) for row in found] == [DIMENSIONS] * 3
    assert {row["backend"] for row in found} == {"wespeaker"}


def test_damaged_audio_fails_the_lines_with_one_reason(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(b"\x1a\x45\xdf\xa3" + bytes(range(256)) * 20)
    rows = encode(tmp_path, file_ref(broken), LINES)
    assert {row["status"] for row in rows} == {"failed"}
    assert {row["reason"] for row in rows} == {Reason.UNREADABLE_VIDEO}
    assert len({row["detail"] for row in rows}) == 1
    clips, transcripts = commit_clips(tmp_path, LINES)
    inputs = voices.VoiceInputs(
        unit="e", video=file_ref(broken), clips=clips, transcripts=transcripts
    )
    died = voices.STAGE.failed_rows
    assert died is not None
    assert len(died(inputs, VoiceSettings(), Reason.DECODER_HUNG, "no progress").rows) == len(LINES)


def test_a_video_without_audio_has_lines_without_a_voice(tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", [Shot(8)]).path
    rows = encode(tmp_path, file_ref(silent), LINES)
    assert {row["reason"] for row in rows} == {Reason.NO_VOICE}
    assert {row["detail"] for row in rows} == {"the video has no audio"}
