"""A stage that does as its inputs say, for tests of how units are run."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

from mimix_core import tables
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Stage, StageReport
from mimix_core.errors import BadInput, Transient


class ObedientInputs(FrozenModel):
    unit: Annotated[str, ExcludeFromKey()] = "u"
    order: str = "work"
    diary: Annotated[str, ExcludeFromKey()] = ""  # each run writes a line here
    source: FileRef | None = None


class ObedientSettings(FrozenModel):
    pass


def run(inputs: ObedientInputs, settings: ObedientSettings, out: Path) -> StageReport:
    if inputs.diary:
        with Path(inputs.diary).open("a") as diary:
            diary.write(f"{inputs.unit} {os.getpid()}\n")
    if inputs.order == "bad input":
        raise BadInput("no such thing", where="here", fix="Do that.")
    if inputs.order == "transient once" and len(Path(inputs.diary).read_text().splitlines()) < 2:
        raise Transient("the line was busy")
    if inputs.order == "transient":
        raise Transient("the line is busy")
    if inputs.order == "bug":
        raise KeyError("oops")
    if inputs.order == "full disk":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if inputs.order == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if inputs.order == "crash once" and len(Path(inputs.diary).read_text().splitlines()) < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if inputs.order == "leave":
        os._exit(7)
    if inputs.order == "leave a child behind":
        subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=_open_handles()
        )
        os.kill(os.getpid(), signal.SIGKILL)
    if inputs.order == "eat memory":
        bytearray(3_000_000_000)
    if inputs.order == "go silent":
        for step in range(4):  # as long in all as what is taken for silence, but never silent
            progress.report_progress(step, 4, "step")
            time.sleep(1)
        time.sleep(120)
    if inputs.order == "hang":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
        Path(inputs.diary).write_text(f"{os.getpid()}\n{child.pid}\n")
        time.sleep(120)
    if inputs.order == "slow":
        time.sleep(3)
    if inputs.order.startswith("fail a row"):
        row = tables.failed(tables.Reason.METRIC_FAILED, "as told", page="p", file="")
        return StageReport([row], rows_in=1)
    print("a library prints to stdout")
    for step in range(3):
        progress.report_progress(step + 1, 3, "step")
    (out / "page.txt").write_text(inputs.order)
    return StageReport([tables.ok(page="p", file="page.txt")], rows_in=1)


def broken(inputs: ObedientInputs, reason: tables.Reason, detail: str) -> StageReport:
    return StageReport([tables.failed(reason, detail, page="p", file="")], rows_in=1)


def _open_handles() -> list[int]:
    return [int(handle.name) for handle in Path("/proc/self/fd").iterdir() if handle.exists()]


STAGE = Stage(
    "tests.tasks.obedient_stage",
    1,
    ObedientInputs,
    ObedientSettings,
    tables.REPORT,
    run,
    broken,
)
