from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from mimix_core import tables
from mimix_core.domain.caption_grammar import Caption, Variant, render
from mimix_core.domain.library import Character, Episode, Show, Style
from mimix_core.engine.artifacts import FileRef
from mimix_core.errors import BadInput
from mimix_core.project.workspace import SourceEpisode
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.caption_inputs import Dialogue
from mimix_core.stages.captions.caption_review import review, row_problems, seen_in
from mimix_core.stages.captions.caption_rows import caption_of, columns
from mimix_core.stages.captions.caption_validation import Rules
from mimix_core.stages.captions.clip_context import Known
from mimix_core.stages.captions.import_export import (
    JSONL,
    METADATA,
    edited_lines,
    edited_sidecars,
    line_of,
    read_jsonl,
    read_sidecars,
    write_jsonl,
    write_sidecars,
)
from mimix_core.stages.captions.overrides import read_overrides, write_overrides
from mimix_core.tables import Reason, Row
from tests.domain.test_caption_grammar import CAPTIONS
from tests.factories import caption

TOM = "[Character: Tom], runs. A kitchen. [scene-style:cartoon]"
WAVES = "[Character: Tom], waves. A kitchen. [scene-style:cartoon]"

relaxed = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)


def row_of(one: Caption, name: str = "a") -> Row:
    return tables.ok(**columns(name, "test", one, one.style))


@relaxed
@given(CAPTIONS)
def test_no_bit_is_lost_on_the_way_through_a_file(tmp_path: Path, one: Caption) -> None:
    row = row_of(one)
    for variant in Variant:
        path = write_jsonl(tmp_path, [line_of(row, tmp_path / "a.mp4", variant)])
        (line,) = read_jsonl(path)
        assert line == line_of(row, tmp_path / "a.mp4", variant)
        assert line.caption == render(one, variant)
        back = Caption(actions=line.actions, context=line.context, style=Style(line.style))
        assert back == one
        assert edited_lines({"a": row}, [line]) == {}
    sidecars = tmp_path / "sidecars"
    (tmp_path / "a.mp4").touch()
    for variant in Variant:
        write_sidecars(sidecars, [line_of(row, tmp_path / "a.mp4", variant)], copy=False)
        texts = read_sidecars(sidecars)
        assert texts == {"a": render(one, variant)}
        assert edited_sidecars({"a": row}, texts) == {}


@relaxed
@given(CAPTIONS, CAPTIONS)
def test_an_edit_comes_back_as_it_was_made(tmp_path: Path, one: Caption, other: Caption) -> None:
    current = {"a": row_of(one)}
    line = line_of(current["a"], Path("a.mp4"), Variant.BOTH)
    wanted = {} if one == other else {"a": render(other)}
    assert edited_lines(current, [line.model_copy(update={"caption": render(other)})]) == wanted
    parts = {"actions": other.actions, "context": other.context, "style": other.style.value}
    assert edited_lines(current, [line.model_copy(update=parts)]) == wanted
    both = parts | {"caption": render(other)}
    assert edited_lines(current, [line.model_copy(update=both)]) == wanted
    path = tmp_path / "overrides.jsonl"
    write_overrides(path, {"a": render(one), "b": render(other), "c": ""})
    assert read_overrides(path) == {"a": render(one), "b": render(other), "c": ""}
    assert edited_sidecars(current, {"a": render(other)}) == wanted


def test_a_caption_without_tags_is_edited_by_its_actions() -> None:
    current = {"a": caption("a", TOM)}
    line = line_of(current["a"], Path("a.mp4"), Variant.NO_TAGS)
    assert line.caption == "Tom runs. A kitchen."
    with pytest.raises(BadInput, match="edit the actions"):
        edited_lines(current, [line.model_copy(update={"caption": "Tom waves. A kitchen."})])
    (action,) = line.actions
    waving = (action.model_copy(update={"action": "waves"}),)
    assert edited_lines(current, [line.model_copy(update={"actions": waving})]) == {"a": WAVES}


def test_two_edits_that_disagree_are_refused() -> None:
    current = {"a": caption("a", TOM)}
    line = line_of(current["a"], Path("a.mp4"), Variant.BOTH)
    changed = line.model_copy(update={"caption": WAVES, "context": "A garden"})
    with pytest.raises(BadInput, match="a: caption and actions were both edited"):
        edited_lines(current, [changed])


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    current = {"a": caption("a", TOM), "b": caption("b", TOM)}
    with pytest.raises(BadInput) as caught:
        edited_sidecars(current, {"a": "Tom dances.", "b": TOM + "x", "c": TOM})
    message = str(caught.value)
    assert all(f"{name}.txt" in message for name in "abc")
    path = tmp_path / "o.jsonl"
    path.write_text('{"clip_id": "a"}\nnothing\n{"clip_id": "b", "caption": "Tom dances."}\n')
    with pytest.raises(BadInput) as caught:
        read_overrides(path)
    assert all(f"line {number}" in str(caught.value) for number in (1, 2, 3))


def test_an_emptied_caption_leaves_the_clip_out_and_a_missing_one_does_not() -> None:
    current = {"a": caption("a", TOM), "b": caption("b", TOM)}
    assert edited_sidecars(current, {"a": ""}) == {"a": ""}
    line = line_of(current["a"], Path("a.mp4"), Variant.BOTH)
    assert edited_lines(current, [line.model_copy(update={"caption": ""})]) == {"a": ""}


def test_a_clip_that_failed_can_be_captioned_by_hand() -> None:
    failed = tables.failed(
        Reason.CAPTION_REFUSED, "no", **columns("a", "vlm/openai", None, Style.CARTOON)
    )
    line = line_of(failed, Path("a.mp4"), Variant.BOTH)
    assert edited_lines({"a": failed}, [line]) == {}
    assert edited_lines({"a": failed}, [line.model_copy(update={"caption": TOM})]) == {"a": TOM}


def test_sidecars_stand_beside_their_videos(tmp_path: Path) -> None:
    video = tmp_path / "store" / "x.mp4"
    video.parent.mkdir()
    video.write_bytes(b"film")
    failed = tables.failed(
        Reason.CAPTION_REFUSED, "no", **columns("b", "vlm/openai", None, Style.CARTOON)
    )
    lines = [line_of(row, video, Variant.CHARACTER) for row in (caption("a", TOM), failed)]
    for copy in (False, True, False):
        assert write_sidecars(tmp_path / "out", lines, copy=copy) == 1
        there = {path.name for path in (tmp_path / "out").iterdir()}
        assert there == {"a.mp4", "a.txt", METADATA}
        assert (tmp_path / "out" / "a.mp4").is_symlink() is not copy
        assert (tmp_path / "out" / "a.mp4").read_bytes() == b"film"
    table = (tmp_path / "out" / METADATA).read_text()
    assert table == 'video,prompt\na.mp4,"[Character: Tom], runs. A kitchen."\n'


def test_musubi_tuner_finds_its_keys(tmp_path: Path) -> None:
    write_jsonl(tmp_path, [line_of(caption("a", TOM), Path("/v/a.mp4"), Variant.BOTH)])
    (line,) = (tmp_path / JSONL).read_text().splitlines()
    assert json.loads(line)["video_path"] == "/v/a.mp4"
    assert json.loads(line)["caption"] == TOM


RULES = Rules(roster=("Tom", "Jerry"), style=Style.CARTOON, max_words=20)


def test_a_table_is_checked_whoever_edited_it() -> None:
    good = caption("a", TOM)
    rows = [
        good,
        good | {"clip_id": "b", "caption": WAVES},
        good | {"clip_id": "c", "caption": "Tom runs."},
        caption("d", TOM.replace("Tom", "Spike")),
        caption("e", TOM),
        tables.failed(Reason.CAPTION_REFUSED, "no", **columns("f", "x", None, Style.CARTOON)),
    ]
    found = review(rows, lambda row: RULES, same_caption_alarm=2)
    assert (found.checked, found.without) == (5, 1)
    assert set(found.problems) == {"b", "c", "d"}
    assert "different things" in found.problems["b"][0]
    assert "does not end" in found.problems["c"][0]
    assert "Spike" in found.problems["d"][0]
    assert found.alarm == f"2 of 5 clips have one caption: {TOM}"
    assert review(rows, lambda row: RULES, same_caption_alarm=3).alarm == ""
    assert row_problems(good, None) == ["it is of no episode of the library"]
    assert caption_of(good) is not None


def test_who_was_located_is_taken_from_the_cutouts() -> None:
    def cutout(clip: str, name: str, reason: Reason | None) -> Row:
        return {"clip_id": clip, "character": name, "reason": reason.value if reason else None}

    looked = [
        cutout("a", "Tom", None),
        cutout("a", "Jerry", Reason.NOT_LOCATED),
        cutout("b", "Jerry", Reason.MASK_AREA),
    ]
    nobody = [cutout("c", "Tom", Reason.NOT_LOCATED)]
    assert seen_in([looked, nobody]) == {"a": {"Tom"}, "b": {"Jerry"}}


def test_the_rules_are_those_of_the_clips_show() -> None:
    def episode(show_id: str, style: Style, name: str, sha256: str) -> SourceEpisode:
        show = Show(
            id=show_id,
            title=show_id,
            style=style,
            characters=(Character(name=name),),
            episodes=(Episode(path=Path("a.mp4")),),
        )
        video = FileRef(path=Path("a.mp4"), sha256=sha256, size=1)
        return SourceEpisode("a", show, video, None, None, None, "")

    cats = episode("cats", Style.CARTOON, "Tom", "a" * 64)
    mars = episode("life-on-mars", Style.REALISTIC, "Sam", "b" * 64)
    known = Known(
        {one.id: one for one in (cats, mars)},
        {f"{cats.id}-c0000000000": Dialogue(known=True, text="Hey")},
        {f"{cats.id}-c0000000000": {"Tom"}},
        CaptionSettings(max_words=50),
        ("Tom", "Sam"),
    )

    def rules(name: str) -> Rules | None:
        return known.rules({"clip_id": name})

    clip = rules(f"{mars.id}-c0000000000")
    assert clip is not None
    assert (clip.roster, clip.style, clip.max_words) == (("Sam",), Style.REALISTIC, 50)
    assert (clip.said, clip.seen) == (None, None)
    heard = rules(f"{cats.id}-c0000000000")
    assert heard is not None
    assert (heard.roster, heard.said, heard.seen) == (("Tom",), "Hey", {"Tom"})
    pasted = rules(f"{cats.id}-c0000000000-tom-on-{mars.id}-c0000000007")
    assert pasted is not None
    assert pasted.style is Style.REALISTIC
    assert (pasted.roster, pasted.max_words) == (("Tom", "Sam"), 100)
    assert rules("elsewhere-0123456789-c0000000000") is None
