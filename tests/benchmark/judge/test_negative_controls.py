from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.benchmark.judge.judge_inputs import CastMember
from mimix_core.benchmark.judge.negative_controls import CONTROLS, make, sketched, swapped
from mimix_core.domain.library import Style
from mimix_core.domain.prompts import Prompt
from mimix_core.engine.artifacts import digest_file
from mimix_core.media import UnreadableVideo, read_rgb
from tests.benchmark.judge.world import frames
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


def prompt(*names: str) -> Prompt:
    return Prompt(
        id="one",
        category="single" if len(names) == 1 else "inter-style",
        characters=names,
        actions=[{"name": name, "action": f"waves to {names[0]}"} for name in names],
        setting=f"{names[-1]}'s kitchen",
        style="cartoon",
    )


def test_each_control_spoils_one_thing_and_leaves_the_rest(tmp_path: Path) -> None:
    source = tmp_path / "v.mp4"
    video(source, frames(["Tom", "Mr. Bean"]))
    original = read_rgb(source).astype(int)
    for control in CONTROLS[1:]:
        targets = [tmp_path / name / f"{control}.mp4" for name in ("a", "b")]
        for target in targets:
            make(control, source, target, side=832)
        assert digest_file(targets[0]) == digest_file(targets[1])
        made = read_rgb(targets[0]).astype(int)
        assert made.shape == original.shape
        if control == "frozen-frame":
            assert np.abs(made - original[len(original) // 2]).mean() < 3
        elif control == "reversed-time":
            assert np.abs(made - original[::-1]).mean() < 3
            assert np.abs(made - original).mean() > 3
        else:
            assert (made.max(3) - made.min(3)).mean() < 2


def test_a_sketch_keeps_edges_and_no_colour() -> None:
    picture = np.full((60, 80, 3), (200, 40, 40), np.uint8)
    picture[:, 40:] = (250, 250, 40)
    drawn = sketched(picture)
    assert (drawn.max(2) == drawn.min(2)).all()
    assert drawn[:, 5].mean() > 250 > 200 > drawn[:, 39].mean()


def test_odd_and_large_pictures_become_even_and_small(tmp_path: Path) -> None:
    video(tmp_path / "v.mp4", np.zeros((4, 102, 202, 3), np.uint8))
    make("frozen-frame", tmp_path / "v.mp4", tmp_path / "c.mp4", side=101)
    assert read_rgb(tmp_path / "c.mp4").shape == (4, 50, 100, 3)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(UnreadableVideo):
        make("frozen-frame", tmp_path / "broken.mp4", tmp_path / "d.mp4", side=101)
    assert not (tmp_path / "d.mp4").exists()


@given(st.lists(st.sampled_from(CAST), min_size=1, max_size=3, unique_by=lambda one: one.name))
def test_swapped_identities_are_all_others(members: list[CastMember]) -> None:
    names = [one.name for one in members]
    asked = prompt(*names)
    found = swapped(asked, CAST)
    assert found is not None
    assert not set(found.characters) & set(names)
    assert len(set(found.characters)) == len(names)
    assert [one.name for one in found.actions] == list(found.characters)
    assert not any(name in found.text() for name in names)
    assert found.id == asked.id
    # A cartoon's place is taken by a live one and the reverse, as long as there are any.
    style = {one.name: one.style for one in CAST}
    assert style[found.characters[0]] != style[names[0]] or len(names) > 1
    # As valid as any other prompt.
    assert Prompt.model_validate(found.model_dump()) == found


def test_a_cast_without_others_has_nobody_to_swap_in() -> None:
    assert swapped(prompt("Tom", "Mr. Bean"), (CAST[0], CAST[3])) is None
    assert swapped(prompt("Tom"), (CAST[0], CAST[3])) is not None
