"""Learning rates: those of torch's schedulers after a linear warm-up, by step alone."""

from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler

from mimix_core.engine.cache_key import canonical_json
from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings
from mimix_core.training.learning_rate import check_schedule, learning_rate_at

STEPS, WARMUP, PEAK = 50, 8, 3e-4


def rates(schedule: str, warmup: int = WARMUP) -> list[float]:
    settings = LoraSettings(learning_rate=PEAK, warmup_steps=warmup, schedule=schedule)
    return [learning_rate_at(step, STEPS, settings) for step in range(STEPS)]


def torch_rates(schedule: str, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler: lr_scheduler.LRScheduler = (
        lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        if schedule == "cosine"
        else lr_scheduler.LinearLR(optimizer, start_factor=1, end_factor=0, total_iters=steps)
    )
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("warmup", [0, WARMUP])
def test_after_the_warmup_the_rate_falls_as_with_torch(schedule: str, warmup: int) -> None:
    found = rates(schedule, warmup)
    assert found[:warmup] == pytest.approx([PEAK * (n + 1) / WARMUP for n in range(warmup)])
    assert found[warmup:] == pytest.approx(torch_rates(schedule, STEPS - warmup), rel=1e-9)
    assert 0 < found[-1] < 0.05 * PEAK


def test_a_constant_rate_is_that_from_before_schedules_existed() -> None:
    assert rates("constant") == [PEAK * (n + 1) / WARMUP for n in range(WARMUP)] + [PEAK] * (
        STEPS - WARMUP
    )
    assert "schedule" not in canonical_json(LoraSettings())
    assert canonical_json(LoraSettings(schedule="linear"))["schedule"] == "linear"


def test_a_warmup_that_leaves_no_step_is_refused_where_the_rate_should_fall() -> None:
    check_schedule(9, LoraSettings(warmup_steps=8, schedule="cosine"))
    check_schedule(8, LoraSettings(warmup_steps=9))
    with pytest.raises(BadInput, match=r"warm-up takes 8 steps, but the training only has 8"):
        check_schedule(8, LoraSettings(warmup_steps=8, schedule="linear"))
