"""What every flow run shares: the workspace opened once, the board, the summary at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.artifacts import create_markdown_artifact

from mimix_core.settings import Config
from mimix_core.workspace import open_workspace
from tasks.base import Run
from tasks.board import Stopwatch
from tasks.captions import prepare_key


@contextmanager
def session(config: Config, flow_name: str) -> Iterator[Run]:
    """Open the workspace, hand out a Run, and leave a summary artifact however it ends."""
    watch = Stopwatch()
    prepare_key(config.captions)
    run = Run(open_workspace(config))
    try:
        with run.workspace.store.in_use():
            yield run
    finally:
        create_markdown_artifact(
            markdown=run.summary().markdown(flow_name, watch.seconds()),
            key=f"mimix-{flow_name}-summary",
            description="Rows in and out of every stage",
        )
