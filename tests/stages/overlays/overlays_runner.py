"""Run the overlays stage on generated videos with text, and its parts on given boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mimix_core import tables
from mimix_core.engine.artifacts import file_ref
from mimix_core.settings import OverlaySettings
from mimix_core.stages import overlays
from mimix_core.stages.overlays.persistent_text import SampledFrame
from mimix_core.stages.overlays.text_detection import PixelBox
from tests.media_factory import GroundTruth, commit_table

SIZE = (640, 368)
LONG, SHORT = 132, 48
"""Frames of a shot at 24/s into which a clip fits, and of a shorter one."""

Draw = Callable[[np.ndarray, int], None]


def scene(start: int, end: int, time_base: Fraction = Fraction(1, 24), **more: Any) -> tables.Row:
    row = {column.name: 0 for column in tables.SCENES.schema}
    row |= dict.fromkeys(("show", "style", "fields", "frames_file"), "") | {"seekable": True}
    row |= {"scene_id": f"demo-s{start:010d}", "episode_id": "demo", "origin_pts": 0}
    row |= {"start_pts": start, "end_pts": end}
    row |= {"time_base_num": time_base.numerator, "time_base_den": time_base.denominator}
    return (
        tables.ok(**{k: v for k, v in row.items() if k not in ("status", "reason", "detail")})
        | more
    )


def run(
    path: Path, spans: Sequence[tuple[int, int]], time_base: Fraction, out: Path, **settings: Any
) -> list[tables.Row]:
    """Run the stage and return its rows in the order of the episode."""
    scenes = commit_table(
        out / "scenes", tables.SCENES, [scene(start, end, time_base) for start, end in spans]
    )
    inputs = overlays.OverlayInputs(unit="v", show="demo", video=file_ref(path), scenes=scenes)
    report = overlays.run(inputs, OverlaySettings(**settings), out)
    tables.validate(tables.OVERLAYS, report.rows)
    assert report.rows_in == len(report.rows) == len(spans)
    return list(report.rows)


def rows_of(video: GroundTruth, out: Path, **settings: Any) -> list[tables.Row]:
    return run(video.path, video.spans(), video.time_base, out, **settings)


@cache
def font(size: int) -> Any:
    return ImageFont.load_default(size)


Text = tuple[int, int, str]
"""x of the middle, y of the lower edge, words."""


def write(image: np.ndarray, *texts: Text, size: int = 22) -> None:
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    for x, y, words in texts:
        draw.text(
            (x, y),
            words,
            anchor="md",
            align="center",
            font=font(size),
            fill="white",
            stroke_width=2,
            stroke_fill="black",
        )
    image[:] = np.asarray(canvas)


LINE: PixelBox = (100, 80, 200, 90)


def samples(
    lines: Sequence[Sequence[PixelBox]], scenes: Sequence[int] | None = None, parts: int = 10
) -> list[SampledFrame]:
    """Frames all over the episode, each of a different scene by default."""
    return [
        SampledFrame(
            index if scenes is None else scenes[index],
            index * parts // len(lines),
            index,
            tuple(boxes),
            None,
        )
        for index, boxes in enumerate(lines)
    ]


# --- credits --------------------------------------------------------------------------------------


def rows_of_text(count: int, shift: int = 0) -> list[PixelBox]:
    return [(20 + shift, 8 * k, 90 + shift, 8 * k + 6) for k in range(count)]
