"""The demo, run once for all tests of this folder."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.demo import ROOT, Demo


@dataclass(frozen=True)
class FinishedDemo:
    demo: Demo
    printed: str
    seconds: float


@pytest.fixture(scope="session")
def footage() -> Path:
    """The demo's footage and model, created if missing."""
    for script, folder in (("footage", "footage"), ("models", "models")):
        subprocess.run(
            [sys.executable, f"demo/{script}.py", f"demo/{folder}"], cwd=ROOT, check=True
        )
    return ROOT / "demo" / "footage"


@pytest.fixture(scope="session")
def finished(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedDemo:
    """An uninterrupted run in an empty workspace. Tests that change anything use a copy."""
    demo = Demo(tmp_path_factory.mktemp("demo"))
    printed, seconds = demo.run()
    return FinishedDemo(demo, printed, seconds)
