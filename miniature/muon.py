"""Muon over groups of matrices of one shape: a step takes a few launches, not hundreds.

``torch.optim.Muon`` takes one matrix at a time, which at this size costs as much as the arithmetic,
and no convolutions. Here a convolution's weight is a matrix of one row for each output channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

Tensor = torch.Tensor

_COEFFICIENTS = (3.4445, -4.775, 2.0315)
_ITERATIONS = 5


class GroupedMuon(torch.optim.Optimizer):
    """Step along orthogonalized momentum, scaled so that AdamW's rates fit."""

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(
            list(parameters), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        if closure is not None:
            raise ValueError("GroupedMuon takes no closure; compute gradients before step()")
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[torch.nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    rows = parameter.shape[0]
                    shapes.setdefault((rows, parameter.numel() // rows), []).append(parameter)
            for shape, parameters in shapes.items():
                self._step_shape(group, shape, parameters)

    def _step_shape(
        self, group: dict[str, Any], shape: tuple[int, int], parameters: list[torch.nn.Parameter]
    ) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        beta = group["momentum"]
        torch._foreach_lerp_(momenta, gradients, 1 - beta)
        ahead = torch._foreach_lerp(gradients, momenta, beta)
        stacked = torch.stack([update.reshape(shape) for update in ahead])
        rate = group["lr"]
        steps = orthogonalize(stacked) * (-rate * 0.2 * max(shape) ** 0.5)
        torch._foreach_mul_([*parameters], 1 - rate * group["weight_decay"])
        for parameter, step in zip(parameters, steps.unbind(0), strict=True):
            parameter.add_(step.reshape(parameter.shape))


def orthogonalize(matrices_NAB: Tensor) -> Tensor:
    """Push all singular values towards 1 by Newton-Schulz iterations in bf16."""
    a, b, c = _COEFFICIENTS
    tall = matrices_NAB.shape[-2] > matrices_NAB.shape[-1]
    x = matrices_NAB.mT if tall else matrices_NAB
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    steps: Tensor = (x.mT if tall else x).to(matrices_NAB.dtype)
    return steps
