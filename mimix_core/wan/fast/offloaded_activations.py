"""Saved activations that wait in main memory between a block's forward and backward pass."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch

from mimix_core.wan.fast.host_memory import HostTensors, HostUse
from mimix_core.wan.fast.named_outputs import observed_outputs

_USE = HostUse("activations", "lora.offload_activations_gb")


class OffloadedActivations:
    """Run blocks some of whose saved activations wait in main memory.

    An activation is copied out as soon as it is computed. Its memory on the device is freed when
    the next block is queued, so the first to wait for the copies is the block after that. State:
    the number of the present forward pass, and the block whose activations are not freed yet.
    ``main_memory``: bytes, for whoever plans what waits.
    """

    def __init__(self, device: torch.device, main_memory: float) -> None:
        self.main_memory = main_memory
        self._host = HostTensors(device, _USE)
        self._pass = 0
        self._unreleased: int | None = None

    def run(
        self,
        index: int,
        names: Collection[str],
        block: Callable[[torch.Tensor], torch.Tensor],
        hidden_BLD: torch.Tensor,
    ) -> torch.Tensor:
        """Run a block forward that saves ``names``, among others, and prepare its backward pass.

        Blocks run from the first to the last, and then backward before the next forward pass.
        """
        if index == 0:
            self._host.begin_pass()
            self._pass += 1
            self._unreleased = None

        def save(name: str, output: torch.Tensor) -> None:
            if name in names:
                self._host.save(index, output)

        with observed_outputs(save):
            out_BLD = block(hidden_BLD)
        if self._unreleased is not None:
            self._host.release(self._unreleased)
        self._unreleased = index if names else None
        number = self._pass
        if out_BLD.requires_grad:
            # The hook runs when the gradient of the output is there, before any of the block's.
            out_BLD.register_hook(  # type: ignore[no-untyped-call]
                lambda _: self._before_backward(index, number)
            )
        return out_BLD

    def _before_backward(self, index: int, number: int) -> None:
        assert number == self._pass, "another forward pass began before this backward pass"
        self._host.restore(index)
        self._host.prefetch(index - 1)
