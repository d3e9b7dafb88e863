"""Stage ``cutouts``: every captioned character of every clip, located, segmented and judged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mimix_core import progress, tables
from mimix_core.cutouts.locate import Locator, Track, read_boxes
from mimix_core.cutouts.quality import measure, objection
from mimix_core.cutouts.segment import Segmenter, make_segmenter
from mimix_core.keys import Immaterial
from mimix_core.masks import write_masks
from mimix_core.media import UnreadableVideo, read_rgb
from mimix_core.names import names_of, slug
from mimix_core.refs import FileRef, Frozen, TableRef
from mimix_core.settings import CutoutSettings
from mimix_core.stage import Stage, StageReport
from mimix_core.tables import Reason, Row

# Located in fewer of a clip's frames than this, a character is not in the clip.
MIN_LOCATED = 0.80


class CutoutInputs(Frozen):
    """One episode's clips and captions. ``weights``: of the segmenter, when it has any."""

    unit: Annotated[str, Immaterial()]
    roster: tuple[str, ...]
    aliases: dict[str, str] = Field(default_factory=dict)
    clips: TableRef
    captions: TableRef
    boxes: FileRef | None = None
    weights: FileRef | None = None


def run(inputs: CutoutInputs, settings: CutoutSettings, out: Path) -> StageReport:
    """One row per captioned character of each captioned clip; masks in ``masks/``.

    Raises BadInput for a boxes file that is not readable, MissingModel without the weights.
    """
    captions = {
        row["clip_id"]: row
        for row in tables.usable(tables.read(inputs.captions.path, tables.CAPTIONS))
    }
    clips = [
        clip
        for clip in tables.usable(tables.read(inputs.clips.path, tables.CLIPS))
        if clip["clip_id"] in captions
    ]
    locator = read_boxes(inputs.boxes, names_of(inputs.roster, inputs.aliases))
    segmenter = make_segmenter(settings, inputs.weights.path if inputs.weights else None)
    (out / "masks").mkdir()
    rows: list[Row] = []
    rows_in = 0
    for done, clip in enumerate(clips, start=1):
        characters = _characters(captions[clip["clip_id"]])
        rows_in += len(characters)
        rows += _clip_rows(clip, characters, inputs.clips.folder, locator, segmenter, settings, out)
        progress.advance(done, len(clips), clip["clip_id"])
    return StageReport(rows, rows_in=rows_in)


def _characters(caption: Row) -> list[str]:
    return list(dict.fromkeys(action["name"] for action in caption["actions"]))


def _clip_rows(
    clip: Row,
    characters: Iterable[str],
    folder: Path,
    locator: Locator,
    segmenter: Segmenter,
    settings: CutoutSettings,
    out: Path,
) -> list[Row]:
    """The rows of one clip, which is decoded once, and only when somebody is located in it."""
    rows, tracks = [], {}
    for character, track in locator.locate(clip, list(characters)).items():
        located = sum(box is not None for box in track) / len(track)
        if located >= MIN_LOCATED:
            tracks[character] = track
        else:
            detail = f"located in {located:.0%} of the frames, at least {MIN_LOCATED:.0%} wanted"
            empty = _columns(clip, character, locator, segmenter)
            rows.append(tables.rejected(Reason.NOT_LOCATED, detail, **empty))
    if not tracks:
        return rows
    try:
        frames_NHWC = read_rgb(folder / clip["file"])
        alphas = segmenter.segment(frames_NHWC, tracks)
    except (UnreadableVideo, cv2.error, ValueError) as error:
        # One clip that breaks must not take the others with it.
        return rows + [
            tables.failed(
                Reason.SEGMENT_FAILED, str(error), **_columns(clip, name, locator, segmenter)
            )
            for name in tracks
        ]
    for character, track in tracks.items():
        values = _columns(clip, character, locator, segmenter)
        rows.append(_judged(values, alphas[character], track, settings, out))
    return rows


def _judged(
    values: dict[str, Any],
    alpha_NHW: NDArray[np.uint8],
    track: Track,
    settings: CutoutSettings,
    out: Path,
) -> Row:
    quality = measure(alpha_NHW, track)
    measured = asdict(quality)
    values |= {name: measured[name] for name in ("area", "boxes", "presence", "border")}
    against = objection(quality, settings)
    if against is not None:
        return tables.rejected(against[0], against[1], **values)
    values["file"] = f"masks/{values['cutout_id']}.parquet"
    write_masks(out / values["file"], alpha_NHW)
    return tables.ok(**values)


def _columns(clip: Row, character: str, locator: Locator, segmenter: Segmenter) -> dict[str, Any]:
    return {
        "cutout_id": f"{clip['clip_id']}-{slug(character)}",
        "clip_id": clip["clip_id"],
        "show": clip["show"],
        "style": clip["style"],
        "character": character,
        "locator": locator.name,
        "backend": segmenter.name,
        "area": [],
        "boxes": [],
        "presence": 0.0,
        "border": [],
        "file": "",
    }


STAGE = Stage(
    name="cutouts",
    version=1,
    inputs=CutoutInputs,
    settings=CutoutSettings,
    table=tables.CUTOUTS,
    run=run,
)
