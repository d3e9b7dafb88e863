from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from mimix_core.settings import DatasetSettings
from mimix_core.stages.dataset.splits import Split, assign_splits, composites_for, draw

SHARES = st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.45])
SETTINGS = st.builds(DatasetSettings, val_share=SHARES, test_share=SHARES, seed=st.integers(0, 50))
NAMES = st.sets(st.sampled_from([f"e{n}" for n in range(30)]), min_size=1)


@given(st.integers(0, 3000), st.fractions(0, Fraction(99, 100), max_denominator=1000))
def test_no_other_count_is_nearer_to_the_ratio(originals: int, ratio: Fraction) -> None:
    count = composites_for(originals, ratio)
    if originals == 0:
        assert count == 0
        return
    error = abs(Fraction(count, originals + count) - ratio)
    for other in (count - 1, count + 1):
        if other >= 0:
            assert abs(Fraction(other, originals + other) - ratio) >= error


def test_the_papers_ratios_are_exact_where_they_can_be() -> None:
    wanted = {"0": 0, "0.05": 100, "0.10": 211, "0.20": 475}
    assert {r: composites_for(1900, Fraction(r)) for r in wanted} == wanted


@given(SETTINGS, NAMES)
def test_every_show_is_trained_on_and_validated(settings: DatasetSettings, ids: set[str]) -> None:
    splits = assign_splits({"show": ids}, settings)
    assert set(splits) == ids
    found = list(splits.values())
    assert Split.TRAIN in found
    if len(ids) > 1 and settings.val_share > 0:
        assert Split.VAL in found
    if settings.val_share == 0:
        assert Split.VAL not in found
    if settings.test_share == 0:
        assert Split.TEST not in found
    if len(ids) == 1:
        assert found == [Split.TRAIN]


@given(SETTINGS, NAMES)
def test_a_new_episode_does_not_reshuffle_the_others(
    settings: DatasetSettings, ids: set[str]
) -> None:
    before = assign_splits({"show": ids, "other": {"o1", "o2"}}, settings)
    after = assign_splits({"show": {*ids, "new"}, "other": {"o1", "o2"}}, settings)
    assert sum(after[name] is not before[name] for name in before) <= 2
    assert all(after[name] is before[name] for name in ("o1", "o2"))


def test_splits_come_near_their_shares() -> None:
    settings = DatasetSettings(val_share=0.1, test_share=0.2)
    found = list(assign_splits({"show": {f"e{n}" for n in range(2000)}}, settings).values())
    assert abs(found.count(Split.VAL) / 2000 - 0.1) < 0.03
    assert abs(found.count(Split.TEST) / 2000 - 0.2) < 0.03


def test_another_seed_is_another_split() -> None:
    episodes = {"show": {f"e{n}" for n in range(50)}}
    assert assign_splits(episodes, DatasetSettings(seed=0)) != assign_splits(
        episodes, DatasetSettings(seed=1)
    )


def test_a_draw_depends_on_seed_and_names_alone() -> None:
    assert draw(0, "a", "b") == draw(0, "a", "b")
    assert len({draw(0, "a", "b"), draw(1, "a", "b"), draw(0, "ab"), draw(0, "b", "a")}) == 4
    assert 0 <= draw(3, "x") < 1
