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
from mimix_core.training.data_loader import Loader, MicroBatch, announced
from mimix_core.training.deepspeed_engine import Engine
from mimix_core.training.distributed import Place, agreed, gathered, join, seed_generators
from mimix_core.training.ema import Ema
from mimix_core.training.launcher import GRACE_SECONDS
from mimix_core.training.run_logger import Watch
from mimix_core.training.sample_schedule import Slot
from mimix_core.training.worker_messages import Finished, Job, Progress, Stopped
from mimix_core.wan import fast, flow_matching, lora, lora_export, model_registry


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step was like, over all processes.

    ``train_loss`` is what was minimised, weights and all; ``losses``: each sample's id, noise level
    and unweighted loss.
    """

    train_loss: float
    grad_norm: float
    lr: float
    losses: tuple[tuple[str, float, float], ...]


def train(
    job: Job, tell: Callable[[Progress | Finished], None], stop_asked: Callable[[], bool]
) -> None:
    """Run ``job`` to its end, from its newest checkpoint on; adapter and log are then in its out.

    Raises Stopped, BadInput for wrong targets or sizes, Transient when another process trains the
    same run, and StageFailed when a loss is no number or a checkpoint cannot be written.
    """
    settings, place = job.settings, join(job)
    steps = sample_schedule.optimizer_steps(len(job.train), settings.epochs, settings.batch)
    with ExitStack() as held:
        found = _found(job, place, held)
        first = found.step if found else 0
        running, mean = _prepare(job, place, found)
        watch = Watch.start(job, place, running.transformer, steps, first)
        if first == 0:
            watch.validate(0)
            watch.preview(0)
        loader = Loader(
            announced(job.train, range(first, steps), settings, place.rank), settings, place.device
        )
        held.callback(loader.close)
        for step in range(first, steps):
            slots = sample_schedule.global_batch(
                job.train, step, epochs=settings.epochs, batch=settings.batch, seed=settings.seed
            )
            started = time.monotonic()
            try:
                result = optimizer_step(running, slots, step, settings, place, loader, stop_asked)
            except Stopped:
                _save(job, place, running, mean, step)
                raise
            done = step + 1
            if mean is not None:
                mean.update(deepspeed_engine.weights(running), done)
            note = watch.step(done, result, time.monotonic() - started)
            if done % settings.validate_every == 0 or done == steps:
                watch.validate(done)
            if settings.preview_every and (done % settings.preview_every == 0 or done == steps):
                watch.preview(done)
            if done % settings.checkpoint_every == 0 and done < steps:
                _save(job, place, running, mean, done)
            tell(Progress(done=done, total=steps, note=note))
        _finish(job, place, running, mean, watch, tell, steps)


def _found(job: Job, place: Place, held: ExitStack) -> Checkpoint | None:
    """The newest whole checkpoint, the same in all processes. Rank 0 holds the run's folder."""
    box: list[Checkpoint | None] = [None]
    if job.checkpoints is not None and place.rank == 0:
        # Longer than a process takes to end whose starter was killed.
        held.enter_context(checkpoint.held(job.checkpoints, 2 * GRACE_SECONDS))
        box[0] = checkpoint.newest(job.checkpoints, lambda text: _say(f"warning: {text}"))
        if box[0] is not None:
            _say(f"going on after step {box[0].step}")
    if place.processes > 1:
        torch.distributed.broadcast_object_list(box, src=0, group=place.talk)
    return box[0]


def _prepare(job: Job, place: Place, found: Checkpoint | None) -> tuple[Engine, Ema | None]:
    """The transformer with its adapters as the checkpoint has them, or new ones."""
    settings = job.settings
    rules = model_registry.rules(model_registry.get(job.card.base))
    transformer = rules.load_transformer(job.transformer, place.dtype)
    lora.attach(transformer, settings.rank, settings.alpha, job.card.targets, settings.seed)
    tensors = found.state() if found else {}
    if found:
        deepspeed_engine.load_adapters(transformer, tensors)
    if settings.zero_stage < 3:
        transformer.to(place.device)
    fast.accelerate(transformer, settings)
    running = deepspeed_engine.start(transformer, settings, place)
    if found:
        deepspeed_engine.load_moments(running, tensors, found.step)
    if settings.ema_decay is None:
        return running, None
    adapters = deepspeed_engine.weights(running)
    if found:
        return running, ema.resume(settings.ema_decay, adapters, tensors)
    return running, ema.begin(settings.ema_decay, adapters)


def _save(job: Job, place: Place, running: Engine, mean: Ema | None, step: int) -> None:
    """Write a checkpoint of the run after ``step`` steps, unless there is nothing new to keep."""
    if job.checkpoints is None or step == 0:
        return
    tensors = deepspeed_engine.state(running)
    if place.rank == 0:
        tensors |= mean.state() if mean else {}
        checkpoint.write(job.checkpoints, step, tensors, job.settings.keep_checkpoints)


def learning_rate(step: int, settings: LoraSettings) -> float:
    """Of optimizer step ``step`` (from 0): a straight warm-up, then constant."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    return settings.learning_rate


def never() -> bool:
    """Nobody asks to stop."""
    return False


def optimizer_step(
    running: Engine,
    slots: Sequence[Slot],
    step: int,
    settings: LoraSettings,
    place: Place,
    loader: Loader,
    stop_asked: Callable[[], bool] = never,
) -> StepResult:
    """Optimizer step ``step`` (from 0) on a global batch, of which this process takes its share.

    The GPU is waited for once, when all its work is queued. Raises Stopped before a micro batch,
    with the adapters as they were before the step, and StageFailed when a loss is no number.
    """
    shares = sample_schedule.micro_batches(slots, place.processes, settings.micro_batch)
    mine = shares[place.rank]
    seed_generators(settings.seed, step, place)
    losses = []
    for number, micro in enumerate(mine):
        if agreed(stop_asked(), place):
            raise Stopped(f"in step {step + 1}, {number} of {len(mine)} micro batches done")
        batch = loader.take(micro).to(place.device)
        loss_B = micro_losses(running, batch, place)
        # DeepSpeed takes the mean over the processes; the weights are shares of the whole.
        loss = (batch.weight_B * loss_B).sum() * place.processes
        deepspeed_engine.backward(running, loss, last=number == len(mine) - 1)
        losses.append(torch.stack([loss_B.detach(), batch.sigma_B, batch.weight_B]))
    rate = learning_rate(step, settings)
    norm = deepspeed_engine.update(running, rate)
    return _result(shares, gathered(torch.stack(losses), place), float(norm), rate, step)


def micro_losses(running: Engine, batch: MicroBatch, place: Place) -> torch.Tensor:
    """loss_B of a micro batch, unweighted, by a pass through the engine."""
    return flow_matching.losses(
        running.deepspeed,
        batch.latents_BCTHW,
        batch.text_BLD,
        batch.sigma_B,
        batch.noise_BCTHW,
        place.dtype,
    )


def _result(
    shares: Sequence[Sequence[Sequence[Slot]]],
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
            "sample, or lower lora.learning_rate or lora.clip_norm"
        )
    return StepResult(math.fsum(parts), norm, rate, tuple(losses))


def _finish(
    job: Job,
    place: Place,
    running: Engine,
    mean: Ema | None,
    watch: Watch,
    tell: Callable[[Progress | Finished], None],
    steps: int,
) -> None:
    """Write the adapter and what belongs to it, in rank 0; all processes call it together."""
    adapters = deepspeed_engine.weights(running)
    notes = watch.finish()
    if place.rank == 0:
        alpha = job.settings.alpha
        lora_export.write(
            job.out / lora_export.FILE, lora_export.adapter(adapters, alpha), job.card
        )
        if mean is not None:
            card = job.card.model_copy(update={"weights": "ema"})
            lora_export.write(
                job.out / lora_export.EMA_FILE, lora_export.adapter(mean.mean, alpha), card
            )
        parameters = sum(weight.numel() for weight in adapters.values())
        tell(Finished(notes={"steps": steps, "adapter_parameters": parameters, **notes}))
    agreed(False, place)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
