"""Factories of judge inputs in which a character is a colored square that moves to the right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mimix_core.benchmark.judge.judge_inputs import CastMember, JudgeInputs, SystemVideos
from mimix_core.benchmark.judge.rubric import DEFAULT_RUBRIC
from mimix_core.domain.library import Style
from mimix_core.domain.prompts import VideoPrompt
from mimix_core.engine.artifacts import FileRef, file_ref
from mimix_core.settings.judge_settings import JudgeSettings
from tests.factories import video
from tests.vlm.fake_provider import FakeProvider

COLORS = {
    "Tom": (40, 60, 220),
    "Jerry": (230, 150, 20),
    "Mr. Bean": (210, 30, 40),
    "Sheldon": (20, 190, 60),
}
FRAMES = 17


def cast(folder: Path) -> tuple[CastMember, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, (name, color) in enumerate(COLORS.items()):
        path = folder / f"{number}.png"
        Image.new("RGB", (40, 30), color).save(path)
        found.append(
            CastMember(
                name=name,
                show="Tom and Jerry" if number < 2 else name,
                style=Style.CARTOON if number < 2 else Style.REALISTIC,
                description=f"The looks of {name}",
                references=(file_ref(path),),
            )
        )
    return tuple(found)


def prompt(number: int, *characters: str) -> VideoPrompt:
    names = characters or ("Tom",)
    kinds: dict[str, Any] = {"category": "single" if len(names) == 1 else "inter-style"}
    return VideoPrompt(
        id=f"p{number:03d}",
        characters=names,
        actions=[{"name": name, "action": "walks to the right"} for name in names],
        setting=f"A grey room with the number {number} on its door",
        style=Style.CARTOON,
        **kinds,
    )


def frames(characters: Iterable[str], *, moves: bool = True, seed: int = 0) -> np.ndarray:
    """Draw 64 x 48 frames with a square of each character's color that moves 2 pixels per frame."""
    images = np.full((FRAMES, 48, 64, 3), 120, np.uint8)
    # Distinguishes the videos of two prompts, without color.
    images[:, 40:, :] = 60 + seed % 100
    for row, name in enumerate(characters):
        for number in range(FRAMES):
            left = 2 + (2 * number if moves else 0)
            images[number, 2 + 13 * row : 12 + 13 * row, left : left + 14] = COLORS[name]
    return images


def system(
    folder: Path, name: str, prompts: Sequence[VideoPrompt], *, moves: bool = True, **absent: str
) -> SystemVideos:
    videos: dict[str, FileRef] = {}
    for number, one in enumerate(prompts):
        if one.id not in absent:
            path = folder / name / f"{one.id}.mp4"
            video(path, frames(one.characters, moves=moves, seed=number))
            videos[one.id] = file_ref(path)
    return SystemVideos(name=name, videos=videos, missing=absent)


def inputs(folder: Path, prompts: Sequence[VideoPrompt], *systems: SystemVideos) -> JudgeInputs:
    return JudgeInputs(
        prompts=tuple(prompts),
        cast=cast(folder / "cast"),
        systems=systems,
        rubric=file_ref(DEFAULT_RUBRIC),
        response_cache=folder / "answers",
    )


def settings(server: FakeProvider, **changed: Any) -> JudgeSettings:
    """Judge settings for the fake server; ``vlm`` changes the model's settings."""
    vlm = server.settings(temperature=0.3, max_concurrency=4, max_attempts=2).model_dump()
    vlm |= changed.pop("vlm", {})
    return JudgeSettings.model_validate(
        {"vlm": vlm, "samples_per_question": 2, "image_size": 64, **changed}
    )
