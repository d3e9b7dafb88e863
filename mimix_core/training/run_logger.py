"""What is seen of a training run: its losses, its speed, its previews, and where they go.

Rank 0 writes, into the run's own folder, which outlives an attempt that ends early:

``log.jsonl``
    What the result is made of: losses. The same run gives the same bytes; it is copied beside the
    adapter in the end. Records by kind, each with its ``step`` (optimizer steps done):
    ``train_loss, grad_norm, lr, style, character``: one optimizer step;
    ``quantile, val_loss``: held-out loss at one of the fixed noise levels, the least noise first;
    ``held_out_loss, style, character``: the mean over all levels, and of the same losses by group;
    ``preview, prompt, seed, frames, width, height``: a video, relative to the folder.
    ``style`` and ``character`` map a name to ``{"loss", "samples"}``.
``speed.jsonl``
    What depends on the clock and stays out of the result: ``seconds, tokens_per_second, memory_gb``
    of each step, and ``mfu`` where the device's peak is known.
"""

from __future__ import annotations

import math
import shutil
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
import torch.distributed

from mimix_core.engine import jsonl_log
from mimix_core.engine.jsonl_log import JsonlLog, Record
from mimix_core.errors import StageFailed
from mimix_core.training import previews, throughput, trackers, validation
from mimix_core.training.trackers import Tracker
from mimix_core.training.worker_messages import TrainingJob, TrainingSample
from mimix_core.wan import model_registry

if TYPE_CHECKING:
    from mimix_core.training.distributed import DistributedContext

LOG_FILE = "log.jsonl"
SPEED_FILE = "speed.jsonl"
_RECENT_STEPS = 20
_T = TypeVar("_T")


class StepMetrics(Protocol):
    """One optimizer step over all processes; ``losses``: (sample id, noise level, loss) each."""

    @property
    def train_loss(self) -> float: ...
    @property
    def grad_norm(self) -> float: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def losses(self) -> Sequence[tuple[str, float, float]]: ...


@dataclass
class RunLogger:
    """One run as one process sees it. Steps are counted as done: 0 before the first."""

    job: TrainingJob
    context: DistributedContext
    transformer: Any
    total_steps: int
    # Mean held-out loss by step, and the steps that were previewed.
    held_out_losses: dict[int, float]
    previewed_steps: set[int]
    # None in all processes but rank 0; no ``speed`` without a folder that outlives the attempt.
    loss_log: JsonlLog | None
    speed_log: JsonlLog | None
    trackers: Sequence[Tracker]
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT_STEPS))
    _pipeline: Any = None
    _samples: dict[str, TrainingSample] = field(init=False)

    def __post_init__(self) -> None:
        self._samples = {sample.sample_id: sample for sample in self.job.train}

    @classmethod
    def start(
        cls,
        job: TrainingJob,
        context: DistributedContext,
        transformer: Any,
        total_steps: int,
        start_step: int = 0,
    ) -> RunLogger:
        """Begin, or go on after ``start_step`` steps: what the log says beyond them is dropped.

        Raises BadInput when a tracker cannot run, StageFailed when the log of the steps so far is
        not whole.
        """
        log, speed = None, None
        kept: list[dict[str, Any]] = []
        found: list[Tracker] = []
        if context.rank == 0:
            kept = _kept(job, start_step)
            log = JsonlLog(_folder(job) / LOG_FILE, kept)
            _forget_previews(_folder(job), kept)
            if job.log_folder is not None:
                speed = _speed(job.log_folder, start_step)
                found = trackers.start_trackers(job.settings, job.log_folder, start_step)
        curve = {r["step"]: r["held_out_loss"] for r in kept if "held_out_loss" in r}
        shown = {r["step"] for r in kept if "preview" in r}
        curve, shown = _shared((curve, shown), context)
        return cls(job, context, transformer, total_steps, curve, shown, log, speed, found)

    def log_step(self, step: int, result: StepMetrics, seconds: float) -> str:
        """Take down the optimizer step that was the ``step``-th; gives the note on progress."""
        self._recent.append(seconds)
        if self.loss_log is not None:
            seen = [self._samples[sample_id] for sample_id, _, _ in result.losses]
            losses = [loss for _, _, loss in result.losses]
            record = {
                "step": step,
                "train_loss": result.train_loss,
                "grad_norm": result.grad_norm,
                "lr": result.learning_rate,
                **_groups(seen, losses),
            }
            self.loss_log.append(record)
            numbers = {
                "loss/train": result.train_loss,
                "gradient norm": result.grad_norm,
                "learning rate": result.learning_rate,
                **_flat("train", record),
            }
            if self.speed_log is not None:
                pace = self._pace(seen, seconds)
                self.speed_log.append({"step": step, **pace})
                numbers |= {f"speed/{name}": value for name, value in pace.items()}
            self._track(step, numbers)
        return self._note(step, result.train_loss)

    def validate(self, step: int) -> float | None:
        """The mean held-out loss after ``step`` steps; None when nothing is held out.

        All processes call it together. Raises StageFailed when a loss is no number.
        """
        if not self.job.val or step in self.held_out_losses:
            return self.held_out_losses.get(step)
        settings, context = self.job.settings, self.context
        loss_SQ = validation.validation_losses(self.transformer, self.job.val, settings, context)
        if not torch.isfinite(loss_SQ).all():
            raise StageFailed(f"the held-out loss after {step} steps is no number")
        self.held_out_losses[step] = float(loss_SQ.mean())
        if self.loss_log is not None:
            levels = loss_SQ.mean(dim=0).tolist()
            record = {
                "step": step,
                "held_out_loss": self.held_out_losses[step],
                **_groups(self.job.val, loss_SQ.mean(dim=1).tolist()),
            }
            self.loss_log.append(
                *(
                    {"step": step, "quantile": index, "val_loss": loss}
                    for index, loss in enumerate(levels)
                ),
                record,
            )
            numbers = {f"held out/level {index + 1}": loss for index, loss in enumerate(levels)}
            self._track(
                step,
                {
                    "loss/held out": self.held_out_losses[step],
                    **numbers,
                    **_flat("held out", record),
                },
            )
        return self.held_out_losses[step]

    def write_preview(self, step: int) -> None:
        """Videos of the fixed prompts by the adapter as it is; all processes call it together.

        After 0 steps they show the bare backbone. Does nothing for a step that the log has already.
        """
        preview, context, settings = self.job.preview, self.context, self.job.settings
        if preview is None or step in self.previewed_steps:
            return
        if self._pipeline is None:
            self._pipeline = previews.build_preview_pipeline(
                self.transformer, preview, context.device
            )
        folder = _folder(self.job)
        previews.write_previews(
            self._pipeline,
            preview,
            settings,
            folder,
            step,
            rank=context.rank,
            processes=context.world_size,
        )
        self.previewed_steps.add(step)
        if context.world_size > 1:
            torch.distributed.barrier(group=context.cpu_group)
        if self.loss_log is not None:
            for number, prompt in enumerate(settings.preview_prompts):
                name = previews.preview_path(step, number)
                self.loss_log.append(
                    {
                        "step": step,
                        "preview": name,
                        "prompt": prompt,
                        "seed": previews.preview_seed(settings, number),
                        "frames": settings.preview_num_frames,
                        "width": settings.preview_width,
                        "height": settings.preview_height,
                    }
                )
                for tracker in self.trackers:
                    tracker.log_video(step, f"preview/{number}", folder / name)

    def finish(self) -> dict[str, str | int | float]:
        """Put log and previews beside the result; gives the notes for the stage's record."""
        if self.loss_log is not None:
            self.loss_log.close()
            if self.job.log_folder is not None:
                shutil.copyfile(self.job.log_folder / LOG_FILE, self.job.out / LOG_FILE)
                if self.previewed_steps:
                    made = previews.PREVIEW_FOLDER
                    shutil.copytree(
                        self.job.log_folder / made, self.job.out / made, dirs_exist_ok=True
                    )
        if self.speed_log is not None:
            self.speed_log.close()
        for tracker in self.trackers:
            tracker.close()
        notes: dict[str, str | int | float] = {}
        if self.held_out_losses:
            notes["held_out_loss_first"] = round(self.held_out_losses[min(self.held_out_losses)], 6)
            notes["held_out_loss_last"] = round(self.held_out_losses[max(self.held_out_losses)], 6)
        return notes

    def _track(self, step: int, values: Mapping[str, float]) -> None:
        for tracker in self.trackers:
            tracker.log_scalars(step, values)

    def _pace(self, seen: Sequence[TrainingSample], seconds: float) -> dict[str, float]:
        """The step's speed. Tokens are those of the videos, without the text's.

        Of another transformer than Wan's neither tokens nor FLOPs are known.
        """
        config, card, device = (
            self.transformer.config,
            self.job.adapter_metadata,
            self.context.device,
        )
        pace = {
            "seconds": round(seconds, 4),
            "memory_gb": round(throughput.peak_memory_gb(device), 3),
        }
        if not throughput.has_known_flops(model_registry.get_backbone(card.base)):
            return pace
        tokens = sum(throughput.count_video_tokens(config, sample.shape) for sample in seen)
        pace["tokens_per_second"] = round(tokens / seconds, 1)
        peak = throughput.peak_flops(device)
        if peak is not None and self.context.dtype == torch.bfloat16:
            flops = sum(
                throughput.count_sample_flops(
                    config, sample.shape, rank=card.rank, targets=card.targets
                )
                for sample in seen
            )
            pace["mfu"] = round(flops / seconds / peak / self.context.world_size, 4)
        return pace

    def _note(self, step: int, train_loss: float) -> str:
        seconds = statistics.median(self._recent)
        held_out = (
            f", held-out {self.held_out_losses[max(self.held_out_losses)]:.4f}"
            if self.held_out_losses
            else ""
        )
        left = _spoken(seconds * (self.total_steps - step))
        return f"loss {train_loss:.4f}{held_out}, {seconds:.1f} s a step, {left} left"


def _folder(job: TrainingJob) -> Path:
    return job.out if job.log_folder is None else job.log_folder


def _kept(job: TrainingJob, start_step: int) -> list[dict[str, Any]]:
    """The log's records of the first ``start_step`` steps. Raises StageFailed if some lack."""
    if start_step == 0:
        return []
    path = _folder(job) / LOG_FILE
    kept = jsonl_log.read_records(path, lambda record: record["step"] <= start_step)
    steps = [record["step"] for record in kept if "train_loss" in record]
    if steps != list(range(1, start_step + 1)):
        raise StageFailed(
            f"{path}: the log of the first {start_step} steps is not whole, so training cannot go "
            "on from its checkpoint. Remove the checkpoint to begin anew"
        )
    return kept


def _speed(folder: Path, start_step: int) -> JsonlLog:
    path = folder / SPEED_FILE
    return JsonlLog(path, jsonl_log.read_records(path, lambda record: record["step"] <= start_step))


def _forget_previews(folder: Path, kept: Sequence[Record]) -> None:
    """Remove the videos that the log does not name."""
    named = {folder / record["preview"] for record in kept if "preview" in record}
    for path in (folder / previews.PREVIEW_FOLDER).glob("*/*.mp4"):
        if path not in named:
            path.unlink()


def _shared(known: _T, context: DistributedContext) -> _T:
    """What rank 0 knows, so that all agree on what need not be looked at again."""
    if context.world_size == 1:
        return known
    box = [known]
    torch.distributed.broadcast_object_list(box, src=0, group=context.cpu_group)
    return box[0]


def _groups(samples: Sequence[TrainingSample], losses: Sequence[float]) -> Record:
    return {
        "style": validation.mean_loss_by_style(samples, losses),
        "character": validation.mean_loss_by_character(samples, losses),
    }


def _flat(split: str, record: Record) -> dict[str, float]:
    return {
        f"{split} by {kind}/{name}": found["loss"]
        for kind in ("style", "character")
        for name, found in record[kind].items()
    }


def _spoken(seconds: float) -> str:
    """A duration as a person says it, to the minute."""
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
