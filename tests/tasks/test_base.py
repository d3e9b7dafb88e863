"""Stages as Prefect tasks, on a real Prefect server: cached, verified, retried where it helps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import State
from prefect.tasks import Task
from prefect.testing.utilities import prefect_test_harness

from mimix_core import tables
from mimix_core.domain.library import Library
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput, MimixError, StageFailed, Transient
from mimix_core.project.workspace import Workspace
from mimix_core.settings import Config, RunSettings
from tasks.base import Run, stage_task
from tests.tasks import mute_stage
from tests.tasks.obedient_stage import STAGE, ObedientInputs, ObedientSettings

pytestmark = pytest.mark.slow

obedient_task = stage_task(STAGE.name, retry_delay_seconds=0.1)
mute_task = stage_task(mute_stage.STAGE.name, retry_delay_seconds=0.1)
steadfast_task = stage_task(STAGE.name, retry_delay_seconds=0.1, retries=1)


@pytest.fixture(scope="module", autouse=True)
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    results = tmp_path_factory.mktemp("prefect-results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_RESULTS_LOCAL_STORAGE_PATH", str(results))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with prefect_test_harness(server_startup_timeout=120):
            yield


def workspace(tmp_path: Path, **run: float) -> Workspace:
    config = Config(library=tmp_path / "library.yaml", workspace=tmp_path, run=RunSettings(**run))
    store = Store(tmp_path / "store")
    return Workspace(config, Library.model_construct(shows=()), store, ())


def perform(
    work: Workspace,
    inputs: list[ObedientInputs],
    submit: Task[..., TableRef] = obedient_task,
) -> tuple[Run, list[TableRef], list[str]]:
    """Run the units in a flow; gives also the names of the task runs' final states."""

    @flow
    def perform_units() -> tuple[Run, list[TableRef]]:
        run = Run(work)
        return run, run.run_units(submit, inputs, ObedientSettings())

    state: State = perform_units(return_state=True)
    names = states(state)
    run, refs = state.result()
    return run, refs, names


def states(state: State) -> list[str]:
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs()
    mine = [run for run in runs if run.flow_run_id == state.state_details.flow_run_id]
    return sorted(run.state_name for run in mine)


def lines(diary: Path) -> list[str]:
    return diary.read_text().splitlines() if diary.exists() else []


def test_units_are_computed_once_and_cached_by_stage_key(tmp_path: Path) -> None:
    work, diary = workspace(tmp_path), tmp_path / "diary"
    inputs = [ObedientInputs(unit=f"u{n}", order=f"work {n}", diary=str(diary)) for n in range(3)]
    first, refs, names = perform(work, inputs)
    assert names == ["Completed"] * 3
    assert len(lines(diary)) == 3
    assert [ref.unit for ref in refs] == ["u0", "u1", "u2"]
    assert first.summary().computed == 3

    second, again, names = perform(work, inputs)
    assert again == refs
    assert names == ["Cached"] * 3
    assert len(lines(diary)) == 3, "nothing ran again"
    assert second.summary().computed == 0
    assert second.console.finished_stages[0].cached


def test_a_cached_result_whose_file_is_gone_runs_again(tmp_path: Path) -> None:
    work, diary = workspace(tmp_path), tmp_path / "diary"
    inputs = [ObedientInputs(order="to be damaged", diary=str(diary))]
    _, [ref], _ = perform(work, inputs)
    (ref.folder / "page.txt").unlink()
    run, [again], names = perform(work, inputs)
    assert names == ["Completed"]
    assert len(lines(diary)) == 2
    assert again == ref
    assert (ref.folder / "page.txt").exists()
    assert run.summary().computed == 1


def test_a_moved_workspace_is_found_where_it_is_now(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    inputs = [ObedientInputs(order="to be moved", diary=str(diary))]
    (tmp_path / "old").mkdir()
    perform(workspace(tmp_path / "old"), inputs)
    (tmp_path / "old").rename(tmp_path / "new")
    _, [ref], _ = perform(workspace(tmp_path / "new"), inputs)
    assert len(lines(diary)) == 1
    assert ref.path.is_relative_to(tmp_path / "new")
    assert ref.path.exists()


def test_what_a_retry_can_help_is_retried(tmp_path: Path) -> None:
    work, diary = workspace(tmp_path), tmp_path / "diary"
    _, [ref], names = perform(work, [ObedientInputs(order="transient once", diary=str(diary))])
    assert names == ["Completed"]
    assert len(lines(diary)) == 2
    assert ref.path.exists()


@pytest.mark.parametrize(
    ("order", "error", "tries"), [("transient", Transient, 3), ("bad input", BadInput, 1)]
)
def test_bad_input_is_not_retried(
    tmp_path: Path, order: str, error: type[MimixError], tries: int
) -> None:
    diary = tmp_path / "diary"
    with pytest.raises(error):
        perform(workspace(tmp_path, retries=2), [ObedientInputs(order=order, diary=str(diary))])
    assert len(lines(diary)) == tries


def test_a_stage_that_says_how_often_it_is_tried_again_is_heard(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    work = workspace(tmp_path, retries=0)
    with pytest.raises(Transient):
        perform(work, [ObedientInputs(order="transient", diary=str(diary))], steadfast_task)
    assert len(lines(diary)) == 2


def test_what_another_run_is_making_comes_last_and_is_not_made_twice(tmp_path: Path) -> None:
    """Another run has the first unit; it makes it while this one is at the others."""
    diary = tmp_path / "diary"
    work = workspace(tmp_path, max_workers=1)
    inputs = [ObedientInputs(unit=f"u{n}", order=f"work {n}", diary=str(diary)) for n in range(3)]
    held, made = threading.Event(), threading.Event()

    def another_run() -> None:
        key = STAGE.key(inputs[0], ObedientSettings())
        with work.store.claim(STAGE.name, key, held.set):
            held.set()
            while len(lines(diary)) < 2:
                made.wait(0.05)
            run_stage(work.store, STAGE, inputs[0], ObedientSettings())

    other = threading.Thread(target=another_run)
    other.start()
    assert held.wait(30)
    _, refs, names = perform(work, inputs)
    other.join(30)
    assert [line.split()[0] for line in lines(diary)] == ["u1", "u2", "u0"]
    assert [ref.unit for ref in refs] == ["u0", "u1", "u2"]
    # The first is there already, or is still waited for: that is up to the machine.
    assert names[0] in ("Cached", "Completed")
    assert names[1:] == ["Completed"] * 2


def test_failed_rows_are_a_warning_each_unit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, [ref], _ = perform(workspace(tmp_path), [ObedientInputs(unit="u7", order="fail a row")])
    said = " ".join(capsys.readouterr().out.split())
    assert "warning" in said
    assert "(u7): 1 failed" in said
    assert ref.counts.failed == 1


def test_one_unit_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    inputs = [
        ObedientInputs(unit="good-1", order="before"),
        ObedientInputs(unit="bad", order="bad input"),
        ObedientInputs(unit="good-2", order="after"),
    ]
    with pytest.raises(BadInput, match=r"\(bad\): here: no such thing"):
        perform(work, inputs)
    kept = sorted(record.unit for record in work.store.records())
    assert kept == ["good-1", "good-2"]


def rows(ref: TableRef) -> list[tuple[str, str | None]]:
    return [(row["status"], row["reason"]) for row in tables.read(ref.path, tables.REPORT)]


def test_a_unit_that_kills_its_process_is_a_failed_row_and_the_others_go_on(tmp_path: Path) -> None:
    diaries = {name: tmp_path / name for name in ("good-1", "crash", "bug", "silent", "good-2")}
    orders = ("before", "crash", "bug", "go silent", "after")
    inputs = [
        ObedientInputs(unit=name, order=order, diary=str(diary))
        for (name, diary), order in zip(diaries.items(), orders, strict=True)
    ]
    work = workspace(tmp_path, stall_timeout_minutes=2.5 / 60)
    run, refs, _ = perform(work, inputs)
    assert [rows(ref) for ref in refs] == [
        [("ok", None)],
        [("failed", "decoder_crashed")],
        [("failed", "unforeseen_error")],
        [("failed", "decoder_hung")],
        [("ok", None)],
    ]
    tries = {name: [line.split()[1] for line in lines(diary)] for name, diary in diaries.items()}
    assert len(set(tries["crash"])) == len(tries["crash"]) == 2, "tried twice, in two processes"
    assert len(set(tries["silent"])) == 2
    assert run.summary().stages[0].reasons == {
        "decoder_crashed": 1,
        "unforeseen_error": 1,
        "decoder_hung": 1,
    }

    _, again, _ = perform(work, inputs)
    assert again == refs
    assert len(lines(diaries["crash"])) == 2, "what died twice is not tried again every night"
    assert len(lines(diaries["bug"])) == 1, "what is no hiccup is tried once"
    assert work.store.discard(STAGE.name, refs[1].key)
    _, again, _ = perform(work, inputs)
    assert again == refs, "the same failure makes the same table"
    assert len(lines(diaries["crash"])) == 4


def test_what_fails_for_every_unit_is_a_bug_and_no_bad_footage(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    inputs = [ObedientInputs(unit=name, order="bug") for name in ("one", "two")]
    with pytest.raises(StageFailed, match=r"every unit .* unexpected KeyError.*logs"):
        perform(work, inputs[:1])
    with pytest.raises(StageFailed, match=r"every unit .* unexpected KeyError.*logs"):
        perform(work, inputs)
    assert not list(work.store.records()), "nothing is kept that a mended MiMix would find"


def test_a_hiccup_of_the_machine_is_not_held_against_the_file(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    _, [ref], _ = perform(
        workspace(tmp_path), [ObedientInputs(order="crash once", diary=str(diary))]
    )
    assert rows(ref) == [("ok", None)]
    assert len(lines(diary)) == 2


def test_a_stage_without_an_answer_fails_after_its_other_units_and_names_all(
    tmp_path: Path,
) -> None:
    work = workspace(tmp_path)
    inputs = [
        ObedientInputs(unit="bad-1", order="crash"),
        ObedientInputs(unit="good-1", order="before"),
        ObedientInputs(unit="bad-2", order="bug"),
        ObedientInputs(unit="good-2", order="after"),
    ]
    with pytest.raises(StageFailed) as caught:
        perform(work, inputs, mute_task)
    assert "(bad-1): " in str(caught.value)
    assert "SIGSEGV" in str(caught.value)
    assert "(bad-2): " in str(caught.value)
    assert sorted(record.unit for record in work.store.records()) == ["good-1", "good-2"]


def test_any_name_that_a_file_can_have_is_a_unit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["[/red] [bold", "two\nlines", "x" * 240, "{work} naïve 日本", "../up"]
    inputs = [ObedientInputs(unit=name, order="fail a row " + name) for name in names]
    _, refs, _ = perform(workspace(tmp_path), inputs)
    assert [ref.unit for ref in refs] == names
    assert "([/red] [bold): 1 failed" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.log")), "all logs lie in their folder"
