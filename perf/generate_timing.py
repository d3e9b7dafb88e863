"""What the parts of ``generate.py`` share: what was found so far, and a GPU's seconds."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any


class Found:
    """What was measured so far, on disk after each part."""

    def __init__(self, out: Path) -> None:
        self.path = out / "generate.json"
        self.parts: dict[str, Any] = {}
        if self.path.exists():
            self.parts = json.loads(self.path.read_text())

    def note(self, part: str, name: str, value: Any) -> None:
        self.parts.setdefault(part, {})[name] = value
        self.path.write_text(json.dumps(self.parts, indent=1) + "\n")
        print(part, name, json.dumps(value), flush=True)


def seconds_of(work: Callable[[], Any], times: int) -> dict[str, Any]:
    """The first run's seconds (compilation, search), then the median of ``times`` more."""
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
