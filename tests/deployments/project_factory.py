"""Write a project so small that every stage, including training, takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.media_factory import Shot, write_video

SIZE = (160, 96)

LIBRARY = """\
shows:
  - id: toons
    title: Toons
    style: cartoon
    characters: [{name: Tom, description: A cat}]
    episodes: [{path: toons/*.mp4, script: toon.yaml}]
  - id: people
    title: People
    style: realistic
    characters: [{name: Clara, description: A woman}]
    episodes: [{path: people/*.mp4, script: people.yaml}]
"""
SCRIPT = """\
actions:
  - {{start: "0", end: "60", character: {name}, action: "runs"}}
"""
SETTINGS = """\
library: library.yaml
workspace: workspace
inbox: inbox
run: {max_workers: 2}
overlays: {backend: none}
clips: {width: 160, height: 96, preset: ultrafast, min_motion: 0, min_sharpness: 0}
cutouts: {backend: grabcut}
composites: {ratio: "0"}
dataset: {val_share: 0.5}
backbone: {name: tiny-random-wan}
latents: {width: 32, height: 32}
lora:
  target_modules: [to_q]
  rank: 4
  epochs: EPOCHS
  global_batch_size: 1
  precision: fp32
  validation_interval: 1000
  validation_quantiles: 1
samples:
  prompts: prompts.yaml
  width: 32
  height: 32
  num_frames: 5
  num_inference_steps: 1
  precision: fp32
scores: {metrics: [motion_smoothness/frame-interpolation-residual]}
"""
PROMPTS = """\
prompts:
  - id: tom-runs
    category: single
    characters: [Tom]
    actions: [{name: Tom, action: runs}]
    setting: a street
    style: cartoon
"""


def write_project(folder: Path, *, epochs: int = 1) -> Path:
    """Write a library of three episodes with one clip each, and return its settings file."""
    for show, name, frames in (
        ("toons", "first", 24 * 6 + 2),
        ("toons", "second", 24 * 6 + 5),
        ("people", "first", 24 * 6 + 9),
    ):
        write_episode(folder / show / f"{name}.mp4", frames)
    (folder / "inbox" / "toons").mkdir(parents=True)
    (folder / "library.yaml").write_text(LIBRARY)
    (folder / "toon.yaml").write_text(SCRIPT.format(name="Tom"))
    (folder / "people.yaml").write_text(SCRIPT.format(name="Clara"))
    (folder / "prompts.yaml").write_text(PROMPTS)
    settings = folder / "mimix.yaml"
    settings.write_text(SETTINGS.replace("EPOCHS", str(epochs)))
    return settings


def write_episode(path: Path, frames: int) -> None:
    """Write a video of one shot; a different number of frames gives different content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = SIZE
    blocks = np.random.default_rng(frames).integers(0, 256, (6, 10, 3), np.uint8)
    backdrop = blocks.repeat(height // 6, 0).repeat(width // 10, 1)

    def draw(image: NDArray[np.uint8], number: int) -> None:
        image[:] = np.roll(backdrop, (frames % 5 - 2) * number, axis=frames % 2)

    write_video(path, [Shot(frames)], size=SIZE, draw=draw)
