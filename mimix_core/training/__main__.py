"""One training process: ``python -m mimix_core.training JOB MESSAGES_FD``.

RANK, WORLD_SIZE and LOCAL_RANK come from the environment. Messages go out as JSON lines on the
file descriptor MESSAGES_FD, all else on stdout and stderr. SIGTERM ends it after the micro batch
it is at, with a checkpoint of its last whole step; so does the end of its stdin, which means that
whoever started it is gone.
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
    # Ctrl-C reaches the one who started us; it tells us by SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_stop_when_orphaned, args=(stop,), daemon=True).start()

    def say(message: BaseModel) -> None:
        # Nobody listens any more when our starter died; our stdin tells of that.
        with suppress(BrokenPipeError):
            messages.write(message.model_dump_json() + "\n")

    def tell(message: BaseModel) -> None:
        if os.environ["RANK"] == "0":
            say(message)

    from mimix_core.engine.torch_runtime import select_device

    try:
        # DeepSpeed takes a GPU when it sees one, whatever the settings say, unless told here.
        os.environ["DS_ACCELERATOR"] = select_device(job.settings.device).type
        from mimix_core.training import distributed, trainer

        _plain_logs()
        trainer.train(job, tell, stop.is_set)
        distributed.destroy_process_group()
    except BadInput as error:
        # Any process may be the one that meets a sample it cannot read.
        say(BadInputMessage(what=error.what, where=error.where, fix=error.fix))
        return 1
    except (StageFailed, Transient) as error:
        say(FailedMessage(message=str(error), retryable=isinstance(error, Transient)))
        return 1
    except TrainingStopped as stopped:
        sys.stderr.write(f"stopped {stopped}\n")
        return STOPPED_EXIT_CODE
    return 0


def _stop_when_orphaned(stop: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    stop.set()
    # A step that hangs, say on a dead peer, never looks at the event.
    time.sleep(TERMINATION_GRACE_SECONDS)
    os._exit(STOPPED_EXIT_CODE)


def _plain_logs() -> None:
    """Warnings without dates and paths: the log is part of the result, and results repeat."""
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}\n"
    for handler in logging.getLogger("DeepSpeed").handlers:
        handler.setLevel(logging.WARNING)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))


if __name__ == "__main__":
    sys.exit(main())
