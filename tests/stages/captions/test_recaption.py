from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mimix_core import tables
from mimix_core.domain.caption_grammar import parse_caption
from mimix_core.domain.co_actors import find_absent_co_actors
from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.caption_inputs import CharacterProfile, ShowProfile
from mimix_core.stages.captions.prompt_template import DEFAULT_PROMPT_PATH
from mimix_core.stages.captions.recaption import STAGE, RecaptionInputs, compose_caption
from mimix_core.tables import Row
from tests.factories import caption, table_ref, video
from tests.stages.captions.factories import frames, show
from tests.vlm.fake_provider import FakeProvider

SOURCE = "[Character: Tom], runs. [Character: Jerry], hides. A kitchen. [scene-style:cartoon]"
SCENE = "[Character: Mr. Bean], waves at Teddy. A street. [scene-style:realistic]"
COMPOSED = (
    "[Character: Mr. Bean], waves at Teddy. [Character: Tom], runs. A street. "
    "[scene-style:realistic]"
)


def composite(name: str, **values: Any) -> Row:
    row: Row = {
        "composite_id": name,
        "cutout_id": "cartoon-tom",
        "source_clip_id": "cartoon",
        "background_clip_id": "street",
        "source_episode_id": "c1",
        "background_episode_id": "r1",
        "show": "bean",
        "style": "realistic",
        "character": "Tom",
        "character_style": "cartoon",
        "rank": 0,
        "scale": 1.0,
        "x": 0.0,
        "y": 0.0,
        "path": [],
        "source_camera": "static",
        "background_camera": "static",
        "covered": 0.0,
        "ground": None,
        "width": 64,
        "height": 48,
        "frames": 81,
        "file": f"videos/{name}.mp4",
        "sheet_file": "",
        "sha256": "",
    }
    return tables.ok(**row | values)


def test_the_inserted_character_is_added_to_the_backgrounds_caption() -> None:
    assert compose_caption(parse_caption(SCENE), parse_caption(SOURCE), "Tom") == parse_caption(
        COMPOSED
    )


def test_a_character_that_the_source_does_not_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="Spike"):
        compose_caption(parse_caption(SCENE), parse_caption(SOURCE), "Spike")


def test_each_composite_gets_a_row(tmp_path: Path) -> None:
    rows = [
        composite("a"),
        composite("b", character="Spike"),
        composite("c", background_clip_id="gone"),
        composite("d", style="cartoon"),
    ]
    inputs = RecaptionInputs(
        unit="all",
        composites=table_ref(tmp_path / "composites", tables.COMPOSITES, rows),
        captions=(
            table_ref(tmp_path / "one", tables.CAPTIONS, [caption("cartoon", SOURCE)]),
            table_ref(tmp_path / "two", tables.CAPTIONS, [caption("street", SCENE)]),
        ),
    )
    made = run_stage(Store(tmp_path / "store"), STAGE, inputs, CaptionSettings())
    found = {row["clip_id"]: row for row in tables.read(made.ref.path, tables.CAPTIONS)}
    assert found["a"]["caption"] == COMPOSED
    assert found["a"]["backend"] == "script-composed"
    assert found["b"]["reason"] == "caption_check_failed"
    assert found["c"]["reason"] == "upstream_failed"
    assert "gone" in found["c"]["detail"]
    # The background's row decides the style: here its caption differs.
    assert found["d"]["reason"] == "caption_check_failed"


def test_an_action_with_an_absent_character_fails(tmp_path: Path) -> None:
    chase = "[Character: Tom], chases Jerry. [Character: Jerry], runs. [scene-style:cartoon]"
    inputs = RecaptionInputs(
        unit="all",
        composites=table_ref(tmp_path / "composites", tables.COMPOSITES, [composite("a")]),
        captions=(
            table_ref(
                tmp_path / "captions",
                tables.CAPTIONS,
                [caption("cartoon", chase), caption("street", SCENE)],
            ),
        ),
    )
    made = run_stage(Store(tmp_path / "store"), STAGE, inputs, CaptionSettings())
    row = tables.read(made.ref.path, tables.CAPTIONS)[0]
    assert row["reason"] == "caption_check_failed"
    assert "'Tom' acts with 'Jerry', who is not in the composite" in row["detail"]


@pytest.mark.parametrize(
    ("guest_props", "status", "text"),
    [
        ("drop", "ok", "stands with a smile"),
        ("ask", "rejected", ""),
        ("keep", "ok", "stands with a smile beside a bubble tea"),
    ],
)
def test_things_that_were_not_pasted(
    tmp_path: Path, guest_props: str, status: str, text: str
) -> None:
    source = "[Character: Tom], stands with a smile beside a bubble tea. [scene-style:cartoon]"
    reads = "[Character: Tom], reads a book. [scene-style:cartoon]"
    inputs = RecaptionInputs(
        unit="all",
        composites=table_ref(
            tmp_path / "composites",
            tables.COMPOSITES,
            [composite("a"), composite("b", source_clip_id="reads")],
        ),
        captions=(
            table_ref(
                tmp_path / "captions",
                tables.CAPTIONS,
                [caption("cartoon", source), caption("reads", reads), caption("street", SCENE)],
            ),
        ),
        guest_props=guest_props,
    )
    made = run_stage(Store(tmp_path / "store"), STAGE, inputs, CaptionSettings())
    row, other = tables.read(made.ref.path, tables.CAPTIONS)
    assert row["status"] == status
    if text:
        assert row["caption"] == (
            f"[Character: Mr. Bean], waves at Teddy. [Character: Tom], {text}. A street. "
            "[scene-style:realistic]"
        )
    else:
        assert row["reason"] == "acts_with_things"
        assert "'a bubble tea'" in (row["detail"] or "")
    # Without the book, nothing is said of what Tom does.
    if guest_props != "keep":
        assert other["reason"] == "acts_with_things"
        assert "'a book'" in (other["detail"] or "")


@pytest.mark.parametrize(
    ("text", "present", "found"),
    [
        ("chases Jerry up the stairs", (), ["Jerry"]),
        ("chases jerry's shadow", (), ["Jerry"]),
        ("chases Jerryboy", (), []),
        ("waves at Mr. Bean", (), ["Mr. Bean"]),
        ("waves at Mr. Bean and Jerry", ("Mr. Bean",), ["Jerry"]),
        ("sleeps", (), []),
    ],
)
def test_absent_co_actors_are_found_by_name(
    text: str, present: tuple[str, ...], found: list[str]
) -> None:
    actions = [("Tom", text), ("Jerry", "waves at Tom"), ("Mr. Bean", "sits")]
    assert find_absent_co_actors(actions, "Tom", present) == found


def answer(*acting: str) -> dict[str, Any]:
    return {
        "seen": [{"character": name, "evidence": "looks"} for name in acting],
        "actions": [
            {"character": name, "action": f"waves with hand {n}"} for n, name in enumerate(acting)
        ],
        "context": "A street",
        "style": "realistic",
    }


def test_the_request_names_the_inserted_character(server: FakeProvider, tmp_path: Path) -> None:
    server.control(
        script={"tom": ["right", "right"]},
        answers={"tom": answer("Tom", "Mr. Bean"), "jerry": answer("Mr. Bean")},
    )
    rows = [
        composite("a", sha256=video(tmp_path / "composites" / "videos/a.mp4", frames(1))),
        composite(
            "b",
            sha256=video(tmp_path / "composites" / "videos/b.mp4", frames(2)),
            character="Jerry",
        ),
        composite("c", background_clip_id="gone"),
    ]
    cartoon = show(tmp_path / "show")
    cast = tuple(
        one.model_copy(update={"description": f"[[{one.name.lower()}]]"})
        for one in cartoon.characters
    )
    bean = ShowProfile(
        id="bean",
        title="Mr. Bean",
        style=Style.REALISTIC,
        characters=(CharacterProfile(name="Mr. Bean"),),
    )
    inputs = RecaptionInputs(
        unit="all",
        composites=table_ref(tmp_path / "composites", tables.COMPOSITES, rows),
        captions=(
            table_ref(tmp_path / "one", tables.CAPTIONS, [caption("cartoon", SOURCE)]),
            table_ref(tmp_path / "two", tables.CAPTIONS, [caption("street", SCENE)]),
        ),
        shows=(cartoon.model_copy(update={"characters": cast}), bean),
        prompt=file_ref(DEFAULT_PROMPT_PATH),
        response_cache=tmp_path / "answers",
    )
    settings = CaptionSettings.model_validate(
        {"backend": "vlm", "vlm": server.settings(), "max_reprompts": 1}
    )
    made = run_stage(Store(tmp_path / "store"), STAGE, inputs, settings)
    found = {row["clip_id"]: row for row in tables.read(made.ref.path, tables.CAPTIONS)}
    assert found["a"]["caption"] == (
        "[Character: Tom], waves with hand 0. [Character: Mr. Bean], waves with hand 1. A street. "
        "[scene-style:realistic]"
    )
    assert (found["a"]["backend"], found["a"]["attempts"]) == ("vlm/openai", 1)
    # A response without the inserted character is followed by one correction, then fails.
    assert found["b"]["reason"] == "caption_check_failed"
    assert "'Jerry' is in the clip but has no action" in found["b"]["detail"]
    assert found["b"]["attempts"] == 2
    assert (found["c"]["reason"], found["c"]["backend"]) == ("upstream_failed", "vlm/openai")
    asked = next(body for body in server.counts()["bodies"] if "[[tom]]" in str(body))
    said = str(asked["messages"])
    assert "Tom of <data>Tom and Jerry</data> was cut out" in said
    assert SOURCE in said
    assert SCENE in said
    names = asked["response_format"]["json_schema"]["schema"]["properties"]["seen"]
    assert names["items"]["properties"]["character"]["enum"] == ["Mr. Bean", "Tom"]
    # Ten frames, and the picture of who was put in: the background's show has none.
    assert said.count("'image_url':") == 11
