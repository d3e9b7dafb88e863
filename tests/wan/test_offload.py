"""Offloaded and narrower frozen weights: what a step computes, and what is where meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings
from mimix_core.wan import fast, lora
from mimix_core.wan.fast import activation_checkpoint, offload, placement, weight_storage
from mimix_core.wan.fast.offload_plan import OffloadPlan
from tests.wan.test_fast import ALPHA, RANK, adapted, apart, loss_of, step

CPU = torch.device("cpu")
FORMATS = ("full", "int8", "nf4")


def needs(storage: str) -> None:
    if storage == "nf4":
        pytest.importorskip("bitsandbytes", reason="installed with an extra of MiMix")


def accelerated(folder: Path, plan: OffloadPlan | None = None, **asked: Any) -> Any:
    """A Wan whose offload is ``plan``; None: as the settings say."""
    model = adapted(folder)
    settings = LoraSettings(rank=RANK, alpha=ALPHA, **asked)
    with pytest.MonkeyPatch.context() as patch:
        if plan is not None:
            patch.setattr(placement, "plan_training", lambda *_: plan)
        fast.accelerate_training(model, settings)
    return model


def several_steps(model: Any, count: int = 2) -> list[Any]:
    """Losses and gradients of some steps, with a pass without gradients before and between."""
    found = []
    for _ in range(count):
        with torch.no_grad():
            found.append(loss_of(model))
            with lora.without_adapter(model):
                found.append(loss_of(model))
        loss, grads = step(model)
        found += [loss, *(grads[name].clone() for name in grads)]
        for _, weight in lora.adapter_parameters(model):
            weight.grad = None
            weight.data.mul_(0.9)
    return found


def equal(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize("budget_gb", [None, 0.0])
@pytest.mark.parametrize("inputs", [False, True])
@pytest.mark.parametrize("blocks", [0, 1, 2, 4])
def test_offload_changes_no_bit(
    pipeline_folder: Path, blocks: int, inputs: bool, budget_gb: float | None
) -> None:
    wanted = several_steps(accelerated(pipeline_folder, activation_budget_gb=budget_gb))
    model = accelerated(
        pipeline_folder, OffloadPlan(blocks, inputs), activation_budget_gb=budget_gb
    )
    assert equal(several_steps(model), wanted)
