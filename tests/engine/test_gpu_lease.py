"""Units at work at the same time have a GPU each; one that ends in any way gives it back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mimix_core.engine.gpu_lease import (
    acquire_device,
    acquire_devices,
    acquire_lock,
    acquire_locks,
)
from mimix_core.errors import BadInput

GPUS = ["GPU-a", "GPU-b"]

HOLD = """
import sys
from pathlib import Path
from mimix_core.engine.gpu_lease import acquire_lock
with acquire_lock(sys.argv[2].split(), Path(sys.argv[1])) as index:
    print(index, flush=True)
    sys.stdin.readline()
"""


class Holder:
    """A process that leases a device, says which, and keeps it until it is told or killed."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder), " ".join(GPUS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def index(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def end(self) -> None:
        self.process.communicate("\n")


def test_two_processes_split_the_devices_and_a_third_waits(tmp_path: Path) -> None:
    first = Holder(tmp_path)
    assert first.index() == 0
    second = Holder(tmp_path)
    assert second.index() == 1
    third = Holder(tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        third.process.wait(1.0)
    second.process.kill()
    assert third.index() == 1, "a killed process keeps none"
    first.end()
    with acquire_lock(GPUS, tmp_path) as index:
        assert index == 0
    third.end()
    second.process.communicate()


def test_a_unit_may_lease_again_and_again(tmp_path: Path) -> None:
    for _ in range(3):
        with acquire_lock(GPUS, tmp_path) as outer, acquire_lock(GPUS, tmp_path) as inner:
            assert (outer, inner) == (0, 1)


def test_a_cpu_needs_no_lease() -> None:
    with acquire_device("cpu") as one, acquire_device("cpu") as other:
        assert one.type == other.type == "cpu"


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match="no CUDA device"), acquire_device("cuda"):
        pass


GATHER = HOLD.replace("acquire_lock", "acquire_locks").replace(
    "Path(sys.argv[1]))", "Path(sys.argv[1]), 2)"
)


def test_units_of_several_devices_wait_for_all_of_them_and_never_for_each_other(
    tmp_path: Path,
) -> None:
    with acquire_lock(GPUS, tmp_path):
        both = [
            subprocess.Popen(
                [sys.executable, "-c", GATHER, str(tmp_path), " ".join(GPUS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        with pytest.raises(subprocess.TimeoutExpired):
            both[0].wait(1.0)
        with pytest.raises(subprocess.TimeoutExpired):
            both[1].wait(0.1)
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0] for process in both]
    assert answers == ["[0, 1]\n"] * 2
    with acquire_locks(GPUS, tmp_path, 2) as indices:
        assert indices == [0, 1]


def test_more_gpus_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"GPU-{index}")
    )
    with (
        pytest.raises(BadInput, match=r"this machine has 1\. Set it to 1"),
        acquire_devices("auto", 2),
    ):
        pass
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with acquire_devices("auto", 2) as devices:
        assert devices == [torch.device("cpu")] * 2
