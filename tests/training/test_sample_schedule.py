"""Sample schedule: every sample once per epoch, however the work is distributed."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.settings import LoraSettings
from mimix_core.training import data_loader, sample_schedule
from mimix_core.training.sample_schedule import BatchItem
from mimix_core.training.worker_messages import TrainingSample
from mimix_core.wan.tensor_shards import TensorRef
from tests.training import factories

SHAPES = ((16, 3, 4, 6), (16, 3, 6, 4), (16, 3, 4, 4))


def samples(count: int, shapes: int = 1) -> list[TrainingSample]:
    return [
        TrainingSample(
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
        "micro_batch_size": st.integers(1, 3),
        "processes": st.integers(1, 4),
        "seed": st.integers(0, 5),
    }
)


def batches(run) -> list[list[BatchItem]]:
    known = samples(run["count"], run["shapes"])
    return [
        sample_schedule.plan_global_batch(
            known, step, epochs=run["epochs"], batch_size=run["batch"], seed=run["seed"]
        )
        for step in range(
            sample_schedule.count_optimizer_steps(run["count"], run["epochs"], run["batch"])
        )
    ]


@given(runs)
def test_every_sample_occurs_once_per_epoch_in_consecutive_epochs(run) -> None:
    seen = [item for items in batches(run) for item in items]
    assert Counter((item.sample.sample_id, item.epoch) for item in seen) == Counter(
        {(f"s{n}", e): 1 for n in range(run["count"]) for e in range(run["epochs"])}
    )
    assert [item.epoch for item in seen] == sorted(item.epoch for item in seen)


@given(runs)
def test_batch_weights_sum_to_one_and_levels_cover_the_range(run) -> None:
    *whole, last = batches(run)
    assert all(len(items) == run["batch"] for items in whole)
    assert 1 <= len(last) <= run["batch"]
    for items in (*whole, last):
        assert {item.weight for item in items} == {1 / len(items)}
        assert all(0 < item.quantile < 1 for item in items)
        strata = sorted(int(item.quantile * len(items)) for item in items)
        assert strata == list(range(len(items)))


@given(runs)
def test_splitting_a_batch_preserves_its_items(run) -> None:
    for items in batches(run):
        shares = sample_schedule.split_micro_batches(
            items, run["processes"], run["micro_batch_size"]
        )
        assert len(shares) == run["processes"]
        assert len({len(share) for share in shares}) == 1
        micros = [micro for share in shares for micro in share]
        assert {len(micro) for micro in micros} == {run["micro_batch_size"]}
        assert all(len({item.sample.shape for item in micro}) == 1 for micro in micros)
        together = Counter(item for micro in micros for item in micro if item.weight)
        assert together == Counter(items)
        # No process computes for nothing while others have two micro batches left.
        fewest = sum(
            -(-count // run["micro_batch_size"])
            for count in Counter(item.sample.shape for item in items).values()
        )
        assert len(shares[0]) == -(-fewest // run["processes"])


repeated_runs = st.fixed_dictionaries(
    {
        "originals": st.integers(1, 12),
        "composites": st.integers(0, 9),
        "repeats": st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 4)),
        "epochs": st.integers(1, 5),
        "batch": st.integers(1, 9),
        "seed": st.integers(0, 3),
    }
)


@given(repeated_runs)
def test_repeats_of_shows_keep_the_share_of_composites_in_every_epoch(run) -> None:
    known = [
        sample.model_copy(
            update={"show": "abc"[number % 3], "composite": number >= run["originals"]}
        )
        for number, sample in enumerate(samples(run["originals"] + run["composites"]))
    ]
    used = LoraSettings(
        epochs=run["epochs"],
        global_batch_size=run["batch"],
        show_repeats=run["repeats"],
        seed=run["seed"],
    )
    length = sample_schedule.epoch_length(known, used.show_repeats)
    steps = sample_schedule.count_optimizer_steps(length, used.epochs, run["batch"])
    items = [
        item
        for step in range(steps)
        for item in sample_schedule.plan_global_batch(
            known[:: 1 if step % 2 else -1],
            step,
            epochs=used.epochs,
            batch_size=run["batch"],
            seed=run["seed"],
            show_repeats=used.show_repeats,
        )
    ]
    assert len({(item.epoch, item.occurrence) for item in items}) == len(items), "own draws each"
    share = Fraction(run["composites"], len(known))
    total: Counter[str] = Counter()
    for epoch in range(used.epochs):
        counts = Counter(item.sample.sample_id for item in items if item.epoch == epoch)
        total.update(counts)
        assert counts.total() == length
        for sample in known:
            if not sample.composite:
                assert counts[sample.sample_id] == run["repeats"].get(sample.show, 1)
        pasted = [counts[sample.sample_id] for sample in known if sample.composite]
        originals = length - sum(pasted)
        off = abs(Fraction(sum(pasted), length) - share)
        for other in (sum(pasted) - 1, sum(pasted) + 1):
            assert other < 0 or off <= abs(Fraction(other, originals + other) - share)
        assert not pasted or max(pasted) - min(pasted) <= 1
    pasted = [total[sample.sample_id] for sample in known if sample.composite]
    assert not pasted or max(pasted) - min(pasted) <= 1, "none is preferred over the epochs"
    assert sample_schedule.count_occurrences(known, used) == total


def test_a_sample_is_repeated_with_other_noise_and_its_first_time_is_as_without_repeats(
    tmp_path: Path,
) -> None:
    [one] = factories.write_samples(tmp_path, [factories.WIDE])
    used = factories.SETTINGS.model_copy(update={"epochs": 1, "show_repeats": {"show": 3}})
    items = sample_schedule.plan_global_batch(
        [one], 0, epochs=1, batch_size=3, seed=0, show_repeats=used.show_repeats
    )
    noise = {
        item.repetition: data_loader.load_micro_batch([item], used).noise_BCTHW for item in items
    }
    [alone] = sample_schedule.plan_global_batch([one], 0, epochs=1, batch_size=1, seed=0)
    assert torch.equal(noise[0], data_loader.load_micro_batch([alone], used).noise_BCTHW)
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(noise[1], noise[2])


def test_order_and_levels_depend_on_epoch_and_seed_but_not_on_the_order_of_the_list() -> None:
    first = sample_schedule.order_epoch(samples(20), 0, 0)
    assert sample_schedule.order_epoch(samples(20)[::-1], 0, 0) == first
    assert sample_schedule.order_epoch(samples(20), 1, 0) != first
    assert sample_schedule.order_epoch(samples(20), 0, 1) != first

    def batch(step: int = 0, seed: int = 0, turn: int = 1) -> dict[str, float]:
        items = sample_schedule.plan_global_batch(
            samples(20)[::turn], step, epochs=2, batch_size=20, seed=seed
        )
        return {item.sample.sample_id: item.quantile for item in items}

    assert batch(turn=-1) == batch()
    assert batch(step=1) != batch()
    assert batch(seed=1) != batch()


def test_a_sample_covers_all_levels_over_the_epochs() -> None:
    # As many items as samples: without strata of their own keys each would keep its part.
    quantiles = [
        item.quantile
        for step in range(400)
        for item in sample_schedule.plan_global_batch(
            samples(4), step, epochs=400, batch_size=4, seed=0
        )
        if item.sample.sample_id == "s0"
    ]
    for share in (0.1, 0.5, 0.9):
        assert sum(q < share for q in quantiles) / 400 == pytest.approx(share, abs=0.08)


def test_the_mean_level_of_a_batch_varies_far_less_than_with_independent_draws() -> None:
    means = [
        statistics.fmean(item.quantile for item in items)
        for items in (
            sample_schedule.plan_global_batch(samples(16), step, epochs=200, batch_size=16, seed=0)
            for step in range(200)
        )
    ]
    free = math.sqrt(1 / 12 / 16)
    assert statistics.stdev(means) < 0.1 * free
    assert statistics.fmean(means) == pytest.approx(0.5, abs=0.002)
