"""What a change of library or settings computes again, and that ``mimix plan`` says it before."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from prefect.tasks import Task
from typer.testing import CliRunner

from flows.augment import augment_stages
from flows.cli import app
from flows.curate import curate_stages
from mimix_core import tables
from mimix_core.engine import registry
from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.engine.stage import run_stage
from mimix_core.project.item_decisions import (
    DecisionAction,
    DecisionLog,
    ItemDecision,
    ItemKind,
)
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import load_config
from mimix_core.tables import Row
from tasks.base import Run
from tasks.cached_run import ReadOnlyRun
from tests.media_factory import Shot, write_video

SETTINGS = """\
library: library.yaml
workspace: workspace
overlays: {backend: none}
clips: {width: 160, height: 96, preset: ultrafast, min_motion: 0, min_sharpness: 0}
duplicates: {min_frame_similarity: 1, min_motion_similarity: 1}
cutouts: {backend: grabcut}
composites: {ratio: "0.5", preset: ultrafast}
dataset: {val_share: 0}
"""
SHOW = """\
  - id: {id}
    title: A show
    style: {style}
    characters: [{characters}]
    episodes: [{{path: {id}.mp4, script: {id}.yaml, boxes: {id}.boxes.yaml}}]
"""


def walker(seed: int) -> Callable[[np.ndarray, int], None]:
    """Draw a figure that sways before a plain wall; each seed has its own wall and pace."""
    wall = np.random.default_rng(seed).integers(40, 110, 3)

    def draw(image: np.ndarray, number: int) -> None:
        image[:] = wall
        left = round(68 + 6 * np.sin(number / (4 + 3 * seed)))
        image[24:92, left : left + 24] = (230, 80 + 40 * seed, 50)

    return draw


class Counting(Run):
    """Run each stage in this process, and list the units that were computed."""

    def run_units(
        self, task: Task[..., TableRef], inputs: Sequence[FrozenModel], settings: FrozenModel
    ) -> list[TableRef]:
        stage = registry.get_stage(str(task.name))
        refs = []
        for one in inputs:
            done = run_stage(self.workspace.store, stage, one, settings)
            if done.computed:
                self.refs.setdefault("computed", []).append(done.ref)
            refs.append(done.ref)
        return refs


class Project:
    """A library of generated episodes; the files of an episode are written once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.settings = folder, folder / "mimix.yaml"
        self.shows: dict[str, tuple[str, list[str]]] = {}
        self.settings.write_text(SETTINGS)

    def write(self) -> None:
        text = "shows:\n"
        for id, (style, characters) in self.shows.items():
            names = ", ".join(f"{{name: {name}}}" for name in characters)
            text += SHOW.format(id=id, style=style, characters=names)
        (self.folder / "library.yaml").write_text(text)

    def add_show(self, id: str, style: str, character: str, *, acts: bool, seed: int) -> None:
        write_video(self.folder / f"{id}.mp4", [Shot(24 * 7)], size=(160, 96), draw=walker(seed))
        action = f'- {{start: "0", end: "9", character: {character}, action: "walks"}}'
        (self.folder / f"{id}.yaml").write_text(
            f"actions:\n  {action}\n" if acts else "actions: []\n"
        )
        boxes = "\n".join(
            f'  - {{time: "{t}", character: {character}, box: [0.3, 0.2, 0.7, 0.95]}}'
            for t in range(8)
        )
        (self.folder / f"{id}.boxes.yaml").write_text(f"boxes:\n{boxes}\n")
        self.shows[id] = (style, [character])
        self.write()

    def run(self) -> set[str]:
        """Run everything up to the dataset; return the stages and units that were computed."""
        run = Counting(open_workspace(load_config(self.settings)))
        augment_stages(run, curate_stages(run))
        return {f"{ref.stage} {ref.unit}" for ref in run.refs.get("computed", [])}

    def plan(self) -> tuple[dict[str, tuple[int, int, int]], str]:
        """Call ``mimix plan``; return cached, compute and perhaps by stage, and the output."""
        command = ["plan", str(self.settings), "--flow", "augment"]
        result = CliRunner().invoke(app, command, env={"COLUMNS": "60"})
        assert result.exit_code == 0, result.output
        assert "Not planned further" not in result.output, "the backbone, which augment needs not"
        lines = re.findall(
            r"^  (\w+) +(\d+) cached, (\d+) compute, (\d+) perhaps", result.output, re.MULTILINE
        )
        return {name: (int(a), int(b), int(c)) for name, a, b, c in lines}, result.output


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two shows, computed up to the dataset."""
    made = Project(tmp_path_factory.mktemp("project"))
    made.add_show("toons", "cartoon", "Tom", acts=True, seed=1)
    made.add_show("people", "realistic", "Clara", acts=True, seed=2)
    planned, text = made.plan()
    assert planned["scenes"] == (0, 2, 0)
    assert "not computed yet" in text
    assert "have not run here" in text, "no time is invented"
    assert {"cutouts toons", "composites all"} <= made.run()
    return made


def test_an_unchanged_project_has_nothing_to_compute(project: Project) -> None:
    planned, text = project.plan()
    assert all(counts[1:] == (0, 0) for counts in planned.values())
    assert "Nothing to compute" in text
    assert project.run() == set()


def test_a_new_character_that_no_clip_names_cuts_nothing_out_again(project: Project) -> None:
    project.shows["toons"][1].append("Jerry")
    project.write()
    planned, text = project.plan()
    assert planned["captions"] == (1, 1, 0)
    assert "inputs.roster changed" in text
    assert planned["cutouts"] == (1, 0, 1), "only if the captions change, which they do not"
    assert project.run() == {"captions toons"}


def test_a_new_show_without_captions_renders_no_composite_again(project: Project) -> None:
    project.add_show("silent", "cartoon", "Mime", acts=False, seed=3)
    planned, _ = project.plan()
    assert planned["scenes"] == (2, 1, 0)
    assert planned["captions"] == (2, 1, 0)
    computed = project.run()
    assert {"scenes silent", "clips silent", "duplicates all"} <= computed
    assert not {unit for unit in computed if unit.startswith(("composites", "recaptions"))}
    assert {unit for unit in computed if unit.split()[0] in ("captions", "cutouts")} == {
        "captions silent",
        "cutouts silent",
    }


def test_a_changed_setting_is_named_with_its_values(project: Project) -> None:
    text = project.settings.read_text()
    project.settings.write_text(text.replace("min_motion: 0,", "min_motion: 0.25,"))
    planned, output = project.plan()
    project.settings.write_text(text)
    count = len(project.shows)
    assert planned["scenes"] == (count, 0, 0)
    assert planned["clips"] == (0, count, 0)
    assert "settings.min_motion 0.0 -> 0.25" in output
    assert re.search(r"\d+ units to compute.* about \d+ s", output)
    assert project.run() == set(), "a plan computes nothing and removes nothing"


@pytest.fixture
def decisions(project: Project) -> Iterator[DecisionLog]:
    """The file of decisions, empty before and after."""
    project.run()
    log = DecisionLog(load_config(project.settings).decisions)
    yield log
    log.path.unlink()


def decide(log: DecisionLog, kind: ItemKind, item: str, action: str, **more: str) -> ItemDecision:
    decision = ItemDecision(
        reviewer="anna", kind=kind, item=item, action=DecisionAction(action), **more
    )
    return log.append([decision])[0]


def rows_of(project: Project, stage: str) -> list[Row]:
    """Return the newest rows of a stage."""
    run = ReadOnlyRun(open_workspace(load_config(project.settings)))
    augment_stages(run, curate_stages(run))
    table = registry.get_stage(stage).table
    return [row for ref in run.refs[stage] for row in tables.read(ref.path, table)]


def test_an_edited_caption_is_used_and_cuts_nothing_out_again(
    project: Project, decisions: DecisionLog
) -> None:
    clip = next(row["clip_id"] for row in rows_of(project, "captions") if row["caption"])
    written = "[Character: Tom], dances. [scene-style:cartoon]"
    edit = decide(decisions, ItemKind.CLIP, clip, "edit", caption=written)
    assert project.run() == {"captions toons", "composites all", "dataset all"}
    rows = {row["sample_id"]: row for row in rows_of(project, "dataset")}
    assert (rows[clip]["caption"], rows[clip]["caption_backend"]) == (written, "hand")
    decide(decisions, ItemKind.CLIP, clip, "undo", undoes=edit.decision_id)
    assert project.run() == set(), "what was computed before the edit is there still"


def test_a_rejected_clip_leaves_the_dataset_and_nothing_before_is_computed_again(
    project: Project, decisions: DecisionLog
) -> None:
    clip = next(row["clip_id"] for row in rows_of(project, "captions") if row["caption"])
    decide(decisions, ItemKind.CLIP, clip, "reject", reason="a logo")
    assert project.run() == {"composites all", "dataset all"}
    row = next(row for row in rows_of(project, "dataset") if row["sample_id"] == clip)
    assert (row["reason"], row["detail"]) == ("left_out_by_hand", "left out by hand: a logo")
    made = [row for row in rows_of(project, "composites") if row["status"] == "ok"]
    assert not any(clip in (r["source_clip_id"], r["background_clip_id"]) for r in made)


def test_an_approval_computes_nothing(project: Project, decisions: DecisionLog) -> None:
    clip = rows_of(project, "clips")[0]["clip_id"]
    decide(decisions, ItemKind.CLIP, clip, "approve")
    assert project.run() == set()


def test_an_empty_validation_split_is_said_once_with_what_to_do(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.run()
    assert "validation" not in capsys.readouterr().out, "none was asked for"
    text = project.settings.read_text()
    project.settings.write_text(text.replace("val_share: 0", "val_share: 0.25"))
    project.run()
    project.settings.write_text(text)
    output = capsys.readouterr().out
    assert output.count("the validation split is empty") == 1, "each show has one episode"
    assert "Add an episode" in output
    assert "dataset.val_share" in output


def test_a_character_of_some_episodes_changes_only_those(tmp_path: Path) -> None:
    write_video(tmp_path / "one.mp4", [Shot(24)], size=(160, 96))
    write_video(tmp_path / "two.mp4", [Shot(30)], size=(160, 96))
    (tmp_path / "mimix.yaml").write_text("library: library.yaml\n")
    (tmp_path / "library.yaml").write_text(
        "shows:\n  - id: toons\n    title: Toons\n    style: cartoon\n"
        "    characters: [{name: Tom}, {name: Guest, episodes: ['tw*']}]\n"
        "    episodes: [{path: '*.mp4'}]\n"
    )
    episodes = open_workspace(load_config(tmp_path / "mimix.yaml")).episodes
    assert {e.name: e.show.roster() for e in episodes} == {
        "one": ("Tom",),
        "two": ("Tom", "Guest"),
    }
