"""A training of few optimizer steps warns before it begins: the defaults are for many clips."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.domain.library import Library
from mimix_core.engine.store import Store
from mimix_core.project.workspace import Workspace
from mimix_core.settings import Config, LoraSettings
from tasks import training
from tasks.base import Run
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
def test_a_training_of_few_steps_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: dict[str, object], said: str | None
) -> None:
    (tmp_path / "transformer").mkdir()
    inputs = factories.stage_inputs(tmp_path / "inputs", tmp_path / "transformer")
    settings = LoraSettings.model_validate(lora)
    config = Config(library=tmp_path / "library.yaml", workspace=tmp_path, lora=settings)
    store = Store(tmp_path / "store")
    run = Run(Workspace(config, Library.model_construct(shows=()), store, ()))
    warnings: list[str] = []
    monkeypatch.setattr(run.console, "warn", warnings.append)
    training._warn_of_few_steps(run, inputs.dataset, settings)
    assert len(warnings) == (said is not None)
    assert said is None or (said in warnings[0] and "lora.global_batch_size" in warnings[0])
