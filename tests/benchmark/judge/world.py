"""A world in which a character is a colour: its videos show squares of it that go to the right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mimix_core.benchmark.judge.judge_inputs import CastMember, JudgeInputs, SystemVideos
from mimix_core.benchmark.judge.rubric import DEFAULT
from mimix_core.domain.library import Style
from mimix_core.domain.prompts import Prompt
from mimix_core.engine.artifacts import FileRef, file_ref
from mimix_core.settings.judge_settings import JudgeSettings
from tests.factories import video
from tests.vlm.standin import StandIn

COLOURS = {
    "Tom": (40, 60, 220),
    "Jerry": (230, 150, 20),
    "Mr. Bean": (210, 30, 40),
    "Sheldon": (20, 190, 60),
}
FRAMES = 17


def cast(folder: Path) -> tuple[CastMember, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, (name, colour) in enumerate(COLOURS.items()):
        path = folder / f"{number}.png"
        Image.new("RGB", (40, 30), colour).save(path)
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


def prompt(number: int, *characters: str) -> Prompt:
    names = characters or ("Tom",)
    kinds: dict[str, Any] = {"category": "single" if len(names) == 1 else "inter-style"}
    return Prompt(
        id=f"p{number:03d}",
        characters=names,
        actions=[{"name": name, "action": "walks to the right"} for name in names],
        setting=f"A grey room with the number {number} on its door",
        style=Style.CARTOON,
        **kinds,
    )


def frames(characters: Iterable[str], *, moves: bool = True, seed: int = 0) -> np.ndarray:
    """Pictures of 64 x 48; a square of each character's colour, which goes right by 2 a frame."""
    pictures = np.full((FRAMES, 48, 64, 3), 120, np.uint8)
    # Tells the videos of two prompts apart, and is no colour.
    pictures[:, 40:, :] = 60 + seed % 100
    for row, name in enumerate(characters):
        for number in range(FRAMES):
            left = 2 + (2 * number if moves else 0)
            pictures[number, 2 + 13 * row : 12 + 13 * row, left : left + 14] = COLOURS[name]
    return pictures


def system(
    folder: Path, name: str, prompts: Sequence[Prompt], *, moves: bool = True, **absent: str
) -> SystemVideos:
    videos: dict[str, FileRef] = {}
    for number, one in enumerate(prompts):
        if one.id not in absent:
            path = folder / name / f"{one.id}.mp4"
            video(path, frames(one.characters, moves=moves, seed=number))
            videos[one.id] = file_ref(path)
    return SystemVideos(name=name, videos=videos, absent=absent)


def inputs(folder: Path, prompts: Sequence[Prompt], *systems: SystemVideos) -> JudgeInputs:
    return JudgeInputs(
        prompts=tuple(prompts),
        cast=cast(folder / "cast"),
        systems=systems,
        rubric=file_ref(DEFAULT),
        answers=folder / "answers",
    )


def settings(server: StandIn, **changed: Any) -> JudgeSettings:
    """``vlm`` among them: changes of the model's own settings."""
    vlm = server.settings(temperature=0.3, concurrency=4, attempts=2).model_dump()
    vlm |= changed.pop("vlm", {})
    return JudgeSettings.model_validate({"vlm": vlm, "samples": 2, "picture_side": 64, **changed})
