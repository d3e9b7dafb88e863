"""A library of generated episodes that the real stages process in seconds, in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from prefect.tasks import Task

from flows.augment import augment_stages
from flows.curate import curate_stages
from flows.train import train_stages
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


SHOT_SECONDS = 7
"""Long enough for one clip."""


def walker(seed: int) -> Callable[[np.ndarray, int], None]:
    """Draw a figure that sways before a plain wall; each seed has its own walls and pace."""
    walls = np.random.default_rng(seed).integers(40, 110, (9, 3))

    def draw(image: np.ndarray, number: int) -> None:
        image[:] = walls[number // (24 * SHOT_SECONDS)]
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

    def add_show(
        self, id: str, style: str, character: str, *, acts: bool, seed: int, clips: int = 1
    ) -> None:
        shots = [Shot(24 * SHOT_SECONDS)] * clips
        write_video(self.folder / f"{id}.mp4", shots, size=(160, 96), draw=walker(seed))
        actions = "".join(
            f'  - {{start: "{SHOT_SECONDS * n}", end: "{SHOT_SECONDS * (n + 1)}",'
            f' character: {character}, action: "walks{" on" * n}"}}\n'
            for n in range(clips)
        )
        (self.folder / f"{id}.yaml").write_text(f"actions:\n{actions}" if acts else "actions: []\n")
        boxes = "\n".join(
            f'  - {{time: "{t}", character: {character}, box: [0.38, 0.2, 0.62, 0.95]}}'
            for t in range(SHOT_SECONDS * clips + 1)
        )
        (self.folder / f"{id}.boxes.yaml").write_text(f"boxes:\n{boxes}\n")
        self.shows[id] = (style, [character])
        self.write()

    def run(self, *, train: bool = False) -> set[str]:
        """Run everything up to the dataset, or the LoRA; return the units that were computed."""
        run = Counting(open_workspace(load_config(self.settings)))
        curated = curate_stages(run)
        augmented = augment_stages(run, curated)
        if train:
            train_stages(run, curated, augmented)
        return {f"{ref.stage} {ref.unit}" for ref in run.refs.get("computed", [])}


def decide(log: DecisionLog, kind: ItemKind, item: str, action: str, **more: str) -> ItemDecision:
    decision = ItemDecision(
        reviewer="anna", kind=kind, item=item, action=DecisionAction(action), **more
    )
    return log.append([decision])[0]


def refs_of(project: Project, *, train: bool = False) -> dict[str, list[TableRef]]:
    """Return the present tables of each stage."""
    run = ReadOnlyRun(open_workspace(load_config(project.settings)))
    curated = curate_stages(run)
    augmented = augment_stages(run, curated)
    if train:
        train_stages(run, curated, augmented)
    return run.refs


def rows_of(project: Project, stage: str) -> list[Row]:
    """Return the present rows of a stage up to the dataset."""
    table = registry.get_stage(stage).table
    return [row for ref in refs_of(project)[stage] for row in tables.read(ref.path, table)]
