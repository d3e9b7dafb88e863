"""The training loop of one process: optimizer steps, checkpoints, logging and export."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
import torch.distributed

from mimix_core.errors import StageFailed
from mimix_core.settings import LoraSettings
from mimix_core.training import (
    bounded_adapters,
    checkpoint,
    deepspeed_engine,
    ema,
    epoch_adapters,
    forgetting,
    objective,
    sample_schedule,
)
from mimix_core.training.checkpoint import Checkpoint
from mimix_core.training.data_loader import PrefetchLoader, micro_batch_schedule
from mimix_core.training.deepspeed_engine import TrainingEngine
from mimix_core.training.distributed import (
    DistributedContext,
    all_gather,
    any_rank,
    init_distributed,
    seed_generators,
)
from mimix_core.training.ema import EmaWeights
from mimix_core.training.initial_adapter import check_initial_adapter, load_initial_adapter
from mimix_core.training.launcher import TERMINATION_GRACE_SECONDS
from mimix_core.training.learning_rate import learning_rate_at
from mimix_core.training.run_logger import RunLogger
from mimix_core.training.sample_schedule import BatchItem
from mimix_core.training.validation import never_stop
from mimix_core.training.validation_samples import evaluation_steps
from mimix_core.training.worker_messages import (
    FinishedMessage,
    ProgressMessage,
    TrainingJob,
    TrainingStopped,
)
from mimix_core.wan import fast, lora, model_registry
from mimix_core.wan.token_routing import plan_route


@dataclass(frozen=True)
class StepResult:
    """Metrics of one optimizer step over all processes.

    ``train_loss``: the weighted loss that is minimized. ``losses``: each sample's id, noise level
    and unweighted loss. ``region_share``: the share of the minimized loss that is in characters'
    cells, over the samples with regions; None without any.
    """

    train_loss: float
    grad_norm: float
    learning_rate: float
    losses: tuple[tuple[str, float, float], ...]
    region_share: float | None = None


def train(
    job: TrainingJob,
    send: Callable[[ProgressMessage | FinishedMessage], None],
    stop_requested: Callable[[], bool],
) -> None:
    """Train ``job`` from its latest checkpoint to the end; write adapter and log to ``job.out``.

    Raises TrainingStopped, BadInput for wrong targets or sizes, Transient when another process
    trains the same run, and StageFailed when a loss is not finite or a checkpoint cannot be
    written.
    """
    settings, context = job.settings, init_distributed(job)
    length = sample_schedule.mixed_epoch_length(job.train, settings)
    steps = sample_schedule.count_optimizer_steps(
        length, settings.epochs, settings.global_batch_size
    )
    with ExitStack() as resources:
        resumed = _find_checkpoint(job, context, resources)
        start_step = resumed.step if resumed else 0
        engine, ema_weights = _prepare(job, context, resumed)
        logger = RunLogger.start(job, context, engine.transformer, steps, start_step)

        saved = sample_schedule.epoch_steps(length, settings)
        if context.rank == 0:
            epoch_adapters.check_epoch_adapters(job, [e for e in saved if saved[e] <= start_step])
            bounded_adapters.check_saved_adapters(job, logger.old_losses, start_step)
        interval = settings.validation_interval if job.val else None
        validated = evaluation_steps(steps, interval, saved.values())
        previewed = evaluation_steps(steps, settings.preview_interval, saved.values())

        def evaluate(step: int) -> None:
            """Validate and write previews where they are due and not logged yet."""
            if step in validated:
                logger.validate(step, stop_requested)
                if 0 < step < steps:
                    _save_within_bound(job, context, engine, ema_weights, logger, step)
            if step in previewed:
                logger.write_preview(step, stop_requested)

        # After a stop in the middle of a validation or of previews, those of the resumed step.
        evaluate(start_step)
        loader = PrefetchLoader(
            micro_batch_schedule(job.train, range(start_step, steps), settings, context.rank),
            settings,
            context.device,
            job.levels,
            plan_route(settings, engine.transformer.config),
        )
        resources.callback(loader.close)
        for step in range(start_step, steps):
            items = sample_schedule.plan_global_batch(
                job.train,
                step,
                epochs=settings.epochs,
                batch_size=settings.global_batch_size,
                seed=settings.seed,
                show_repeats=settings.show_repeats,
                image_ratio=settings.image_ratio,
            )
            started = time.monotonic()
            try:
                rate = learning_rate_at(step, steps, settings)
                result = optimizer_step(
                    engine, items, step, rate, settings, context, loader, stop_requested
                )
            except TrainingStopped:
                _save_checkpoint(job, context, engine, ema_weights, step)
                raise
            done = step + 1
            if ema_weights is not None:
                ema_weights.update(deepspeed_engine.adapter_weights(engine), done)
            note = logger.log_step(done, result, time.monotonic() - started)
            for epoch in (epoch for epoch, last in saved.items() if last == done):
                _keep_epoch(job, context, engine, ema_weights, logger, epoch, done)
            evaluated = done in validated or done in previewed
            # An evaluation can take as long as many steps: one that is killed costs none of them.
            if evaluated or (done % settings.checkpoint_interval == 0 and done < steps):
                _save_checkpoint(job, context, engine, ema_weights, done)
            evaluate(done)
            send(ProgressMessage(done=done, total=steps, note=note))
        _finish(job, context, engine, ema_weights, logger, send, steps, saved)


def _find_checkpoint(
    job: TrainingJob, context: DistributedContext, resources: ExitStack
) -> Checkpoint | None:
    """Find the latest complete checkpoint, the same in all processes; rank 0 locks the folder."""
    broadcast: list[Checkpoint | None] = [None]
    if job.checkpoints is not None and context.rank == 0:
        # The timeout exceeds the time that an orphaned process needs to end.
        resources.enter_context(checkpoint.lock_run(job.checkpoints, 2 * TERMINATION_GRACE_SECONDS))
        latest = checkpoint.latest_checkpoint(
            job.checkpoints, lambda text: _write_log(f"warning: {text}")
        )
        if latest is not None:
            _write_log(f"resuming after step {latest.step}")
        broadcast = [latest]
    if context.world_size > 1:
        torch.distributed.broadcast_object_list(broadcast, src=0, group=context.cpu_group)
    return broadcast[0]


def _prepare(
    job: TrainingJob, context: DistributedContext, resumed: Checkpoint | None
) -> tuple[TrainingEngine, EmaWeights | None]:
    """Build the engine and the EMA weights, from the checkpoint or newly initialized."""
    settings = job.settings
    interface = model_registry.load_interface(
        model_registry.get_backbone(job.adapter_metadata.base)
    )
    transformer = interface.load_transformer(job.transformer, context.dtype)
    initial = None
    if job.initial_adapter is not None:
        shapes = {name: weight.shape for name, weight in transformer.named_parameters()}
        initial = check_initial_adapter(
            job.initial_adapter, settings, job.adapter_metadata.targets, shapes
        )
    lora.attach_adapter(
        transformer,
        settings.rank,
        settings.alpha,
        job.adapter_metadata.targets,
        settings.seed,
        use_dora=settings.use_dora,
    )
    tensors = resumed.load_tensors() if resumed else {}
    if initial is not None:
        load_initial_adapter(transformer, initial)
    if resumed:
        deepspeed_engine.load_adapters(transformer, tensors)
    largest = max((sample.shape for sample in (*job.train, *job.val)), key=math.prod)
    fast.accelerate_training(transformer, settings, context.device, largest, _write_log)
    engine = deepspeed_engine.init_engine(transformer, settings, context)
    if resumed:
        deepspeed_engine.load_optimizer_state(engine, tensors, resumed.step)
    if settings.ema_decay is None:
        return engine, None
    adapters = deepspeed_engine.adapter_weights(engine)
    if resumed:
        return engine, ema.resume_ema(settings.ema_decay, adapters, tensors)
    return engine, ema.start_ema(settings.ema_decay, adapters)


def _keep_epoch(
    job: TrainingJob,
    context: DistributedContext,
    engine: TrainingEngine,
    ema_weights: EmaWeights | None,
    logger: RunLogger,
    epoch: int,
    done: int,
) -> None:
    """Keep and log the adapter after an epoch, which step ``done`` completed; a collective call."""
    adapters = deepspeed_engine.adapter_weights(engine)
    if context.rank == 0:
        epoch_adapters.keep_epoch_adapters(job, epoch, adapters, ema_weights)
    settings = job.settings
    length = sample_schedule.mixed_epoch_length(job.train, settings)
    before = sample_schedule.count_optimizer_steps(length, epoch - 1, settings.global_batch_size)
    steps = range(min(before + 1, done), done + 1)
    logger.log_epoch(epoch, steps, epoch_adapters.epoch_adapter_path(epoch))


def _save_within_bound(
    job: TrainingJob,
    context: DistributedContext,
    engine: TrainingEngine,
    ema_weights: EmaWeights | None,
    logger: RunLogger,
    step: int,
) -> None:
    """Save the adapter after ``step`` if old characters are within the bound; a collective call."""
    bound = job.settings.max_forgetting
    if bound is None or forgetting.last_step_within(logger.old_losses, bound) != step:
        return
    adapters = deepspeed_engine.adapter_weights(engine)
    if context.rank == 0:
        bounded_adapters.save_within_bound(job, step, adapters, ema_weights, logger.old_losses)


def _save_checkpoint(
    job: TrainingJob,
    context: DistributedContext,
    engine: TrainingEngine,
    ema_weights: EmaWeights | None,
    step: int,
) -> None:
    """Write a checkpoint of the run after ``step`` steps, unless there is nothing new to save."""
    if job.checkpoints is None or step == 0:
        return
    tensors = deepspeed_engine.checkpoint_tensors(engine)
    if context.rank == 0:
        tensors |= ema_weights.checkpoint_tensors() if ema_weights else {}
        checkpoint.write_checkpoint(job.checkpoints, step, tensors, job.settings.keep_checkpoints)


def optimizer_step(
    engine: TrainingEngine,
    items: Sequence[BatchItem],
    step: int,
    rate: float,
    settings: LoraSettings,
    context: DistributedContext,
    loader: PrefetchLoader,
    stop_requested: Callable[[], bool] = never_stop,
) -> StepResult:
    """Run optimizer step ``step`` (from 0) on this process's share of a global batch.

    ``rate``: its learning rate.
    It synchronizes with the GPU once, after all work is queued. Raises TrainingStopped before a
    micro batch, with the adapters unchanged by this step, and StageFailed for a non-finite loss.
    """
    shares = sample_schedule.split_micro_batches(
        items, context.world_size, settings.micro_batch_size
    )
    own_share = shares[context.rank]
    seed_generators(settings.seed, step, context)
    losses = []
    for number, micro in enumerate(own_share):
        if any_rank(stop_requested(), context):
            raise TrainingStopped(
                f"in step {step + 1}, {number} of {len(own_share)} micro batches done"
            )
        batch = loader.next_batch(micro).to(context.device)
        computed = objective.sample_losses(engine, batch, settings, context)
        # DeepSpeed averages over the processes; the weights sum to 1 over all of them.
        loss = (batch.weight_B * computed.objective_B).sum() * context.world_size
        deepspeed_engine.backward_pass(engine, loss, last=number == len(own_share) - 1)
        losses.append(
            torch.stack(
                [
                    computed.loss_B.detach(),
                    batch.sigma_B,
                    batch.weight_B,
                    computed.objective_B.detach(),
                    computed.inside_B,
                ]
            )
        )
    norm = deepspeed_engine.apply_gradients(engine, rate)
    return _result(shares, all_gather(torch.stack(losses), context), float(norm), rate, step)


def _result(
    shares: Sequence[Sequence[Sequence[BatchItem]]],
    gathered_M5B: Sequence[torch.Tensor],
    norm: float,
    rate: float,
    step: int,
) -> StepResult:
    """Combine the losses, noise levels and weights of all processes' micro batches."""
    losses, weighted = [], []
    inside, with_regions = [], []
    for share, values_M5B in zip(shares, gathered_M5B, strict=True):
        for micro, values_5B in zip(share, values_M5B.double().unbind(), strict=True):
            for item, values in zip(micro, values_5B.T.tolist(), strict=True):
                loss, sigma, weight, minimized, minimized_inside = values
                if item.weight:
                    losses.append((item.sample.sample_id, sigma, loss))
                    weighted.append(weight * minimized)
                    if item.sample.regions is not None:
                        inside.append(weight * minimized_inside)
                        with_regions.append(weight * minimized)
    non_finite = sorted(sample_id for sample_id, _, loss in losses if not math.isfinite(loss))
    if non_finite or not math.isfinite(norm):
        where = (
            f" in {len(non_finite)} of {len(losses)} samples, first: {non_finite[0]}"
            if non_finite
            else ""
        )
        raise StageFailed(
            f"step {step + 1}: non-finite loss (NaN or Inf){where}; gradient norm {norm}. Check "
            "the sample, or lower lora.learning_rate or lora.max_grad_norm"
        )
    # An unweighted loss has no part inside.
    total_inside = math.fsum(inside)
    region_share = total_inside / math.fsum(with_regions) if total_inside > 0 else None
    return StepResult(math.fsum(weighted), norm, rate, tuple(losses), region_share)


def _finish(
    job: TrainingJob,
    context: DistributedContext,
    engine: TrainingEngine,
    ema_weights: EmaWeights | None,
    logger: RunLogger,
    send: Callable[[ProgressMessage | FinishedMessage], None],
    steps: int,
    saved: Iterable[int],
) -> None:
    """Write adapters and logs in rank 0, with those of the epochs ``saved``; a collective call.

    Raises StageFailed if no adapter is within the bound on forgetting.
    """
    adapters = deepspeed_engine.adapter_weights(engine)
    notes = logger.finish()
    losses, bound = logger.old_losses, job.settings.max_forgetting
    written = steps if bound is None else forgetting.last_step_within(losses, bound)
    if bound is not None and written == 0:
        raise forgetting.nothing_within_bound(losses, bound)
    if context.rank == 0:
        if written < steps:
            bounded_adapters.restore_within_bound(job, written)
        else:
            final = bounded_adapters.with_forgetting(job, steps, losses) if losses else job
            epoch_adapters.write_adapters(final, job.out, adapters, ema_weights)
        if losses:
            notes |= forgetting.describe_outcome(losses, written, steps, bound)
        epoch_adapters.collect_epoch_adapters(job, saved)
        parameters = sum(weight.numel() for weight in adapters.values())
        send(FinishedMessage(notes={"steps": steps, "adapter_parameters": parameters, **notes}))
    any_rank(False, context)


def _write_log(text: str) -> None:
    sys.stderr.write(f"{text}\n")
