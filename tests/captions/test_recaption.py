from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mimix_core import tables
from mimix_core.captions.grammar import parse
from mimix_core.captions.recaption import STAGE, RecaptionInputs, compose
from mimix_core.settings import CaptionSettings
from mimix_core.stage import run_stage
from mimix_core.store import Store
from mimix_core.tables import Row
from tests.made import caption, table_ref

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
        "x": 0,
        "y": 0,
        "width": 64,
        "height": 48,
        "frames": 81,
        "file": f"videos/{name}.mp4",
        "sheet_file": "",
        "sha256": "",
    }
    return tables.ok(**row | values)


def test_the_pasted_character_joins_the_backgrounds_caption() -> None:
    assert compose(parse(SCENE), parse(SOURCE), "Tom") == parse(COMPOSED)


def test_a_character_the_source_does_not_name_cannot_join() -> None:
    with pytest.raises(ValueError, match="Spike"):
        compose(parse(SCENE), parse(SOURCE), "Spike")


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
    # The background's style is the law: here its row and its caption disagree.
    assert found["d"]["reason"] == "caption_check_failed"
