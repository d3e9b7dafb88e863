"""Factories of prompts, scores and a dataset of three characters, for computation by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from mimix_core import tables
from mimix_core.benchmark.report_card.card_inputs import CardInputs
from mimix_core.domain.prompts import CharacterOrigin, VideoPrompt
from mimix_core.tables import CharacterScoreRow, DatasetRow, Reason, Row
from tests.factories import video

ORIGINS = tuple(
    CharacterOrigin.model_validate({"name": name, "show": show, "style": style})
    for name, show, style in (
        ("Tom", "toons", "cartoon"),
        ("Jerry", "toons", "cartoon"),
        ("Mary", "street", "realistic"),
    )
)
STYLES = {origin.name: origin.style.value for origin in ORIGINS}

FRAMES = 9
SAMPLED = [1, 4, 7]


def prompt(prompt_id: str, names: Sequence[str], style: str = "cartoon") -> VideoPrompt:
    """Build a prompt in which everybody waves."""
    return VideoPrompt.model_validate(
        {
            "id": prompt_id,
            "category": "single" if len(names) == 1 else "inter-series",
            "characters": names,
            "actions": [{"name": name, "action": "waves"} for name in names],
            "setting": "A kitchen",
            "style": style,
        }
    )


def score(video_id: str, name: str, identity: str = "right", **values: Any) -> CharacterScoreRow:
    """Build the scores of one character; by default it is itself, in its own style, once."""
    present = identity != "absent"
    row: Row = {
        "score_id": f"{video_id}/{name.lower()}",
        "video_id": video_id,
        "character": name,
        "style": STYLES.get(name, "cartoon"),
        "scene_style": "cartoon",
        "backend": "discriminant/test",
        "identity": identity,
        "looks_like": "",
        "distance": 0.8 if present else None,
        "limit": 1.0 if present else None,
        "other": "",
        "other_distance": None,
        "in_own_style": True if present else None,
        "style_share": 0.9 if present else None,
        "count": int(identity == "right"),
        "presence": float(present),
        "frames": SAMPLED,
        "boxes": [[0.1, 0.2, 0.4, 0.9]] * 3 if present else [[]] * 3,
        "nearest_clip": "",
        "nearest_frame": None,
        "copy_similarity": None,
        "copied": None,
        "motion": None,
        "motion_rank": None,
    }
    return cast(CharacterScoreRow, tables.ok(**row | values))


def unscored(video_id: str, name: str) -> CharacterScoreRow:
    """Build the row of a character whose video is missing."""
    columns = {
        key: value
        for key, value in score(video_id, name, "absent").items()
        if key not in ("status", "reason", "detail")
    }
    row = tables.failed(Reason.NO_VIDEO, "", **columns | {"identity": ""})
    return cast(CharacterScoreRow, row)


def sample(
    sample_id: str, names: Sequence[str], caption: str, kind: str = "original", **values: Any
) -> DatasetRow:
    """Build a sample of the dataset, by default in the training split of a cartoon."""
    row: Row = {
        "sample_id": sample_id,
        "kind": kind,
        "split": "train",
        "show": "toons",
        "style": "cartoon",
        "characters": list(names),
        "caption": caption,
        "caption_backend": "test",
        "video": f"clips/{sample_id}.mp4",
        "sha256": "",
        "frames": FRAMES,
        "rate_num": 16,
        "rate_den": 1,
        "width": 64,
        "height": 48,
        "episode_id": "toons-1",
        "source_episode_id": "",
        "pasted": "",
        "pasted_style": "",
        "rank": -1,
    }
    return cast(DatasetRow, tables.ok(**row | values))


def write_noise(path: Path, seed: int) -> None:
    """Write a video of 64 x 48 pixels whose frames differ."""
    colors = np.random.default_rng(seed).integers(0, 255, (FRAMES, 1, 1, 3))
    video(path, np.broadcast_to(colors, (FRAMES, 48, 64, 3)).astype(np.uint8))


DATASET = (
    sample("waving", ["Tom"], "[Character: Tom], waves. A kitchen. [scene-style:cartoon]"),
    sample("running", ["Tom"], "[Character: Tom], runs. A street. [scene-style:cartoon]"),
    sample(
        "reading",
        ["Mary"],
        "[Character: Mary], reads. A street. [scene-style:realistic]",
        show="street",
        style="realistic",
    ),
    sample(
        "held-out",
        ["Mary"],
        "[Character: Mary], waves. A kitchen. [scene-style:realistic]",
        style="realistic",
        split="val",
    ),
    sample(
        "pasted",
        ["Tom", "Mary"],
        "[Character: Tom], waves. [Character: Mary], reads. A street. [scene-style:cartoon]",
        "composite",
        pasted="Mary",
    ),
)


def card_inputs(
    folder: Path,
    prompts: Iterable[VideoPrompt],
    scores: Iterable[CharacterScoreRow],
    dataset: Iterable[DatasetRow] = DATASET,
    origins: Sequence[CharacterOrigin] = ORIGINS,
) -> CardInputs:
    """Write the videos and the dataset's files, and build what a card is made from."""
    asked = tuple(prompts)
    rows = tuple(scores)
    scored = {row["video_id"] for row in rows if row["status"] == "ok"}
    videos = {one.id: folder / "videos" / f"{one.id}.mp4" for one in asked if one.id in scored}
    samples = tuple(dataset)
    files = [*videos.values(), *(folder / "store" / row["video"] for row in samples)]
    for number, path in enumerate(files):
        write_noise(path, number)
    sheet = folder / "store" / "sheets" / "pasted.jpg"
    sheet.parent.mkdir(parents=True, exist_ok=True)
    sheet.write_bytes(b"a picture")
    return CardInputs(
        "ours", videos, asked, tuple(origins), rows, samples, {"pasted": sheet}, folder / "store"
    )


PROMPTS = (
    prompt("p1", ["Tom", "Mary"]),
    prompt("p2", ["Tom", "Mary"]),
    prompt("p3", ["Tom", "Mary", "Jerry"]),
    prompt("p4", ["Tom", "Jerry"], "realistic"),
    prompt("p5", ["Tom", "Jerry"], "realistic"),
    prompt("alone", ["Tom"]),
)

SCORES = (
    score("p1", "Tom", nearest_clip="running", nearest_frame=4, copy_similarity=0.9, copied=True),
    score("p1", "Mary", in_own_style=False),
    score("p2", "Tom", "swapped", looks_like="Mary", in_own_style=False, distance=1.6),
    score("p2", "Mary", count=2, nearest_clip="gone", nearest_frame=2, copy_similarity=0.2),
    score("p3", "Tom"),
    score("p3", "Mary", "absent"),
    score("p3", "Jerry", "mixed", looks_like="Tom", distance=1.2),
    score("p4", "Tom", scene_style="realistic"),
    score("p4", "Jerry", scene_style="realistic"),
    unscored("p5", "Tom"),
    unscored("p5", "Jerry"),
    score("alone", "Tom", "absent"),
)
"""Of six videos: Tom and Mary meet in three of them."""
