"""Stages as Prefect tasks on a real Prefect server: cached, verified, and retried."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import State
from prefect.tasks import Task
from prefect.testing.utilities import prefect_test_harness

from mimix_core import tables
from mimix_core.domain.library import Library
from mimix_core.engine import registry
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.stage import Phase, run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput, MimixError, StageFailed, Transient
from mimix_core.project.workspace import Workspace
from mimix_core.settings import Config, RunSettings
from tasks.base import Run, stage_task
from tasks.cached_run import MissingResult, ReadOnlyRun
from tests.tasks import fake_stage_without_failed_rows
from tests.tasks.fake_stage import STAGE, FakeInputs, FakeSettings

pytestmark = pytest.mark.slow

fake_task = stage_task(STAGE.name, retry_delay_seconds=0.1)
task_without_failed_rows = stage_task(
    fake_stage_without_failed_rows.STAGE.name, retry_delay_seconds=0.1
)
fixed_retries_task = stage_task(STAGE.name, retry_delay_seconds=0.1, retries=1)


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
    inputs: list[FakeInputs],
    task: Task[..., TableRef] = fake_task,
) -> tuple[Run, list[TableRef], list[str]]:
    """Run the units in a flow; also return the names of the task runs' final states."""

    @flow
    def perform_units() -> tuple[Run, list[TableRef]]:
        run = Run(work)
        return run, run.run_units(task, inputs, FakeSettings())

    state: State = perform_units(return_state=True)
    names = states(state)
    run, refs = state.result()
    return run, refs, names


def states(state: State) -> list[str]:
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs()
    own = [run for run in runs if run.flow_run_id == state.state_details.flow_run_id]
    return sorted(run.state_name for run in own)


def lines(run_log: Path) -> list[str]:
    return run_log.read_text().splitlines() if run_log.exists() else []


def test_units_are_computed_once_and_cached_by_stage_key(tmp_path: Path) -> None:
    work, run_log = workspace(tmp_path), tmp_path / "run_log"
    inputs = [
        FakeInputs(unit=f"u{n}", behavior=f"work {n}", run_log=str(run_log)) for n in range(3)
    ]
    first, refs, names = perform(work, inputs)
    assert names == ["Completed"] * 3
    assert len(lines(run_log)) == 3
    assert [ref.unit for ref in refs] == ["u0", "u1", "u2"]
    assert first.summary().computed == 3

    second, again, names = perform(work, inputs)
    assert again == refs
    assert names == ["Cached"] * 3
    assert len(lines(run_log)) == 3, "nothing ran again"
    assert second.summary().computed == 0
    assert second.console.finished_stages[0].cached


def test_a_cached_result_with_a_missing_file_is_computed_again(tmp_path: Path) -> None:
    work, run_log = workspace(tmp_path), tmp_path / "run_log"
    inputs = [FakeInputs(behavior="to be damaged", run_log=str(run_log))]
    _, [ref], _ = perform(work, inputs)
    (ref.folder / "page.txt").unlink()
    run, [again], names = perform(work, inputs)
    assert names == ["Completed"]
    assert len(lines(run_log)) == 2
    assert again == ref
    assert (ref.folder / "page.txt").exists()
    assert run.summary().computed == 1


def test_a_damaged_result_is_not_called_missing(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    inputs = [FakeInputs(behavior="to be damaged")]
    _, [ref], _ = perform(work, inputs)
    (ref.folder / "page.txt").unlink()
    with pytest.raises(MissingResult, match="are incomplete or changed") as raised:
        ReadOnlyRun(work).run_units(fake_task, inputs, FakeSettings())
    assert str(raised.value).startswith(f"{ref.folder}: ")
    assert "Compute them again: mimix " in str(raised.value)


def test_results_of_a_moved_workspace_are_found(tmp_path: Path) -> None:
    run_log = tmp_path / "run_log"
    inputs = [FakeInputs(behavior="to be moved", run_log=str(run_log))]
    (tmp_path / "old").mkdir()
    perform(workspace(tmp_path / "old"), inputs)
    (tmp_path / "old").rename(tmp_path / "new")
    _, [ref], _ = perform(workspace(tmp_path / "new"), inputs)
    assert len(lines(run_log)) == 1
    assert ref.path.is_relative_to(tmp_path / "new")
    assert ref.path.exists()


def test_transient_errors_are_retried(tmp_path: Path) -> None:
    work, run_log = workspace(tmp_path), tmp_path / "run_log"
    _, [ref], names = perform(work, [FakeInputs(behavior="transient once", run_log=str(run_log))])
    assert names == ["Completed"]
    assert len(lines(run_log)) == 2
    assert ref.path.exists()


@pytest.mark.parametrize(
    ("behavior", "error", "tries"), [("transient", Transient, 3), ("bad input", BadInput, 1)]
)
def test_bad_input_is_not_retried(
    tmp_path: Path, behavior: str, error: type[MimixError], tries: int
) -> None:
    run_log = tmp_path / "run_log"
    with pytest.raises(error):
        perform(
            workspace(tmp_path, retries=2), [FakeInputs(behavior=behavior, run_log=str(run_log))]
        )
    assert len(lines(run_log)) == tries


def test_the_retries_of_a_stage_take_precedence_over_the_settings(tmp_path: Path) -> None:
    run_log = tmp_path / "run_log"
    work = workspace(tmp_path, retries=0)
    with pytest.raises(Transient):
        perform(work, [FakeInputs(behavior="transient", run_log=str(run_log))], fixed_retries_task)
    assert len(lines(run_log)) == 2


def test_units_claimed_by_another_run_come_last_and_are_not_computed_twice(tmp_path: Path) -> None:
    """Another run computes the first unit while this one computes the others."""
    run_log = tmp_path / "run_log"
    work = workspace(tmp_path, max_workers=1)
    inputs = [
        FakeInputs(unit=f"u{n}", behavior=f"work {n}", run_log=str(run_log)) for n in range(3)
    ]
    claimed, done = threading.Event(), threading.Event()

    def another_run() -> None:
        key = STAGE.key(inputs[0], FakeSettings())
        with work.store.claim(STAGE.name, key, claimed.set):
            claimed.set()
            while len(lines(run_log)) < 2:
                done.wait(0.05)
            run_stage(work.store, STAGE, inputs[0], FakeSettings())

    other = threading.Thread(target=another_run)
    other.start()
    assert claimed.wait(30)
    _, refs, names = perform(work, inputs)
    other.join(30)
    assert [line.split()[0] for line in lines(run_log)] == ["u1", "u2", "u0"]
    assert [ref.unit for ref in refs] == ["u0", "u1", "u2"]
    # Depends on timing: the first unit is committed already or still being computed.
    assert names[0] in ("Cached", "Completed")
    assert names[1:] == ["Completed"] * 2


def test_failed_rows_cause_a_warning_per_unit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, [ref], _ = perform(workspace(tmp_path), [FakeInputs(unit="u7", behavior="fail a row")])
    output = " ".join(capsys.readouterr().out.split())
    assert "warning" in output
    assert "(u7): 1 failed" in output
    assert ref.counts.failed == 1


def test_one_unit_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    inputs = [
        FakeInputs(unit="good-1", behavior="before"),
        FakeInputs(unit="bad", behavior="bad input"),
        FakeInputs(unit="good-2", behavior="after"),
    ]
    with pytest.raises(BadInput, match=r"\(bad\): here: no such thing"):
        perform(work, inputs)
    committed = sorted(record.unit for record in work.store.records())
    assert committed == ["good-1", "good-2"]


def rows(ref: TableRef) -> list[tuple[str, str | None]]:
    return [(row["status"], row["reason"]) for row in tables.read(ref.path, tables.REPORT)]


def test_a_unit_that_kills_its_process_becomes_a_failed_row(tmp_path: Path) -> None:
    run_logs = {name: tmp_path / name for name in ("good-1", "crash", "bug", "silent", "good-2")}
    behaviors = ("before", "crash", "bug", "go silent", "after")
    inputs = [
        FakeInputs(unit=name, behavior=behavior, run_log=str(run_log))
        for (name, run_log), behavior in zip(run_logs.items(), behaviors, strict=True)
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
    tries = {
        name: [line.split()[1] for line in lines(run_log)] for name, run_log in run_logs.items()
    }
    assert len(set(tries["crash"])) == len(tries["crash"]) == 2, "tried twice, in two processes"
    assert len(set(tries["silent"])) == 2
    assert run.summary().stages[0].reasons == {
        "decoder_crashed": 1,
        "unforeseen_error": 1,
        "decoder_hung": 1,
    }

    _, again, _ = perform(work, inputs)
    assert again == refs
    assert len(lines(run_logs["crash"])) == 2, "a unit that died twice is not tried in every run"
    assert len(lines(run_logs["bug"])) == 1, "a bug is tried once"
    assert work.store.discard(STAGE.name, refs[1].key)
    _, again, _ = perform(work, inputs)
    assert again == refs, "the same failure produces the same table"
    assert len(lines(run_logs["crash"])) == 4


def test_an_unexpected_error_in_every_unit_fails_the_stage(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    inputs = [FakeInputs(unit=name, behavior="bug") for name in ("one", "two")]
    with pytest.raises(StageFailed, match=r"every unit .* unexpected KeyError.*logs"):
        perform(work, inputs[:1])
    with pytest.raises(StageFailed, match=r"every unit .* unexpected KeyError.*logs"):
        perform(work, inputs)
    assert not list(work.store.records()), "a fixed version must not find these results"


def test_the_guard_against_bugs_works_while_its_own_run_uses_the_store(tmp_path: Path) -> None:
    """As in every flow: ``flow_session`` holds the store, and other runs may as well."""
    work, run_log = workspace(tmp_path), tmp_path / "run_log"
    inputs = [
        FakeInputs(unit=name, behavior=f"bug {name}", run_log=str(run_log))
        for name in ("one", "two")
    ]
    work.store.root.mkdir()

    def fail_with_store_in_use() -> str:
        @flow
        def guarded() -> None:
            run = Run(work)
            with work.store.in_use() as run.store_use:
                run.run_units(fake_task, inputs, FakeSettings())

        with pytest.raises(StageFailed) as caught:
            guarded()
        return str(caught.value)

    assert "every unit" in fail_with_store_in_use()
    assert not list(work.store.records()), "a fixed version must not find these results"
    with work.store.in_use():
        text = fail_with_store_in_use()
        assert "every unit" in text
        assert "another run uses it" in text
        assert len(list(work.store.records())) == 2
    assert len(lines(run_log)) == 4
    assert "every unit" in fail_with_store_in_use()
    assert len(lines(run_log)) == 6, "what another run kept from being discarded is computed again"
    assert not list(work.store.records())


def test_a_temporary_problem_does_not_blame_the_file(tmp_path: Path) -> None:
    run_log = tmp_path / "run_log"
    _, [ref], _ = perform(
        workspace(tmp_path), [FakeInputs(behavior="crash once", run_log=str(run_log))]
    )
    assert rows(ref) == [("ok", None)]
    assert len(lines(run_log)) == 2


def test_a_killed_unit_of_any_stage_is_tried_again(tmp_path: Path) -> None:
    """Units volunteer to be killed when memory runs out: captions, latents and LoRAs as well."""
    run_log = tmp_path / "run_log"
    inputs = [FakeInputs(behavior="crash once", run_log=str(run_log))]
    _, [ref], _ = perform(workspace(tmp_path), inputs, task_without_failed_rows)
    assert rows(ref) == [("ok", None)]
    assert len(lines(run_log)) == 2


def test_a_stage_without_failed_rows_fails_after_its_other_units_and_names_all(
    tmp_path: Path,
) -> None:
    work = workspace(tmp_path)
    inputs = [
        FakeInputs(unit="bad-1", behavior="crash"),
        FakeInputs(unit="good-1", behavior="before"),
        FakeInputs(unit="bad-2", behavior="bug"),
        FakeInputs(unit="good-2", behavior="after"),
    ]
    with pytest.raises(StageFailed) as caught:
        perform(work, inputs, task_without_failed_rows)
    assert "(bad-1): " in str(caught.value)
    assert "SIGSEGV" in str(caught.value)
    assert "(bad-2): " in str(caught.value)
    assert sorted(record.unit for record in work.store.records()) == ["good-1", "good-2"]


def test_a_unit_can_have_any_file_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["[/red] [bold", "two\nlines", "x" * 240, "{work} naïve 日本", "../up"]
    inputs = [FakeInputs(unit=name, behavior="fail a row " + name) for name in names]
    _, refs, _ = perform(workspace(tmp_path), inputs)
    assert [ref.unit for ref in refs] == names
    assert "([/red] [bold): 1 failed" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.log")), "all logs lie in their folder"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strength": -1}, "key extensions.tests.tasks.fake_stage.strength: "),
        ({"strenght": 1}, "key extensions.tests.tasks.fake_stage.strenght: "),
    ],
)
def test_wrong_settings_of_an_outside_stage_name_the_key(
    tmp_path: Path, values: dict[str, int], message: str
) -> None:
    work = workspace(tmp_path)
    assert Run(work).settings_for(STAGE.name) == FakeSettings()
    config = work.config.model_copy(update={"extensions": {STAGE.name: values}})
    with pytest.raises(BadInput, match=message):
        Run(replace(work, config=config)).settings_for(STAGE.name)


@pytest.mark.e2e
def test_an_outside_stage_runs_with_its_settings(tmp_path: Path) -> None:
    settings = FakeSettings(strength=3)
    work = workspace(tmp_path)
    config = work.config.model_copy(update={"extensions": {STAGE.name: {"strength": 3}}})

    @flow
    def run_outside_stage() -> TableRef:
        run = Run(replace(work, config=config))
        inputs = FakeInputs(behavior="outside")
        return run.run_single(fake_task, inputs, run.settings_for(STAGE.name))

    assert run_outside_stage().key == STAGE.key(FakeInputs(behavior="outside"), settings)


@pytest.mark.parametrize(
    ("phase", "command"),
    [
        (Phase.CURATION, "mimix curate"),
        (Phase.TRAINING, "mimix train"),
        (Phase.EVALUATION, "mimix score"),
    ],
)
def test_a_missing_result_is_computed_by_the_command_that_the_error_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: Phase, command: str
) -> None:
    monkeypatch.setattr(registry, "get_stage", lambda name: replace(STAGE, phase=phase))
    with pytest.raises(MissingResult) as raised:
        ReadOnlyRun(workspace(tmp_path)).run_units(fake_task, [FakeInputs()], FakeSettings())
    assert f"Run it first: {command}, with the same settings" in str(raised.value)


def test_a_summary_says_where_adapters_and_videos_are(tmp_path: Path) -> None:
    _, [ref], _ = perform(workspace(tmp_path), [FakeInputs(behavior="a result")])
    run = Run(workspace(tmp_path), refs={"lora": [ref, ref], "samples": [ref]})
    assert run.summary().adapter_folders == (ref.folder, ref.folder)
    assert run.summary().video_folder == ref.folder / "samples"
    nothing = Run(workspace(tmp_path)).summary()
    assert (nothing.adapter_folders, nothing.video_folder) == ((), None)
