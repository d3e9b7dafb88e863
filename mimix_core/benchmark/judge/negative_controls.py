"""Negative controls: spoilt versions of a video, which a judge that sees must rate lower.

Three are made of the frames: one frame frozen, time reversed, every frame redrawn as a grey pencil
sketch (no show's style). In the fourth the video stays and the names are swapped: it is judged as
if the prompt had asked for other characters, whose reference sheets are shown.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.benchmark.judge.judge_inputs import CastMember
from mimix_core.benchmark.judge.rubric import Aspect
from mimix_core.domain.prompts import Prompt
from mimix_core.media import ClipWriter, UnreadableVideo, open_video, to_display_rgb

Control = Literal["swapped-identities", "frozen-frame", "reversed-time", "restyled-frames"]
CONTROLS: tuple[Control, ...] = get_args(Control)

BREAKS: dict[Control, Aspect] = {
    "swapped-identities": "identity",
    "frozen-frame": "motion",
    "reversed-time": "motion",
    "restyled-frames": "style",
}
"""The aspect that each control spoils, and is judged in."""

_CRF, _PRESET = 8, "veryfast"
"""Little is lost in the second encode: what is to be seen is the control, not the coder."""


def make(control: Control, source: Path, target: Path, *, side: int) -> None:
    """Write the spoilt version of a video: as many frames at its own rate, at most ``side`` wide.

    Raises UnreadableVideo, EncodeFailed; ValueError for the control that leaves the frames alone.
    """
    with open_video(source, threads=1) as video:
        rate = video.info.rate
        if rate <= 0:
            raise UnreadableVideo("states no frame rate")
        frames = [_even(to_display_rgb(frame, video.info), side) for frame in video.frames()]
    target.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    with ClipWriter(target, width, height, crf=_CRF, preset=_PRESET, rate=rate) as writer:
        for image_HWC in spoilt(control, frames):
            writer.write_rgb(image_HWC)


def spoilt(control: Control, frames: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """The frames [height, width, 3] of the spoilt version. Raises ValueError, see ``make``."""
    match control:
        case "frozen-frame":
            return [frames[len(frames) // 2]] * len(frames)
        case "reversed-time":
            return list(reversed(frames))
        case "restyled-frames":
            return [sketched(image_HWC) for image_HWC in frames]
        case "swapped-identities":
            raise ValueError("swapped identities leave the frames as they are")


def sketched(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture as a grey pencil sketch: its brightness divided by its own blur."""
    grey_HW = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY)
    sigma = max(grey_HW.shape) / 80
    blur_HW = cv2.GaussianBlur(grey_HW, (0, 0), sigma)
    sketch_HW = cv2.divide(grey_HW, blur_HW, scale=255)
    sketch_HWC: NDArray[np.uint8] = np.repeat(sketch_HW[:, :, None], 3, axis=2)
    return sketch_HWC


def swapped(prompt: Prompt, cast: Sequence[CastMember]) -> Prompt | None:
    """The prompt with other characters in the same actions; None when the cast has too few.

    Those who differ most come first: of the other style, then of another show; among equals the
    order is drawn from the prompt's id, so that not one character stands in for all.
    """
    known = {one.name: one for one in cast}
    new: dict[str, str] = {}
    for name in prompt.characters:
        own = known[name]
        free = [
            one
            for one in cast
            if one.name not in prompt.characters and one.name not in new.values()
        ]
        if not free:
            return None
        new[name] = min(free, key=lambda one: _likeness(own, one, prompt.id)).name
    names = re.compile(
        "|".join(rf"\b{re.escape(name)}\b" for name in sorted(new, key=len, reverse=True))
    )

    def renamed(text: str) -> str:
        return names.sub(lambda found: new[found.group()], text)

    return prompt.model_copy(
        update={
            "characters": tuple(new[name] for name in prompt.characters),
            "actions": tuple(
                one.model_copy(update={"name": new[one.name], "action": renamed(one.action)})
                for one in prompt.actions
            ),
            "setting": renamed(prompt.setting),
        }
    )


def _likeness(own: CastMember, other: CastMember, prompt_id: str) -> tuple[bool, bool, str]:
    drawn = hashlib.sha256(f"{prompt_id} {own.name} {other.name}".encode()).hexdigest()
    return own.style == other.style, own.show == other.show, drawn


def _even(image_HWC: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """At most ``side`` pixels on the longer side, both even, as the encoder wants them."""
    height, width = image_HWC.shape[:2]
    scale = min(1.0, side / max(height, width))
    high, wide = (max(2, int(length * scale) // 2 * 2) for length in (height, width))
    if scale < 1:
        small: NDArray[np.uint8] = cv2.resize(image_HWC, (wide, high), interpolation=cv2.INTER_AREA)
        return small
    return np.ascontiguousarray(image_HWC[:high, :wide])
