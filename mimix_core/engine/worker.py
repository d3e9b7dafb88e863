"""Run units of one stage in a subprocess: ``python -m mimix_core.engine.worker``.

A process limits the damage of a broken file: it can be timed out, killed or crash without affecting
other units. Each line of stdin is a request and is answered by a reply; progress and replies are
JSON lines on stdout; everything that libraries print goes to the unit's log. The process group ends
when stdin closes: its parent has died or does not need it any more.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TextIO

from pydantic import BaseModel

from mimix_core.engine import progress, registry
from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.engine.stage import Stage, run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput, DiskFull, MimixError, Transient, is_disk_full


class UnitRequest(FrozenModel):
    """Request to run a unit; ``inputs`` and ``settings`` are the stage's models as JSON values."""

    stage: str
    store: Path
    inputs: dict[str, Any]
    settings: dict[str, Any]
    log: Path
    memory_bytes: int | None = None
    """Memory limit: the unit fails when it allocates more (Linux)."""


class UnitReply(FrozenModel):
    """Outcome of a unit: a table reference, or the kind of error and its message."""

    ref: TableRef | None = None
    computed: bool = False
    error: Literal["bad_input", "transient", "out_of_memory", "unforeseen", "failed"] | None = None
    message: str = ""


def build_request(
    stage: Stage[Any, Any],
    store: Store,
    inputs: FrozenModel,
    settings: FrozenModel,
    log: Path,
    *,
    memory_bytes: int | None = None,
) -> UnitRequest:
    """Build the request for ``run_request``."""
    return UnitRequest(
        stage=stage.name,
        store=store.root,
        inputs=inputs.model_dump(mode="json"),
        settings=settings.model_dump(mode="json"),
        log=log,
        memory_bytes=memory_bytes,
    )


def run_request(request: UnitRequest) -> UnitReply:
    """Run the unit in this process and turn every failure into a reply."""
    try:
        stage = registry.get_stage(request.stage)
        inputs = _validate_model(stage.inputs, request.inputs)
        settings = _validate_model(stage.settings, request.settings)
        result = run_stage(Store(request.store), stage, inputs, settings)
    except BadInput as error:
        return UnitReply(error="bad_input", message=str(error))
    except Transient as error:
        return UnitReply(error="transient", message=str(error))
    except MimixError as error:
        return UnitReply(error="failed", message=str(error))
    except MemoryError:
        traceback.print_exc()
        return UnitReply(error="out_of_memory", message="ran out of memory")
    except OSError as error:
        # A full disk or a lost mount: not the unit's fault.
        traceback.print_exc()
        if is_disk_full(error):
            return UnitReply(error="failed", message=str(DiskFull(error)))
        return UnitReply(error="failed", message=f"{type(error).__name__}: {error}")
    except Exception as error:
        traceback.print_exc()
        if is_disk_full(error):
            return UnitReply(error="failed", message=str(DiskFull(error)))
        return UnitReply(error="unforeseen", message=f"{type(error).__name__}: {error}")
    return UnitReply(ref=result.ref, computed=result.computed)


def _validate_model(kind: type[Any], values: dict[str, Any]) -> Any:
    model = kind.model_validate(values)
    assert isinstance(model, BaseModel)
    return model


def _read_requests() -> Iterator[UnitRequest]:
    """Yield requests from stdin; kill this process group once stdin closes, even during a unit."""
    lines: queue.Queue[bytes] = queue.Queue()

    def read_stdin() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=read_stdin, daemon=True).start()
    while True:
        yield UnitRequest.model_validate_json(lines.get())


def limit_memory(memory_bytes: int | None) -> None:
    """Limit what this process may allocate from now on; None: up to its hard limit.

    RLIMIT_DATA counts writable memory, unlike RLIMIT_AS, which also counts the address space that
    CUDA and thread pools reserve and never use.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = hard if memory_bytes is None else memory_bytes
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def prefer_oom_kill() -> None:
    """Let the kernel kill a unit rather than the run when the machine runs out of memory."""
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text("800")


def main() -> None:
    prefer_oom_kill()
    # Libraries print to stdout, which carries the protocol: redirect their output to the log.
    output: TextIO = os.fdopen(os.dup(1), "w", buffering=1)

    def send_progress(done: int, total: int, note: str) -> None:
        output.write(json.dumps({"done": done, "total": total, "note": note}) + "\n")

    for request in _read_requests():
        with request.log.open("wb") as log, progress.progress_listener(send_progress):
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            limit_memory(request.memory_bytes)
            reply = run_request(request)
            sys.stdout.flush()
            sys.stderr.flush()
        output.write(json.dumps({"reply": reply.model_dump(mode="json")}) + "\n")


if __name__ == "__main__":
    main()
