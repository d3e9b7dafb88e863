"""The samples of a validation: stratified, and no more than the training pays for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.settings import LoraSettings
from mimix_core.training.sample_schedule import count_optimizer_steps, epoch_steps
from mimix_core.training.validation import mean_interval
from mimix_core.training.validation_samples import (
    evaluation_steps,
    select_validation_samples,
    validation_share,
)
from mimix_core.training.worker_messages import TrainingSample
from mimix_core.wan.tensor_shards import TensorRef

PAPER = 52_000
"""Clips that the paper trains on."""


def samples(
    show: str, count: int, *characters: str, style: str = "cartoon"
) -> list[TrainingSample]:
    ref = TensorRef(file=Path(), key="", shape=(1,))
    return [
        TrainingSample(
            sample_id=f"{show}-{'-'.join(characters)}-{number}",
            show=show,
            style=style,
            characters=characters,
            latents=ref,
            text=ref,
        )
        for number in range(count)
    ]


def unlimited(**settings: object) -> LoraSettings:
    return LoraSettings.model_validate({"validation_share": None, **settings})


def test_shows_take_turns_and_a_smaller_choice_is_part_of_a_larger_one() -> None:
    held_out = [*samples("large", 2600), *samples("small", 20)]
    chosen = select_validation_samples(held_out, PAPER, unlimited())
    assert Counter(sample.show for sample in chosen) == {"large": 44, "small": 20}
    assert chosen == [sample for sample in held_out if sample in chosen]
    smaller = select_validation_samples(held_out, PAPER, unlimited(validation_samples=10))
    assert {s.sample_id for s in smaller} < {s.sample_id for s in chosen}
    assert Counter(sample.show for sample in smaller) == {"large": 5, "small": 5}
    other = select_validation_samples(held_out, PAPER, unlimited(validation_samples=10, seed=1))
    assert other != smaller


def test_rare_characters_are_validated_as_often_as_frequent_ones() -> None:
    held_out = [*samples("s", 500, "Tom"), *samples("s", 12, "Spike"), *samples("s", 3, "Tyke")]
    chosen = select_validation_samples(held_out, PAPER, unlimited(validation_samples=15))
    names = Counter(name for sample in chosen for name in sample.characters)
    assert names == {"Tom": 6, "Spike": 6, "Tyke": 3}


def test_at_the_papers_size_validations_take_at_most_three_per_cent() -> None:
    """64 samples x 9 levels x 83 validations would take 9 % of 260,000 training passes."""
    held_out = [*samples("a", 1500), *samples("b", 1100, style="realistic")]
    settings = LoraSettings()
    assert validation_share(PAPER, 64, settings) == pytest.approx(64 * 9 * 83 / (2 * 260_000))
    chosen = select_validation_samples(held_out, PAPER, settings)
    assert len(chosen) == 20
    assert validation_share(PAPER, len(chosen), settings) <= 0.03
    assert validation_share(PAPER, len(chosen) + 1, settings) > 0.03
    assert Counter(sample.style for sample in chosen) == {"cartoon": 10, "realistic": 10}


def test_a_small_training_validates_one_sample_of_each_show() -> None:
    held_out = [*samples("a", 5), *samples("b", 5), *samples("c", 5)]
    chosen = select_validation_samples(held_out, 20, LoraSettings())
    assert [sample.show for sample in chosen] == ["a", "b", "c"]


def test_few_samples_and_no_limit_select_all() -> None:
    held_out = samples("show", 12)
    assert select_validation_samples(held_out, 20, unlimited(validation_samples=12)) == held_out
    assert select_validation_samples(held_out, 20, unlimited(validation_samples=None)) == held_out
    assert select_validation_samples([], 20, LoraSettings()) == []


@given(
    train=st.integers(1, 3000),
    epochs=st.integers(1, 6),
    batch=st.integers(1, 100),
    interval=st.integers(1, 100),
    kept=st.integers(1, 6) | st.none(),
)
def test_validations_are_at_both_ends_at_intervals_and_where_adapters_are_kept(
    train: int, epochs: int, batch: int, interval: int, kept: int | None
) -> None:
    settings = LoraSettings(
        epochs=epochs,
        global_batch_size=batch,
        validation_interval=interval,
        epoch_adapter_interval=kept,
    )
    steps, after = count_optimizer_steps(train, epochs, batch), epoch_steps(train, settings)
    assert list(after) == [e for e in range(1, epochs) if kept is not None and e % kept == 0]
    # The first step with which a sample of the next epoch could have begun.
    assert all((step - 1) * batch < train * e <= step * batch for e, step in after.items())
    due = evaluation_steps(steps, interval, after.values())
    assert due == {
        step
        for step in range(steps + 1)
        if step in (0, steps) or step % interval == 0 or step in after.values()
    }
    assert evaluation_steps(steps, None, after.values()) == frozenset()
    passes = settings.validation_quantiles * len(due)
    assert validation_share(train, 1, settings) == passes / (2 * train * epochs)


def test_the_interval_of_the_mean_covers_it_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(1000):
        low, high = mean_interval(torch.randn(8, generator=generator, dtype=torch.float64)) or (
            0.0,
            0.0,
        )
        covered += low <= 0 <= high
    assert 930 <= covered <= 970
    assert mean_interval(torch.zeros(1)) is None
