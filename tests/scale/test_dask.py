"""Units on a Dask cluster: same tables, same errors, no processes left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import flow
from prefect.testing.utilities import prefect_test_harness

from mimix_core.domain.library import Library
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput, StageFailed
from mimix_core.project.workspace import Workspace
from mimix_core.settings import Config
from mimix_core.settings.config import RunSettings
from tasks.base import Run, stage_task
from tasks.task_runners import task_runner
from tests.tasks import fake_stage_without_failed_rows
from tests.tasks.fake_stage import STAGE, FakeInputs, FakeSettings
from tests.tasks.test_subprocess_runner import gone

pytest.importorskip("prefect_dask", reason="the extra mimix[dask] is not installed")
pytestmark = pytest.mark.e2e

fake_task = stage_task(STAGE.name)
task_without_failed_rows = stage_task(fake_stage_without_failed_rows.STAGE.name)


@pytest.fixture(scope="module", autouse=True)
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_RESULTS_LOCAL_STORAGE_PATH", str(tmp_path_factory.mktemp("results")))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with prefect_test_harness(server_startup_timeout=120):
            yield


@flow
def on_dask(
    folder: Path, good: list[FakeInputs], bad: list[FakeInputs], address: str | None
) -> tuple[list[TableRef], str]:
    """Run both lists on one cluster; return the tables of the first, the error of the second."""
    settings = RunSettings(task_runner="dask", max_workers=2, dask_scheduler=address)
    config = Config(library=folder / "library.yaml", workspace=folder, run=settings)
    work = Workspace(config, Library.model_construct(shows=()), Store(folder / "store"), ())
    with task_runner(settings):
        run = Run(work)
        refs = run.run_units(fake_task, good, FakeSettings())
        try:
            run.run_units(task_without_failed_rows, bad, FakeSettings())
        except StageFailed as error:
            return refs, str(error)
    raise AssertionError("the bad units did not fail")


def test_units_run_on_dask_as_in_threads(tmp_path: Path) -> None:
    run_log = tmp_path / "run_log"
    good = [FakeInputs(unit=f"u{n}", behavior=f"work {n}", run_log=str(run_log)) for n in range(4)]
    behaviors = {"crash": "crash", "no": "bad input"}
    bad = [FakeInputs(unit=unit, behavior=behavior) for unit, behavior in behaviors.items()]
    refs, said = on_dask(tmp_path, good, bad, None)
    assert [ref.unit for ref in refs] == ["u0", "u1", "u2", "u3"]
    assert all(ref.path.exists() for ref in refs)
    assert "(crash): " in said and "SIGSEGV" in said, "errors are transferred completely"
    assert "(no): here: no such thing. Do that." in said

    pids = {int(line.split()[1]) for line in run_log.read_text().splitlines()}
    assert len(pids) == 2, "two workers, each reusing one unit process"
    assert gone(list(pids)), "processes end with the cluster"


def test_a_missing_scheduler_is_reported_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "2s"}),
        pytest.raises(BadInput, match=r"run\.dask_scheduler: no Dask scheduler answers"),
    ):
        on_dask(tmp_path, [FakeInputs()], [], "tcp://127.0.0.1:1")
