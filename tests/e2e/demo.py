"""Running the demo from the outside, as a person does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from mimix_core.store import StageRecord, Store

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Demo:
    """A workspace the demo runs in. ``settings`` is the settings file it runs with."""

    folder: Path
    settings: Path = ROOT / "demo" / "mimix.yaml"

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @property
    def store(self) -> Store:
        return Store(self.workspace / "store")

    def command(self) -> list[str]:
        return [
            sys.executable,
            "-m",
            "flows.cli",
            "run",
            str(self.settings),
            "--workspace",
            str(self.workspace),
        ]

    def environment(self) -> dict[str, str]:
        mine = {"PREFECT_HOME": str(self.folder / "prefect"), "COLUMNS": "200"}
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        return {**kept, **mine}

    def run(self) -> tuple[str, float]:
        """Run to the end; gives what it printed and its wall seconds."""
        started = time.monotonic()
        done = subprocess.run(
            self.command(),
            cwd=ROOT,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout, time.monotonic() - started

    def start(self) -> subprocess.Popen[bytes]:
        """Start it and return at once; it leads a process group of its own."""
        return subprocess.Popen(
            self.command(),
            cwd=ROOT,
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def copy(self, folder: Path) -> Demo:
        """The same state in another folder."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Demo(folder, self.settings)

    def digests(self) -> dict[tuple[str, str], str]:
        """Table digest of each stage and unit there is."""
        found = {}
        for record in self.store.records():
            table = next(file for file in record.files if file.path == Store.TABLE)
            key = (record.stage, record.unit)
            assert key not in found, f"{key} is there twice"
            found[key] = table.sha256
        return found

    def records(self, stage: str) -> list[StageRecord]:
        return [record for record in self.store.records() if record.stage == stage]

    def staging(self, stage: str) -> list[Path]:
        """Folders in which that stage is working now, or was when it was killed."""
        staging = self.store.root / ".staging"
        return [p for p in staging.glob(f"{stage}-*") if p.is_dir()] if staging.exists() else []


def stage_lines(printed: str) -> dict[str, str]:
    """The line the run printed for each stage."""
    return {line.split()[0]: line for line in printed.splitlines() if " in: " in line}
