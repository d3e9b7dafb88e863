"""A training of few optimizer steps is noticed: the defaults are for many clips."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.settings import LoraSettings
from mimix_core.training.few_steps import describe_few_steps
from tests.training import factories


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ({}, "only 1 optimizer steps in all (12 samples x 5 epochs, 64 samples a step)"),
        ({"image_ratio": 0.5, "show_repeats": {"show": 4}}, "only 6 optimizer steps in all (72 s"),
        ({"epochs": 10, "global_batch_size": 2}, "only 60 optimizer steps"),
        ({"epochs": 20, "global_batch_size": 2}, None),
    ],
)
def test_a_training_of_few_steps_is_described(
    tmp_path: Path, lora: dict[str, object], said: str | None
) -> None:
    (tmp_path / "transformer").mkdir()
    inputs = factories.stage_inputs(tmp_path / "inputs", tmp_path / "transformer")
    found = describe_few_steps(inputs.dataset.path, LoraSettings.model_validate(lora))
    assert (found is None) == (said is None)
    assert said is None or (found and said in found and "lora.global_batch_size" in found)
