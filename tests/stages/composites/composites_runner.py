"""Run the composites stage on generated clips and cutouts of two shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mimix_core import tables
from mimix_core.engine.stage import StageRun, run_stage
from mimix_core.engine.store import Store
from mimix_core.media.masks import write_masks
from mimix_core.settings import CompositeSettings, DatasetSettings
from mimix_core.stages.composites.composite_sources import CompositeInputs
from mimix_core.stages.composites.stage import STAGE
from mimix_core.tables import Row
from tests.factories import caption, clip, table_ref, video

WIDTH, HEIGHT = 64, 48
EPISODES = {"cartoon": "bbb", "realistic": "people"}


def cutout(clip_id: str, style: str, character: str) -> dict[str, Any]:
    name = f"{clip_id}-{character.lower()}"
    return tables.ok(
        cutout_id=name,
        clip_id=clip_id,
        show=EPISODES[style],
        style=style,
        character=character,
        locator="boxes",
        backend="test",
        area=[0.1] * 81,
        boxes=[[20, 12, 40, 48]] * 81,
        score=[0.9] * 81,
        presence=1.0,
        border=["bottom"],
        file=f"masks/{name}.parquet",
    )


class SourceTables:
    """Two shows of three episodes with two clips each, and one cutout in each clip."""

    def __init__(self, folder: Path) -> None:
        alpha = np.zeros((81, HEIGHT, WIDTH), np.uint8)
        alpha[:, 12:, 20:40] = 255
        self.clips, self.captions, self.cutouts = [], [], []
        for style, show in EPISODES.items():
            name = {"cartoon": "Bunny", "realistic": "Clara"}[style]
            for episode in range(3):
                unit = folder / f"{show}{episode}"
                rows, captions, cut = [], [], []
                for number in range(2):
                    clip_id = f"{show}-{episode}-{number}"
                    frames = np.full((81, HEIGHT, WIDTH, 3), 60 + 20 * number, np.uint8)
                    frames[:, 12:, 20:40] = (200, 90, 40)
                    values = {"episode_id": f"{show}-e{episode}", "show": show, "style": style}
                    row = clip(clip_id, **values)
                    row["sha256"] = video(unit / "clips" / row["file"], frames)
                    rows.append(row)
                    text = f"[Character: {name}], stands. [scene-style:{style}]"
                    captions.append(caption(clip_id, text))
                    cut.append(cutout(clip_id, style, name))
                    (unit / "cutouts" / "masks").mkdir(parents=True, exist_ok=True)
                    write_masks(unit / "cutouts" / cut[-1]["file"], alpha)
                self.clips.append(table_ref(unit / "clips", tables.CLIPS, rows))
                self.captions.append(table_ref(unit / "captions", tables.CAPTIONS, captions))
                self.cutouts.append(table_ref(unit / "cutouts", tables.CUTOUTS, cut))

    def inputs(self, **split: Any) -> CompositeInputs:
        return CompositeInputs(
            unit="all",
            clips=tuple(self.clips),
            captions=tuple(self.captions),
            cutouts=tuple(self.cutouts),
            split=DatasetSettings(**split),
        )


def read_rows(run: StageRun) -> list[Row]:
    return tables.read(run.ref.path, tables.COMPOSITES)


def ok_rows(run: StageRun) -> list[Row]:
    """The composites that were made, in the order of their plan."""
    return sorted(tables.usable(read_rows(run)), key=lambda row: int(row["rank"]))


def run_composites(store: Store, inputs: CompositeInputs, ratio: str, **more: Any) -> StageRun:
    settings = CompositeSettings.model_validate({"ratio": ratio, "preset": "ultrafast", **more})
    return run_stage(store, STAGE, inputs, settings)
