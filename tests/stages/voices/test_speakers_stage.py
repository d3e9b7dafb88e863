"""Stage ``speakers``: decisions, names in subtitles and voices, in this order."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core import tables
from mimix_core.domain.character_names import alias_map
from mimix_core.engine.artifacts import file_ref
from mimix_core.errors import BadInput
from mimix_core.settings import SpeakerSettings
from mimix_core.stages.captions.caption_inputs import load_dialogues
from mimix_core.stages.speakers import VoiceRecording
from mimix_core.stages.speakers.named_lines import named_speaker
from mimix_core.tables import Reason, Row
from tests.media_factory import commit_table
from tests.stages.voices.episode_factory import (
    Spoken,
    attach,
    commit_clips,
    encode,
    write_episode,
)
from tests.voice_factory import HIGH, LOW, STRANGER, music, speak, write_wave

LINES = (
    Spoken("Teddy: One", LOW),
    Spoken("Two", LOW),
    Spoken("[TED] Three", LOW),
    Spoken("Ann: Four", HIGH),
    Spoken("Five", HIGH),
    Spoken("(Ann) Six", HIGH),
    Spoken("Seven", STRANGER),
    Spoken("Eight", "music"),
    Spoken("Nine", "silence"),
    Spoken("TEDDY: Ten", LOW),
    Spoken("Ann: Eleven", HIGH),
    Spoken("- Where? - Here.", LOW),
    Spoken("Ann: Twelve", "music"),
)


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    folder = tmp_path_factory.mktemp("episode")
    return encode(folder, write_episode(folder / "e.mkv", LINES), LINES)


def who(rows: dict[str, Row]) -> dict[str, tuple[str, str]]:
    return {text: (row["speaker"], row["source"]) for text, row in rows.items()}


def test_named_lines_teach_the_voices_of_the_others(tmp_path: Path, voices: list[Row]) -> None:
    rows = attach(tmp_path, voices)
    assert who(rows) == {
        "Teddy: One": ("Teddy", "text"),
        "Two": ("Teddy", "voice"),
        "[TED] Three": ("Teddy", "text"),
        "Ann: Four": ("Ann", "text"),
        "Five": ("Ann", "voice"),
        "(Ann) Six": ("Ann", "text"),
        "Seven": ("", "none"),
        "Eight": ("", "none"),
        "Nine": ("", "none"),
        "TEDDY: Ten": ("Teddy", "text"),
        "Ann: Eleven": ("Ann", "text"),
        "- Where? - Here.": ("", "none"),
        "Ann: Twelve": ("Ann", "text"),
    }
    stranger = rows["Seven"]
    assert stranger["nearest"] in ("Teddy", "Ann")
    assert stranger["similarity"] < stranger["limit"]
    assert rows["Eight"]["similarity"] is None
    assert {row["status"] for row in rows.values()} == {"ok"}


def test_a_person_has_the_last_word_and_teaches_too(tmp_path: Path, voices: list[Row]) -> None:
    ids = {row["text"]: row["line_id"] for row in voices}
    named = {ids["Seven"]: "Ann", ids["Teddy: One"]: "", ids["Two"]: "Ann"}
    rows = who(attach(tmp_path, voices, named=named))
    assert rows["Seven"] == ("Ann", "person")
    assert rows["Teddy: One"] == ("", "person")
    assert rows["Two"] == ("Ann", "person")
    only = SpeakerSettings(named_lines=False)
    rows = who(attach(tmp_path, voices, only, named={ids["Two"]: "Teddy", ids["Five"]: "Ann"}))
    assert rows["Two"] == ("Teddy", "person")
    assert {source for _, source in rows.values()} <= {"person", "voice", "none"}
    assert {name for name, source in rows.values() if source == "voice"} == {"Teddy", "Ann"}


def test_recordings_and_other_episodes_teach_voices(tmp_path: Path, voices: list[Row]) -> None:
    nameless = [row for row in voices if ":" not in row["text"] and row["text"][0] not in "([-"]
    assert {source for _, source in who(attach(tmp_path, nameless)).values()} == {"none"}
    recordings = tuple(
        VoiceRecording(
            character=name, file=file_ref(write_wave(tmp_path / f"{name}.wav", speak(voice, 9, 5)))
        )
        for name, voice in (("Teddy", LOW), ("Ann", HIGH))
    )
    by_file = who(attach(tmp_path / "files", nameless, recordings=recordings))
    other = commit_table(tmp_path / "other", tables.VOICES, voices)
    by_episode = who(attach(tmp_path / "shows", nameless, show_voices=(other,)))
    for found in (by_file, by_episode):
        assert found["Two"] == ("Teddy", "voice")
        assert found["Five"] == ("Ann", "voice")
        assert found["Seven"] == found["Eight"] == found["Nine"] == ("", "none")


def test_a_recording_without_a_voice_is_an_error(tmp_path: Path, voices: list[Row]) -> None:
    song = VoiceRecording(character="Ann", file=file_ref(write_wave(tmp_path / "a.wav", music(3))))
    with pytest.raises(BadInput, match=r"a\.wav: 0\.0 s of speech"):
        attach(tmp_path, voices, recordings=(song,))


def test_a_fixed_limit_replaces_the_calibrated_ones(tmp_path: Path, voices: list[Row]) -> None:
    none = attach(tmp_path, voices, SpeakerSettings(min_similarity=1.0))
    assert {row["source"] for row in none.values()} == {"text", "none"}
    assert none["Two"]["limit"] == 1.0
    everyone = attach(tmp_path, voices, SpeakerSettings(min_similarity=-0.99))
    assert everyone["Seven"]["source"] == "voice"
    assert everyone["Eight"]["source"] == "none", "music has no voice, whatever the limit"


def test_a_failed_line_is_attached_by_its_text_alone(tmp_path: Path, voices: list[Row]) -> None:
    failed = [
        {**row, "status": "failed", "reason": Reason.UNREADABLE_VIDEO, "vector": [], "speech_ms": 0}
        for row in voices
    ]
    rows = attach(tmp_path, [{**row, "detail": "broken"} for row in failed])
    assert rows["Teddy: One"]["speaker"] == "Teddy"
    assert rows["Two"]["reason"] == Reason.UPSTREAM_FAILED
    assert rows["Two"]["detail"] == "broken"


def test_captioners_read_who_speaks(tmp_path: Path, voices: list[Row]) -> None:
    _, transcripts = commit_clips(tmp_path, LINES)
    rows = attach(tmp_path, voices)
    table = commit_table(tmp_path / "speakers", tables.SPEAKERS, list(rows.values()))
    plain, spoken = load_dialogues(transcripts), load_dialogues(transcripts, table)
    assert plain["demo-c5000"].lines == ((1000, 4000, "Two"),)
    assert spoken["demo-c5000"].lines == ((1000, 4000, "Teddy says: Two"),)
    assert spoken["demo-c5000"].spoken_text == "Teddy says: Two"
    assert spoken["demo-c5000"].text == "Two", "quotes in captions are compared with what is said"
    assert spoken["demo-c0"] == plain["demo-c0"], "the line says it itself"
    assert spoken["demo-c30000"] == plain["demo-c30000"], "a stranger"


@pytest.mark.parametrize(
    ("text", "speaker"),
    [
        ("Teddy: hello", "Teddy"),
        ("TED:   hello", "Teddy"),
        ("- Teddy: hello", "Teddy"),
        ("[Ann] Hello", "Ann"),
        ("(ANN): Hello", "Ann"),
        ("♪ (Ann) La la", "Ann"),
        ("Old Man: hello", "Old Man"),
        ("Teddy hello", ""),
        ("Teddy:", ""),
        ("[Ann]", ""),
        ("[DOOR SLAMS] Hello", ""),
        ("Listen: hello", ""),
        ("At 10:30", ""),
        ("- Ann: hi - Teddy: hi", ""),
        ("Teddy: it is a one-way street - really", "Teddy"),
        ("", ""),
    ],
)
def test_names_at_the_start_of_lines(text: str, speaker: str) -> None:
    names = alias_map(("Teddy", "Ann", "Old Man"), {"Ted": "Teddy"})
    assert named_speaker(text, names) == speaker
