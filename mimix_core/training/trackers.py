"""Where training can be watched from outside: TensorBoard, and Weights & Biases when asked for.

Nothing is imported, and nothing leaves the machine, unless the settings name it.
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
_STRIP = 5
_WHERE = "settings, key lora.trackers"


class Tracker(Protocol):
    """Takes numbers and pictures by name, each at an optimizer step."""

    def log_scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def log_video(self, step: int, name: str, path: Path) -> None: ...

    def close(self) -> None: ...


def check_trackers(names: Sequence[TrackerName]) -> None:
    """Raises BadInput when a tracker cannot run here; to be called before any work starts."""
    for name in names:
        if find_spec(name) is None:
            raise BadInput(
                f"{name} is not installed",
                where=_WHERE,
                fix=f"Install it (pip install {name}) or take it out of lora.trackers.",
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
    """The trackers the settings name; what earlier attempts said beyond ``start_step`` is void.

    ``folder`` keeps their files; the folder above is named by the run.
    """
    check_trackers(settings.trackers)
    found: list[Tracker] = []
    for name in settings.trackers:
        if name == "tensorboard":
            found.append(TensorBoardTracker(folder, start_step))
        else:
            found.append(WandbTracker(settings, folder))
    return found


class TensorBoardTracker:
    """Event files in the run's folder, for ``tensorboard --logdir``."""

    def __init__(self, folder: Path, start_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What was seen after the last step that counts still does, unless that was the beginning.
        void = start_step + 1 if start_step else 0
        self._writer: Any = SummaryWriter(str(folder), purge_step=void)

    def log_scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def log_video(self, step: int, name: str, path: Path) -> None:
        """As a strip of frames: TensorBoard's video needs a package that needs ImageMagick."""
        from mimix_core.media.decode import read_rgb

        frames_THWC = read_rgb(path)
        chosen = frames_THWC[:: max(1, len(frames_THWC) // _STRIP)][:_STRIP]
        self._writer.add_image(name, np.concatenate(list(chosen), axis=1), step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WandbTracker:
    """A run of the project ``mimix``: numbers, previews and the settings; nothing else is sent."""

    def __init__(self, settings: LoraSettings, folder: Path) -> None:
        import wandb

        # The folder above is named by the run's key; an attempt goes on where the last one ended.
        name = folder.parent.name[:_NAME_LENGTH]
        self._wandb: Any = wandb
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "mimix"),
            id=name,
            name=name,
            resume="allow",
            dir=str(folder),
            config=result_settings(settings),
            # No console output, code, git state, packages or machine: a log can hold paths.
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
        # W&B's own steps only rise; a resumed run says some again.
        self._run.define_metric("*", step_metric="optimizer_step")

    def log_scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "optimizer_step": step})

    def log_video(self, step: int, name: str, path: Path) -> None:
        self._run.log({name: self._wandb.Video(str(path), format="mp4"), "optimizer_step": step})

    def close(self) -> None:
        self._run.finish()
