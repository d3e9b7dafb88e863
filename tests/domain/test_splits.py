from __future__ import annotations

import hashlib
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.domain.splits import (
    Split,
    _split_at,
    assign_splits,
    composite_count,
    hash_order,
    hash_uniform,
)

SHARES = st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.45])
SEEDS = st.integers(0, 50)
NAMES = st.sets(st.sampled_from([f"e{n}" for n in range(30)]), min_size=1)


@given(st.integers(0, 3000), st.fractions(0, Fraction(99, 100), max_denominator=1000))
def test_no_other_count_is_nearer_to_the_ratio(originals: int, ratio: Fraction) -> None:
    count = composite_count(originals, ratio)
    if originals == 0:
        assert count == 0
        return
    error = abs(Fraction(count, originals + count) - ratio)
    for other in (count - 1, count + 1):
        if other >= 0:
            assert abs(Fraction(other, originals + other) - ratio) >= error


def test_the_papers_ratios_are_exact_where_they_can_be() -> None:
    wanted = {"0": 0, "0.05": 100, "0.10": 211, "0.20": 475}
    assert {r: composite_count(1900, Fraction(r)) for r in wanted} == wanted


@given(SEEDS, SHARES, SHARES, NAMES)
def test_every_show_has_train_and_val_episodes(
    seed: int, val_share: float, test_share: float, ids: set[str]
) -> None:
    splits = assign_splits({"show": ids}, seed=seed, val_share=val_share, test_share=test_share)
    assert set(splits) == ids
    found = list(splits.values())
    assert Split.TRAIN in found
    if len(ids) > 1 and val_share > 0:
        assert Split.VAL in found
    if val_share == 0:
        assert Split.VAL not in found
    if test_share == 0:
        assert Split.TEST not in found
    if len(ids) == 1:
        assert found == [Split.TRAIN]


@given(SEEDS, SHARES, SHARES, NAMES)
def test_a_new_episode_does_not_reshuffle_the_others(
    seed: int, val_share: float, test_share: float, ids: set[str]
) -> None:
    shares = {"val_share": val_share, "test_share": test_share}
    before = assign_splits({"show": ids, "other": {"o1", "o2"}}, seed=seed, **shares)
    after = assign_splits({"show": {*ids, "new"}, "other": {"o1", "o2"}}, seed=seed, **shares)
    assert sum(after[name] is not before[name] for name in before) <= 2
    assert all(after[name] is before[name] for name in ("o1", "o2"))


def test_splits_come_near_their_shares() -> None:
    episodes = {"show": {f"e{n}" for n in range(2000)}}
    found = list(assign_splits(episodes, seed=0, val_share=0.1, test_share=0.2).values())
    assert abs(found.count(Split.VAL) / 2000 - 0.1) < 0.03
    assert abs(found.count(Split.TEST) / 2000 - 0.2) < 0.03


def test_another_seed_is_another_split() -> None:
    episodes = {"show": {f"e{n}" for n in range(50)}}
    one, other = (
        assign_splits(episodes, seed=seed, val_share=0.1, test_share=0.0) for seed in (0, 1)
    )
    assert one != other


def test_a_hash_depends_on_seed_and_names_alone() -> None:
    assert hash_uniform(0, "a", "b") == hash_uniform(0, "a", "b")
    inputs = [(0, "a", "b"), (1, "a", "b"), (0, "ab"), (0, "b", "a")]
    assert len({hash_uniform(*values) for values in inputs}) == 4
    assert 0 <= hash_uniform(3, "x") < 1


def test_splits_are_those_of_the_documented_hash_on_every_machine() -> None:
    """Datasets that were split before keep their splits: the hash is a contract."""
    for show in ("a", "b"):
        for number in range(40):
            name = f"e{number}"
            text = f"7\0split\0{show}\0{name}".encode()
            position = int(hashlib.sha256(text).hexdigest(), 16) / 2**256
            expected = (
                Split.TEST if position < 0.2 else Split.VAL if position < 0.3 else Split.TRAIN
            )
            episodes = {show: {f"e{n}" for n in range(40)}}
            found = assign_splits(episodes, seed=7, val_share=0.1, test_share=0.2)
            assert found[name] == expected


@pytest.mark.parametrize("ratio", [Fraction(-1, 10), Fraction(1), Fraction(3, 2)])
def test_a_ratio_outside_of_its_range_is_an_error(ratio: Fraction) -> None:
    with pytest.raises(ValueError, match="share of composites"):
        composite_count(10, ratio)


def test_a_position_on_a_bound_belongs_to_the_next_split() -> None:
    assert _split_at(Fraction(1, 4), 0.25, 0.25) is Split.VAL
    assert _split_at(Fraction(1, 2), 0.25, 0.25) is Split.TRAIN
    assert _split_at(Fraction(0), 0.25, 0.0) is Split.VAL


@given(SEEDS, SHARES, SHARES, NAMES)
def test_a_group_is_in_one_split_and_the_others_do_not_move(
    seed: int, val: float, test: float, names: set[str]
) -> None:
    groups = {name: f"g{int(name[1:]) % 3}" for name in names if int(name[1:]) % 2}
    by_group = {groups.get(name, name) for name in names}
    alone = assign_splits({"show": by_group}, seed=seed, val_share=val, test_share=test)
    splits = assign_splits(
        {"show": names}, seed=seed, val_share=val, test_share=test, groups=groups
    )
    assert splits == {name: alone[groups.get(name, name)] for name in names}


def test_the_order_of_hashes_is_that_of_their_numbers() -> None:
    names = [f"clip-{number}" for number in range(500)]
    by_number = sorted(names, key=lambda name: hash_uniform(3, "background", name))
    assert sorted(names, key=lambda name: hash_order(3, "background", name)) == by_number
