"""OpenCV thread control for code that parallelizes its own work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2


@contextmanager
def opencv_single_thread() -> Iterator[None]:
    """Run OpenCV single-threaded within the context.

    A clip's frames are too small to split among cores, which process other frames meanwhile.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
