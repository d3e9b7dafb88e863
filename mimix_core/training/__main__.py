"""Run one training process: ``python -m mimix_core.training JOB MESSAGES_FD``.

RANK, WORLD_SIZE and LOCAL_RANK come from the environment. Messages are JSON lines on the file
descriptor MESSAGES_FD; other output goes to stdout and stderr. SIGTERM stops the process after its
current micro batch, with a checkpoint of the last complete step. So does the end of stdin, which
means that the parent process has died.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from mimix_core.errors import BadInput, StageFailed, Transient
from mimix_core.training.launcher import STOPPED_EXIT_CODE, TERMINATION_GRACE_SECONDS
from mimix_core.training.worker_messages import (
    BadInputMessage,
    FailedMessage,
    TrainingJob,
    TrainingStopped,
)


def main() -> int:
    job = TrainingJob.model_validate_json(Path(sys.argv[1]).read_bytes())
    messages = os.fdopen(int(sys.argv[2]), "w", buffering=1)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # The parent process handles Ctrl-C and sends SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_stop_when_orphaned, args=(stop,), daemon=True).start()

    def send(message: BaseModel) -> None:
        # The pipe breaks when the parent dies, which the end of stdin reports.
        with suppress(BrokenPipeError):
            messages.write(message.model_dump_json() + "\n")

    def send_from_rank_0(message: BaseModel) -> None:
        if os.environ["RANK"] == "0":
            send(message)

    from mimix_core.engine.torch_runtime import select_device

    try:
        # Otherwise DeepSpeed uses any visible GPU, whatever the settings say.
        os.environ["DS_ACCELERATOR"] = select_device(job.settings.device).type
        from mimix_core.training import distributed, trainer

        _simplify_logs()
        trainer.train(job, send_from_rank_0, stop.is_set)
        distributed.destroy_process_group()
    except BadInput as error:
        # An unreadable sample can occur in any process.
        send(BadInputMessage(what=error.what, where=error.where, fix=error.fix))
        return 1
    except (StageFailed, Transient) as error:
        send(FailedMessage(message=str(error), retryable=isinstance(error, Transient)))
        return 1
    except TrainingStopped as stopped:
        sys.stderr.write(f"stopped {stopped}\n")
        return STOPPED_EXIT_CODE
    return 0


def _stop_when_orphaned(stop: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    stop.set()
    # A step that hangs, for example on a dead peer, never checks the event.
    time.sleep(TERMINATION_GRACE_SECONDS)
    os._exit(STOPPED_EXIT_CODE)


def _simplify_logs() -> None:
    """Remove dates and paths from warnings: the log is part of the reproducible result."""
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}\n"
    for handler in logging.getLogger("DeepSpeed").handlers:
        handler.setLevel(logging.WARNING)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))


if __name__ == "__main__":
    sys.exit(main())
