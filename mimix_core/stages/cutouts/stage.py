"""Stage ``cutouts``: every captioned character of every clip, located, segmented and judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mimix_core import tables
from mimix_core.domain.character_names import names_of, slug
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.media import UnreadableVideo, read_rgb
from mimix_core.media.masks import write_masks
from mimix_core.settings import CutoutSettings
from mimix_core.stages.cutouts.locate import (
    LOCATIONS_FILE,
    Located,
    LocatorInputs,
    location_rows,
    make_locator,
    write_locations,
)
from mimix_core.stages.cutouts.mask_quality import measure, objection
from mimix_core.stages.cutouts.segmenter import Segmented, Segmenter, make_segmenter
from mimix_core.tables import Reason, Row

# Located in fewer of a clip's frames than this, a character is not in the clip.
MIN_LOCATED = 0.80


class CutoutInputs(FrozenModel):
    """One episode's clips and captions. ``weights``: of the segmenter, when it has any.

    ``boxes``: given by hand, else ``locating`` says who finds the characters.
    """

    unit: Annotated[str, ExcludeFromKey()]
    roster: tuple[str, ...]
    aliases: dict[str, str] = Field(default_factory=dict)
    clips: TableRef
    captions: TableRef
    boxes: FileRef | None = None
    locating: LocatorInputs | None = None
    weights: FileRef | None = None


def run(inputs: CutoutInputs, settings: CutoutSettings, out: Path) -> StageReport:
    """One row per captioned character of each captioned clip; masks in ``masks/``, all boxes in
    ``locations.parquet``.

    Raises BadInput for a boxes file or a reference that is not readable, MissingModel without the
    weights, Transient when the device has no memory left.
    """
    captions = {
        row["clip_id"]: row
        for row in tables.usable(tables.read(inputs.captions.path, tables.CAPTIONS))
    }
    wanted = [
        (clip, _characters(captions[clip["clip_id"]]))
        for clip in tables.usable(tables.read(inputs.clips.path, tables.CLIPS))
        if clip["clip_id"] in captions
    ]
    folder = inputs.clips.folder
    names = names_of(inputs.roster, inputs.aliases)
    locator = make_locator(inputs.boxes, inputs.locating, names, folder, wanted)
    (out / "masks").mkdir()
    rows: list[Row] = []
    locations: list[Row] = []
    with _device(settings):
        segmenter = make_segmenter(settings, inputs.weights.path if inputs.weights else None)
        making = _Making(folder, locator.name, segmenter, settings, out)
        waiting: list[_Clip] = []
        for done, (clip, characters) in enumerate(wanted, start=1):
            located = locator.locate(clip, characters)
            locations += location_rows(clip, located)
            unfit, ready = making.read(clip, located)
            rows += unfit
            waiting += ready
            if len(waiting) >= segmenter.clips_at_once:
                rows += making.cut(waiting)
                waiting = []
            progress.advance(done, len(wanted), clip["clip_id"])
        rows += making.cut(waiting)
    write_locations(out / LOCATIONS_FILE, locations)
    return StageReport(rows, rows_in=sum(len(characters) for _, characters in wanted))


@contextmanager
def _device(settings: CutoutSettings) -> Iterator[None]:
    """A GPU to itself for a backend that uses one."""
    if settings.backend != "sam2":
        yield
        return
    from mimix_core.engine.gpu_lease import acquire_device

    with acquire_device(settings.sam2.device):
        yield


def _characters(caption: Row) -> list[str]:
    return list(dict.fromkeys(action["name"] for action in caption["actions"]))


@dataclass(frozen=True)
class _Clip:
    """A clip in which somebody is located: uint8 RGB frames [frames, height, width, 3]."""

    row: Row
    located: Mapping[str, Located]
    frames_NHWC: NDArray[np.uint8]


@dataclass(frozen=True)
class _Making:
    """Rows and mask files of one unit."""

    folder: Path
    locator: str
    segmenter: Segmenter
    settings: CutoutSettings
    out: Path

    def read(self, clip: Row, found: Mapping[str, Located]) -> tuple[list[Row], list[_Clip]]:
        """Rows of the characters that cannot be cut out, and the clip when others can.

        It is decoded once, and only when somebody is located in it.
        """
        rows, located = [], {}
        for character, place in found.items():
            empty = self._columns(clip, character)
            share = sum(box is not None for box in place.boxes) / len(place.boxes)
            if place.problem:
                rows.append(tables.failed(Reason.LOCATE_FAILED, place.problem, **empty))
            elif share < MIN_LOCATED:
                detail = f"located in {share:.0%} of the frames, at least {MIN_LOCATED:.0%} wanted"
                rows.append(tables.rejected(Reason.NOT_LOCATED, detail, **empty))
            else:
                located[character] = place
        if not located:
            return rows, []
        try:
            frames_NHWC = read_rgb(self.folder / clip["file"])
        except UnreadableVideo as error:
            return rows + self._broken(clip, located, error), []
        return rows, [_Clip(clip, located, frames_NHWC)]

    def cut(self, clips: Sequence[_Clip]) -> list[Row]:
        """The rows of all characters of the clips; one clip that breaks fails alone."""
        if not clips:
            return []
        try:
            cuts = self.segmenter.segment_all([(clip.frames_NHWC, clip.located) for clip in clips])
        except (cv2.error, ValueError) as error:
            if len(clips) == 1:
                return self._broken(clips[0].row, clips[0].located, error)
            return [row for clip in clips for row in self.cut([clip])]
        return [
            self._judged(clip, name, cut[name], place)
            for clip, cut in zip(clips, cuts, strict=True)
            for name, place in clip.located.items()
        ]

    def _judged(self, clip: _Clip, character: str, segmented: Segmented, place: Located) -> Row:
        quality = measure(clip.frames_NHWC, segmented.alpha_NHW, place.boxes, segmented.scores)
        measured = asdict(quality)
        values = self._columns(clip.row, character)
        values |= {name: measured[name] for name in ("area", "boxes", "presence", "border")}
        values["score"] = segmented.scores
        against = objection(quality, self.settings)
        if against is not None:
            return tables.rejected(against[0], against[1], **values)
        values["file"] = f"masks/{values['cutout_id']}.parquet"
        write_masks(self.out / values["file"], segmented.alpha_NHW)
        return tables.ok(**values)

    def _broken(self, clip: Row, characters: Iterable[str], error: Exception) -> list[Row]:
        return [
            tables.failed(Reason.SEGMENT_FAILED, str(error), **self._columns(clip, name))
            for name in characters
        ]

    def _columns(self, clip: Row, character: str) -> dict[str, Any]:
        return {
            "cutout_id": f"{clip['clip_id']}-{slug(character)}",
            "clip_id": clip["clip_id"],
            "show": clip["show"],
            "style": clip["style"],
            "character": character,
            "locator": self.locator,
            "backend": self.segmenter.name,
            "area": [],
            "boxes": [],
            "score": [],
            "presence": 0.0,
            "border": [],
            "file": "",
        }


STAGE = Stage(
    name="cutouts",
    title="Cutouts",
    description="Segment each captioned character frame by frame; reject masks that "
    "flicker, leak or lose it.",
    row_noun="characters in clips",
    phase=Phase.AUGMENTATION,
    upstream=("duplicates", "captions"),
    resources=frozenset({Resource.CPU, Resource.GPU, Resource.NETWORK}),
    version=3,
    inputs=CutoutInputs,
    settings=CutoutSettings,
    table=tables.CUTOUTS,
    run=run,
)
