"""Keep one of two experts on the GPU: the one that predicts at the present noise level."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class ExpertSwap:
    """Copies an expert's weights to a device when it is called, and frees those of the others.

    The weights stay in main memory (pinned for a GPU) and are never copied back, since generation
    does not change them. A video needs two copies, one at its start and one at the boundary.
    """

    def __init__(self, experts: Sequence[nn.Module], device: torch.device) -> None:
        self.device = device
        self.active: nn.Module | None = None
        self._stored: dict[nn.Module, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        for expert in experts:
            expert.to("cpu")
            tensors = [*expert.parameters(), *expert.buffers()]
            if device.type == "cuda":
                for tensor in tensors:
                    tensor.data = tensor.data.pin_memory()
            self._stored[expert] = [(tensor, tensor.data) for tensor in tensors]
            expert.register_forward_pre_hook(lambda module, _inputs: self.activate(module))

    def activate(self, expert: nn.Module) -> None:
        """Place ``expert`` on the device, and the one that was there in main memory."""
        if expert is self.active:
            return
        if self.active is not None:
            for tensor, stored in self._stored[self.active]:
                tensor.data = stored
        for tensor, stored in self._stored[expert]:
            tensor.data = stored.to(self.device, non_blocking=True, copy=True)
        self.active = expert
