"""One training process: ``python -m mimix_core.training JOB MESSAGES_FD``.

RANK, WORLD_SIZE and LOCAL_RANK come from the environment. Messages go out as JSON lines on the
file descriptor MESSAGES_FD, all else on stdout and stderr. SIGTERM ends it between two steps; so
does the end of its stdin, which means that whoever started it is gone.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

from pydantic import BaseModel

from mimix_core.errors import BadInput
from mimix_core.training.job import Job, Refused, Stopped

# As shells report a process that SIGTERM ended.
STOPPED = 128 + signal.SIGTERM
_GRACE_SECONDS = 30.0


def main() -> int:
    job = Job.model_validate_json(Path(sys.argv[1]).read_bytes())
    messages = os.fdopen(int(sys.argv[2]), "w", buffering=1)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # Ctrl-C reaches the one who started us; it tells us by SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_stop_when_orphaned, args=(stop,), daemon=True).start()

    def tell(message: BaseModel) -> None:
        if os.environ["RANK"] == "0":
            messages.write(message.model_dump_json() + "\n")

    from mimix_core.wan.runtime import pick_device

    try:
        # DeepSpeed takes a GPU when it sees one, whatever the settings say, unless told here.
        os.environ["DS_ACCELERATOR"] = pick_device(job.settings.device).type
        from mimix_core.training import loop

        _plain_logs()
        loop.train(job, tell, stop.is_set)
    except BadInput as error:
        tell(Refused(what=error.what, where=error.where, fix=error.fix))
        return 1
    except Stopped as stopped:
        sys.stderr.write(f"stopped {stopped}\n")
        return STOPPED
    return 0


def _stop_when_orphaned(stop: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    stop.set()
    # A step that hangs, say on a dead peer, never looks at the event.
    time.sleep(_GRACE_SECONDS)
    os._exit(STOPPED)


def _plain_logs() -> None:
    """Warnings without dates and paths: the log is part of the result, and results repeat."""
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}\n"
    for handler in logging.getLogger("DeepSpeed").handlers:
        handler.setLevel(logging.WARNING)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))


if __name__ == "__main__":
    sys.exit(main())
