"""Shared by the parts of ``generate.py``: storing measurements, and timing on a GPU."""

from __future__ import annotations

import datetime
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any


class Measurements:
    """Measurements so far by part, with the date of each part, written to disk after each one."""

    def __init__(self, out: Path) -> None:
        self.path = out / "generate.json"
        self.parts: dict[str, Any] = {}
        if self.path.exists():
            self.parts = json.loads(self.path.read_text())

    def record(self, part: str, name: str, value: Any) -> None:
        self.parts.setdefault(part, {})[name] = value
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        self.parts.setdefault("dates", {})[part] = today
        self.path.write_text(json.dumps(self.parts, indent=1) + "\n")
        print(part, name, json.dumps(value), flush=True)


def seconds_of(work: Callable[[], Any], times: int) -> dict[str, Any]:
    """Time the first run (compilation, kernel search), then the median of ``times`` more."""
    import torch

    def once() -> float:
        torch.cuda.synchronize()
        begin = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - begin

    first = once()
    torch.cuda.reset_peak_memory_stats()
    found = [once() for _ in range(times)]
    return {
        "seconds": median(found),
        "all_seconds": found,
        "first_seconds": first,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
    }


def clear() -> None:
    import torch

    gc.collect()
    torch.cuda.empty_cache()
