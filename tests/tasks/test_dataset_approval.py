"""Approval of the dataset before training, in runs from the shell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from prefect.tasks import Task
from typer.testing import CliRunner

from flows.augment import augment_stages
from flows.cli import app
from flows.curate import curate_stages
from mimix_core import tables
from mimix_core.domain.library import Library
from mimix_core.engine import registry
from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.project.dataset_review import (
    DatasetDecision,
    current_user,
    load_decision,
    save_decision,
)
from mimix_core.project.workspace import Workspace, open_workspace
from mimix_core.settings import Config, RunSettings, load_config
from tasks.base import Run
from tasks.dataset_approval import DatasetNotApproved, require_approval
from tests.deployments.project_factory import write_project
from tests.factories import table_ref

runner = CliRunner()


def make_run(folder: Path, *, required: bool) -> Run:
    config = Config(
        library=folder / "library.yaml",
        workspace=folder,
        run=RunSettings(require_approval=required),
    )
    return Run(Workspace(config, Library.model_construct(shows=()), Store(folder / "store"), ()))


def make_dataset(folder: Path, name: str) -> TableRef:
    return table_ref(folder / name, tables.DATASET, [])


def test_no_approval_is_needed_unless_the_settings_require_it(tmp_path: Path) -> None:
    require_approval(make_run(tmp_path, required=False), make_dataset(tmp_path, "one"))


def test_a_run_from_the_shell_ends_with_instructions_instead_of_waiting(tmp_path: Path) -> None:
    run, dataset = make_run(tmp_path, required=True), make_dataset(tmp_path, "one")
    with pytest.raises(DatasetNotApproved, match="mimix review SETTINGS --approve"):
        require_approval(run, dataset)
    save_decision(tmp_path, dataset.key, DatasetDecision(approved=True))
    require_approval(run, dataset)
    with pytest.raises(DatasetNotApproved, match="waits for approval"):
        require_approval(run, make_dataset(tmp_path, "another"))
    save_decision(tmp_path, dataset.key, DatasetDecision(approved=False, note="too dark"))
    with pytest.raises(DatasetNotApproved, match=r"rejected at .* UTC: too dark"):
        require_approval(run, dataset)


class InProcess(Run):
    """Run each stage in this process."""

    def run_units(
        self, task: Task[..., TableRef], inputs: Sequence[FrozenModel], settings: FrozenModel
    ) -> list[TableRef]:
        stage = registry.get_stage(str(task.name))
        return [run_stage(self.workspace.store, stage, unit, settings).ref for unit in inputs]


def test_the_review_command_decides_on_the_dataset_of_the_settings(tmp_path: Path) -> None:
    settings = write_project(tmp_path)
    nothing_yet = runner.invoke(app, ["review", str(settings)])
    assert nothing_yet.exit_code == 2
    assert "no scenes of" in nothing_yet.output
    run = InProcess(open_workspace(load_config(settings)))
    dataset = augment_stages(run, curate_stages(run)).dataset

    undecided = runner.invoke(app, ["review", str(settings)])
    assert undecided.exit_code == 1
    assert f"{dataset.key[:12]}: 3 samples" in undecided.output
    words = ["review", str(settings), "--approve", "--note", "looked at all"]
    approved = runner.invoke(app, words)
    assert approved.exit_code == 0
    assert runner.invoke(app, ["review", str(settings)]).exit_code == 0
    kept = load_decision(load_config(settings).workspace, dataset.key)
    assert kept is not None and kept.approved
    assert (kept.note, kept.reviewer) == ("looked at all", current_user())
    refused = runner.invoke(app, ["review", str(settings), "--reject", "--reviewer", "Bob"])
    assert refused.exit_code == 1
    both = runner.invoke(app, ["review", str(settings)])
    assert both.exit_code == 1
    assert f"approved by {current_user()} at 20" in both.output
    assert "rejected by Bob at 20" in both.output
    both = runner.invoke(app, [*words, "--reject"])
    assert both.exit_code == 2
