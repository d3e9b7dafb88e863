"""``mimix characters add``: checks, the settings that it writes, and a training with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from flows.cli import app
from mimix_core import tables
from mimix_core.settings import load_config
from mimix_core.wan import lora_export
from tests.flows.small_project import Project, refs_of, rows_of

pytestmark = pytest.mark.e2e

SETTINGS = """\
backbone: {name: tiny-random-wan}
latents: {width: 64, height: 32}
lora:
  {rank: 2, alpha: 2, epochs: 8, global_batch_size: 2, precision: fp32, validation_interval: 50,
   validation_quantiles: 1, checkpoint_interval: 50, learning_rate: 0.001, threads: 1}
"""
LIBRARY = """\
shows:
  - id: toons
    title: Toons
    style: cartoon
    characters: [{characters}]
    episodes: [{episodes}]
  - id: people
    title: People
    style: realistic
    characters: [{{name: Clara}}]
    episodes: [{people}]
"""


def episodes(*names: str) -> str:
    return ", ".join(
        f"{{path: {name}.mp4, script: {name}.yaml, boxes: {name}.boxes.yaml}}" for name in names
    )


def write_library(project: Project, characters: str, *toons: str) -> None:
    text = LIBRARY.format(
        characters=characters, episodes=episodes(*toons), people=episodes("c1", "c2")
    )
    (project.folder / "library.yaml").write_text(text)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Tom and Clara are trained on; then Eve's episode is added and augmented."""
    made = Project(tmp_path_factory.mktemp("project"))
    settings = made.settings.read_text().replace('ratio: "0.5"', 'ratio: "0.2"')
    settings = settings.replace("dataset: {val_share: 0}", "dataset: {val_share: 0.3, seed: 4}")
    made.settings.write_text(settings + SETTINGS)
    for seed, (name, style, character, clips) in enumerate(
        [
            ("t1", "cartoon", "Tom", 4),
            ("t2", "cartoon", "Tom", 2),
            ("e1", "cartoon", "Eve", 2),
            ("c1", "realistic", "Clara", 4),
            ("c2", "realistic", "Clara", 2),
        ]
    ):
        made.add_show(name, style, character, acts=True, seed=seed, clips=clips)
    write_library(made, "{name: Tom}", "t1", "t2")
    made.run(train=True)
    write_library(
        made, "{name: Tom}, {name: Eve, aliases: [Evelyn]}, {name: Bob}", "t1", "t2", "e1"
    )
    return made


def add(project: Project, *arguments: object) -> Result:
    command = ["characters", "add", str(project.settings), *map(str, arguments)]
    return CliRunner().invoke(app, command, env={"COLUMNS": "400"})


def test_a_character_is_added_and_what_it_costs_is_said(project: Project) -> None:
    workspace = project.folder / "workspace"
    early = add(project, "Eve", "--from", workspace)
    assert early.exit_code == 2
    assert "the dataset with the new clips does not exist yet" in early.output
    assert "mimix augment" in early.output
    project.run()
    everything = {
        row["sample_id"]: row for row in rows_of(project, "dataset") if row["split"] == "train"
    }
    for names, message in (
        (("Zoe",), "no character is named 'Zoe'"),
        (("Tom",), "the adapter was trained on Tom already"),
        (("Bob",), "no clip or composite of the training split shows Bob"),
    ):
        refused = add(project, *names, "--from", workspace)
        assert refused.exit_code == 2
        assert message in refused.output
    assert not list(project.folder.glob("*mimix-*")), "nothing is left of a refused addition"

    done = add(project, "evelyn", "--from", workspace, "--replay-share", 0.4)
    assert done.exit_code == 0, done.output
    written = project.folder / "mimix-evelyn.yaml"
    document = yaml.safe_load(written.read_text())
    assert document["dataset"]["new_characters"] == ["Eve"]
    assert document["dataset"]["seed"] == 4, "all other settings stay"
    initial = project.folder / document["lora"]["initial_adapter"]
    assert initial.parent.resolve() == project.folder.resolve(), (
        "not in the store, which is cleaned"
    )
    config = load_config(written)
    assert config.lora.max_forgetting == 0.02
    assert add(project, "evelyn", "--from", workspace).exit_code == 2, "it exists already"

    added = Project.__new__(Project)
    added.folder, added.settings = project.folder, written
    # An untrained network may forget what it never knew: whether it does is not the matter here.
    document["lora"]["max_forgetting"] = 5.0
    written.write_text(yaml.safe_dump(document))
    assert "lora all" in added.run(train=True)
    assert not list(project.folder.glob("workspace/checkpoints/*/within-bound"))
    used = {row["sample_id"]: row for row in rows_of(added, "dataset") if row["split"] == "train"}
    new = {name for name, row in everything.items() if "Eve" in row["characters"]}
    assert new
    assert new < set(used) < set(everything)
    refs = refs_of(added, train=True)
    [lora] = refs["lora"]
    seen = {row["sample_id"] for row in tables.read(lora.path, tables.LORA) if row["seen"]}
    assert seen == set(used)
    metadata, _ = lora_export.read_metadata(lora.folder / lora_export.ADAPTER_FILE)
    assert metadata.characters == ("Clara", "Eve", "Tom")
    assert metadata.settings["new_characters"] == ["Eve"]
    assert set(metadata.forgetting or {}) == {"Tom", "Clara"}
    steps = [
        line
        for line in (lora.folder / "log.jsonl").read_text().splitlines()
        if "train_loss" in line
    ]
    [said] = [line for line in done.output.splitlines() if "optimizer steps" in line]
    assert f": {len(steps)} optimizer steps" in said
    whole = int(said.split(" of the ")[1].split()[0])
    assert len(steps) <= 0.3 * whole
    shown = CliRunner().invoke(
        app, ["lora", "show", str(lora.folder / lora_export.ADAPTER_FILE)], env={"COLUMNS": "300"}
    )
    assert "forgetting" in shown.output
    assert "Tom " in shown.output


def test_an_adapter_that_does_not_fit_is_refused(project: Project, tmp_path: Path) -> None:
    project.run()
    adapters = project.folder.glob("workspace/store/lora/*/*weights.safetensors")
    # Another test of this project may have added Eve.
    [trained] = [
        one for one in adapters if "Eve" not in lora_export.read_metadata(one)[0].characters
    ]
    text = project.settings.read_text()
    other = project.folder / "other.yaml"
    other.write_text(text.replace("rank: 2, alpha: 2", "rank: 4, alpha: 4"))
    command = ["characters", "add", str(other), "Eve", "--from", str(trained)]
    refused = CliRunner().invoke(app, command, env={"COLUMNS": "400"})
    assert refused.exit_code == 2
    assert "has rank 2, but lora.rank is 4" in refused.output
    assert not list(project.folder.glob(".other-eve*"))
    assert not (project.folder / "other-eve.yaml").exists()

    workspace = tmp_path / "workspace"
    nothing = add(project, "Eve", "--from", workspace)
    assert "neither an adapter file nor a workspace" in nothing.output
    for name in ("one", "two"):
        (workspace / "store" / "lora" / name).mkdir(parents=True)
        shutil.copy(trained, workspace / "store" / "lora" / name)
    several = add(project, "Eve", "--from", workspace)
    assert "several trained adapters" in several.output
    assert "Clara, Tom" in several.output
    dear = add(project, "Eve", "--from", trained, "--max-steps-share", 0.02)
    assert "one epoch of" in dear.output
    elsewhere = add(project, "Eve", "--from", trained, "--to", tmp_path / "eve.yaml")
    assert "is in another folder than the settings" in elsewhere.output
    two = project.folder / "two-experts.yaml"
    two.write_text(text.replace("name: tiny-random-wan", "name: tiny-random-wan-experts"))
    command = ["characters", "add", str(two), "Eve", "--from", str(trained)]
    experts = CliRunner().invoke(app, command, env={"COLUMNS": "400"})
    assert experts.exit_code == 2
    assert "has two experts with an adapter each" in experts.output
