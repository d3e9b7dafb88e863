"""Systems with known videos and scores, and a training run with previews, for the walls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mimix_core.studio.comparison_wall import (
    ComparisonFile,
    ComparisonWall,
    RankedColumn,
    ScoreRanking,
    WallColumn,
    WallRow,
    WallVideo,
    file_version,
)
from tests.stages.report.fake_videos import encode

SIZE = (104, 60)
FRAMES = 33


def write_numbered_video(path: Path, tone: int, frames: int = FRAMES) -> Path:
    """Write a video whose every frame says which one it is by the width of a white bar."""
    width, height = SIZE
    pictures = []
    for number in range(frames):
        picture = np.full((height, width, 3), (tone, 90, 160), np.uint8)
        picture[20:40, : 4 + number * (width - 8) // max(1, frames - 1)] = 255
        pictures.append(picture)
    path.parent.mkdir(parents=True, exist_ok=True)
    encode(path, pictures)
    return path


def write_training_run(
    workspace: Path, steps: Sequence[int], prompts: Sequence[str], key: str = "ab12" * 16
) -> Path:
    """Write the journal of a training that is under way; return its folder."""
    folder = workspace / "checkpoints" / key / "journal"
    folder.mkdir(parents=True, exist_ok=True)
    for step in steps:
        append_checkpoint(folder, step, prompts)
    return folder


def append_checkpoint(folder: Path, step: int, prompts: Sequence[str]) -> None:
    """Add what a training logs at a checkpoint: losses, and a preview of each prompt."""
    loss = 1 / (1 + step / 40)
    records: list[dict[str, Any]] = []
    if step:
        records.append({"step": step, "train_loss": loss, "grad_norm": 1.0, "lr": 1e-4})
    records.append({"step": step, "held_out_loss": loss, "interval": [loss - 0.05, loss + 0.05]})
    for number, prompt in enumerate(prompts):
        name = f"previews/step-{step:06d}/{number}.mp4"
        write_numbered_video(folder / name, 40 + 20 * number, 33)
        size = {"width": SIZE[0], "height": SIZE[1], "frames": 33}
        records.append(
            {"step": step, "preview": name, "prompt": prompt, "seed": 7 + number, **size}
        )
    with (folder / "log.jsonl").open("a") as log:
        log.writelines(json.dumps(record) + "\n" for record in records)


def system_wall(
    folder: Path, systems: Sequence[str], prompts: Mapping[str, str], missing: str = ""
) -> ComparisonWall:
    """A wall of systems; ``missing``: the prompt that the last system has no video of."""
    rows = []
    for number, (name, text) in enumerate(prompts.items()):
        videos: list[WallVideo | None] = []
        for column in range(len(systems)):
            if name == missing and column == len(systems) - 1:
                videos.append(None)
                continue
            path = folder / f"system-{column}" / f"{name}.mp4"
            if not path.exists():
                write_numbered_video(path, 30 + 50 * column)
            videos.append(
                WallVideo(
                    file=path,
                    digest=file_version(path),
                    width=SIZE[0],
                    height=SIZE[1],
                    frames=FRAMES,
                    scores={"imaging_quality/musiq": 50.0 + column + number},
                )
            )
        rows.append(WallRow(id=name, prompt=text, category="single", videos=tuple(videos)))
    ranked = [
        RankedColumn(
            column=column,
            value=50.0 + column,
            low=49.0 + column,
            high=51.0 + column,
            n=len(prompts),
            difference=None if column == len(systems) - 1 else -1.0,
            within_noise=column == len(systems) - 2,
        )
        for column in reversed(range(len(systems)))
    ]
    return ComparisonWall(
        id="systems",
        title="Systems",
        noise="",
        columns=tuple(WallColumn(title=system) for system in systems),
        rows=tuple(rows),
        rankings=(
            ScoreRanking(
                measure="imaging_quality/musiq",
                higher_is_better=True,
                explanation="Means over prompts.",
                columns=tuple(ranked),
            ),
        ),
    )


def write_comparison(path: Path, *walls: ComparisonWall) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ComparisonFile(walls=walls).model_dump_json())
    return path
