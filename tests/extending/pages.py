"""Follow a page of docs/extending/ literally: write its files, run its commands, read its output.

Fenced blocks with ``title="path"`` are files, ``sh`` blocks are commands, and each line of a
``text`` block must appear in the output of the commands before it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.paths import ROOT

BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    title: str | None
    text: str


def blocks(name: str) -> list[Block]:
    """The fenced blocks of docs/extending/NAME.md, in order."""
    page = (ROOT / "docs" / "extending" / f"{name}.md").read_text()
    return [Block(match[1], match[2], match[3]) for match in BLOCK.finditer(page)]


def follow(name: str, folder: Path) -> str:
    """Follow the page in an empty folder; return all that its commands printed."""
    printed = ""
    latest = ""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "COLUMNS")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "200",
        "PREFECT_HOME": str(folder / "prefect"),
        "MIMIX_CHECKOUT": str(ROOT),
    }
    for block in blocks(name):
        if block.title is not None:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "sh":
            done = subprocess.run(
                ["bash", "-euc", block.text],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{block.text}\n{done.stdout}"
            latest = done.stdout
            printed += latest
        elif block.language == "text":
            missing = [line for line in block.text.splitlines() if line.strip() not in latest]
            assert not missing, f"{missing} not in:\n{latest}"
    return printed
