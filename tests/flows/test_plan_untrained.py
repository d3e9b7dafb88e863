"""``mimix plan`` in a project that was never trained: every stage, or what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from tests.flows.small_project import Project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("project"))
    made.add_show("toons", "cartoon", "Tom", acts=True, seed=1)
    return made


def plan(project: Project, settings: str) -> str:
    path = project.folder / "planned.yaml"
    path.write_text(project.settings.read_text() + settings)
    result = CliRunner().invoke(app, ["plan", str(path), "--flow", "train"], env={"COLUMNS": "400"})
    assert result.exit_code == 0, result.output
    return str(result.output)


def test_every_stage_is_planned_with_a_model_that_is_built_here(project: Project) -> None:
    output = plan(project, "backbone: {name: tiny-random-wan}\n")
    planned = {line.split()[0] for line in output.splitlines() if " compute, " in line}
    assert {"scenes", "captions", "composites", "backbone", "latents", "embeddings"} <= planned
    assert "lora" in planned
    assert "Not planned further" not in output
    assert not list(project.folder.glob("workspace/store/backbone/*")), "a plan builds no model"


def test_a_model_that_is_not_there_is_named_after_what_needs_it_not(
    project: Project, tmp_path: Path
) -> None:
    output = plan(project, f"backbone: {{name: wan2.1-t2v-1.3b, path: {tmp_path / 'none'}}}\n")
    planned = {line.split()[0] for line in output.splitlines() if " compute, " in line}
    assert "dataset" in planned
    assert "latents" not in planned
    assert "Not planned further" in output
    assert "no folder of wan2.1-t2v-1.3b" in output
