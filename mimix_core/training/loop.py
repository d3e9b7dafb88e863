"""The training loop of one process: DeepSpeed engine, steps, validation, export."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import deepspeed
import torch
import torch.distributed

from mimix_core.errors import StageFailed
from mimix_core.settings import LoraSettings
from mimix_core.training import data
from mimix_core.training.data import Slot
from mimix_core.training.job import Finished, Job, Progress, Stopped
from mimix_core.training.validation import held_out_losses
from mimix_core.wan import lora, objective
from mimix_core.wan.runtime import pick_device, pin_threads

LOG_FILE = "log.jsonl"


@dataclass(frozen=True)
class Place:
    """Which process this is, and where it computes."""

    rank: int
    processes: int
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step was like, over all processes."""

    train_loss: float
    grad_norm: float
    lr: float


def train(
    job: Job, tell: Callable[[Progress | Finished], None], stop_asked: Callable[[], bool]
) -> None:
    """Run ``job`` to its end: adapter and log are then in ``job.out``.

    Raises Stopped, BadInput for wrong targets or sizes, and StageFailed when the loss is no number.
    """
    settings = job.settings
    place = join(job)
    transformer = lora.load_transformer(job.transformer, place.dtype).to(place.device)
    lora.attach(transformer, settings.rank, settings.alpha, settings.targets, settings.seed)
    transformer.to(place.device)
    if settings.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    engine = start_engine(transformer, settings)
    steps = data.optimizer_steps(len(job.train), settings.epochs, settings.batch)
    curve: list[tuple[int, float]] = []
    with ExitStack() as files:
        log = files.enter_context((job.out / LOG_FILE).open("w")) if place.rank == 0 else None

        def note(record: dict[str, int | float]) -> None:
            if log is not None:
                log.write(json.dumps(record) + "\n")
                log.flush()

        for step in range(steps + 1):
            if job.val and (step % settings.validate_every == 0 or step == steps):
                found = held_out_losses(transformer, job.val, settings, place.device, place.dtype)
                for quantile, loss in enumerate(found):
                    note({"step": step, "quantile": quantile, "val_loss": loss})
                curve.append((step, sum(found) / len(found)))
            if step == steps:
                break
            if agreed(stop_asked(), place):
                raise Stopped(f"after {step} of {steps} steps")
            slots = data.global_batch(
                job.train, step, epochs=settings.epochs, batch=settings.batch, seed=settings.seed
            )
            result = optimizer_step(engine, slots, step, settings, place)
            note({"step": step + 1, **vars(result)})
            held_out = f", held-out {curve[-1][1]:.4f}" if curve else ""
            tell(
                Progress(done=step + 1, total=steps, note=f"loss {result.train_loss:.4f}{held_out}")
            )
    if place.rank == 0:
        lora.export(transformer, job.out / lora.FILE)
        tell(Finished(notes=_notes(transformer, steps, curve)))
    if place.processes > 1:
        torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def join(job: Job) -> Place:
    """Meet the other processes, by a file: no port to be taken, no network on one machine."""
    settings = job.settings
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = pick_device(settings.device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    else:
        pin_threads(settings.threads)
        torch.use_deterministic_algorithms(True)
        # Filling memory that is about to be overwritten finds bugs, at a cost.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # DeepSpeed's shared-memory all-reduce serves tensor-parallel inference only. Left on, its first
    # use on a CPU compiles C++ for a minute, and fails where there is no compiler.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(
        dist_backend="nccl" if device.type == "cuda" else "gloo",
        auto_mpi_discovery=False,
        init_method=f"file://{job.rendezvous}",
        rank=rank,
        world_size=processes,
        verbose=False,
    )
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    return Place(rank, processes, device, dtype)


def start_engine(transformer: Any, settings: LoraSettings) -> Any:
    """A DeepSpeed engine over the adapters.

    DeepSpeed's own bf16 mode stays off: it would cast adapters, norms and time embedding too. The
    frozen weights came in the right types; adapters, gradients and Adam's state are fp32.
    """
    parameters = [parameter for _, parameter in lora.trainable(transformer)]
    wrong = {p.dtype for p in parameters} - {torch.float32}
    assert not wrong, f"adapters must be fp32, found {wrong}"
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    micro_steps = settings.batch // (settings.micro_batch * settings.processes)
    engine, *_ = deepspeed.initialize(
        model=transformer,
        optimizer=optimizer,
        config={
            "train_micro_batch_size_per_gpu": settings.micro_batch,
            "gradient_accumulation_steps": micro_steps,
            "gradient_clipping": settings.clip_norm,
            "zero_optimization": {"stage": settings.zero_stage},
            "steps_per_print": 2**31,
        },
    )
    return engine


def learning_rate(step: int, settings: LoraSettings) -> float:
    """Of optimizer step ``step`` (from 0): a straight warm-up, then constant."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    return settings.learning_rate


def optimizer_step(
    engine: Any, slots: Sequence[Slot], step: int, settings: LoraSettings, place: Place
) -> StepResult:
    """One global batch: forward and backward of this process's share, then the update."""
    rate = learning_rate(step, settings)
    for group in engine.optimizer.param_groups:
        group["lr"] = rate
    total = torch.zeros((), dtype=torch.float64, device=place.device)
    for micro in data.share(slots, place.rank, place.processes, settings.micro_batch):
        loss = micro_loss(engine, micro, settings, place)
        total += loss.detach().double() * settings.micro_batch / len(slots)
        engine.backward(loss)
        engine.step()
    if place.processes > 1:
        torch.distributed.all_reduce(total)
    result = StepResult(total.item(), float(engine.get_global_grad_norm()), rate)
    if not math.isfinite(result.train_loss) or not math.isfinite(result.grad_norm):
        raise StageFailed(
            f"step {step + 1}: loss {result.train_loss}, gradient norm {result.grad_norm}; "
            "lower lora.learning_rate or lora.clip_norm"
        )
    return result


def micro_loss(
    engine: Any, slots: Sequence[Slot], settings: LoraSettings, place: Place
) -> torch.Tensor:
    """The weighted mean loss of one micro batch; DeepSpeed averages over micro steps and ranks."""
    loaded = [data.load(slot.sample) for slot in slots]
    draws = [
        objective.draw(
            settings.seed, slot.epoch, slot.sample.sample_id, latents.shape, settings.shift
        )
        for slot, (latents, _) in zip(slots, loaded, strict=True)
    ]
    loss_B = objective.losses(
        engine,
        data.stack_latents([latents for latents, _ in loaded]).to(place.device),
        objective.pad_text([text for _, text in loaded]).to(place.device),
        torch.tensor([draw.sigma for draw in draws], device=place.device),
        torch.stack([draw.noise_CTHW for draw in draws]).to(place.device),
        place.dtype,
    )
    weight_B = torch.tensor([slot.weight for slot in slots], device=place.device)
    return (weight_B * loss_B).mean()


def agreed(stop: bool, place: Place) -> bool:
    """Whether any process was asked to stop: all must stop before the same step, or they hang."""
    if place.processes == 1:
        return stop
    votes = torch.tensor(int(stop), device=place.device)
    torch.distributed.all_reduce(votes)
    return bool(votes.item())


def _notes(
    transformer: Any, steps: int, curve: Sequence[tuple[int, float]]
) -> dict[str, str | int | float]:
    notes: dict[str, str | int | float] = {
        "steps": steps,
        "adapter_parameters": sum(p.numel() for _, p in lora.trainable(transformer)),
    }
    if curve:
        notes["held_out_loss_first"] = round(curve[0][1], 6)
        notes["held_out_loss_last"] = round(curve[-1][1], 6)
    return notes
