"""Check that a file is a video by decoding its first frames in a process that can be killed.

``python -m mimix_core.inbox.video_probe FILE`` prints what is wrong with the file, or nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

from mimix_core.engine.child_environment import child_environment
from mimix_core.engine.worker import limit_memory, prefer_oom_kill
from mimix_core.media import UnreadableVideo, open_video

FRAMES = 24
SECONDS = 60.0
MEMORY_BYTES = 4_000_000_000

_NO_VIDEO = 3


def probe_error(path: Path, seconds: float = SECONDS) -> str:
    """Return why the file is not a readable video; empty if it is one."""
    child = subprocess.Popen(
        [sys.executable, "-m", __name__, str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child_environment(),
        start_new_session=True,
    )
    try:
        output, _ = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"its first frames were not decoded within {seconds:g} s"
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if child.returncode == 0:
        return ""
    if child.returncode == _NO_VIDEO:
        return output.decode(errors="replace").strip()
    if child.returncode < 0:
        return f"its decoder was terminated by signal {signal.Signals(-child.returncode).name}"
    return f"its decoder failed with exit code {child.returncode}"


def main(path: Path) -> int:
    """Decode the first frames, print what is wrong with the file, and return the exit code."""
    prefer_oom_kill()
    limit_memory(MEMORY_BYTES)
    try:
        with open_video(path, threads=1) as video:
            for _ in islice(video.frames(), FRAMES):
                pass
    except UnreadableVideo as error:
        sys.stdout.write(error.what)
        return _NO_VIDEO
    except MemoryError:
        sys.stdout.write("decoding it takes too much memory")
        return _NO_VIDEO
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
