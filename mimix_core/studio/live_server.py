"""Serve what runs are doing: progress, training curves, previews, and how to start and cancel."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from fastapi import FastAPI, HTTPException
from fastapi.responses import Response

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.errors import BadInput
from mimix_core.project.live_status import RunProgress, read_live_status
from mimix_core.studio.page_files import json_response, serve_page
from mimix_core.studio.training_runs import TrainingRun, find_training_runs

MAX_POINTS = 600
MAX_TRAININGS = 5


@dataclass(frozen=True)
class ServerRun:
    """A run on a server. ``can_cancel``: it has not ended; ``progress``: (text, percent)."""

    id: str
    name: str
    flow: str
    state: str
    started: str
    page: str
    can_cancel: bool
    progress: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class ServerState:
    """What a server says. ``flows``: what can be started, as (deployment id, name).

    ``problem``: why it says nothing; empty if it answers.
    """

    page: str
    flows: tuple[tuple[str, str], ...] = ()
    runs: tuple[ServerRun, ...] = ()
    problem: str = ""


class RunControl(Protocol):
    """Starts and cancels the runs of one project on a server."""

    def state(self) -> ServerState:
        """Return what the server says about this project."""
        ...

    def start(self, deployment: str) -> None:
        """Start a run. Raises BadInput if it is not of this project, or the server refuses."""
        ...

    def cancel(self, run: str) -> None:
        """Cancel a run. Raises BadInput if it is not of this project, or the server refuses."""
        ...


class StartRequest(FrozenModel):
    """A deployment to run."""

    deployment: UUID


class CancelRequest(FrozenModel):
    """A run to cancel."""

    run: UUID


def add_live(app: FastAPI, workspace: Path, control: RunControl | None) -> None:
    """Add the page ``/live``. ``control``: None without a server; the page then only shows."""

    @app.get("/live")
    async def page() -> Response:
        return serve_page("live.html")

    @app.get("/api/live")
    def live() -> Response:
        now = time.time()
        return json_response(
            {
                "runs": [_describe_run(run, now) for run in read_live_status(workspace)],
                "trainings": [
                    {"key": run.key, "title": run.title, "version": str(run.version())}
                    for run in find_training_runs(workspace)[:MAX_TRAININGS]
                ],
                "server": None if control is None else asdict(control.state()),
            }
        )

    @app.get("/api/training")
    def training(key: str) -> Response:
        for run in find_training_runs(workspace):
            if run.key == key:
                return json_response(describe_training(run))
        raise HTTPException(404, "no such training")

    @app.post("/api/runs/start")
    def start(request: StartRequest) -> Response:
        return _do(control, lambda found: found.start(str(request.deployment)))

    @app.post("/api/runs/cancel")
    def cancel(request: CancelRequest) -> Response:
        return _do(control, lambda found: found.cancel(str(request.run)))


def _do(control: RunControl | None, action: Any) -> Response:
    if control is None:
        raise HTTPException(409, "no server is configured: start runs from the shell")
    try:
        action(control)
    except BadInput as error:
        raise HTTPException(409, str(error)) from error
    return json_response({})


def _describe_run(run: RunProgress, now: float) -> dict[str, Any]:
    return {
        "flow": run.flow,
        "flow_run_id": run.flow_run_id,
        "seconds": round(now - run.started),
        "stages": [
            {
                "stage": one.stage,
                "units": one.units,
                "done": one.done,
                "note": one.note,
                "seconds": round((one.ended or now) - one.started),
                "left": one.seconds_left(now),
                "running": one.ended is None,
            }
            for one in run.stages
        ],
    }


def describe_training(run: TrainingRun) -> dict[str, Any]:
    """Return curves, speed and the latest previews of a training."""
    records = run.records()
    train = [(one["step"], one["train_loss"]) for one in records if "train_loss" in one]
    held_out = [
        (one["step"], one["held_out_loss"], *(one.get("interval") or (None, None)))
        for one in records
        if "held_out_loss" in one
    ]
    previewed = [one["step"] for one in records if "preview" in one]
    steps = sorted(set(previewed))
    return {
        "key": run.key,
        "title": run.title,
        "finished": run.finished,
        "train": average_runs(train, MAX_POINTS),
        "held_out": held_out[-MAX_POINTS:],
        "step": max((one["step"] for one in records), default=0),
        "wall": f"training-{run.key[:16]}" if steps else "",
        "columns": len(steps),
        "preview_step": steps[-1] if steps else None,
        "previews": len({one["seed"] for one in records if "preview" in one}),
        "seconds_per_step": _recent_seconds(run.speed()),
    }


def average_runs(points: Sequence[tuple[int, float]], limit: int) -> list[tuple[int, float]]:
    """Average neighboring points so that at most ``limit`` remain; each has its last step."""
    size = -(-len(points) // limit)
    if size <= 1:
        return list(points)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def _recent_seconds(speed: Sequence[dict[str, Any]]) -> float | None:
    recent = sorted(float(one["seconds"]) for one in speed[-20:] if "seconds" in one)
    return recent[len(recent) // 2] if recent else None
