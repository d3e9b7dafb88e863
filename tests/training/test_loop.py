"""Single steps of the loop that need no DeepSpeed process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mimix_core.errors import StageFailed
from mimix_core.settings import LoraSettings
from mimix_core.training.data import Slot
from mimix_core.training.job import Sample

pytestmark = pytest.mark.slow


class Engine:
    """Stands for DeepSpeed's engine: takes gradients, gives a norm."""

    def __init__(self, norm: float) -> None:
        self.norm, self.losses = norm, []
        self.optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)

    def backward(self, loss) -> None:
        self.losses.append(loss.item())

    def step(self) -> None:
        pass

    def get_global_grad_norm(self) -> float:
        return self.norm


def step(monkeypatch: pytest.MonkeyPatch, losses: list[float], norm: float = 1.0):
    from mimix_core.training import loop

    sample = Sample(sample_id="s", latents=Path("l"), text=Path("t"))
    slots = [Slot(sample, 0, 4 / 3)] * 3 + [Slot(sample, 0, 0.0)]
    answers = iter(losses)
    monkeypatch.setattr(
        loop,
        "micro_loss",
        lambda _engine, micro, *_: torch.tensor(sum(s.weight for s in micro) * next(answers)),
    )
    settings = LoraSettings(batch=4, learning_rate=0.5, warmup_steps=10)
    place = loop.Place(0, 1, torch.device("cpu"), torch.float32)
    engine = Engine(norm)
    return engine, loop.optimizer_step(engine, slots, 4, settings, place)


def test_a_short_batch_is_the_mean_over_its_true_samples(monkeypatch) -> None:
    engine, result = step(monkeypatch, [1.0, 2.0, 6.0, 100.0])
    assert result.train_loss == pytest.approx(3.0)
    assert sum(engine.losses) / 4 == pytest.approx(3.0)
    assert engine.optimizer.param_groups[0]["lr"] == result.lr == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("losses", "norm"),
    [([1.0, float("nan"), 1.0, 1.0], 1.0), ([1.0, 1.0, 1.0, 1.0], float("inf"))],
)
def test_a_loss_that_is_no_number_ends_the_run(monkeypatch, losses, norm) -> None:
    with pytest.raises(StageFailed, match=r"step 5: loss .* gradient norm"):
        step(monkeypatch, losses, norm)
