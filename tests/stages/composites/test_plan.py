from __future__ import annotations

from collections import Counter
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from mimix_core.domain.library import Style
from mimix_core.stages.composites.pairing import (
    MOST_REFUSALS,
    Background,
    Candidate,
    Pair,
    Plan,
    is_placebo,
    placebos,
)


def world(cartoons: int, realistics: int, scenes: int) -> tuple[list[Candidate], list[Background]]:
    """Cutouts of three characters a style; each is from the scene of its own number, if any."""
    candidates = [
        Candidate(f"{style.value}-{n}", f"{style.value}-clip-{n}", f"{style.value} {n % 3}", style)
        for style, count in ((Style.CARTOON, cartoons), (Style.REALISTIC, realistics))
        for n in range(count)
    ]
    backgrounds = [
        Background(f"{s.value}-clip-{n}", s, frozenset({f"{s.value} {n % 3}"}))
        for s in Style
        for n in range(scenes)
    ]
    return candidates, backgrounds


def drawn(size: tuple[int, int, int], count: int, seed: int = 0, same: bool = False) -> list[Pair]:
    return Plan(*world(*size), seed=seed, same=same).take(count)


SIZES = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 5))


@given(SIZES, st.integers(0, 80), st.integers(0, 9))
def test_a_plan_keeps_its_rules(size: tuple[int, int, int], count: int, seed: int) -> None:
    cartoons, realistics, scenes = size
    pairs = drawn(size, count, seed)
    # As many as wanted, or all there are; and none twice.
    assert len(pairs) == min(count, (cartoons + realistics) * scenes)
    assert len({(p.cutout_id, p.background_id) for p in pairs}) == len(pairs)
    # Never into its own style.
    assert all(p.cutout_id.split("-")[0] != p.background_id.split("-")[0] for p in pairs)
    # A plan for fewer is the beginning of this one.
    assert drawn(size, count // 2, seed) == pairs[: count // 2]
    # The order in which cutouts and backgrounds come decides nothing.
    candidates, backgrounds = world(*size)
    assert Plan(candidates[::-1], backgrounds[::-1], seed=seed).take(count) == pairs


@given(SIZES, st.integers(0, 9))
def test_placebos_stay_in_their_style_and_meet_nobody_twice(
    size: tuple[int, int, int], seed: int
) -> None:
    candidates, backgrounds = world(*size)
    pairs = drawn(size, 1000, seed, same=True)
    cutout = {c.cutout_id: c for c in candidates}
    scene = {b.clip_id: b for b in backgrounds}
    possible = {
        (c.cutout_id, b.clip_id)
        for c in candidates
        for b in backgrounds
        if c.style is b.style and c.character not in b.names and c.clip_id != b.clip_id
    }
    assert {(p.cutout_id, p.background_id) for p in pairs} == possible
    assert len(pairs) == len(possible)
    for pair in pairs:
        assert cutout[pair.cutout_id].character not in scene[pair.background_id].names


def test_directions_characters_cutouts_and_scenes_have_their_turn() -> None:
    candidates, _ = world(6, 3, 10)
    pairs = drawn((6, 3, 10), 24, seed=1)
    by_id = {c.cutout_id: c for c in candidates}
    styles = Counter(by_id[p.cutout_id].style for p in pairs)
    characters = Counter(by_id[p.cutout_id].character for p in pairs)
    cutouts = Counter(p.cutout_id for p in pairs)
    scenes = Counter(p.background_id for p in pairs)
    assert styles == {Style.CARTOON: 12, Style.REALISTIC: 12}
    assert set(characters.values()) == {4}
    assert {cutouts[c.cutout_id] for c in candidates if c.style is Style.CARTOON} == {2}
    assert max(scenes.values()) <= 2


def test_another_seed_is_another_plan() -> None:
    assert drawn((5, 5, 5), 20, 0) == drawn((5, 5, 5), 20, 0)
    assert drawn((5, 5, 5), 20, 0) != drawn((5, 5, 5), 20, 1)


def test_a_pair_without_a_place_is_made_up_for() -> None:
    plan = Plan(*world(3, 3, 10), seed=0)
    first = plan.take(6)
    for pair in first[:2]:
        plan.refuse(pair)
    more = plan.take(2)
    # The same two characters are tried again, each with another scene.
    assert {p.cutout_id for p in more} == {p.cutout_id for p in first[:2]}
    assert not set(more) & set(first)


def test_a_cutout_that_fits_nowhere_is_given_up() -> None:
    candidates, backgrounds = world(1, 0, 3 * MOST_REFUSALS)
    plan = Plan(candidates, backgrounds, seed=0)
    tried = 0
    while pairs := plan.take(1):
        plan.refuse(pairs[0])
        tried += 1
    assert tried == MOST_REFUSALS


def test_a_cutout_that_fits_somewhere_is_not() -> None:
    candidates, backgrounds = world(1, 0, 3 * MOST_REFUSALS)
    plan = Plan(candidates, backgrounds, seed=0)
    plan.take(1)
    tried = 1
    while pairs := plan.take(1):
        plan.refuse(pairs[0])
        tried += 1
    assert tried == 3 * MOST_REFUSALS


@given(st.fractions(0, 1, max_denominator=100), st.integers(0, 300))
def test_placebos_are_exact_for_any_beginning(share: Fraction, count: int) -> None:
    found = sum(is_placebo(rank, share) for rank in range(count))
    assert found == placebos(count, share)
    assert abs(found - count * share) < 1
