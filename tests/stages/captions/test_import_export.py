from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from mimix_core import tables
from mimix_core.domain.caption_grammar import (
    Caption,
    CaptionVariant,
    caption_from_row,
    render_caption,
)
from mimix_core.domain.character import Character
from mimix_core.domain.library import Episode, Show, Style
from mimix_core.engine.artifacts import FileRef
from mimix_core.errors import BadInput
from mimix_core.project.workspace import SourceEpisode
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.caption_inputs import ClipDialogue
from mimix_core.stages.captions.caption_review import (
    find_row_problems,
    located_characters,
    review_captions,
)
from mimix_core.stages.captions.caption_rows import caption_columns
from mimix_core.stages.captions.caption_validation import CaptionRules
from mimix_core.stages.captions.clip_context import ClipContext
from mimix_core.stages.captions.import_export import (
    JSONL_NAME,
    METADATA_NAME,
    export_row,
    find_edited_captions,
    find_edited_sidecars,
    read_caption_sidecars,
    read_captions_jsonl,
    write_caption_sidecars,
    write_captions_jsonl,
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
    return tables.ok(**caption_columns(name, "test", one, one.style))


@relaxed
@given(CAPTIONS)
def test_export_and_import_preserve_captions_exactly(tmp_path: Path, one: Caption) -> None:
    row = row_of(one)
    for variant in CaptionVariant:
        path = write_captions_jsonl(tmp_path, [export_row(row, tmp_path / "a.mp4", variant)])
        (line,) = read_captions_jsonl(path)
        assert line == export_row(row, tmp_path / "a.mp4", variant)
        assert line.caption == render_caption(one, variant)
        back = Caption(actions=line.actions, context=line.context, style=Style(line.style))
        assert back == one
        assert find_edited_captions({"a": row}, [line]) == {}
    sidecars = tmp_path / "sidecars"
    (tmp_path / "a.mp4").touch()
    for variant in CaptionVariant:
        write_caption_sidecars(sidecars, [export_row(row, tmp_path / "a.mp4", variant)], copy=False)
        texts = read_caption_sidecars(sidecars)
        assert texts == {"a": render_caption(one, variant)}
        assert find_edited_sidecars({"a": row}, texts) == {}


@relaxed
@given(CAPTIONS, CAPTIONS)
def test_edits_are_imported_exactly(tmp_path: Path, one: Caption, other: Caption) -> None:
    current = {"a": row_of(one)}
    line = export_row(current["a"], Path("a.mp4"), CaptionVariant.BOTH)
    wanted = {} if one == other else {"a": render_caption(other)}
    assert (
        find_edited_captions(current, [line.model_copy(update={"caption": render_caption(other)})])
        == wanted
    )
    parts = {"actions": other.actions, "context": other.context, "style": other.style.value}
    assert find_edited_captions(current, [line.model_copy(update=parts)]) == wanted
    both = parts | {"caption": render_caption(other)}
    assert find_edited_captions(current, [line.model_copy(update=both)]) == wanted
    path = tmp_path / "overrides.jsonl"
    write_overrides(path, {"a": render_caption(one), "b": render_caption(other), "c": ""})
    assert read_overrides(path) == {"a": render_caption(one), "b": render_caption(other), "c": ""}
    assert find_edited_sidecars(current, {"a": render_caption(other)}) == wanted


def test_a_caption_without_tags_is_edited_by_its_actions() -> None:
    current = {"a": caption("a", TOM)}
    line = export_row(current["a"], Path("a.mp4"), CaptionVariant.NO_TAGS)
    assert line.caption == "Tom runs. A kitchen."
    with pytest.raises(BadInput, match="edit the actions"):
        find_edited_captions(
            current, [line.model_copy(update={"caption": "Tom waves. A kitchen."})]
        )
    (action,) = line.actions
    waving = (action.model_copy(update={"action": "waves"}),)
    assert find_edited_captions(current, [line.model_copy(update={"actions": waving})]) == {
        "a": WAVES
    }


def test_two_edits_that_differ_are_rejected() -> None:
    current = {"a": caption("a", TOM)}
    line = export_row(current["a"], Path("a.mp4"), CaptionVariant.BOTH)
    changed = line.model_copy(update={"caption": WAVES, "context": "A garden"})
    with pytest.raises(BadInput, match="a: caption and actions were both edited"):
        find_edited_captions(current, [changed])


def test_two_lines_of_one_clip_must_not_differ() -> None:
    current = {"a": caption("a", TOM)}
    line = export_row(current["a"], Path("a.mp4"), CaptionVariant.BOTH)
    changed = line.model_copy(update={"caption": WAVES})
    assert find_edited_captions(current, [changed, changed]) == {"a": WAVES}
    with pytest.raises(BadInput, match="a: two lines that differ"):
        find_edited_captions(current, [changed, line])


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    current = {"a": caption("a", TOM), "b": caption("b", TOM)}
    with pytest.raises(BadInput) as caught:
        find_edited_sidecars(current, {"a": "Tom dances.", "b": TOM + "x", "c": TOM})
    message = str(caught.value)
    assert all(f"{name}.txt" in message for name in "abc")
    path = tmp_path / "o.jsonl"
    path.write_text('{"clip_id": "a"}\nnothing\n{"clip_id": "b", "caption": "Tom dances."}\n')
    with pytest.raises(BadInput) as caught:
        read_overrides(path)
    assert all(f"line {number}" in str(caught.value) for number in (1, 2, 3))


def test_an_emptied_caption_leaves_the_clip_out_and_a_missing_one_does_not() -> None:
    current = {"a": caption("a", TOM), "b": caption("b", TOM)}
    assert find_edited_sidecars(current, {"a": ""}) == {"a": ""}
    line = export_row(current["a"], Path("a.mp4"), CaptionVariant.BOTH)
    assert find_edited_captions(current, [line.model_copy(update={"caption": ""})]) == {"a": ""}


def test_a_clip_that_failed_can_be_captioned_by_hand() -> None:
    failed = tables.failed(
        Reason.CAPTION_REFUSED, "no", **caption_columns("a", "vlm/openai", None, Style.CARTOON)
    )
    line = export_row(failed, Path("a.mp4"), CaptionVariant.BOTH)
    assert find_edited_captions({"a": failed}, [line]) == {}
    assert find_edited_captions({"a": failed}, [line.model_copy(update={"caption": TOM})]) == {
        "a": TOM
    }


def test_sidecars_are_next_to_their_videos(tmp_path: Path) -> None:
    video = tmp_path / "store" / "x.mp4"
    video.parent.mkdir()
    video.write_bytes(b"film")
    failed = tables.failed(
        Reason.CAPTION_REFUSED, "no", **caption_columns("b", "vlm/openai", None, Style.CARTOON)
    )
    lines = [
        export_row(row, video, CaptionVariant.CHARACTER) for row in (caption("a", TOM), failed)
    ]
    for copy in (False, True, False):
        assert write_caption_sidecars(tmp_path / "out", lines, copy=copy) == 1
        there = {path.name for path in (tmp_path / "out").iterdir()}
        assert there == {"a.mp4", "a.txt", METADATA_NAME}
        assert (tmp_path / "out" / "a.mp4").is_symlink() is not copy
        assert (tmp_path / "out" / "a.mp4").read_bytes() == b"film"
    table = (tmp_path / "out" / METADATA_NAME).read_text()
    assert table == 'video,prompt\na.mp4,"[Character: Tom], runs. A kitchen."\n'


def test_exports_have_the_keys_of_musubi_tuner(tmp_path: Path) -> None:
    write_captions_jsonl(
        tmp_path, [export_row(caption("a", TOM), Path("/v/a.mp4"), CaptionVariant.BOTH)]
    )
    (line,) = (tmp_path / JSONL_NAME).read_text().splitlines()
    assert json.loads(line)["video_path"] == "/v/a.mp4"
    assert json.loads(line)["caption"] == TOM


RULES = CaptionRules(roster=("Tom", "Jerry"), style=Style.CARTOON, max_words=20)


def test_edited_tables_are_checked() -> None:
    good = caption("a", TOM)
    rows = [
        good,
        good | {"clip_id": "b", "caption": WAVES},
        good | {"clip_id": "c", "caption": "Tom runs."},
        caption("d", TOM.replace("Tom", "Spike")),
        caption("e", TOM),
        tables.failed(
            Reason.CAPTION_REFUSED, "no", **caption_columns("f", "x", None, Style.CARTOON)
        ),
    ]
    found = review_captions(rows, lambda row: RULES, identical_caption_warning_count=2)
    assert (found.checked, found.uncaptioned) == (5, 1)
    assert set(found.problems) == {"b", "c", "d"}
    assert "differs from its actions" in found.problems["b"][0]
    assert "does not end" in found.problems["c"][0]
    assert "Spike" in found.problems["d"][0]
    assert found.repetition_warning == f"2 of 5 clips have the same caption: {TOM}"
    assert (
        review_captions(
            rows, lambda row: RULES, identical_caption_warning_count=3
        ).repetition_warning
        == ""
    )
    assert find_row_problems(good, None) == ["the clip belongs to no episode of the library"]
    assert caption_from_row(good) is not None


def test_located_characters_come_from_cutouts() -> None:
    def cutout(clip: str, name: str, reason: Reason | None) -> Row:
        return {"clip_id": clip, "character": name, "reason": reason.value if reason else None}

    located = [
        cutout("a", "Tom", None),
        cutout("a", "Jerry", Reason.NOT_LOCATED),
        cutout("b", "Jerry", Reason.MASK_AREA),
    ]
    none_located = [cutout("c", "Tom", Reason.NOT_LOCATED)]
    assert located_characters([located, none_located]) == {"a": {"Tom"}, "b": {"Jerry"}}


def test_rules_are_those_of_the_clips_show() -> None:
    def episode(show_id: str, style: Style, name: str, sha256: str) -> SourceEpisode:
        show = Show(
            id=show_id,
            title=show_id,
            style=style,
            characters=(Character(name=name),),
            episodes=(Episode(path=Path("a.mp4")),),
        )
        video = FileRef(path=Path("a.mp4"), sha256=sha256, size=1)
        return SourceEpisode("a", show, video, None, None, None, None, "")

    cats = episode("cats", Style.CARTOON, "Tom", "a" * 64)
    mars = episode("life-on-mars", Style.REALISTIC, "Sam", "b" * 64)
    known = ClipContext(
        {one.id: one for one in (cats, mars)},
        {f"{cats.id}-c0000000000": ClipDialogue(available=True, text="Hey")},
        {f"{cats.id}-c0000000000": {"Tom"}},
        CaptionSettings(max_words=50),
        ("Tom", "Sam"),
    )

    def rules(name: str) -> CaptionRules | None:
        return known.rules({"clip_id": name})

    clip = rules(f"{mars.id}-c0000000000")
    assert clip is not None
    assert (clip.roster, clip.style, clip.max_words) == (("Sam",), Style.REALISTIC, 50)
    assert (clip.dialogue, clip.located) == (None, None)
    heard = rules(f"{cats.id}-c0000000000")
    assert heard is not None
    assert (heard.roster, heard.dialogue, heard.located) == (("Tom",), "Hey", {"Tom"})
    pasted = rules(f"{cats.id}-c0000000000-tom-on-{mars.id}-c0000000007")
    assert pasted is not None
    assert pasted.style is Style.REALISTIC
    assert (pasted.roster, pasted.max_words) == (("Tom", "Sam"), 100)
    assert rules("elsewhere-0123456789-c0000000000") is None
