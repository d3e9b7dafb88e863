from __future__ import annotations

from collections import Counter
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from mimix_core.domain.library import Style
from mimix_core.stages.composites.pairing import (
    MAX_REJECTIONS,
    BackgroundClip,
    CompositePair,
    CutoutCandidate,
    PairSampler,
    is_same_style_rank,
    same_style_count,
)


def make_inputs(
    cartoons: int, realistics: int, scenes: int
) -> tuple[list[CutoutCandidate], list[BackgroundClip]]:
    """Cutouts of three characters a style; each is from the scene of its own number, if any."""
    candidates = [
        CutoutCandidate(
            f"{style.value}-{n}", f"{style.value}-clip-{n}", f"{style.value} {n % 3}", style
        )
        for style, count in ((Style.CARTOON, cartoons), (Style.REALISTIC, realistics))
        for n in range(count)
    ]
    backgrounds = [
        BackgroundClip(f"{s.value}-clip-{n}", s, frozenset({f"{s.value} {n % 3}"}))
        for s in Style
        for n in range(scenes)
    ]
    return candidates, backgrounds


def sample_pairs(
    size: tuple[int, int, int], count: int, seed: int = 0, same: bool = False
) -> list[CompositePair]:
    return draw(PairSampler(*make_inputs(*size), seed=seed, same_style=same), count)


def draw(sampler: PairSampler, count: int) -> list[CompositePair]:
    """Draw as many pairs as there are, up to ``count``."""
    pairs: list[CompositePair] = []
    while len(pairs) < count and (more := sampler.next_pairs(count - len(pairs))):
        pairs += more
    return pairs


def test_held_out_pairs_never_get_into_one_scene() -> None:
    candidates, backgrounds = make_inputs(6, 6, 6)
    held_out = [("cartoon 0", "realistic 1"), ("realistic 2", "cartoon 2")]
    pairs = draw(PairSampler(candidates, backgrounds, seed=0, held_out_pairs=held_out), 200)
    characters = {c.cutout_id: c.character for c in candidates}
    scenes = {b.clip_id: b.characters for b in backgrounds}
    met = {
        frozenset((characters[pair.cutout_id], other))
        for pair in pairs
        for other in scenes[pair.background_id]
    }
    every = {frozenset((f"cartoon {m}", f"realistic {n}")) for m in range(3) for n in range(3)}
    assert met == every - {frozenset(pair) for pair in held_out}


SIZES = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 5))


@given(SIZES, st.integers(0, 80), st.integers(0, 9))
def test_sampled_pairs_obey_the_rules(size: tuple[int, int, int], count: int, seed: int) -> None:
    cartoons, realistics, scenes = size
    pairs = sample_pairs(size, count, seed)
    # As many as wanted, or all there are; and none twice.
    assert len(pairs) == min(count, (cartoons + realistics) * scenes)
    assert len({(p.cutout_id, p.background_id) for p in pairs}) == len(pairs)
    # Never into its own style.
    assert all(p.cutout_id.split("-")[0] != p.background_id.split("-")[0] for p in pairs)
    # A plan for fewer is the beginning of this one.
    assert sample_pairs(size, count // 2, seed) == pairs[: count // 2]
    # The order in which cutouts and backgrounds come decides nothing.
    candidates, backgrounds = make_inputs(*size)
    assert draw(PairSampler(candidates[::-1], backgrounds[::-1], seed=seed), count) == pairs
    # Each cutout is used once before any is used twice, as long as it has backgrounds left.
    for n in range(1, len(pairs) + 1):
        uses = Counter(p.cutout_id for p in pairs[:n])
        least = min(scenes, max(uses.values()) - 1)
        assert all(uses[c.cutout_id] >= least for c in candidates)


@given(SIZES, st.integers(0, 9))
def test_same_style_pairs_stay_in_their_style_without_repetition(
    size: tuple[int, int, int], seed: int
) -> None:
    candidates, backgrounds = make_inputs(*size)
    pairs = sample_pairs(size, 1000, seed, same=True)
    cutout = {c.cutout_id: c for c in candidates}
    scene = {b.clip_id: b for b in backgrounds}
    possible = {
        (c.cutout_id, b.clip_id)
        for c in candidates
        for b in backgrounds
        if c.style is b.style and c.character not in b.characters and c.clip_id != b.clip_id
    }
    assert {(p.cutout_id, p.background_id) for p in pairs} == possible
    assert len(pairs) == len(possible)
    for pair in pairs:
        assert cutout[pair.cutout_id].character not in scene[pair.background_id].characters


def test_directions_characters_cutouts_and_backgrounds_are_balanced() -> None:
    candidates, _ = make_inputs(6, 6, 10)
    pairs = sample_pairs((6, 6, 10), 24, seed=1)
    by_id = {c.cutout_id: c for c in candidates}
    styles = Counter(by_id[p.cutout_id].style for p in pairs)
    characters = Counter(by_id[p.cutout_id].character for p in pairs)
    cutouts = Counter(p.cutout_id for p in pairs)
    scenes = Counter(p.background_id for p in pairs)
    assert styles == {Style.CARTOON: 12, Style.REALISTIC: 12}
    assert set(characters.values()) == {4}
    assert {cutouts[c.cutout_id] for c in candidates if c.style is Style.CARTOON} == {2}
    assert max(scenes.values()) <= 2


def test_no_cutout_is_used_more_often_than_its_share() -> None:
    """One realistic cutout among seven: by direction alone it would be in half of the pairs."""
    plan = PairSampler(*make_inputs(6, 1, 10), seed=0, max_uses=2)
    uses = Counter(pair.cutout_id for pair in draw(plan, 100))
    assert set(uses.values()) == {2}
    assert len(uses) == 7


def test_a_rejected_pair_is_replaced_before_a_cutout_is_used_twice() -> None:
    plan = PairSampler(*make_inputs(3, 3, 10), seed=0)
    first = plan.next_pairs(16)
    assert len(first) == 6
    for pair in first[:4]:
        plan.reject_pair(pair)
    assert {p.cutout_id for p in plan.next_pairs(16)} == {p.cutout_id for p in first[:4]}
    assert len(plan.next_pairs(16)) == 6


def test_another_seed_gives_other_pairs() -> None:
    assert sample_pairs((5, 5, 5), 20, 0) == sample_pairs((5, 5, 5), 20, 0)
    assert sample_pairs((5, 5, 5), 20, 0) != sample_pairs((5, 5, 5), 20, 1)


def test_a_rejected_pair_is_replaced() -> None:
    plan = PairSampler(*make_inputs(3, 3, 10), seed=0)
    first = plan.next_pairs(6)
    for pair in first[:2]:
        plan.reject_pair(pair)
    more = plan.next_pairs(2)
    # The same two characters are tried again, each with another scene.
    assert {p.cutout_id for p in more} == {p.cutout_id for p in first[:2]}
    assert not set(more) & set(first)


def test_a_cutout_that_is_always_rejected_is_dropped() -> None:
    candidates, backgrounds = make_inputs(1, 0, 3 * MAX_REJECTIONS)
    plan = PairSampler(candidates, backgrounds, seed=0)
    tried = 0
    while pairs := plan.next_pairs(1):
        plan.reject_pair(pairs[0])
        tried += 1
    assert tried == MAX_REJECTIONS


def test_a_cutout_placed_once_is_not_dropped() -> None:
    candidates, backgrounds = make_inputs(1, 0, 3 * MAX_REJECTIONS)
    plan = PairSampler(candidates, backgrounds, seed=0)
    plan.next_pairs(1)
    tried = 1
    while pairs := plan.next_pairs(1):
        plan.reject_pair(pairs[0])
        tried += 1
    assert tried == 3 * MAX_REJECTIONS


@given(st.fractions(0, 1, max_denominator=100), st.integers(0, 300))
def test_the_same_style_share_is_exact_for_any_prefix(share: Fraction, count: int) -> None:
    found = sum(is_same_style_rank(rank, share) for rank in range(count))
    assert found == same_style_count(count, share)
    assert abs(found - count * share) < 1
