from __future__ import annotations

import pytest

from mimix_core.domain.caption_grammar import validate_action
from mimix_core.domain.guest_actions import find_absent_things, reduce_guest_action


@pytest.mark.parametrize(
    ("action", "left"),
    [
        ("sits on a bench with a smile beside a bubble tea", "sits with a smile"),
        ("stands holding a cup of coffee", "stands"),
        ("comes in from the right with a nut in his arms and looks around", None),
        ("walks slowly while looking at his phone", "walks slowly"),
        ("adjusts her glasses and looks down at a laptop", "adjusts her glasses and looks down"),
        ("keeps still while a butterfly brushes over his nose", "keeps still"),
        ("bends down, reaches out and picks up the apple", "bends down and reaches out"),
        ("stands upright and holds the apple in front of his chest, puzzled", None),
        ("leans against the wall and nods", "nods"),
        ("stops in front of Bunny with a nut in his arms", "stops"),
        ("waves to the crowd from a balcony", "waves"),
        ("is holding an umbrella and laughs", "laughs"),
        ("creeps out from behind the tree root", "creeps out"),
    ],
)
def test_what_was_not_pasted_is_dropped(action: str, left: str | None) -> None:
    reduced = reduce_guest_action(action)
    assert reduced.props
    for thing in ("nut", "apple", "bench", "tea", "cup", "phone", "laptop", "wall", "Bunny"):
        assert thing not in reduced.text.split()
    assert left is None or reduced.text == left
    assert validate_action(reduced.text) == reduced.text


@pytest.mark.parametrize(
    "action",
    [
        "runs",
        "stands with his fists on his hips and glares ahead",
        "turns his head to the left, closes his eyes for a moment and smiles",
        "looks up with her mouth open in surprise",
        "wears a red hat and waves at the camera",
        "sits still on the ground",
        "jumps up and down with joy",
        'says "give me the cup" and nods',
        "crosses her arms, annoyed",
        "looks at Tom",
    ],
)
def test_what_is_the_characters_own_stays_word_for_word(action: str) -> None:
    assert reduce_guest_action(action, {"Tom"}).text == action


@pytest.mark.parametrize(
    "action",
    ["drinks tea", "reads a book", "eats noodles and dumplings", "throws the ball over the fence"],
)
def test_an_action_that_is_about_a_thing_leaves_nothing(action: str) -> None:
    assert reduce_guest_action(action).text == ""
    assert find_absent_things([("Tom", action), ("Jerry", "runs")], "Tom")
    assert find_absent_things([("Tom", action), ("Tom", "runs")], "Tom") == ()
