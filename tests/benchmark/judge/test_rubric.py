from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.benchmark.judge.rubric import ASPECTS, DEFAULT, read_rubric, stated_version
from mimix_core.engine.artifacts import file_ref
from mimix_core.errors import BadInput


def test_every_step_of_every_aspect_has_its_own_anchor() -> None:
    rubric = read_rubric(DEFAULT)
    for aspect in ASPECTS:
        for characters in (1, 2, 3):
            one = rubric.of(aspect, characters)
            assert list(one.anchors) == list(range(1, 11))
            assert one.scale().count("\n") == 9


def test_a_single_character_interacts_with_its_surroundings() -> None:
    rubric = read_rubric(DEFAULT)
    assert rubric.of("interaction", 1) == rubric.aspects.environment
    assert rubric.of("interaction", 2) == rubric.aspects.interaction
    assert rubric.of("motion", 1) == rubric.of("motion", 2)


def test_a_step_without_an_anchor_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rubric.yaml"
    text = DEFAULT.read_text()
    path.write_text(text.replace("      4: ", "      11: ", 1))
    with pytest.raises(BadInput, match=r"line \d+, key aspects\.identity\.anchors: an anchor"):
        read_rubric(path)
    path.write_text(text.replace("version:", "edition:", 1))
    with pytest.raises(BadInput, match="unknown key"):
        read_rubric(path)


def test_an_edited_rubric_of_the_same_number_is_told_from_the_original(tmp_path: Path) -> None:
    edited = tmp_path / "rubric.yaml"
    edited.write_text(DEFAULT.read_text().replace("Perfectly kept", "Kept"))
    versions = [stated_version(read_rubric(path), file_ref(path)) for path in (DEFAULT, edited)]
    assert versions[0] != versions[1]
    assert all(version.startswith("1-") for version in versions)
