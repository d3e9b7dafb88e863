"""Columns of the tables of a synthetic library: the values that stages would have found.

Each function returns the columns of one table for some clips, by their names. Equal states of the
random generator give equal columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mimix_core.domain.ids import composite_id, episode_id
from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.media.fingerprint import THUMBNAIL_INTERVAL, THUMBNAIL_VALUES, VERSION

FRAMES = 81
UNCAPTIONED_SHARE = 0.02
REJECTED_SHARE = 0.1

_NAMES = ("Tom", "Jerry", "Spike", "Grizzly", "Panda", "Sheldon", "Missy", "Irma", "Teddy", "Mary")
_ACTIONS = (
    "runs to the door",
    "looks around the room",
    "opens a large wooden box and takes out a rope",
    "laughs at the picture on the wall",
    "falls over the chair, gets up again and walks away slowly",
    "waves",
)
_CONTEXTS = (
    "A kitchen in the afternoon.",
    "The street in front of the house, with two parked cars and a tree.",
    "A classroom.",
    "A forest at night; the moon is behind the clouds, and a fire burns between the trees.",
)


@dataclass(frozen=True)
class Episode:
    id: str
    show: str
    style: str
    cast: tuple[str, ...]


CompositePair = tuple[Episode, Episode, str, str]
"""The episodes of the character and of the background, then their clips."""


def make_episode(number: int, shows: int) -> Episode:
    show = number % shows
    digest = hashlib.sha256(f"video {number}".encode()).hexdigest()
    first = show % len(_NAMES)
    cast = tuple(_NAMES[(first + step) % len(_NAMES)] for step in range(4))
    name = f"show{show:05d}"
    return Episode(episode_id(name, digest), name, "realistic" if show % 2 else "cartoon", cast)


def _digests(count: int, random: np.random.Generator) -> list[str]:
    text = random.bytes(32 * count).hex()
    return [text[start : start + 64] for start in range(0, len(text), 64)]


def _lists(rows: int, width: int, values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(np.arange(0, width * rows + 1, width, dtype=np.int32), values)


def _outcome(count: int, rejected: np.ndarray[Any, Any], reason: str) -> dict[str, Any]:
    return {
        "status": ["rejected" if bad else "ok" for bad in rejected],
        "reason": [reason if bad else None for bad in rejected],
        "detail": ["measured too low" if bad else None for bad in rejected],
    }


def clip_columns(
    episode: Episode, ids: Sequence[str], random: np.random.Generator
) -> dict[str, Any]:
    count, thumbs = len(ids), -(-FRAMES // int(THUMBNAIL_INTERVAL * CLIP_RATE)) * THUMBNAIL_VALUES
    starts = 90_000 * np.arange(count)
    pts = (starts[:, None] + 1000 * np.arange(FRAMES)).reshape(-1)
    # Fingerprints of slowly changing images: the first thumbnail, and small steps from it.
    first = random.integers(30, 200, (count, 1, THUMBNAIL_VALUES))
    steps = random.integers(-9, 10, (count, thumbs // THUMBNAIL_VALUES, THUMBNAIL_VALUES))
    pixels = np.clip(first + steps.cumsum(axis=1), 0, 255).astype(np.uint8).reshape(count, -1)
    crops = pa.array(np.tile([0, 0, 1280, 720], count))
    constants = {
        "episode_id": episode.id,
        "show": episode.show,
        "style": episode.style,
        "origin_pts": 0,
        "time_base_num": 1,
        "time_base_den": 16_000,
        "start_den": 16_000,
        "source_width": 1280,
        "source_height": 720,
        "width": 832,
        "height": 480,
        "frames": FRAMES,
        "rate_num": 16,
        "rate_den": 1,
        "black_share": 0.0,
        "frozen_share": 0.0,
        "repeat_share": 0.0,
        "text_remains": "",
        "audio_file": "",
        "audio_sha256": "",
        "lost_audio_ms": 0,
        "inset_fingerprint": b"",
    }
    return {
        **{name: [value] * count for name, value in constants.items()},
        "clip_id": ids,
        "scene_id": [name.replace("-c", "-s") for name in ids],
        "start_num": starts,
        "source_pts": _lists(count, FRAMES, pa.array(pts)),
        "crop": _lists(count, 4, crops),
        "motion": random.gamma(2, 0.02, count),
        "sharpness": random.gamma(3, 60, count),
        "file": [f"clips/{name}.mp4" for name in ids],
        "sha256": _digests(count, random),
        "fingerprint": [bytes([VERSION]) + row.tobytes() for row in pixels],
        **_outcome(count, random.random(count) < REJECTED_SHARE, "clip_blurred"),
    }


def transcript_columns(ids: Sequence[str], random: np.random.Generator) -> dict[str, Any]:
    words = ("hello", "there", "what", "are", "you", "doing", "come", "back", "wait", "again")
    lengths = random.integers(0, 20, len(ids))
    texts = [" ".join(random.choice(words, length)) for length in lengths]
    return {
        "clip_id": ids,
        "backend": ["subtitles/sidecar"] * len(ids),
        "language": ["en"] * len(ids),
        "text": texts,
        "lines": [[{"start_ms": 0, "end_ms": 2000, "text": text}] for text in texts],
        "words": [[]] * len(ids),
        **_outcome(len(ids), np.zeros(len(ids), bool), ""),
    }


def caption_columns(
    ids: Sequence[str], episode: Episode, random: np.random.Generator
) -> dict[str, Any]:
    count = len(ids)
    actors = random.integers(1, 4, count)
    first = random.integers(0, len(episode.cast), count)
    verbs = random.integers(0, len(_ACTIONS), (count, 3))
    contexts = random.integers(0, len(_CONTEXTS), count)
    actions = [
        [
            {
                "name": episode.cast[(first[row] + step) % len(episode.cast)],
                "action": _ACTIONS[verbs[row, step]],
            }
            for step in range(actors[row])
        ]
        for row in range(count)
    ]
    said = [
        " ".join(f"[Character: {one['name']}], {one['action']}." for one in row) for row in actions
    ]
    return {
        "clip_id": ids,
        "backend": ["vlm/openai"] * count,
        "model": ["gpt-4o"] * count,
        "caption": [
            f"{text} {_CONTEXTS[place]} [scene-style:{episode.style}]"
            for text, place in zip(said, contexts, strict=True)
        ],
        "actions": actions,
        "context": [_CONTEXTS[place] for place in contexts],
        "style": [episode.style] * count,
        "attempts": [1] * count,
        "input_tokens": random.integers(900, 3000, count),
        "cached_tokens": [0] * count,
        "output_tokens": random.integers(40, 200, count),
        "cost_usd": [0.004] * count,
        **_outcome(count, random.random(count) < UNCAPTIONED_SHARE, "caption_invalid"),
    }


def cutout_columns(
    ids: Sequence[str], episode: Episode, random: np.random.Generator
) -> dict[str, Any]:
    """One character of every second clip."""
    clips = ids[::2]
    count = len(clips)
    names = [episode.cast[number % len(episode.cast)] for number in range(count)]
    corner = random.integers(0, 300, (count, 1, 2))
    boxes = np.concatenate(
        [corner + np.zeros((1, FRAMES, 1), int), corner + 150 + np.zeros((1, FRAMES, 1), int)],
        axis=2,
    )
    per_frame = _lists(count, FRAMES, pa.array(np.full(count * FRAMES, 0.1)))
    return {
        "cutout_id": [f"{name}-x" for name in clips],
        "clip_id": clips,
        "show": [episode.show] * count,
        "style": [episode.style] * count,
        "character": names,
        "locator": ["sam3"] * count,
        "backend": ["sam2"] * count,
        "area": per_frame,
        "boxes": _lists(count, FRAMES, _lists(count * FRAMES, 4, pa.array(boxes.reshape(-1)))),
        "score": per_frame,
        "presence": [1.0] * count,
        "border": [[]] * count,
        "file": [f"masks/{name}.parquet" for name in clips],
        **_outcome(count, random.random(count) < REJECTED_SHARE, "mask_flickers"),
    }


def duplicate_columns(episode: Episode, ids: Sequence[str]) -> dict[str, Any]:
    return {
        "clip_id": ids,
        "episode_id": [episode.id] * len(ids),
        "twin_clip_id": [""] * len(ids),
        "similarity": [0.25] * len(ids),
        **_outcome(len(ids), np.zeros(len(ids), bool), ""),
    }


def composite_columns(
    pairs: Sequence[CompositePair], ranks: np.ndarray[Any, Any], random: np.random.Generator
) -> dict[str, Any]:
    count = len(pairs)
    ids = [composite_id(f"{source}-x", background) for _, _, source, background in pairs]
    constants = {
        "scale": 0.8,
        "x": 12.0,
        "y": 40.0,
        "source_camera": "static",
        "background_camera": "static",
        "covered": 0.02,
        "ground": 0.7,
        "width": 832,
        "height": 480,
        "frames": FRAMES,
    }
    return {
        **{name: [value] * count for name, value in constants.items()},
        "composite_id": ids,
        "cutout_id": [f"{pair[2]}-x" for pair in pairs],
        "source_clip_id": [pair[2] for pair in pairs],
        "background_clip_id": [pair[3] for pair in pairs],
        "source_episode_id": [pair[0].id for pair in pairs],
        "background_episode_id": [pair[1].id for pair in pairs],
        "show": [pair[1].show for pair in pairs],
        "style": [pair[1].style for pair in pairs],
        "character": [pair[0].cast[0] for pair in pairs],
        "character_style": [pair[0].style for pair in pairs],
        "rank": ranks,
        "path": [[]] * count,
        "file": [f"videos/{name}.mp4" for name in ids],
        "sheet_file": [f"sheets/{name}.jpg" for name in ids],
        "sha256": _digests(count, random),
        **_outcome(count, np.zeros(count, bool), ""),
    }
