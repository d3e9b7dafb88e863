from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.benchmark.judge.judge_inputs import CastMember
from mimix_core.benchmark.judge.negative_controls import (
    CONTROLS,
    pencil_sketch,
    swap_characters,
    write_control_video,
)
from mimix_core.domain.library import Style
from mimix_core.domain.prompts import VideoPrompt
from mimix_core.engine.artifacts import digest_file
from mimix_core.media import UnreadableVideo, read_rgb
from tests.benchmark.judge.factories import frames
from tests.factories import video

CAST = tuple(
    CastMember(name=name, show=show, style=Style(style))
    for name, show, style in (
        ("Tom", "Tom and Jerry", "cartoon"),
        ("Jerry", "Tom and Jerry", "cartoon"),
        ("Panda", "We Bare Bears", "cartoon"),
        ("Mr. Bean", "Mr. Bean", "realistic"),
        ("Sheldon", "Young Sheldon", "realistic"),
        ("George", "Young Sheldon", "realistic"),
    )
)


def prompt(*names: str) -> VideoPrompt:
    return VideoPrompt(
        id="one",
        category="single" if len(names) == 1 else "inter-style",
        characters=names,
        actions=[{"name": name, "action": f"waves to {names[0]}"} for name in names],
        setting=f"{names[-1]}'s kitchen",
        style="cartoon",
    )


def test_each_control_corrupts_one_property_only(tmp_path: Path) -> None:
    source = tmp_path / "v.mp4"
    video(source, frames(["Tom", "Mr. Bean"]))
    original = read_rgb(source).astype(int)
    for control in CONTROLS[1:]:
        targets = [tmp_path / name / f"{control}.mp4" for name in ("a", "b")]
        for target in targets:
            write_control_video(control, source, target, max_side=832)
        assert digest_file(targets[0]) == digest_file(targets[1])
        corrupted = read_rgb(targets[0]).astype(int)
        assert corrupted.shape == original.shape
        if control == "frozen-frame":
            assert np.abs(corrupted - original[len(original) // 2]).mean() < 3
        elif control == "reversed-time":
            assert np.abs(corrupted - original[::-1]).mean() < 3
            assert np.abs(corrupted - original).mean() > 3
        elif control == "shifted-half":
            middle, later = original.shape[2] // 2, len(original) // 2
            assert np.abs(corrupted[:, :, :middle] - original[:, :, :middle]).mean() < 3
            shifted = np.roll(original, -later, axis=0)
            assert np.abs(corrupted[:, :, middle:] - shifted[:, :, middle:]).mean() < 3
        else:
            assert (corrupted.max(3) - corrupted.min(3)).mean() < 2


def test_a_sketch_preserves_edges_but_not_color() -> None:
    image = np.full((60, 80, 3), (200, 40, 40), np.uint8)
    image[:, 40:] = (250, 250, 40)
    sketch = pencil_sketch(image)
    assert (sketch.max(2) == sketch.min(2)).all()
    assert sketch[:, 5].mean() > 250 > 200 > sketch[:, 39].mean()


def test_odd_and_large_frames_are_scaled_to_even_sides(tmp_path: Path) -> None:
    video(tmp_path / "v.mp4", np.zeros((4, 102, 202, 3), np.uint8))
    write_control_video("frozen-frame", tmp_path / "v.mp4", tmp_path / "c.mp4", max_side=101)
    assert read_rgb(tmp_path / "c.mp4").shape == (4, 50, 100, 3)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(UnreadableVideo):
        write_control_video(
            "frozen-frame", tmp_path / "broken.mp4", tmp_path / "d.mp4", max_side=101
        )
    assert not (tmp_path / "d.mp4").exists()


@given(st.lists(st.sampled_from(CAST), min_size=1, max_size=3, unique_by=lambda one: one.name))
def test_swapped_characters_are_all_different(members: list[CastMember]) -> None:
    names = [one.name for one in members]
    original = prompt(*names)
    found = swap_characters(original, CAST)
    assert found is not None
    assert not set(found.characters) & set(names)
    assert len(set(found.characters)) == len(names)
    assert [one.name for one in found.actions] == list(found.characters)
    assert not any(name in found.render() for name in names)
    assert found.id == original.id
    # Cartoon characters are replaced by live-action ones and vice versa, if there are any.
    style = {one.name: one.style for one in CAST}
    assert style[found.characters[0]] != style[names[0]] or len(names) > 1
    # The result is a valid prompt.
    assert VideoPrompt.model_validate(found.model_dump()) == found


def test_a_cast_without_other_characters_cannot_be_swapped() -> None:
    assert swap_characters(prompt("Tom", "Mr. Bean"), (CAST[0], CAST[3])) is None
    assert swap_characters(prompt("Tom"), (CAST[0], CAST[3])) is not None
