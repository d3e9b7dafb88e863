"""Log training to experiment trackers: TensorBoard, and Weights & Biases.

A tracker is imported, and data leaves the machine, only if the settings enable it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings
from mimix_core.wan.adapter_metadata import result_settings

TrackerName = Literal["tensorboard", "wandb"]

WANDB_API_KEY = "WANDB_API_KEY"
WANDB_MODE = "WANDB_MODE"
_WITHOUT_KEY = ("offline", "disabled")
_NAME_LENGTH = 16
_STRIP_FRAMES = 5
_WHERE = "settings, key lora.trackers"


class Tracker(Protocol):
    """Logs scalars and videos by name at optimizer steps."""

    def log_scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def log_video(self, step: int, name: str, path: Path) -> None: ...

    def close(self) -> None: ...


def check_trackers(names: Sequence[TrackerName]) -> None:
    """Raise BadInput when a tracker cannot run on this machine; call it before any work starts."""
    for name in names:
        if find_spec(name) is None:
            raise BadInput(
                f"{name} is not installed",
                where=_WHERE,
                fix=f"Install it (pip install {name}) or remove it from lora.trackers.",
            )
    if (
        "wandb" in names
        and not os.environ.get(WANDB_API_KEY)
        and os.environ.get(WANDB_MODE) not in _WITHOUT_KEY
    ):
        raise BadInput(
            f"wandb needs a key, and {WANDB_API_KEY} is not set",
            where=_WHERE,
            fix=f"Set {WANDB_API_KEY}, or {WANDB_MODE}=offline to keep the run on this machine.",
        )


def start_trackers(settings: LoraSettings, folder: Path, start_step: int) -> list[Tracker]:
    """Start the trackers in the settings.

    Records of earlier attempts after ``start_step`` are void. ``folder`` holds the trackers' files;
    its parent folder is named by the run's key.
    """
    check_trackers(settings.trackers)
    started: list[Tracker] = []
    for name in settings.trackers:
        if name == "tensorboard":
            started.append(TensorBoardTracker(folder, start_step))
        else:
            started.append(WandbTracker(settings, folder))
    return started


class TensorBoardTracker:
    """Event files for ``tensorboard --logdir`` in the run's folder."""

    def __init__(self, folder: Path, start_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Records of ``start_step`` itself remain valid, unless the run starts from the beginning.
        first_void_step = start_step + 1 if start_step else 0
        self._writer: Any = SummaryWriter(str(folder), purge_step=first_void_step)

    def log_scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def log_video(self, step: int, name: str, path: Path) -> None:
        """Log a video as a strip of frames; ``add_video`` needs moviepy and ImageMagick."""
        from mimix_core.media.decode import read_rgb

        frames_THWC = read_rgb(path)
        selected = frames_THWC[:: max(1, len(frames_THWC) // _STRIP_FRAMES)][:_STRIP_FRAMES]
        strip_HWC = np.concatenate(list(selected), axis=1)
        self._writer.add_image(name, strip_HWC, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WandbTracker:
    """A run of the W&B project ``mimix``; only scalars, previews and settings are sent."""

    def __init__(self, settings: LoraSettings, folder: Path) -> None:
        import wandb

        # The parent folder is named by the run's key, so a new attempt continues the same W&B run.
        name = folder.parent.name[:_NAME_LENGTH]
        self._wandb: Any = wandb
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "mimix"),
            id=name,
            name=name,
            resume="allow",
            dir=str(folder),
            config=result_settings(settings),
            # No console output, code, git state, packages or machine data: they can hold paths.
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                save_code=False,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
                silent=True,
            ),
        )
        # W&B's own steps must increase; a resumed run logs some steps again.
        self._run.define_metric("*", step_metric="optimizer_step")

    def log_scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "optimizer_step": step})

    def log_video(self, step: int, name: str, path: Path) -> None:
        self._run.log({name: self._wandb.Video(str(path), format="mp4"), "optimizer_step": step})

    def close(self) -> None:
        self._run.finish()
