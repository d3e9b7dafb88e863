"""Speech recognition: missing models, and whose words belong to which clip."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.engine.artifacts import file_ref
from mimix_core.errors import MissingModel
from mimix_core.stages.transcripts import dialogue
from mimix_core.stages.transcripts.dialogue import DialogueLine, TimedWord
from tests.media_factory import Shot, write_sound, write_video
from tests.stages.transcripts.transcripts_runner import SRT, clip, run

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
