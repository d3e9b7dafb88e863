"""A stage whose inputs select its behavior, for tests of how units are run."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mimix_core import tables
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.errors import BadInput, Transient


class FakeInputs(FrozenModel):
    unit: Annotated[str, ExcludeFromKey()] = "u"
    behavior: str = "work"
    run_log: Annotated[str, ExcludeFromKey()] = ""  # each attempt appends a line with unit and pid
    source: FileRef | None = None


class FakeSettings(FrozenModel):
    strength: int = Field(1, ge=0)
    mask: Path | None = None


def run(inputs: FakeInputs, settings: FakeSettings, out: Path) -> StageReport:
    if inputs.run_log:
        with Path(inputs.run_log).open("a") as run_log:
            run_log.write(f"{inputs.unit} {os.getpid()}\n")
    if inputs.behavior == "bad input":
        raise BadInput("no such thing", where="here", fix="Do that.")
    if (
        inputs.behavior == "transient once"
        and len(Path(inputs.run_log).read_text().splitlines()) < 2
    ):
        raise Transient("the line was busy")
    if inputs.behavior == "transient":
        raise Transient("the line is busy")
    if inputs.behavior.startswith("bug"):
        raise KeyError("oops")
    if inputs.behavior == "full disk":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if inputs.behavior == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if inputs.behavior == "crash once" and len(Path(inputs.run_log).read_text().splitlines()) < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if inputs.behavior == "leave":
        os._exit(7)
    if inputs.behavior == "leave a child behind":
        subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=_open_handles()
        )
        os.kill(os.getpid(), signal.SIGKILL)
    if inputs.behavior == "eat memory":
        bytearray(3_000_000_000)
    if inputs.behavior == "go silent":
        for step in range(4):  # longer than the stall limit in total, but with progress
            progress.report_progress(step, 4, "step")
            time.sleep(1)
        time.sleep(120)
    if inputs.behavior == "hang":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
        Path(inputs.run_log).write_text(f"{os.getpid()}\n{child.pid}\n")
        time.sleep(120)
    if inputs.behavior == "report for 6 s":
        for step in range(30):
            progress.report_progress(step, 30, "step")
            time.sleep(0.2)
    if inputs.behavior == "slow":
        time.sleep(3)
    if inputs.behavior.startswith("fail a row"):
        row = tables.failed(tables.Reason.METRIC_FAILED, "as told", page="p", file="")
        return StageReport([row], rows_in=1)
    print("a library prints to stdout")
    for step in range(3):
        progress.report_progress(step + 1, 3, "step")
    (out / "page.txt").write_text(inputs.behavior)
    return StageReport([tables.ok(page="p", file="page.txt")], rows_in=1)


def failed_rows(
    inputs: FakeInputs, _settings: FakeSettings, reason: tables.Reason, detail: str
) -> StageReport:
    return StageReport([tables.failed(reason, detail, page="p", file="")], rows_in=1)


def _open_handles() -> list[int]:
    return [int(handle.name) for handle in Path("/proc/self/fd").iterdir() if handle.exists()]


STAGE = Stage(
    name="tests.tasks.fake_stage",
    title="Fake stage",
    description="Behave as the inputs say.",
    row_noun="pages",
    phase=Phase.CURATION,
    version=1,
    inputs=FakeInputs,
    settings=FakeSettings,
    table=tables.REPORT,
    run=run,
    failed_rows=failed_rows,
)
