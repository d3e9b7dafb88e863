"""Train the adapters with DeepSpeed: gradients reduced over processes, clipped, then applied.

Only the adapters are trained. DeepSpeed partitions their optimizer state and gradients (ZeRO stages
1 and 2) and, with stage 3, also the frozen weights. Checkpoint tensors are not partitioned, so
training can resume with any ZeRO stage and number of processes.
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
from mimix_core.training import optimizers
from mimix_core.training.distributed import DistributedContext
from mimix_core.wan import lora

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state per parameter; its step count is that of the run."""

_WEIGHT = "weight"


@dataclass(frozen=True)
class TrainingEngine:
    """A transformer and its adapters with DeepSpeed's engine."""

    deepspeed: Any
    transformer: Any
    adapters: tuple[tuple[str, torch.nn.Parameter], ...]
    zero_stage: int
    max_grad_norm: float

    @property
    def inner_optimizer(self) -> torch.optim.Optimizer:
        """Return the inner optimizer; with ZeRO it holds this process's partition."""
        optimizer = self.deepspeed.optimizer
        inner = optimizer if self.zero_stage == 0 else optimizer.optimizer
        assert isinstance(inner, torch.optim.Optimizer)
        return inner

    @property
    def _adamw(self) -> torch.optim.AdamW:
        assert isinstance(self.inner_optimizer, torch.optim.AdamW)
        return self.inner_optimizer


def init_engine(
    transformer: Any, settings: LoraSettings, context: DistributedContext
) -> TrainingEngine:
    """Create the engine for a transformer with adapters (``lora.attach_adapter``) on its device.

    With ZeRO stage 3 the transformer may be on the CPU: no GPU ever holds it completely.
    DeepSpeed's bf16 mode stays off, because it would also cast adapters, norms, time embedding and
    modulation. The frozen weights keep their dtypes; adapters, gradients and AdamW's state are
    fp32.
    """
    dtypes_before = {name: weight.dtype for name, weight in transformer.named_parameters()}
    adapters = tuple(lora.adapter_parameters(transformer))
    optimizer = optimizers.build_optimizer(adapters, settings)
    config = {
        "train_micro_batch_size_per_gpu": settings.micro_batch_size,
        # The number of micro batches can differ between steps; ``backward_pass`` sets boundaries.
        "gradient_accumulation_steps": 1,
        # Without ZeRO, DeepSpeed does not return the norm, so ``apply_gradients`` clips.
        "gradient_clipping": 0.0 if settings.zero_stage == 0 else settings.max_grad_norm,
        # The default is a buffer of 2 GB; the adapters need far less.
        "zero_optimization": {
            "stage": settings.zero_stage,
            "reduce_bucket_size": sum(weight.numel() for _, weight in adapters),
        },
        "steps_per_print": 2**31,
        # This timer would synchronize with the GPU twice per micro batch.
        "timers": {"throughput": {"enabled": False}},
    }
    if settings.zero_stage == 3:
        for buffer in transformer.buffers():
            buffer.data = buffer.data.to(context.device)
        deepspeed.zero.Init(module=transformer, config_dict_or_path=config, dtype=torch.float32)
    deepspeed_engine, *_ = deepspeed.initialize(
        model=transformer, optimizer=optimizer, config=config
    )
    engine = TrainingEngine(
        deepspeed_engine, transformer, adapters, settings.zero_stage, settings.max_grad_norm
    )
    _check_dtypes(engine, dtypes_before)
    return engine


def _check_dtypes(engine: TrainingEngine, before: Mapping[str, torch.dtype]) -> None:
    """Assert that DeepSpeed cast no parameters, and that fp32 parameters are fp32."""
    after = {name: weight.dtype for name, weight in engine.transformer.named_parameters()}
    cast = {name for name in after if after[name] != before.get(name)}
    assert not cast, f"DeepSpeed changed the type of {sorted(cast)[:3]}"
    fp32_modules = engine.transformer._keep_in_fp32_modules or ()
    wrong = [
        name
        for name, dtype in after.items()
        if dtype != torch.float32 and any(part in fp32_modules for part in name.split("."))
    ]
    assert not wrong, f"diffusers requires fp32 for these parameters: {wrong[:3]}"
    assert {weight.dtype for _, weight in engine.adapters} == {torch.float32}
    masters = _masters(engine)
    assert {weight.dtype for weight in masters} == {torch.float32}
    assert len(engine.inner_optimizer.param_groups) == 1


def _masters(engine: TrainingEngine) -> list[torch.Tensor]:
    """Return the tensors that AdamW updates; with ZeRO, partitions of flattened adapters."""
    if engine.zero_stage == 3:
        # DeepSpeed puts them into the optimizer only during the update.
        return list(engine.deepspeed.optimizer.fp32_partitioned_groups_flat)
    return [weight for group in engine.inner_optimizer.param_groups for weight in group["params"]]


def backward_pass(engine: TrainingEngine, loss: torch.Tensor, *, last: bool) -> None:
    """Accumulate a micro batch's gradients; after the ``last`` they are averaged over processes.

    ``loss`` is this process's part of the step's loss, times the number of processes.
    """
    engine.deepspeed.set_gradient_accumulation_boundary(last)
    engine.deepspeed.backward(loss, scale_wrt_gas=False)


def apply_gradients(engine: TrainingEngine, learning_rate: float) -> torch.Tensor:
    """Clip and apply the gradients of a complete step; return their norm before clipping."""
    for group in engine.deepspeed.optimizer.param_groups:
        group["lr"] = learning_rate
    if engine.zero_stage == 0:
        norm = torch.nn.utils.clip_grad_norm_([w for _, w in engine.adapters], engine.max_grad_norm)
        engine.deepspeed.step()
        return norm
    engine.deepspeed.step()
    return torch.as_tensor(engine.deepspeed.get_global_grad_norm())


def adapter_weights(engine: TrainingEngine) -> dict[str, torch.Tensor]:
    """Return the unpartitioned adapters by name; views, except copies for ZeRO stage 3.

    A collective call: all processes must make it.
    """
    if engine.zero_stage < 3:
        return {name: weight.detach() for name, weight in engine.adapters}
    return {name: safe_get_full_fp32_param(weight).detach() for name, weight in engine.adapters}


def checkpoint_tensors(engine: TrainingEngine) -> dict[str, torch.Tensor]:
    """Return unpartitioned adapters and moments on the CPU, named ``weight/...``, ``exp_avg/...``.

    Other optimizers than AdamW have a state of their own (``optimizers.state_tensors``). A
    collective call, possible after the first step: before it there is no state.
    """
    tensors = {f"{_WEIGHT}/{name}": value.cpu() for name, value in adapter_weights(engine).items()}
    if not isinstance(engine.inner_optimizer, torch.optim.AdamW):
        return tensors | optimizers.state_tensors(engine.inner_optimizer, engine.adapters)
    for name, weight in engine.adapters:
        for key in MOMENTS:
            if engine.zero_stage == 0:
                moment = engine._adamw.state[weight][key]
            else:
                moment = safe_get_full_optimizer_state(weight, key)
            tensors[f"{key}/{name}"] = moment.detach().cpu()
    return tensors


def load_adapters(transformer: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """Set the adapters to a checkpoint's values; call it before ``init_engine``, which copies."""
    adapters = dict(lora.adapter_parameters(transformer))
    names = {name.removeprefix(f"{_WEIGHT}/") for name in tensors if name.startswith(_WEIGHT)}
    if names != set(adapters):
        raise StageFailed("the checkpoint's adapters differ from those in the settings")
    with torch.no_grad():
        for name, weight in adapters.items():
            weight.copy_(tensors[f"{_WEIGHT}/{name}"])


def load_optimizer_state(
    engine: TrainingEngine, tensors: Mapping[str, torch.Tensor], steps: int
) -> None:
    """Set the optimizer's state to that after ``steps`` steps; call it before the first step."""
    if not isinstance(engine.inner_optimizer, torch.optim.AdamW):
        optimizers.load_state(engine.inner_optimizer, engine.adapters, tensors)
        return
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
        # DeepSpeed does this in its first step; its setters need it.
        engine.deepspeed.optimizer._lazy_init_hp_params_optimizer_state()
    for name, weight in engine.adapters:
        for key in MOMENTS:
            _set_partition(engine, weight, key, tensors[f"{key}/{name}"])


def _adamw_state(moments: dict[str, torch.Tensor], steps: int) -> dict[str, torch.Tensor]:
    return {"step": torch.tensor(float(steps)), **moments}


def _set_partition(
    engine: TrainingEngine, weight: torch.nn.Parameter, key: str, value: torch.Tensor
) -> None:
    """Set this process's partition of a parameter's moment in AdamW's state."""
    if engine.zero_stage < 3:
        safe_set_full_optimizer_state(weight, value.to(weight.device), key)
        return
    size = weight.ds_tensor.numel()  # type: ignore[attr-defined]
    begin = torch.distributed.get_rank() * size
    # The last partition is padded with zeros.
    partition = torch.zeros(size)
    part = value.flatten()[begin : begin + size]
    partition[: len(part)] = part
    safe_set_local_optimizer_state(weight, partition, key)
