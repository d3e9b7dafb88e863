"""Which composites are drawn for people to look at, and what their verdicts say of the rest."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest

from mimix_core.project.composite_review import drawn_composites, review_composites, upper_bound
from mimix_core.project.item_decisions import (
    DecisionAction,
    DecisionLedger,
    ItemDecision,
    ItemKind,
)

NAMES = [f"a-on-b-{number}" for number in range(1000)]


def decide(item: str, action: DecisionAction, seen: str = "a" * 64) -> ItemDecision:
    kind = ItemKind.COMPOSITE
    return ItemDecision(reviewer="anna", kind=kind, item=item, action=action, seen=seen)


def test_the_drawn_ones_are_the_share_and_do_not_depend_on_the_others() -> None:
    drawn = drawn_composites(NAMES, Decimal("0.2"))
    assert 160 < len(drawn) < 240
    assert set(drawn_composites(NAMES[:500], Decimal("0.2"))) == set(drawn) & set(NAMES[:500])
    assert set(drawn) < set(drawn_composites(NAMES, Decimal("0.3")))
    assert drawn_composites(NAMES, Decimal(0)) == []
    assert drawn_composites(NAMES, Decimal(1)) == sorted(NAMES)
    assert len(drawn_composites(NAMES[:3], Decimal("0.000001"))) == 1


def test_only_what_was_seen_as_it_is_counts() -> None:
    videos = dict.fromkeys(NAMES[:4], "a" * 64)
    ledger = DecisionLedger(
        [
            decide(NAMES[0], DecisionAction.APPROVE),
            decide(NAMES[1], DecisionAction.APPROVE, seen="b" * 64),
            decide("gone-on-b", DecisionAction.REJECT),
        ]
    )
    review = review_composites(videos, ledger, Decimal(1))
    assert set(review.missing) == set(NAMES[1:4])
    assert (review.approved, review.rejected) == (1, 1)


@pytest.mark.parametrize(("rejected", "total"), [(0, 20), (3, 50), (10, 40)])
def test_the_bound_is_exceeded_in_one_case_of_twenty(rejected: int, total: int) -> None:
    bound = upper_bound(rejected, total)
    draws = np.random.default_rng(0).binomial(total, bound, 200_000)
    assert (draws <= rejected).mean() == pytest.approx(0.05, abs=0.004)
    assert upper_bound(0, total) == pytest.approx(1 - 0.05 ** (1 / total))


def test_without_any_observation_nothing_is_known() -> None:
    assert upper_bound(0, 0) == 1
    assert upper_bound(5, 5) == 1
    assert math.isclose(upper_bound(0, 300), 3 / 300, rel_tol=0.01)
