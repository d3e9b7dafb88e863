"""Create negative controls: corrupted versions of a video that a good judge rates lower.

Four corrupt the frames: one frame frozen, time reversed, every frame redrawn as a gray pencil
sketch (not the style of any show), and the right half of the picture shown half a video later, so
that no character answers what another does. The fifth leaves the video and swaps the names: it is
judged against a prompt with other characters, and their reference sheets are shown.
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
from mimix_core.domain.prompts import VideoPrompt
from mimix_core.media import ClipWriter, UnreadableVideo, open_video, to_display_rgb

Control = Literal[
    "swapped-identities", "frozen-frame", "reversed-time", "restyled-frames", "shifted-half"
]
CONTROLS: tuple[Control, ...] = get_args(Control)

CONTROL_ASPECTS: dict[Control, Aspect] = {
    "swapped-identities": "identity",
    "frozen-frame": "motion",
    "reversed-time": "motion",
    "restyled-frames": "style",
    "shifted-half": "interaction",
}
"""The aspect that each control corrupts and is judged in."""

_CRF, _PRESET = 8, "veryfast"
"""High quality: the judge shall see the corruption, not artifacts of the second encode."""


def write_control_video(control: Control, source: Path, target: Path, *, max_side: int) -> None:
    """Write the corrupted version of a video with the same frame count and rate.

    ``max_side``: maximum length of the longer side in pixels. Raises UnreadableVideo, EncodeFailed;
    ValueError for swapped identities, which leave the frames unchanged.
    """
    with open_video(source, threads=1) as video:
        rate = video.info.rate
        if rate <= 0:
            raise UnreadableVideo("has no frame rate")
        frames = [
            _fit_even_size(to_display_rgb(frame, video.info), max_side) for frame in video.frames()
        ]
    target.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    with ClipWriter(target, width, height, crf=_CRF, preset=_PRESET, rate=rate) as writer:
        for image_HWC in corrupt_frames(control, frames):
            writer.write_rgb(image_HWC)


def corrupt_frames(
    control: Control, frames: Sequence[NDArray[np.uint8]]
) -> list[NDArray[np.uint8]]:
    """Corrupt frames [height, width, 3]. Raises ValueError as ``write_control_video`` does."""
    match control:
        case "frozen-frame":
            return [frames[len(frames) // 2]] * len(frames)
        case "reversed-time":
            return list(reversed(frames))
        case "restyled-frames":
            return [pencil_sketch(image_HWC) for image_HWC in frames]
        case "shifted-half":
            return _shift_right_half(frames)
        case "swapped-identities":
            raise ValueError("swapped identities leave the frames unchanged")


def _shift_right_half(frames: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Show the right half of each frame half a video later, the end followed by the start."""
    middle, later = frames[0].shape[1] // 2, len(frames) // 2
    return [
        np.concatenate(
            [image_HWC[:, :middle], frames[(index + later) % len(frames)][:, middle:]], axis=1
        )
        for index, image_HWC in enumerate(frames)
    ]


def pencil_sketch(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn an image into a gray pencil sketch: its luma divided by its blurred luma."""
    gray_HW = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY)
    sigma = max(gray_HW.shape) / 80
    blur_HW = cv2.GaussianBlur(gray_HW, (0, 0), sigma)
    sketch_HW = cv2.divide(gray_HW, blur_HW, scale=255)
    sketch_HWC: NDArray[np.uint8] = np.repeat(sketch_HW[:, :, None], 3, axis=2)
    return sketch_HWC


def swap_characters(prompt: VideoPrompt, cast: Sequence[CastMember]) -> VideoPrompt | None:
    """Replace the characters of a prompt in the same actions; None when the cast has too few.

    The most different characters are preferred: of the other style, then of another show. Ties are
    broken pseudo-randomly by the prompt's id, so that replacements vary between prompts.
    """
    members = {member.name: member for member in cast}
    new: dict[str, str] = {}
    for name in prompt.characters:
        original = members[name]
        available = [
            member
            for member in cast
            if member.name not in prompt.characters and member.name not in new.values()
        ]
        if not available:
            return None
        new[name] = min(available, key=lambda member: _swap_order(original, member, prompt.id)).name
    names = re.compile(
        "|".join(rf"\b{re.escape(name)}\b" for name in sorted(new, key=len, reverse=True))
    )

    def rename(text: str) -> str:
        return names.sub(lambda match: new[match.group()], text)

    return prompt.model_copy(
        update={
            "characters": tuple(new[name] for name in prompt.characters),
            "actions": tuple(
                action.model_copy(
                    update={"name": new[action.name], "action": rename(action.action)}
                )
                for action in prompt.actions
            ),
            "setting": rename(prompt.setting),
        }
    )


def _swap_order(original: CastMember, other: CastMember, prompt_id: str) -> tuple[bool, bool, str]:
    digest = hashlib.sha256(f"{prompt_id} {original.name} {other.name}".encode()).hexdigest()
    return original.style == other.style, original.show == other.show, digest


def _fit_even_size(image_HWC: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """Scale down to at most ``max_side`` pixels and to even sides, as the encoder requires."""
    height, width = image_HWC.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    new_height, new_width = (max(2, int(length * scale) // 2 * 2) for length in (height, width))
    if scale < 1:
        small: NDArray[np.uint8] = cv2.resize(
            image_HWC, (new_width, new_height), interpolation=cv2.INTER_AREA
        )
        return small
    return np.ascontiguousarray(image_HWC[:new_height, :new_width])
