"""The training loop of one process: steps, checkpoints, what is seen of them, export."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
import torch.distributed

from mimix_core.errors import StageFailed
from mimix_core.settings import LoraSettings
from mimix_core.training import checkpoint, deepspeed_engine, ema, sample_schedule
from mimix_core.training.checkpoint import Checkpoint
from mimix_core.training.data_loader import MicroBatch, PrefetchLoader, micro_batch_schedule
from mimix_core.training.deepspeed_engine import TrainingEngine
from mimix_core.training.distributed import (
    DistributedContext,
    all_gather,
    any_rank,
    init_distributed,
    seed_generators,
)
from mimix_core.training.ema import Ema
from mimix_core.training.launcher import TERMINATION_GRACE_SECONDS
from mimix_core.training.run_logger import RunLogger
from mimix_core.training.sample_schedule import BatchItem
from mimix_core.training.worker_messages import (
    FinishedMessage,
    ProgressMessage,
    TrainingJob,
    TrainingStopped,
)
from mimix_core.wan import fast, flow_matching, lora, lora_export, model_registry


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step was like, over all processes.

    ``train_loss`` is what was minimised, weights and all; ``losses``: each sample's id, noise level
    and unweighted loss.
    """

    train_loss: float
    grad_norm: float
    learning_rate: float
    losses: tuple[tuple[str, float, float], ...]


def train(
    job: TrainingJob,
    tell: Callable[[ProgressMessage | FinishedMessage], None],
    stop_asked: Callable[[], bool],
) -> None:
    """Run ``job`` to its end, from its newest checkpoint on; adapter and log are then in its out.

    Raises Stopped, BadInput for wrong targets or sizes, Transient when another process trains the
    same run, and StageFailed when a loss is no number or a checkpoint cannot be written.
    """
    settings, context = job.settings, init_distributed(job)
    steps = sample_schedule.count_optimizer_steps(
        len(job.train), settings.epochs, settings.global_batch_size
    )
    with ExitStack() as held:
        found = _found(job, context, held)
        first = found.step if found else 0
        running, mean = _prepare(job, context, found)
        watch = RunLogger.start(job, context, running.transformer, steps, first)
        if first == 0:
            watch.validate(0)
            watch.write_preview(0)
        loader = PrefetchLoader(
            micro_batch_schedule(job.train, range(first, steps), settings, context.rank),
            settings,
            context.device,
        )
        held.callback(loader.close)
        for step in range(first, steps):
            slots = sample_schedule.plan_global_batch(
                job.train,
                step,
                epochs=settings.epochs,
                batch=settings.global_batch_size,
                seed=settings.seed,
            )
            started = time.monotonic()
            try:
                result = optimizer_step(running, slots, step, settings, context, loader, stop_asked)
            except TrainingStopped:
                _save(job, context, running, mean, step)
                raise
            done = step + 1
            if mean is not None:
                mean.update(deepspeed_engine.adapter_weights(running), done)
            note = watch.log_step(done, result, time.monotonic() - started)
            if done % settings.validation_interval == 0 or done == steps:
                watch.validate(done)
            if settings.preview_interval and (
                done % settings.preview_interval == 0 or done == steps
            ):
                watch.write_preview(done)
            if done % settings.checkpoint_interval == 0 and done < steps:
                _save(job, context, running, mean, done)
            tell(ProgressMessage(done=done, total=steps, note=note))
        _finish(job, context, running, mean, watch, tell, steps)


def _found(job: TrainingJob, context: DistributedContext, held: ExitStack) -> Checkpoint | None:
    """The newest whole checkpoint, the same in all processes. Rank 0 holds the run's folder."""
    box: list[Checkpoint | None] = [None]
    if job.checkpoints is not None and context.rank == 0:
        # Longer than a process takes to end whose starter was killed.
        held.enter_context(checkpoint.lock_run(job.checkpoints, 2 * TERMINATION_GRACE_SECONDS))
        box[0] = checkpoint.latest_checkpoint(
            job.checkpoints, lambda text: _say(f"warning: {text}")
        )
        if box[0] is not None:
            _say(f"going on after step {box[0].step}")
    if context.world_size > 1:
        torch.distributed.broadcast_object_list(box, src=0, group=context.cpu_group)
    return box[0]


def _prepare(
    job: TrainingJob, context: DistributedContext, found: Checkpoint | None
) -> tuple[TrainingEngine, Ema | None]:
    """The transformer with its adapters as the checkpoint has them, or new ones."""
    settings = job.settings
    interface = model_registry.load_interface(
        model_registry.get_backbone(job.adapter_metadata.base)
    )
    transformer = interface.load_transformer(job.transformer, context.dtype)
    lora.attach_adapter(
        transformer, settings.rank, settings.alpha, job.adapter_metadata.targets, settings.seed
    )
    tensors = found.load_tensors() if found else {}
    if found:
        deepspeed_engine.load_adapters(transformer, tensors)
    if settings.zero_stage < 3:
        transformer.to(context.device)
    fast.accelerate_training(transformer, settings)
    running = deepspeed_engine.init_engine(transformer, settings, context)
    if found:
        deepspeed_engine.load_moments(running, tensors, found.step)
    if settings.ema_decay is None:
        return running, None
    adapters = deepspeed_engine.adapter_weights(running)
    if found:
        return running, ema.resume_ema(settings.ema_decay, adapters, tensors)
    return running, ema.start_ema(settings.ema_decay, adapters)


def _save(
    job: TrainingJob,
    context: DistributedContext,
    running: TrainingEngine,
    mean: Ema | None,
    step: int,
) -> None:
    """Write a checkpoint of the run after ``step`` steps, unless there is nothing new to keep."""
    if job.checkpoints is None or step == 0:
        return
    tensors = deepspeed_engine.checkpoint_tensors(running)
    if context.rank == 0:
        tensors |= mean.checkpoint_tensors() if mean else {}
        checkpoint.write_checkpoint(job.checkpoints, step, tensors, job.settings.keep_checkpoints)


def warmup_learning_rate(step: int, settings: LoraSettings) -> float:
    """Of optimizer step ``step`` (from 0): a straight warm-up, then constant."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    return settings.learning_rate


def never_stop() -> bool:
    """Nobody asks to stop."""
    return False


def optimizer_step(
    running: TrainingEngine,
    slots: Sequence[BatchItem],
    step: int,
    settings: LoraSettings,
    context: DistributedContext,
    loader: PrefetchLoader,
    stop_asked: Callable[[], bool] = never_stop,
) -> StepResult:
    """Optimizer step ``step`` (from 0) on a global batch, of which this process takes its share.

    The GPU is waited for once, when all its work is queued. Raises Stopped before a micro batch,
    with the adapters as they were before the step, and StageFailed when a loss is no number.
    """
    shares = sample_schedule.split_micro_batches(
        slots, context.world_size, settings.micro_batch_size
    )
    mine = shares[context.rank]
    seed_generators(settings.seed, step, context)
    losses = []
    for number, micro in enumerate(mine):
        if any_rank(stop_asked(), context):
            raise TrainingStopped(f"in step {step + 1}, {number} of {len(mine)} micro batches done")
        batch = loader.next_batch(micro).to(context.device)
        loss_B = micro_batch_losses(running, batch, context)
        # DeepSpeed takes the mean over the processes; the weights are shares of the whole.
        loss = (batch.weight_B * loss_B).sum() * context.world_size
        deepspeed_engine.backward_pass(running, loss, last=number == len(mine) - 1)
        losses.append(torch.stack([loss_B.detach(), batch.sigma_B, batch.weight_B]))
    rate = warmup_learning_rate(step, settings)
    norm = deepspeed_engine.apply_gradients(running, rate)
    return _result(shares, all_gather(torch.stack(losses), context), float(norm), rate, step)


def micro_batch_losses(
    running: TrainingEngine, batch: MicroBatch, context: DistributedContext
) -> torch.Tensor:
    """loss_B of a micro batch, unweighted, by a pass through the engine."""
    return flow_matching.velocity_losses(
        running.deepspeed,
        batch.latents_BCTHW,
        batch.text_BLD,
        batch.sigma_B,
        batch.noise_BCTHW,
        context.dtype,
    )


def _result(
    shares: Sequence[Sequence[Sequence[BatchItem]]],
    found_M3B: Sequence[torch.Tensor],
    norm: float,
    rate: float,
    step: int,
) -> StepResult:
    """Put together what the processes found: of each micro batch losses, levels and weights."""
    losses, parts = [], []
    for share, found in zip(shares, found_M3B, strict=True):
        for micro, values in zip(share, found.double().unbind(), strict=True):
            for slot, (loss, sigma, weight) in zip(micro, values.T.tolist(), strict=True):
                if slot.weight:
                    losses.append((slot.sample.sample_id, sigma, loss))
                    parts.append(weight * loss)
    bad = sorted(sample_id for sample_id, _, loss in losses if not math.isfinite(loss))
    if bad or not math.isfinite(norm):
        of = f" in {len(bad)} of {len(losses)} samples, first {bad[0]}" if bad else ""
        raise StageFailed(
            f"step {step + 1}: the loss is no number{of}; gradient norm {norm}. Look at the "
            "sample, or lower lora.learning_rate or lora.max_grad_norm"
        )
    return StepResult(math.fsum(parts), norm, rate, tuple(losses))


def _finish(
    job: TrainingJob,
    context: DistributedContext,
    running: TrainingEngine,
    mean: Ema | None,
    watch: RunLogger,
    tell: Callable[[ProgressMessage | FinishedMessage], None],
    steps: int,
) -> None:
    """Write the adapter and what belongs to it, in rank 0; all processes call it together."""
    adapters = deepspeed_engine.adapter_weights(running)
    notes = watch.finish()
    if context.rank == 0:
        alpha = job.settings.alpha
        lora_export.write_adapter(
            job.out / lora_export.ADAPTER_FILE,
            lora_export.build_adapter(adapters, alpha),
            job.adapter_metadata,
        )
        if mean is not None:
            card = job.adapter_metadata.model_copy(update={"weights": "ema"})
            lora_export.write_adapter(
                job.out / lora_export.EMA_ADAPTER_FILE,
                lora_export.build_adapter(mean.mean, alpha),
                card,
            )
        parameters = sum(weight.numel() for weight in adapters.values())
        tell(FinishedMessage(notes={"steps": steps, "adapter_parameters": parameters, **notes}))
    any_rank(False, context)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
