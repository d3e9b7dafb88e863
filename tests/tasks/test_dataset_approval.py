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
from mimix_core.project.item_decisions import (
    DecisionAction,
    DecisionLog,
    ItemDecision,
    ItemKind,
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


def reviewed_run(folder: Path, share: str) -> Run:
    config = Config(
        library=folder / "library.yaml",
        workspace=folder,
        decisions=folder / "decisions.jsonl",
        run=RunSettings.model_validate({"review_share": share}),
    )
    return Run(Workspace(config, Library.model_construct(shows=()), Store(folder / "store"), ()))


def composite_dataset(folder: Path, videos: dict[str, str]) -> TableRef:
    """A dataset of these composites, with the digests of their videos."""
    return table_ref(
        folder,
        tables.DATASET,
        [
            tables.ok(**{**DATASET_ROW, "sample_id": name, "sha256": digest})
            for name, digest in videos.items()
        ],
    )


DATASET_ROW: dict[str, object] = {
    "kind": "composite",
    "split": "train",
    "show": "toons",
    "style": "cartoon",
    "characters": [],
    "caption": "",
    "caption_backend": "",
    "video": "",
    "frames": 81,
    "rate_num": 16,
    "rate_den": 1,
    "width": 64,
    "height": 32,
    "episode_id": "toons-1",
    "source_episode_id": "people-1",
    "pasted": "Clara",
    "pasted_style": "realistic",
    "rank": 0,
}
VIDEOS = {f"composite-{number}": f"{number:064x}" for number in range(4)}


def look_at(log: DecisionLog, name: str, action: str, seen: str) -> None:
    decision = ItemDecision(
        reviewer="anna",
        kind=ItemKind.COMPOSITE,
        item=name,
        action=DecisionAction(action),
        seen=seen,
    )
    log.append([decision])


def test_no_training_starts_before_the_drawn_composites_were_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = composite_dataset(tmp_path / "dataset", VIDEOS)
    run, log = reviewed_run(tmp_path, "1"), DecisionLog(tmp_path / "decisions.jsonl")
    with pytest.raises(DatasetNotApproved, match="4 of the composites drawn for review were not"):
        require_approval(run, dataset)
    for name, digest in list(VIDEOS.items())[:3]:
        look_at(log, name, "approve", digest)
    last = list(VIDEOS)[3]
    look_at(log, last, "approve", "f" * 64)
    with pytest.raises(DatasetNotApproved, match=rf"review_share: 1 of .* first: {last}"):
        require_approval(run, dataset)
    assert "review:" not in capsys.readouterr().out, (
        "of a video that nobody has seen no more is said"
    )
    look_at(log, last, "approve", VIDEOS[last])
    require_approval(run, dataset)
    assert "looked at 4 composites (share 1) and rejected 0" in capsys.readouterr().out
    require_approval(reviewed_run(tmp_path, "0"), dataset)


def test_rejected_composites_count_as_looked_at_when_they_are_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = DecisionLog(tmp_path / "decisions.jsonl")
    gone, *rest = VIDEOS
    look_at(log, gone, "reject", VIDEOS[gone])
    for name in rest:
        look_at(log, name, "approve", VIDEOS[name])
    left = {name: VIDEOS[name] for name in rest}
    require_approval(reviewed_run(tmp_path, "1"), composite_dataset(tmp_path / "dataset", left))
    said = capsys.readouterr().out
    assert "looked at 4 composites (share 1) and rejected 1" in " ".join(said.split())


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
