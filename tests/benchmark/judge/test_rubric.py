from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.benchmark.judge.rubric import ASPECTS, DEFAULT_RUBRIC, load_rubric, rubric_version
from mimix_core.engine.artifacts import file_ref
from mimix_core.errors import BadInput


def test_every_step_of_every_aspect_has_its_own_anchor() -> None:
    rubric = load_rubric(DEFAULT_RUBRIC)
    for aspect in ASPECTS:
        for characters in (1, 2, 3):
            one = rubric.aspect_rubric(aspect, characters)
            assert list(one.anchors) == list(range(1, 11))
            assert one.format_scale().count("\n") == 9


def test_a_single_character_interacts_with_its_surroundings() -> None:
    rubric = load_rubric(DEFAULT_RUBRIC)
    assert rubric.aspect_rubric("interaction", 1) == rubric.aspects.environment
    assert rubric.aspect_rubric("interaction", 2) == rubric.aspects.interaction
    assert rubric.aspect_rubric("motion", 1) == rubric.aspect_rubric("motion", 2)


def test_a_missing_anchor_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rubric.yaml"
    text = DEFAULT_RUBRIC.read_text()
    path.write_text(text.replace("      4: ", "      11: ", 1))
    with pytest.raises(
        BadInput, match=r"line \d+, key aspects\.identity\.anchors: needs an anchor"
    ):
        load_rubric(path)
    path.write_text(text.replace("version:", "edition:", 1))
    with pytest.raises(BadInput, match="unknown key"):
        load_rubric(path)


def test_an_edited_rubric_with_the_same_number_has_another_version(tmp_path: Path) -> None:
    edited = tmp_path / "rubric.yaml"
    edited.write_text(DEFAULT_RUBRIC.read_text().replace("Perfectly kept", "Kept"))
    versions = [
        rubric_version(load_rubric(path), file_ref(path)) for path in (DEFAULT_RUBRIC, edited)
    ]
    assert versions[0] != versions[1]
    assert all(version.startswith("2-") for version in versions)
