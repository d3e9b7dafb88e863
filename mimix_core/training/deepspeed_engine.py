"""DeepSpeed over the adapters: gradients summed over processes, clipped, and applied by AdamW.

Only the adapters are trained, so DeepSpeed shares out their gradients and optimizer state (ZeRO
stages 1 and 2) and, with stage 3, the frozen weights too. What is saved of it has no trace of how
it was shared out: any stage and number of processes can go on with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import deepspeed
import torch
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_optimizer_state,
    safe_set_local_optimizer_state,
)

from mimix_core.errors import StageFailed
from mimix_core.settings import LoraSettings
from mimix_core.training.distributed import DistributedContext
from mimix_core.wan import lora

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of each parameter; its count of steps is the run's own."""

_WEIGHT = "weight"


@dataclass(frozen=True)
class TrainingEngine:
    """A transformer with its adapters, ready to be trained."""

    deepspeed: Any
    transformer: Any
    adapters: tuple[tuple[str, torch.nn.Parameter], ...]
    zero_stage: int
    max_grad_norm: float

    @property
    def _adamw(self) -> torch.optim.AdamW:
        """The optimizer itself; with ZeRO it works on this process's share."""
        optimizer = self.deepspeed.optimizer
        adamw = optimizer if self.zero_stage == 0 else optimizer.optimizer
        assert isinstance(adamw, torch.optim.AdamW)
        return adamw


def init_engine(
    transformer: Any, settings: LoraSettings, context: DistributedContext
) -> TrainingEngine:
    """An engine over the adapters of ``transformer`` (``lora.attach``), which is on its device.

    With ZeRO stage 3 it may be on the CPU: no GPU ever holds it whole. DeepSpeed's bf16 mode stays
    off: it would cast adapters, norms, time embedding and modulation too. The frozen weights came
    in their types and keep them; adapters, gradients and AdamW's state are fp32.
    """
    before = {name: weight.dtype for name, weight in transformer.named_parameters()}
    adapters = tuple(lora.adapter_parameters(transformer))
    optimizer = torch.optim.AdamW(
        [weight for _, weight in adapters],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    config = {
        "train_micro_batch_size_per_gpu": settings.micro_batch_size,
        # How many micro batches a step has is told at each one: it can differ between steps.
        "gradient_accumulation_steps": 1,
        # Without ZeRO, DeepSpeed clips but does not tell the norm: ``update`` does both.
        "gradient_clipping": 0.0 if settings.zero_stage == 0 else settings.max_grad_norm,
        # Its default is a buffer of 2 GB; the adapters need far less.
        "zero_optimization": {
            "stage": settings.zero_stage,
            "reduce_bucket_size": sum(weight.numel() for _, weight in adapters),
        },
        "steps_per_print": 2**31,
        # It waits for the GPU twice at every micro batch.
        "timers": {"throughput": {"enabled": False}},
    }
    if settings.zero_stage == 3:
        for buffer in transformer.buffers():
            buffer.data = buffer.data.to(context.device)
        deepspeed.zero.Init(module=transformer, config_dict_or_path=config, dtype=torch.float32)
    started, *_ = deepspeed.initialize(model=transformer, optimizer=optimizer, config=config)
    engine = TrainingEngine(
        started, transformer, adapters, settings.zero_stage, settings.max_grad_norm
    )
    _check_types(engine, before)
    return engine


def _check_types(engine: TrainingEngine, before: Mapping[str, torch.dtype]) -> None:
    """That DeepSpeed cast nothing, and that what must be fp32 is."""
    after = {name: weight.dtype for name, weight in engine.transformer.named_parameters()}
    cast = {name for name in after if after[name] != before.get(name)}
    assert not cast, f"DeepSpeed changed the type of {sorted(cast)[:3]}"
    kept = engine.transformer._keep_in_fp32_modules or ()
    low = [
        name
        for name, dtype in after.items()
        if dtype != torch.float32 and any(part in kept for part in name.split("."))
    ]
    assert not low, f"diffusers keeps these in fp32, and they are not: {low[:3]}"
    assert {weight.dtype for _, weight in engine.adapters} == {torch.float32}
    masters = _masters(engine)
    assert {weight.dtype for weight in masters} == {torch.float32}
    assert len(engine._adamw.param_groups) == 1


def _masters(engine: TrainingEngine) -> list[torch.Tensor]:
    """The tensors that AdamW updates; with ZeRO each is this process's share of many adapters."""
    if engine.zero_stage == 3:
        # DeepSpeed puts them into the optimizer only while it updates them.
        return list(engine.deepspeed.optimizer.fp32_partitioned_groups_flat)
    return [weight for group in engine._adamw.param_groups for weight in group["params"]]


def backward_pass(engine: TrainingEngine, loss: torch.Tensor, *, last: bool) -> None:
    """Add this micro batch's gradients; after the step's ``last`` they are averaged over processes.

    ``loss`` is this process's part of the step's loss, times the number of processes.
    """
    engine.deepspeed.set_gradient_accumulation_boundary(last)
    engine.deepspeed.backward(loss, scale_wrt_gas=False)


def apply_gradients(engine: TrainingEngine, learning_rate: float) -> torch.Tensor:
    """Clip and apply the gradients of a whole step; gives their norm before clipping."""
    for group in engine.deepspeed.optimizer.param_groups:
        group["lr"] = learning_rate
    if engine.zero_stage == 0:
        norm = torch.nn.utils.clip_grad_norm_([w for _, w in engine.adapters], engine.max_grad_norm)
        engine.deepspeed.step()
        return norm
    engine.deepspeed.step()
    return torch.as_tensor(engine.deepspeed.get_global_grad_norm())


def adapter_weights(engine: TrainingEngine) -> dict[str, torch.Tensor]:
    """The adapters, whole, by name; all processes call it together. Not copies unless ZeRO is 3."""
    if engine.zero_stage < 3:
        return {name: weight.detach() for name, weight in engine.adapters}
    return {name: safe_get_full_fp32_param(weight).detach() for name, weight in engine.adapters}


def checkpoint_tensors(engine: TrainingEngine) -> dict[str, torch.Tensor]:
    """Adapters and moments, whole, on the CPU, named ``weight/...``, ``exp_avg/...``.

    All processes call it together, after at least one step: before, AdamW has no moments.
    """
    found = {f"{_WEIGHT}/{name}": value.cpu() for name, value in adapter_weights(engine).items()}
    for name, weight in engine.adapters:
        for key in MOMENTS:
            if engine.zero_stage == 0:
                moment = engine._adamw.state[weight][key]
            else:
                moment = safe_get_full_optimizer_state(weight, key)
            found[f"{key}/{name}"] = moment.detach().cpu()
    return found


def load_adapters(transformer: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give the adapters the values in a state; before ``start``, which makes copies of them."""
    adapters = dict(lora.adapter_parameters(transformer))
    theirs = {name.removeprefix(f"{_WEIGHT}/") for name in tensors if name.startswith(_WEIGHT)}
    if theirs != set(adapters):
        raise StageFailed("the checkpoint is of other adapters than the settings name")
    with torch.no_grad():
        for name, weight in adapters.items():
            weight.copy_(tensors[f"{_WEIGHT}/{name}"])


def load_moments(engine: TrainingEngine, tensors: Mapping[str, torch.Tensor], steps: int) -> None:
    """Set AdamW to what it was after ``steps`` steps; before this engine's first."""
    adamw = engine._adamw
    if engine.zero_stage == 0:
        for name, weight in engine.adapters:
            adamw.state[weight] = _adamw_state(
                {key: tensors[f"{key}/{name}"].to(weight.device) for key in MOMENTS}, steps
            )
        return
    for flat in _masters(engine):
        adamw.state[flat] = _adamw_state({key: torch.zeros_like(flat) for key in MOMENTS}, steps)
    if engine.zero_stage < 3:
        # DeepSpeed does this in its first step; only then do its setters find the moments.
        engine.deepspeed.optimizer._lazy_init_hp_params_optimizer_state()
    for name, weight in engine.adapters:
        for key in MOMENTS:
            _set_share(engine, weight, key, tensors[f"{key}/{name}"])


def _adamw_state(moments: dict[str, torch.Tensor], steps: int) -> dict[str, torch.Tensor]:
    return {"step": torch.tensor(float(steps)), **moments}


def _set_share(
    engine: TrainingEngine, weight: torch.nn.Parameter, key: str, value: torch.Tensor
) -> None:
    """Put this process's share of a parameter's moment where AdamW finds it."""
    if engine.zero_stage < 3:
        safe_set_full_optimizer_state(weight, value.to(weight.device), key)
        return
    share = weight.ds_tensor.numel()  # type: ignore[attr-defined]
    begin = torch.distributed.get_rank() * share
    # The last share is filled up with zeros.
    mine = torch.zeros(share)
    part = value.flatten()[begin : begin + share]
    mine[: len(part)] = part
    safe_set_local_optimizer_state(weight, mine, key)
