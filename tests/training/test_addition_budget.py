"""How long a character is added for: never more than the allowed share of the steps."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings
from mimix_core.training.addition_budget import (
    MIN_VALIDATIONS,
    plan_budget,
    validation_interval,
)
from mimix_core.training.validation_samples import evaluation_steps


@dataclass(frozen=True)
class Sample:
    show: str = "toons"
    composite: bool = False


def samples(count: int, show: str = "toons") -> list[Sample]:
    return [Sample(show) for _ in range(count)]


@given(
    st.integers(1, 300),
    st.integers(0, 300),
    st.integers(1, 30),
    st.integers(1, 64),
    st.floats(0.01, 1),
)
def test_the_steps_are_the_most_within_the_share(
    used: int, more: int, epochs: int, batch: int, share: float
) -> None:
    lora = LoraSettings(epochs=epochs, global_batch_size=batch)
    everything = samples(used + more)
    whole = -(-(used + more) * epochs // batch)
    try:
        budget = plan_budget(samples(used), everything, lora, share)
    except BadInput:
        assert -(-used // batch) > share * whole - 1e-9
        return
    assert (budget.all_steps, budget.all_samples, budget.samples) == (whole, used + more, used)
    assert budget.steps == -(-used * budget.epochs // batch) <= share * whole
    assert budget.share == budget.steps / whole
    assert budget.epochs <= epochs
    if budget.epochs < epochs:
        assert -(-used * (budget.epochs + 1) // batch) > share * whole - 1e-9, "one more fits"


def test_repeated_shows_count_as_often_as_an_epoch_has_them() -> None:
    lora = LoraSettings(epochs=10, global_batch_size=1, show_repeats={"rare": 4})
    everything = [*samples(60), *samples(10, "rare")]
    budget = plan_budget(samples(5, "rare"), everything, lora, 0.3)
    assert (budget.samples, budget.all_samples) == (20, 100)
    assert (budget.epochs, budget.steps, budget.all_steps) == (10, 200, 1000)


def test_an_epoch_that_is_too_long_is_refused_with_what_to_do() -> None:
    lora = LoraSettings(epochs=1, global_batch_size=1)
    with pytest.raises(BadInput, match=r"one epoch of 40 .* 30% of the 100 .* are 30") as refused:
        plan_budget(samples(40), samples(100), lora, 0.3)
    assert "--replay-share" in refused.value.fix


@pytest.mark.parametrize("steps", [1, 7, 8, 100, 5000])
def test_a_short_training_is_validated_often_enough_to_go_back(steps: int) -> None:
    interval = validation_interval(steps, LoraSettings(validation_interval=50))
    assert 1 <= interval <= 50
    validated = evaluation_steps(steps, interval) - {0}
    assert len(validated) >= min(steps, MIN_VALIDATIONS)
