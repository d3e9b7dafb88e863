"""Accelerate training steps of Wan's transformer without changing the result.

``accelerate_training`` is the entry point. It changes a transformer with an adapter
(``lora.attach_adapter``) in place; parameter names and the files that ``lora_export`` writes stay
the same. docs/decisions/0013-how-a-step-is-made-fast.md explains the choices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from mimix_core.engine.gpu_memory import usable_memory
from mimix_core.settings import LoraSettings
from mimix_core.wan import lora
from mimix_core.wan.fast import block_placement, fp8, layers
from mimix_core.wan.fast.activation_budget import (
    ADAPTER_COPIES,
    RESERVED_SHARE,
    WORKING_BLOCKS,
    ActivationPlan,
    BlockGroup,
    BlockShape,
    total_bytes,
)
from mimix_core.wan.fast.activation_checkpoint import checkpointed_block
from mimix_core.wan.fast.attention import select_kernel
from mimix_core.wan.fast.offload import StreamedBlocks
from mimix_core.wan.fast.offload_plan import (
    INPUTS_ON_GPU,
    OffloadPlan,
    group_blocks,
    plan_saved_activations,
)
from mimix_core.wan.fast.offloaded_activations import OffloadedActivations
from mimix_core.wan.fast.routed_blocks import RoutedBlocks
from mimix_core.wan.frozen_weights import WAN_CLASS, check_frozen_weights
from mimix_core.wan.token_routing import (
    check_token_routing,
    count_processed_tokens,
    middle_blocks,
)

_GB = 1e9


def accelerate_training(
    transformer: Any,
    settings: LoraSettings,
    device: torch.device | None = None,
    latents_CTHW: Sequence[int] | None = None,
    log: Callable[[str], None] | None = None,
) -> OffloadPlan:
    """Replace layers, compile blocks, plan offload and recomputation as ``settings`` say, in place.

    Moves ``transformer`` to ``device`` (None: it is there), except the blocks that the plan leaves
    in main memory, and except with ZeRO stage 3. Returns the plan. ``latents_CTHW``: the shape of
    the largest sample; without it nothing is offloaded that the settings do not name. Which
    activations are saved is decided in the first training pass of each shape, when the free memory
    is known; ``log`` is told which blocks, inputs and activations wait in main memory. ZeRO stage 3
    gathers weights in the forward calls of diffusers' own modules, so only complete blocks are
    recomputed there, as for architectures other than Wan. Raises BadInput for an attention kernel,
    fp8, a format of the weights, what waits in main memory, routed tokens or an adapter that is not
    supported.
    """
    wan = type(transformer).__name__ == WAN_CLASS
    check_frozen_weights(settings, type(transformer).__name__)
    check_token_routing(settings, type(transformer).__name__, transformer.config)
    if settings.zero_stage == 3 or not wan:
        if settings.zero_stage < 3 and device is not None:
            transformer.to(device)
        transformer.enable_gradient_checkpointing()
        _route_tokens(transformer, settings)
        return OffloadPlan()
    if device is None:
        device = next(transformer.parameters()).device
    head_width = transformer.config.attention_head_dim
    kernel = select_kernel(settings.attention, device, head_width, settings.precision)
    if settings.fp8:
        fp8.check_fp8_support(device, settings.precision)
    compiled = settings.compile == "on" or (settings.compile == "auto" and device.type == "cuda")
    if compiled:
        # One graph per shape and set of saved activations; bucketed samples have many shapes.
        torch._dynamo.config.recompile_limit = 128
    plan = block_placement.plan_training(transformer, settings, device, latents_CTHW)
    streamed = None
    if plan == OffloadPlan() and settings.frozen_weights == "full":
        transformer.to(device)
        for block in transformer.blocks:
            layers.replace_layers(block, kernel, settings.fp8)
            if compiled:
                # For passes without gradients; ``CheckpointedBlocks`` compiles the others itself.
                block.compile(dynamic=False)
    else:
        streamed = block_placement.place_streamed(transformer, settings, device, plan, kernel)
    main_memory = block_placement.activation_memory(settings, device)
    activations = OffloadedActivations(device, main_memory) if main_memory > 0 else None
    if log is not None and plan != OffloadPlan():
        log(plan.describe(len(transformer.blocks)))
    transformer.enable_gradient_checkpointing(
        CheckpointedBlocks(transformer, settings, compiled, plan, streamed, activations, log)
    )
    _route_tokens(transformer, settings)
    return plan


def _route_tokens(transformer: Any, settings: LoraSettings) -> None:
    """Let tokens skip the middle blocks in training passes, if the settings say so, in place."""
    if settings.routed_tokens > 0:
        transformer.enable_gradient_checkpointing(
            RoutedBlocks(transformer._gradient_checkpointing_func, transformer.blocks)
        )


@contextmanager
def routed_pass(transformer: Any, processed_BK: torch.Tensor | None) -> Iterator[None]:
    """Let the middle blocks process these tokens in a training pass; None: no tokens are routed."""
    if processed_BK is None:
        yield
        return
    with transformer._gradient_checkpointing_func.routed_pass(processed_BK):
        yield


class CheckpointedBlocks:
    """Run blocks in training, as ``transformer._gradient_checkpointing_func``.

    State: the activation plan of each shape and of the present pass, and the function of each set
    of saved activations.
    """

    def __init__(
        self,
        transformer: Any,
        settings: LoraSettings,
        compiled: bool,
        plan: OffloadPlan,
        streamed: StreamedBlocks | None,
        activations: OffloadedActivations | None,
        log: Callable[[str], None] | None,
    ) -> None:
        self.offload_plan = plan
        self._log = log
        self._streamed, self._activations = streamed, activations
        self._index = {id(block): index for index, block in enumerate(transformer.blocks)}
        self._config = transformer.config
        self._adapter_bytes = sum(
            4 * weight.numel() for _, weight in lora.adapter_parameters(transformer)
        )
        self._settings = settings
        self._compiled = compiled
        self.activation_plans: dict[BlockShape, ActivationPlan] = {}
        self._pass_plan: ActivationPlan | None = None
        self._block_functions: dict[frozenset[str], Callable[..., torch.Tensor]] = {}

    def __call__(
        self,
        block: Any,
        hidden_BLD: torch.Tensor,
        text_BMD: torch.Tensor,
        modulation: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        index = self._index[id(block)]
        if index == 0:
            self._pass_plan = self.activation_plan(hidden_BLD, text_BMD)
        assert self._pass_plan is not None
        saved = self._pass_plan.saved[index]
        if saved not in self._block_functions:
            self._block_functions[saved] = checkpointed_block(saved, self._compiled)
        function, offloaded = self._block_functions[saved], self._pass_plan.offloaded[index]

        def run(x_BLD: torch.Tensor) -> torch.Tensor:
            return function(block, x_BLD, text_BMD, modulation, rotary)

        def run_offloading(x_BLD: torch.Tensor) -> torch.Tensor:
            if self._activations is None:
                return run(x_BLD)
            return self._activations.run(index, offloaded, run, x_BLD)

        if self._streamed is None:
            return run_offloading(hidden_BLD)
        return self._streamed.run(index, run_offloading, hidden_BLD)

    def activation_plan(self, hidden_BLD: torch.Tensor, text_BMD: torch.Tensor) -> ActivationPlan:
        """Return the activation plan for a micro batch of these shapes, before the first block."""
        config = self._config
        shape = BlockShape(
            tokens=hidden_BLD.shape[1],
            text_tokens=text_BMD.shape[1],
            samples=hidden_BLD.shape[0],
            width=hidden_BLD.shape[2],
            heads=config.num_attention_heads,
            ffn_width=config.ffn_dim,
            element_bytes=hidden_BLD.element_size(),
            fp8=self._settings.fp8,
        )
        if shape not in self.activation_plans:
            groups = self._block_groups(shape)
            budget_gb = self._settings.activation_budget_gb
            budget = self._free_bytes(hidden_BLD, groups) if budget_gb is None else budget_gb * _GB
            main_memory = 0.0 if self._activations is None else self._activations.main_memory
            plan = plan_saved_activations(groups, budget, main_memory)
            self.activation_plans[shape] = plan
            if self._log is not None and plan.offloaded_bytes:
                self._log(plan.describe())
        return self.activation_plans[shape]

    def _block_groups(self, shape: BlockShape) -> list[BlockGroup]:
        """Group the blocks by the tokens that they process: all of ``shape``, or a part of them."""
        share, count = self._settings.routed_tokens, len(self._index)
        middle = middle_blocks(count) if share > 0 else range(0)
        outer = [index for index in range(count) if index not in middle]
        groups = [group_blocks(outer, shape, self.offload_plan)]
        if middle:
            part = replace(shape, tokens=count_processed_tokens(shape.tokens, share))
            groups.append(group_blocks(middle, part, self.offload_plan))
        return groups

    def _free_bytes(self, hidden_BLD: torch.Tensor, groups: Sequence[BlockGroup]) -> float:
        """Return the bytes available for saved activations.

        On a GPU: its free memory minus the blocks' inputs, working memory and the training state,
        for blocks that all process all tokens (the first group). On a CPU: unlimited, because
        models trained there are small.
        """
        if not hidden_BLD.is_cuda:
            return float("inf")
        free, total = usable_memory(hidden_BLD.device)
        count = (
            min(INPUTS_ON_GPU, len(self._index)) if self.offload_plan.inputs else len(self._index)
        )
        inputs = count * hidden_BLD.numel() * hidden_BLD.element_size()
        state = ADAPTER_COPIES * self._adapter_bytes
        work = WORKING_BLOCKS * total_bytes(groups[0].activations) + RESERVED_SHARE * total
        return free - inputs - state - work
