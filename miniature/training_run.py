"""Where and how to train: devices, budgets in seconds, and measurements as lines of JSON."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from miniature import (
    renderer,
)
from miniature.feed import SceneBatch
from miniature.renderer import Video
from miniature.sizes import Sizes

Tensor = torch.Tensor


@dataclass(frozen=True)
class Run:
    """Where and how to train."""

    device: torch.device
    state: Path
    out: Path
    sizes: Sizes
    workers: int = 8
    scale: float = 1.0
    """Share of the usual batch sizes; tests use little."""

    def batch(self, usual: int) -> int:
        return max(2, int(usual * self.scale))

    def autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16)


def report(run: Run, what: str, **values: Any) -> None:
    """Print measurements and append them to the log."""
    rounded = {k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}
    line = json.dumps({"what": what, **rounded})
    print(line, flush=True)  # noqa: T201
    run.out.mkdir(parents=True, exist_ok=True)
    with (run.out / "pretrain.jsonl").open("a") as log:
        log.write(line + "\n")


class Clock:
    """Seconds of training in this call, against its budget."""

    def __init__(self, budget: float) -> None:
        self.budget, self.start = budget, time.monotonic()

    def elapsed(self) -> float:
        return time.monotonic() - self.start

    def progress(self) -> float:
        return min(1.0, self.elapsed() / self.budget)

    def __bool__(self) -> bool:
        return self.elapsed() < self.budget


def render(run: Run, batch: SceneBatch, *, compiled: bool = False) -> Video:
    """Render a batch on the run's device; compiled only in loops over batches of one size."""
    draw = compiled_drawing() if compiled and run.device.type == "cuda" else None
    with torch.no_grad():
        return renderer.render(batch.tensors.to(run.device), draw)


@cache
def compiled_drawing() -> Callable[..., renderer.Layer]:
    """Fuse the drawing of a figure into a few kernels."""
    drawing: Callable[..., renderer.Layer] = torch.compile(renderer.draw_one, dynamic=False)
    return drawing


def decayed(progress: float, hold: float = 0.7) -> float:
    """Return the rate's factor: 1 until ``hold``, then down to 0 in a half cosine."""
    if progress < hold:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - hold) / (1 - hold))))


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group.setdefault("full", group["lr"])
        group["lr"] = group["full"] * factor


def take_step(
    optimizers: list[torch.optim.Optimizer], parameters: list[torch.nn.Parameter]
) -> None:
    """Clip the gradients together, update with every optimizer, and forget the gradients."""
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
