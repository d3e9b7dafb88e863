"""Units of one stage in a process of their own: ``python -m mimix_core.engine.worker``.

A process bounds what a broken file can do: it can be timed out, killed or crash, and takes no other
unit with it. Each line of stdin is a request and is answered by a reply; progress and replies go
out as JSON lines on stdout; everything that libraries print goes to the unit's log. The process
group ends when stdin closes: whoever started it is gone, or needs it no more.
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
from mimix_core.errors import BadInput, MimixError, Transient


class UnitRequest(FrozenModel):
    """What to run. ``inputs`` and ``settings`` are the stage's own models as JSON values."""

    stage: str
    store: Path
    inputs: dict[str, Any]
    settings: dict[str, Any]
    log: Path
    memory_bytes: int | None = None
    """The unit fails when it allocates more (Linux)."""


class UnitReply(FrozenModel):
    """How it went: a reference, or what kind of error with the message for the person."""

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
    """The request that ``run`` below understands."""
    return UnitRequest(
        stage=stage.name,
        store=store.root,
        inputs=inputs.model_dump(mode="json"),
        settings=settings.model_dump(mode="json"),
        log=log,
        memory_bytes=memory_bytes,
    )


def run_request(asked: UnitRequest) -> UnitReply:
    """Run the unit in this process; every failure becomes a reply."""
    try:
        stage = registry.get_stage(asked.stage)
        inputs = _validate_model(stage.inputs, asked.inputs)
        settings = _validate_model(stage.settings, asked.settings)
        done = run_stage(Store(asked.store), stage, inputs, settings)
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
        # A full disk or a lost mount: no unit's fault.
        traceback.print_exc()
        return UnitReply(error="failed", message=f"{type(error).__name__}: {error}")
    except Exception as error:
        traceback.print_exc()
        return UnitReply(error="unforeseen", message=f"{type(error).__name__}: {error}")
    return UnitReply(ref=done.ref, computed=done.computed)


def _validate_model(kind: type[Any], values: dict[str, Any]) -> Any:
    model = kind.model_validate(values)
    assert isinstance(model, BaseModel)
    return model


def _read_requests() -> Iterator[UnitRequest]:
    """Requests as they come in. Kills this process group once stdin closes, also in mid-unit."""
    waiting: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        for line in sys.stdin.buffer:
            waiting.put(line)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield UnitRequest.model_validate_json(waiting.get())


def limit_memory(memory_bytes: int | None) -> None:
    """Bound what this process may allocate from now on; None: what its hard limit allows.

    RLIMIT_DATA counts memory that can be written, and not, as RLIMIT_AS would, the address space
    that CUDA and thread pools set aside and never touch.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = hard if memory_bytes is None else memory_bytes
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def prefer_oom_kill() -> None:
    """When the machine runs out of memory, the kernel is to take a unit and not the run."""
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text("800")


def main() -> None:
    prefer_oom_kill()
    # Libraries print to stdout; only MiMix may, so keep it and give them the log.
    lines: TextIO = os.fdopen(os.dup(1), "w", buffering=1)

    def tell(done: int, total: int, note: str) -> None:
        lines.write(json.dumps({"done": done, "total": total, "note": note}) + "\n")

    for asked in _read_requests():
        with asked.log.open("wb") as log, progress.progress_listener(tell):
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            limit_memory(asked.memory_bytes)
            reply = run_request(asked)
            sys.stdout.flush()
            sys.stderr.flush()
        lines.write(json.dumps({"reply": reply.model_dump(mode="json")}) + "\n")


if __name__ == "__main__":
    main()
