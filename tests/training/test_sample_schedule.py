"""Who trains on what, when and at which level: nothing twice, nothing left out, however shared."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.training import sample_schedule
from mimix_core.training.sample_schedule import Slot
from mimix_core.training.worker_messages import Sample
from mimix_core.wan.tensor_shards import TensorRef

SHAPES = ((16, 3, 4, 6), (16, 3, 6, 4), (16, 3, 4, 4))


def samples(count: int, shapes: int = 1) -> list[Sample]:
    return [
        Sample(
            sample_id=f"s{number}",
            show="show",
            style="cartoon",
            characters=(),
            latents=TensorRef(file=Path("l"), key="k", shape=SHAPES[number % shapes]),
            text=TensorRef(file=Path("t"), key="k", shape=(5, 32)),
        )
        for number in range(count)
    ]


runs = st.fixed_dictionaries(
    {
        "count": st.integers(1, 23),
        "shapes": st.integers(1, 3),
        "epochs": st.integers(1, 4),
        "batch": st.integers(1, 12),
        "micro_batch": st.integers(1, 3),
        "processes": st.integers(1, 4),
        "seed": st.integers(0, 5),
    }
)


def batches(run) -> list[list[Slot]]:
    known = samples(run["count"], run["shapes"])
    return [
        sample_schedule.global_batch(
            known, step, epochs=run["epochs"], batch=run["batch"], seed=run["seed"]
        )
        for step in range(
            sample_schedule.optimizer_steps(run["count"], run["epochs"], run["batch"])
        )
    ]


@given(runs)
def test_every_sample_is_seen_once_an_epoch_and_epochs_follow_each_other(run) -> None:
    seen = [slot for slots in batches(run) for slot in slots]
    assert Counter((slot.sample.sample_id, slot.epoch) for slot in seen) == Counter(
        {(f"s{n}", e): 1 for n in range(run["count"]) for e in range(run["epochs"])}
    )
    assert [slot.epoch for slot in seen] == sorted(slot.epoch for slot in seen)


@given(runs)
def test_a_batch_is_a_mean_and_covers_the_range_of_levels(run) -> None:
    *whole, last = batches(run)
    assert all(len(slots) == run["batch"] for slots in whole)
    assert 1 <= len(last) <= run["batch"]
    for slots in (*whole, last):
        assert {slot.weight for slot in slots} == {1 / len(slots)}
        assert all(0 < slot.quantile < 1 for slot in slots)
        strata = sorted(int(slot.quantile * len(slots)) for slot in slots)
        assert strata == list(range(len(slots)))


@given(runs)
def test_however_a_batch_is_shared_out_it_is_that_batch(run) -> None:
    for slots in batches(run):
        shares = sample_schedule.micro_batches(slots, run["processes"], run["micro_batch"])
        assert len(shares) == run["processes"]
        assert len({len(share) for share in shares}) == 1
        micros = [micro for share in shares for micro in share]
        assert {len(micro) for micro in micros} == {run["micro_batch"]}
        assert all(len({slot.sample.shape for slot in micro}) == 1 for micro in micros)
        together = Counter(slot for micro in micros for slot in micro if slot.weight)
        assert together == Counter(slots)
        # No process computes for nothing while others have two micro batches left.
        fewest = sum(
            -(-count // run["micro_batch"])
            for count in Counter(slot.sample.shape for slot in slots).values()
        )
        assert len(shares[0]) == -(-fewest // run["processes"])


def test_order_and_levels_change_with_epoch_and_seed_but_not_with_how_samples_are_listed() -> None:
    first = sample_schedule.epoch_order(samples(20), 0, 0)
    assert sample_schedule.epoch_order(samples(20)[::-1], 0, 0) == first
    assert sample_schedule.epoch_order(samples(20), 1, 0) != first
    assert sample_schedule.epoch_order(samples(20), 0, 1) != first

    def batch(step: int = 0, seed: int = 0, turn: int = 1) -> dict[str, float]:
        slots = sample_schedule.global_batch(
            samples(20)[::turn], step, epochs=2, batch=20, seed=seed
        )
        return {slot.sample.sample_id: slot.quantile for slot in slots}

    assert batch(turn=-1) == batch()
    assert batch(step=1) != batch()
    assert batch(seed=1) != batch()


def test_a_sample_meets_all_levels_over_the_epochs() -> None:
    # As many slots as samples: without strata of their own keys each would keep its part.
    quantiles = [
        slot.quantile
        for step in range(400)
        for slot in sample_schedule.global_batch(samples(4), step, epochs=400, batch=4, seed=0)
        if slot.sample.sample_id == "s0"
    ]
    for share in (0.1, 0.5, 0.9):
        assert sum(q < share for q in quantiles) / 400 == pytest.approx(share, abs=0.08)


def test_the_mean_level_of_a_batch_varies_far_less_than_that_of_free_draws() -> None:
    means = [
        statistics.fmean(slot.quantile for slot in slots)
        for slots in (
            sample_schedule.global_batch(samples(16), step, epochs=200, batch=16, seed=0)
            for step in range(200)
        )
    ]
    free = math.sqrt(1 / 12 / 16)
    assert statistics.stdev(means) < 0.1 * free
    assert statistics.fmean(means) == pytest.approx(0.5, abs=0.002)
