"""Log a training run: losses, speed and previews, to files and trackers.

Rank 0 writes to the run's folder, which survives interrupted attempts:

``log.jsonl``
    Losses, which are part of the result: equal runs give equal bytes. At the end it is copied next
    to the adapter. Kinds of records, each with its ``step`` (completed optimizer steps):
    ``train_loss, grad_norm, lr, style, character``: one optimizer step, with ``region_share`` if
    the loss is weighted by regions: the share of it in the characters' cells;
    ``quantile, val_loss``: held-out loss at one of the fixed noise levels, lowest noise first;
    ``held_out_loss, interval, style, character``: mean over all levels, its 95 % interval for all
    held-out samples (null for one sample), and means by style and character;
    ``epoch, adapter, epoch_loss``: an adapter that is saved (relative to the result), and the mean
    training loss of its epoch's steps;
    ``preview, prompt, seed, frames, width, height``: a video, relative to the folder.
    ``style`` and ``character`` map a name to ``{"loss", "samples"}``.
``speed.jsonl``
    Timings, which are not part of the result: ``seconds, tokens_per_second, memory_gb`` of each
    step, and ``mfu`` where the device's peak is known.
"""

from __future__ import annotations

import math
import shutil
import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
import torch.distributed

from mimix_core.engine import jsonl_log
from mimix_core.engine.jsonl_log import JsonlLog, MalformedLog, Record
from mimix_core.errors import StageFailed
from mimix_core.training import forgetting, previews, throughput, trackers, validation
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
    """Metrics of one optimizer step over all processes; ``losses``: (sample id, level, loss)."""

    @property
    def train_loss(self) -> float: ...
    @property
    def grad_norm(self) -> float: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def losses(self) -> Sequence[tuple[str, float, float]]: ...
    @property
    def region_share(self) -> float | None: ...


@dataclass
class RunLogger:
    """Logs one run, in each of its processes. ``step`` counts completed optimizer steps."""

    job: TrainingJob
    context: DistributedContext
    transformer: Any
    total_steps: int
    # Mean held-out loss by step, old characters' losses by step, and the steps with previews.
    held_out_losses: dict[int, float]
    old_losses: dict[int, dict[str, float]]
    previewed_steps: set[int]
    # None in all processes but rank 0; ``speed_log`` also without a log folder.
    loss_log: JsonlLog | None
    speed_log: JsonlLog | None
    trackers: Sequence[Tracker]
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT_STEPS))
    _train_losses: dict[int, float] = field(default_factory=dict)
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
        """Start logging, or resume after ``start_step`` steps and drop records of later steps.

        Raises BadInput when a tracker cannot run, StageFailed when records of earlier steps are
        missing.
        """
        loss_log, speed_log = None, None
        records: list[dict[str, Any]] = []
        active_trackers: list[Tracker] = []
        if context.rank == 0:
            records = _read_loss_log(job, start_step)
            loss_log = JsonlLog.create(_folder(job) / LOG_FILE, records)
            _remove_unlogged_previews(_folder(job), records)
            if job.log_folder is not None:
                speed_log = _resume_speed_log(job.log_folder, start_step)
                active_trackers = trackers.start_trackers(job.settings, job.log_folder, start_step)
        held_out_losses = {r["step"]: r["held_out_loss"] for r in records if "held_out_loss" in r}
        old_losses = {
            r["step"]: forgetting.group_losses(r[forgetting.LOG_KEY])
            for r in records
            if forgetting.LOG_KEY in r
        }
        previewed_steps = {r["step"] for r in records if "preview" in r}
        resumed = _broadcast((held_out_losses, old_losses, previewed_steps), context)
        return cls(
            job,
            context,
            transformer,
            total_steps,
            *resumed,
            loss_log,
            speed_log,
            active_trackers,
            _train_losses={r["step"]: r["train_loss"] for r in records if "train_loss" in r},
        )

    def log_step(self, step: int, result: StepMetrics, seconds: float) -> str:
        """Log optimizer step number ``step``; return the text for the progress display."""
        self._recent.append(seconds)
        if self.loss_log is not None:
            self._train_losses[step] = result.train_loss
            samples = [self._samples[sample_id] for sample_id, _, _ in result.losses]
            losses = [loss for _, _, loss in result.losses]
            record = {
                "step": step,
                "train_loss": result.train_loss,
                "grad_norm": result.grad_norm,
                "lr": result.learning_rate,
                **({} if result.region_share is None else {"region_share": result.region_share}),
                **_mean_losses_by_group(samples, losses),
            }
            self.loss_log.append(record)
            scalars = {
                "loss/train": result.train_loss,
                "gradient norm": result.grad_norm,
                "learning rate": result.learning_rate,
                **_group_scalars("train", record),
            }
            if result.region_share is not None:
                scalars["loss/share in regions"] = result.region_share
            if self.speed_log is not None:
                speed = self._measure_speed(samples, seconds)
                self.speed_log.append({"step": step, **speed})
                scalars |= {f"speed/{name}": value for name, value in speed.items()}
            self._track(step, scalars)
        return self._progress_text(step, result.train_loss)

    def log_epoch(self, epoch: int, steps: range, adapter: str) -> None:
        """Log an adapter that is saved after ``epoch``, whose optimizer steps are ``steps``."""
        if self.loss_log is not None:
            loss = statistics.fmean(self._train_losses[step] for step in steps)
            record = {"step": steps[-1], "epoch": epoch, "adapter": adapter, "epoch_loss": loss}
            self.loss_log.append(record)

    def validate(
        self, step: int, stop_requested: Callable[[], bool] = validation.never_stop
    ) -> float | None:
        """Compute and log the mean held-out loss after ``step`` steps; None without held-out data.

        A collective call. Raises StageFailed for a non-finite loss, and TrainingStopped within one
        forward pass of a request to stop.
        """
        if not self.job.val or step in self.held_out_losses:
            return self.held_out_losses.get(step)
        settings, context = self.job.settings, self.context
        loss_SQ = validation.validation_losses(
            self.transformer, self.job.val, settings, context, stop_requested, self.job.levels
        )
        if not torch.isfinite(loss_SQ).all():
            raise StageFailed(f"non-finite held-out loss (NaN or Inf) after {step} steps")
        self.held_out_losses[step] = float(loss_SQ.mean())
        old = {}
        if self.job.new_characters:
            old = validation.mean_loss_by_old_character(
                self.job.val, loss_SQ.mean(dim=1).tolist(), self.job.new_characters
            )
        if old:
            self.old_losses[step] = forgetting.group_losses(old)
        if self.loss_log is not None:
            levels = loss_SQ.mean(dim=0).tolist()
            record = {
                "step": step,
                "held_out_loss": self.held_out_losses[step],
                "interval": validation.mean_interval(loss_SQ.mean(dim=1)),
                **_mean_losses_by_group(self.job.val, loss_SQ.mean(dim=1).tolist()),
                **({forgetting.LOG_KEY: old} if old else {}),
            }
            self.loss_log.append(
                *(
                    {"step": step, "quantile": index, "val_loss": loss}
                    for index, loss in enumerate(levels)
                ),
                record,
            )
            scalars = {f"held out/level {index + 1}": loss for index, loss in enumerate(levels)}
            self._track(
                step,
                {
                    "loss/held out": self.held_out_losses[step],
                    **scalars,
                    **_group_scalars("held out", record),
                },
            )
        return self.held_out_losses[step]

    def write_preview(
        self, step: int, stop_requested: Callable[[], bool] = validation.never_stop
    ) -> None:
        """Generate videos of the preview prompts with the current adapter; a collective call.

        After 0 steps they show the bare backbone. Steps with logged previews are skipped. Raises
        TrainingStopped within one denoising step of a request to stop.
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
            context=context,
            stop_requested=stop_requested,
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
        """Copy log and previews to the result; return the notes for the stage's record."""
        if self.loss_log is not None:
            self.loss_log.close()
            if self.job.log_folder is not None:
                shutil.copyfile(self.job.log_folder / LOG_FILE, self.job.out / LOG_FILE)
                if self.previewed_steps:
                    folder = previews.PREVIEW_FOLDER
                    shutil.copytree(
                        self.job.log_folder / folder, self.job.out / folder, dirs_exist_ok=True
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

    def _measure_speed(self, samples: Sequence[TrainingSample], seconds: float) -> dict[str, float]:
        """Measure the step's speed; tokens are those of the videos, without text.

        For transformers other than Wan's, tokens and FLOPs are unknown.
        """
        config, device = self.transformer.config, self.context.device
        adapter = self.job.adapter_metadata
        speed = {
            "seconds": round(seconds, 4),
            "memory_gb": round(throughput.peak_memory_gb(device), 3),
        }
        if not throughput.has_known_flops(model_registry.get_backbone(adapter.base)):
            return speed
        tokens = sum(throughput.count_video_tokens(config, sample.shape) for sample in samples)
        speed["tokens_per_second"] = round(tokens / seconds, 1)
        peak = throughput.peak_flops(device)
        if peak is not None and self.context.dtype == torch.bfloat16:
            routed = self.job.settings.routed_tokens
            flops = sum(
                throughput.count_sample_flops(
                    config, sample.shape, rank=adapter.rank, targets=adapter.targets, routed=routed
                )
                for sample in samples
            )
            speed["mfu"] = round(flops / seconds / peak / self.context.world_size, 4)
        return speed

    def _progress_text(self, step: int, train_loss: float) -> str:
        seconds = statistics.median(self._recent)
        held_out = (
            f", held-out {self.held_out_losses[max(self.held_out_losses)]:.4f}"
            if self.held_out_losses
            else ""
        )
        left = _format_minutes(seconds * (self.total_steps - step))
        return f"loss {train_loss:.4f}{held_out}, {seconds:.1f} s per step, {left} left"


def _folder(job: TrainingJob) -> Path:
    return job.out if job.log_folder is None else job.log_folder


def _read_loss_log(job: TrainingJob, start_step: int) -> list[dict[str, Any]]:
    """Read the records of the first ``start_step`` steps. Raises StageFailed if any is missing."""
    if start_step == 0:
        return []
    path = _folder(job) / LOG_FILE
    records = _read_until(path, start_step)
    steps = [record["step"] for record in records if "train_loss" in record]
    if steps != list(range(1, start_step + 1)):
        raise StageFailed(
            f"{path}: the log of the first {start_step} steps is incomplete, so training cannot "
            "resume from its checkpoint. Remove the checkpoint to start again"
        )
    return records


def _resume_speed_log(folder: Path, start_step: int) -> JsonlLog:
    path = folder / SPEED_FILE
    return JsonlLog.create(path, _read_until(path, start_step))


def _read_until(path: Path, step: int) -> list[dict[str, Any]]:
    """Read the records up to ``step``. Raises StageFailed for a malformed line."""
    try:
        return jsonl_log.read_records(path, lambda record: bool(record["step"] <= step))
    except MalformedLog as error:
        raise StageFailed(f"{path}: a line is not a training record") from error


def _remove_unlogged_previews(folder: Path, records: Sequence[Record]) -> None:
    """Remove preview videos without a log record."""
    logged = {folder / record["preview"] for record in records if "preview" in record}
    for path in (folder / previews.PREVIEW_FOLDER).glob("*/*.mp4"):
        if path not in logged:
            path.unlink()


def _broadcast(value: _T, context: DistributedContext) -> _T:
    """Return rank 0's value in all processes, so that all skip the same work."""
    if context.world_size == 1:
        return value
    objects = [value]
    torch.distributed.broadcast_object_list(objects, src=0, group=context.cpu_group)
    return objects[0]


def _mean_losses_by_group(samples: Sequence[TrainingSample], losses: Sequence[float]) -> Record:
    return {
        "style": validation.mean_loss_by_style(samples, losses),
        "character": validation.mean_loss_by_character(samples, losses),
    }


def _group_scalars(split: str, record: Record) -> dict[str, float]:
    return {
        f"{split} by {kind}/{name}": group["loss"]
        for kind in ("style", "character")
        for name, group in record[kind].items()
    }


def _format_minutes(seconds: float) -> str:
    """Format a duration in hours and minutes, rounded up."""
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
