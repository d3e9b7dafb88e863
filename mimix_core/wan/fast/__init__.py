"""Training steps of Wan's transformer as fast as the GPU allows, with the same result.

``accelerate`` is all there is to call: it changes a transformer with an adapter (``lora.attach``)
in place, and nothing else changes: not its parameters' names, not what ``wan.export`` writes.
docs/decisions/0013-how-a-step-is-made-fast.md says what was chosen and why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings
from mimix_core.wan import lora
from mimix_core.wan.fast import fp8, layers
from mimix_core.wan.fast.activation_budget import Plan, Sizes, all_bytes, choose, places
from mimix_core.wan.fast.activation_checkpoint import runner
from mimix_core.wan.fast.attention import pick_kernel

_GB = 1e9
# What the backward pass of a block takes beside what was kept, in all that one block computes.
_WORKING_BLOCKS = 2.0
# Of the adapters, in fp32: gradients, AdamW's two moments, DeepSpeed's copies of both, and the
# buffer in which it gathers gradients.
_ADAPTER_COPIES = 6
_SPARE_SHARE = 0.03


def accelerate(transformer: Any, settings: LoraSettings) -> None:
    """Make ``transformer`` compute and recompute as ``settings`` say; call it on its device.

    What is kept is decided at the first training pass of each shape, when what is free is known.
    ZeRO stage 3 gathers layers' weights as diffusers' own modules run, so there only whole blocks
    are recomputed; so it is with a model of another kind than Wan. Raises BadInput for an attention
    kernel, fp8 or an adapter that cannot be used.
    """
    wan = type(transformer).__name__ == "WanTransformer3DModel"
    if settings.fp8 and not wan:
        raise BadInput(
            f"there are no fp8 layers for {type(transformer).__name__}",
            where="settings, key lora.fp8",
            fix="Leave it out: only Wan's layers have them.",
        )
    if settings.zero_stage == 3 or not wan:
        transformer.enable_gradient_checkpointing()
        return
    device = next(transformer.parameters()).device
    head_width = transformer.config.attention_head_dim
    kernel = pick_kernel(settings.attention, device, head_width, settings.precision)
    if settings.fp8:
        fp8.check(device, settings.precision)
    compiled = settings.compile == "on" or (settings.compile == "auto" and device.type == "cuda")
    if compiled:
        # One graph for each shape and for each kind of block; bucketed samples have many shapes.
        torch._dynamo.config.recompile_limit = 128
    for block in transformer.blocks:
        layers.swap(block, kernel, settings.fp8)
        if compiled:
            # For passes without gradients; with them, ``Blocks`` runs what it compiled.
            block.compile(dynamic=False)
    transformer.enable_gradient_checkpointing(Blocks(transformer, settings, compiled))


class Blocks:
    """Runs a block in training: ``transformer._gradient_checkpointing_func``.

    State: the plan of each shape seen, and the runner of each kind of block.
    """

    def __init__(self, transformer: Any, settings: LoraSettings, compiled: bool) -> None:
        self._number = {id(block): n for n, block in enumerate(transformer.blocks)}
        self._config = transformer.config
        self._adapter_bytes = sum(4 * weight.numel() for _, weight in lora.trainable(transformer))
        self._settings = settings
        self._compiled = compiled
        self.plans: dict[Sizes, Plan] = {}
        self._runners: dict[frozenset[str], Callable[..., torch.Tensor]] = {}

    def __call__(
        self,
        block: Any,
        hidden_BLD: torch.Tensor,
        text_BMD: torch.Tensor,
        modulation: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        kept = self.plan(hidden_BLD, text_BMD).kept[self._number[id(block)]]
        if kept not in self._runners:
            self._runners[kept] = runner(kept, self._compiled)
        if not hidden_BLD.requires_grad:
            # The first block's input: with a gradient it is the same graph as all others.
            hidden_BLD = hidden_BLD.detach().requires_grad_()
        return self._runners[kept](block, hidden_BLD, text_BMD, modulation, rotary)

    def plan(self, hidden_BLD: torch.Tensor, text_BMD: torch.Tensor) -> Plan:
        """The plan for a micro batch of these shapes."""
        config = self._config
        sizes = Sizes(
            tokens=hidden_BLD.shape[1],
            text_tokens=text_BMD.shape[1],
            samples=hidden_BLD.shape[0],
            width=hidden_BLD.shape[2],
            heads=config.num_attention_heads,
            ffn=config.ffn_dim,
            bytes_each=hidden_BLD.element_size(),
            fp8=self._settings.fp8,
        )
        if sizes not in self.plans:
            offered = places(sizes)
            budget = self._settings.saved_activations_gb
            size = self._free(hidden_BLD, all_bytes(offered)) if budget is None else budget * _GB
            self.plans[sizes] = choose(offered, config.num_layers, size)
        return self.plans[sizes]

    def _free(self, hidden_BLD: torch.Tensor, block_bytes: int) -> float:
        """Bytes to fill: what the GPU has free, less blocks' inputs, work and training's state.

        On a CPU all is kept: its memory is not this process's to fill, and its models are small.
        """
        if not hidden_BLD.is_cuda:
            return float("inf")
        free, total = torch.cuda.mem_get_info(hidden_BLD.device)
        held = torch.cuda.memory_reserved(hidden_BLD.device)
        used = torch.cuda.memory_allocated(hidden_BLD.device)
        inputs = len(self._number) * hidden_BLD.numel() * hidden_BLD.element_size()
        state = _ADAPTER_COPIES * self._adapter_bytes
        work = _WORKING_BLOCKS * block_bytes + _SPARE_SHARE * total
        return free + held - used - inputs - state - work
