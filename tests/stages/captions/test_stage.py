"""Stage ``captions`` with action scripts."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from mimix_core import tables
from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.action_script import clip_time_range
from mimix_core.stages.captions.caption_inputs import CaptionInputs
from mimix_core.stages.captions.stage import STAGE
from mimix_core.tables import Row
from tests.factories import table_ref
from tests.stages.captions.factories import clip, word_tokenizer

SCRIPT = """\
actions:
  - {start: "5.5", end: "8", character: Jerry, action: "hides"}
  - {start: "0", end: "2", character: Tom, action: "wakes up"}
  - {start: "2", end: "4", character: the cat, action: "looks around"}
  - {start: "4.5625", end: "5.5", character: Jerry, action: "steals the cheese"}
context:
  - {start: "0", end: "6", text: "a kitchen"}
  - {start: "6", end: "20", text: "a garden"}
"""


def inputs(folder: Path, script: str | None, clips: list[Row]) -> CaptionInputs:
    ref = table_ref(folder / "clips", tables.CLIPS, clips)
    path = folder / "script.yaml"
    if script is not None:
        path.write_text(script)
    return CaptionInputs(
        unit="pilot",
        style=Style.CARTOON,
        roster=("Tom", "Jerry"),
        aliases={"The Cat": "Tom"},
        clips=ref,
        transcripts=table_ref(folder / "transcripts", tables.TRANSCRIPTS, []),
        script=file_ref(path) if script is not None else None,
    )


def captions(
    folder: Path, script: str | None, clips: list[Row], settings: CaptionSettings | None = None
) -> dict[str, Row]:
    made = run_stage(
        Store(folder / "store"), STAGE, inputs(folder, script, clips), settings or CaptionSettings()
    )
    return {row["clip_id"]: row for row in tables.read(made.ref.path, tables.CAPTIONS)}


def test_a_clip_spans_81_sixteenths_from_its_first_frame() -> None:
    assert clip_time_range(clip("a", start=2500, origin_pts=500)) == (2, 2 + Fraction(81, 16))
    short = clip("a", start=2500, origin_pts=500, frames=33)
    assert clip_time_range(short) == (2, 2 + Fraction(33, 16))


def test_actions_during_the_clip_are_in_order(tmp_path: Path) -> None:
    rows = captions(tmp_path, SCRIPT, [clip("a"), clip("b", start=5600), clip("c", start=60_000)])
    # 5.0625 - 4.5625 is exactly the half second that an action needs.
    assert rows["a"]["caption"] == (
        "[Character: Tom], wakes up. [Character: Tom], looks around. "
        "[Character: Jerry], steals the cheese. A kitchen. [scene-style:cartoon]"
    )
    assert rows["b"]["caption"] == "[Character: Jerry], hides. A garden. [scene-style:cartoon]"
    assert rows["a"]["actions"][1] == {"name": "Tom", "action": "looks around"}
    assert (rows["c"]["status"], rows["c"]["reason"]) == ("rejected", "no_action_in_script")


def test_an_action_that_is_slightly_too_short_is_left_out(tmp_path: Path) -> None:
    settings = CaptionSettings.model_validate({"min_overlap_seconds": "0.5001"})
    rows = captions(tmp_path, SCRIPT, [clip("a")], settings)
    assert "steals" not in rows["a"]["caption"]


def test_without_a_script_every_row_has_a_reason(tmp_path: Path) -> None:
    rows = captions(tmp_path, None, [clip("a"), clip("b")])
    (detail,) = {row["detail"] for row in rows.values()}
    assert detail.startswith("the episode has no script: ")
    assert ".yaml" in detail and ".script.yaml" in detail, "it says what was looked for"


def test_clips_that_are_not_ok_are_not_captioned(tmp_path: Path) -> None:
    broken = clip("b") | {"status": "failed", "reason": "encode_failed", "detail": ""}
    assert set(captions(tmp_path, SCRIPT, [clip("a"), broken])) == {"a"}


def test_a_caption_that_fails_a_check_is_a_failed_row(tmp_path: Path) -> None:
    rows = captions(
        tmp_path, SCRIPT, [clip("a"), clip("b", start=5600)], CaptionSettings(max_words=8)
    )
    assert (rows["a"]["status"], rows["a"]["reason"]) == ("failed", "caption_check_failed")
    assert "words" in rows["a"]["detail"]
    assert rows["b"]["status"] == "ok"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('character: Jerry, action: "hides"', 'character: Spike, action: "hides"', 2, "Spike"),
        ('end: "2"', 'end: "0"', 3, "not after its start"),
        ('start: "2"', "start: 2.5", 4, "quotes"),
        ('"looks around"', '"looks. Around"', 4, "one sentence"),
        ('text: "a garden"', 'text: "a [garden]"', 8, "bracket"),
        ('text: "a garden"', 'tex: "a garden"', 8, "unknown key"),
    ],
)
def test_a_mistake_in_the_script_is_reported_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, words: str
) -> None:
    assert old in SCRIPT
    with pytest.raises(BadInput) as caught:
        captions(tmp_path, SCRIPT.replace(old, new), [clip("a")])
    message = str(caught.value)
    assert f"line {line}" in message
    assert words in message
    assert "script.yaml" in message


def test_a_scripts_captions_do_not_depend_on_the_model(tmp_path: Path) -> None:
    given = inputs(tmp_path, SCRIPT, [clip("a")])
    plain = CaptionSettings()
    other = CaptionSettings.model_validate({"vlm": {"model": "another"}, "num_frames": 3})
    assert STAGE.key(given, plain.effective()) == STAGE.key(given, other.effective())
    words = CaptionSettings(max_words=50)
    assert STAGE.key(given, plain.effective()) != STAGE.key(given, words.effective())
    asking = other.model_copy(update={"backend": "vlm"})
    assert asking.effective() == asking


def test_length_is_checked_in_the_text_encoders_tokens(tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    tokenizer = file_ref(word_tokenizer(tmp_path / "tokenizer"))
    clips = [clip("a"), clip("b", start=5600)]
    given = inputs(tmp_path, SCRIPT, clips).model_copy(update={"tokenizer": tokenizer})
    store = Store(tmp_path / "store")
    made = run_stage(store, STAGE, given, CaptionSettings(max_tokens=16))
    rows = {row["clip_id"]: row for row in tables.read(made.ref.path, tables.CAPTIONS)}
    # 16 words and the end token.
    assert rows["a"]["detail"] == "17 tokens, the text encoder reads 16"
    assert rows["b"]["status"] == "ok"
    assert store.record(made.ref).notes["length_checked_in"] == "tokens"
