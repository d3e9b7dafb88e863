"""Who trains on what, when: nothing twice, nothing left out, in any arrangement."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.errors import BadInput
from mimix_core.training import data
from mimix_core.training.job import Sample


def samples(count: int) -> list[Sample]:
    return [Sample(sample_id=f"s{n}", latents=Path("l"), text=Path("t")) for n in range(count)]


runs = st.fixed_dictionaries(
    {
        "count": st.integers(1, 23),
        "epochs": st.integers(1, 4),
        "micro_batch": st.integers(1, 3),
        "processes": st.integers(1, 4),
        "accumulation": st.integers(1, 4),
        "seed": st.integers(0, 5),
    }
)


@given(runs)
def test_every_sample_is_seen_once_an_epoch(run) -> None:
    batch = run["micro_batch"] * run["processes"] * run["accumulation"]
    steps = data.optimizer_steps(run["count"], run["epochs"], batch)
    seen: Counter[tuple[str, int]] = Counter()
    order: list[int] = []
    for step in range(steps):
        slots = data.global_batch(
            samples(run["count"]), step, epochs=run["epochs"], batch=batch, seed=run["seed"]
        )
        assert len(slots) == batch
        assert sum(slot.weight for slot in slots) == pytest.approx(batch)
        true = [slot for slot in slots if slot.weight]
        assert len({slot.weight for slot in true}) == 1
        seen.update((slot.sample.sample_id, slot.epoch) for slot in true)
        order += [slot.epoch for slot in true]

        shares = [
            data.share(slots, rank, run["processes"], run["micro_batch"])
            for rank in range(run["processes"])
        ]
        assert {len(share) for share in shares} == {run["accumulation"]}
        assert {len(micro) for share in shares for micro in share} == {run["micro_batch"]}
        together = Counter(slot for share in shares for micro in share for slot in micro)
        assert together == Counter(slots)
    assert seen == Counter(
        {(f"s{n}", e): 1 for n in range(run["count"]) for e in range(run["epochs"])}
    )
    assert order == sorted(order)


def test_order_changes_with_epoch_and_seed_but_not_with_how_samples_are_listed() -> None:
    first = data.epoch_order(samples(20), 0, 0)
    assert data.epoch_order(samples(20)[::-1], 0, 0) == first
    assert data.epoch_order(samples(20), 1, 0) != first
    assert data.epoch_order(samples(20), 0, 1) != first


def test_a_micro_batch_of_two_sizes_is_refused() -> None:
    with pytest.raises(BadInput, match="different sizes"):
        data.stack_latents([torch.zeros(16, 1, 2, 2), torch.zeros(16, 1, 2, 4)])
