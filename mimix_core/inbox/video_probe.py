"""Whether a file is a video, found by decoding its first pictures in a process that can be killed.

``python -m mimix_core.inbox.video_probe FILE`` prints what is wrong with it, or nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

from mimix_core.engine.worker import die_first, limit_memory
from mimix_core.media import UnreadableVideo, open_video

FRAMES = 24
SECONDS = 60.0
MEMORY_BYTES = 4_000_000_000

_NO_VIDEO = 3


def problem(path: Path, seconds: float = SECONDS) -> str:
    """Why the file is no video that can be read, in words; empty when it is one."""
    child = subprocess.Popen(
        [sys.executable, "-m", __name__, str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        said, _ = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"its first pictures were not there after {seconds:g} s"
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if child.returncode == 0:
        return ""
    if child.returncode == _NO_VIDEO:
        return said.decode(errors="replace").strip()
    if child.returncode < 0:
        return f"reading it ended by signal {signal.Signals(-child.returncode).name}"
    return f"reading it ended by exit code {child.returncode}"


def main(path: Path) -> int:
    die_first()
    limit_memory(MEMORY_BYTES)
    try:
        with open_video(path, threads=1) as video:
            for _ in islice(video.frames(), FRAMES):
                pass
    except UnreadableVideo as error:
        sys.stdout.write(error.what)
        return _NO_VIDEO
    except MemoryError:
        sys.stdout.write("reading it takes too much memory")
        return _NO_VIDEO
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
