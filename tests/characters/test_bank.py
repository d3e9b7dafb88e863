"""The character bank: vectors whose similarities are known by construction."""

from __future__ import annotations

import numpy as np
import pytest

from mimix_core.characters.bank import (
    LIMIT_SHARE,
    MIN_LIMIT,
    UNCALIBRATED_LIMIT,
    CharacterBank,
    build_bank,
)


def at(*degrees: float) -> list[np.ndarray]:
    """Unit vectors in a plane: the cosine of two is that of the angle between them."""
    return [np.array([np.cos(a), np.sin(a)], np.float32) for a in np.radians(degrees)]


def bank(**exemplars: list[np.ndarray]) -> CharacterBank:
    return build_bank(exemplars, np.zeros(2, np.float32))


def test_limits_come_from_leaving_each_exemplar_out() -> None:
    one = bank(Tom=at(0, 20, 50))
    assert one.leave_one_out("Tom") == pytest.approx(
        [np.cos(np.radians(20)), np.cos(np.radians(20)), np.cos(np.radians(30))], abs=1e-3
    )
    assert one.limit("Tom") == pytest.approx(LIMIT_SHARE * np.cos(np.radians(30)), abs=1e-3)
    assert bank(Tom=at(0, 90)).limit("Tom") == MIN_LIMIT, "exemplars without anything in common"
    assert bank(Tom=at(0)).limit("Tom") == UNCALIBRATED_LIMIT
    assert bank(Tom=at(0)).leave_one_out("Tom") == []


def test_more_exemplars_of_other_views_recognize_another_view() -> None:
    seen = np.stack(at(80))
    assert bank(Tom=at(0)).similarity("Tom", seen)[0] == pytest.approx(0.1736, abs=1e-3)
    both = bank(Tom=at(0, 70))
    assert both.similarity("Tom", seen)[0] == pytest.approx(0.9848, abs=1e-3)
    assert both.figure_similarity("Tom", seen)[0] == pytest.approx(0.1736, abs=1e-3)


def test_what_all_pictures_share_does_not_count() -> None:
    shared = np.array([10.0, 10.0], np.float32)
    features = {name: [shared + one for one in at(angle)] for name, angle in (("A", 0), ("B", 90))}
    assert build_bank(features, np.zeros(2, np.float32)).look_alikes()[0].similarity > 0.98
    assert build_bank(features, shared).look_alikes()[0].similarity == pytest.approx(0, abs=1e-5)


def test_a_pair_nearer_than_a_character_is_to_itself_alarms() -> None:
    pairs = bank(Tom=at(0, 10), Jerry=at(25, 60), Spike=at(150)).look_alikes()
    found = {(pair.first, pair.second): pair for pair in pairs}
    twins = found["Tom", "Jerry"]
    assert pairs[0] is twins
    assert twins.similarity == pytest.approx(np.cos(np.radians(15)), abs=1e-3)
    assert twins.own == pytest.approx((np.cos(np.radians(10)), np.cos(np.radians(35))), abs=1e-3)
    assert twins.alarming, "Jerry's images are 35 degrees apart, Tom and Jerry only 15"
    assert not found["Tom", "Spike"].alarming
    assert found["Jerry", "Spike"].own[1] is None
    assert build_bank({"Tom": at(0), "Nobody": []}, np.zeros(2, np.float32)).look_alikes() == []
