"""Experiment trackers: only those in the settings run, and no other data is sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from mimix_core.errors import BadInput
from mimix_core.training import trackers
from tests.factories import video
from tests.training.factories import SETTINGS
from tests.training.test_run_logger import Bare, finished, job, nowhere, run

pytestmark = pytest.mark.slow

RUN = """
import sys
reached = []

def hear(event, arguments):
    # AF_INET and AF_INET6; to other processes of this machine anyone may talk.
    if event == "socket.connect" and arguments[0].family in (2, 10):
        if not str(arguments[1][0]).startswith("127."):
            reached.append(arguments[1])
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        reached.append(arguments)

sys.addaudithook(hear)
from pathlib import Path
from tests.training.factories import SETTINGS
from tests.training.test_run_logger import Bare, finished, job, nowhere, run
names = tuple(sys.argv[2:])
shown = SETTINGS.model_copy(update={"trackers": names})
asked = job(Path(sys.argv[1]), [nowhere("a")], settings=shown)
finished(run(asked, Bare, 0, 6))
import json
print(json.dumps({"reached": reached, "wandb": "wandb" in sys.modules,
                  "tensorboard": "tensorboard" in sys.modules}))
"""


def run_apart(folder: Path, *names: str, **environment: str) -> dict:
    """A run in a process of its own; what it imported and whom it tried to reach."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder), *names],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_trackers_are_neither_imported_nor_connected_by_default(tmp_path: Path) -> None:
    found = run_apart(tmp_path, WANDB_API_KEY="0" * 40)
    assert found == {"reached": [], "wandb": False, "tensorboard": False}
    left = {path.name for path in (tmp_path / "journal").iterdir()}
    assert left == {"log.jsonl", "speed.jsonl"}


def test_a_tracker_that_is_not_installed_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    with pytest.raises(BadInput, match=r"tensorboard is not installed.*pip install tensorboard"):
        trackers.check_trackers(["tensorboard"])


def test_wandb_without_a_key_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda _: True)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(BadInput, match=r"WANDB_API_KEY is not set.*WANDB_MODE=offline"):
        trackers.check_trackers(["wandb"])
    monkeypatch.setenv("WANDB_MODE", "offline")
    trackers.check_trackers(["wandb"])
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    trackers.check_trackers(["wandb"])


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs tensorboard")
def test_tensorboard_shows_each_step_once_after_interruptions(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = SETTINGS.model_copy(update={"trackers": ("tensorboard",)})
    asked = job(tmp_path, [nowhere("a", characters=("Tom",))], settings=shown)
    run(asked, Bare, 0, 5)
    watch = run(asked, Bare, 2, 6)
    finished(watch)
    events = EventAccumulator(str(asked.log_folder))
    events.Reload()
    assert {"loss/train", "gradient norm", "train by character/Tom", "speed/seconds"} <= set(
        events.Tags()["scalars"]
    )
    lines = (asked.out / "log.jsonl").read_text().splitlines()
    losses = {r["step"]: r["train_loss"] for r in map(json.loads, lines)}
    found = [(e.step, e.value) for e in events.Scalars("loss/train")]
    assert found == [(step, pytest.approx(loss)) for step, loss in sorted(losses.items())]


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs tensorboard")
def test_tensorboard_shows_a_preview_as_a_strip_of_its_frames(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    frames_NHWC = np.full((17, 32, 48, 3), 128, dtype=np.uint8)
    video(tmp_path / "preview.mp4", frames_NHWC)
    board = trackers.TensorBoardTracker(tmp_path / "journal", 0)
    board.log_video(50, "preview/0", tmp_path / "preview.mp4")
    board.close()
    events = EventAccumulator(str(tmp_path / "journal"))
    events.Reload()
    [shown] = events.Images("preview/0")
    assert (shown.step, shown.width, shown.height) == (50, 5 * 48, 32)


@pytest.mark.skipif(find_spec("wandb") is None, reason="needs wandb")
def test_wandb_offline_keeps_the_run_on_this_machine(tmp_path: Path) -> None:
    found = run_apart(tmp_path, "wandb", WANDB_MODE="offline", HOME=str(tmp_path))
    assert found["wandb"]
    assert found["reached"] == []
    [kept] = (tmp_path / "journal" / "wandb").glob("offline-run-*/run-*.wandb")
    data = kept.read_bytes()
    assert b"loss/train" in data
    assert b"learning_rate" in data  # the settings
    # Neither what is installed nor where anything lies on this machine.
    assert b"requirements.txt" not in data
    assert str(tmp_path).encode() not in data
