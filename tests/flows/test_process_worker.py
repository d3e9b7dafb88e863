"""Prefect's process worker and a run that is resumed before its suspended process has ended."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from uuid import uuid4

import anyio
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.workers.process import ProcessWorker

from flows.process_worker import PatientProcessWorker

PARENT_OF_A_WORKER = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())])
os.kill(os.getpid(), 9)
"""
WORKER = """
import subprocess, sys, time
from flows.process_worker import _end_with
run = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(run.pid, flush=True)
_end_with(int(sys.argv[1]))
"""


async def resume_early(worker: ProcessWorker) -> list[FlowRun]:
    """Offer the worker a run whose last process still holds its place."""
    run = FlowRun(id=uuid4(), flow_id=uuid4())
    worker._limiter = anyio.CapacityLimiter(2)
    worker._limiter.acquire_on_behalf_of_nowait(run.id)
    offer = WorkerFlowRunResponse(work_pool_id=uuid4(), work_queue_id=uuid4(), flow_run=run)
    return await worker._submit_scheduled_flow_runs([offer])


def test_a_run_whose_last_process_has_not_ended_is_left_for_later() -> None:
    assert asyncio.run(resume_early(PatientProcessWorker("pool"))) == []


def test_prefects_own_worker_ends_then() -> None:
    """As soon as this fails, Prefect has mended it and PatientProcessWorker can go."""
    with pytest.raises(RuntimeError, match="already holding"):
        asyncio.run(resume_early(ProcessWorker("pool")))


def test_it_ends_with_its_runs_as_soon_as_its_parent_is_killed() -> None:
    # Standard output reaches its end only when the last process that holds it has ended.
    done = subprocess.run(
        [sys.executable, "-c", PARENT_OF_A_WORKER, WORKER],
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert done.returncode == -9
    assert int(done.stdout) > 0
