"""Stage ``cutouts``: locate, segment and check every captioned character of every clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
from pydantic import Field

from mimix_core import tables
from mimix_core.domain.character_names import alias_map, slugify
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.limit_text import format_beside_limit
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.media import UnreadableVideo, read_rgb
from mimix_core.media.masks import write_masks
from mimix_core.settings import CutoutSettings
from mimix_core.stages.cutouts.backends.episode_masks import load_episode_masks
from mimix_core.stages.cutouts.locate import (
    LOCATIONS_FILE,
    BoxTrack,
    LocationRow,
    LocatorInputs,
    Sam3LocatorInputs,
    build_location_rows,
    create_locator,
    write_locations,
)
from mimix_core.stages.cutouts.mask_holes import close_holes
from mimix_core.stages.cutouts.mask_quality import measure_mask_quality, rejection_reason
from mimix_core.stages.cutouts.segmenter import CharacterMatte, LocatedClip, Segmenter
from mimix_core.stages.cutouts.segmenter_factory import create_segmenter
from mimix_core.tables import ClipRow, Reason, Row

# A character located in a smaller share of a clip's frames is rejected as not located.
MIN_LOCATED_SHARE = 0.80


class CutoutInputs(FrozenModel):
    """The clips of one episode, who is in them, and how to locate these characters.

    ``captioned``: the characters that each clip's caption names, from ``captions``: with another
    caption of the same characters nothing is cut out again.
    ``boxes``: manual box annotations; they take precedence over ``locator``. ``box_names``: the
    roster name of each name in them, which is all that the rows depend on of ``roster`` and
    ``aliases``: a new character of the show does not change an episode that does not name it.
    ``weights``: of the segmenter, if it needs any. ``masks`` and ``mask_names``: the masks file of
    the backend ``masks``, and the roster name of each name in it.
    """

    unit: Annotated[str, ExcludeFromKey()]
    roster: Annotated[tuple[str, ...], ExcludeFromKey()]
    aliases: Annotated[dict[str, str], ExcludeFromKey()] = Field(default_factory=dict)
    box_names: dict[str, str] = Field(default_factory=dict)
    clips: TableRef
    captions: Annotated[TableRef, ExcludeFromKey()]
    captioned: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    boxes: FileRef | None = None
    locator: LocatorInputs | None = None
    weights: FileRef | None = None
    masks: FileRef | None = None
    mask_names: dict[str, str] = Field(default_factory=dict)


def run(inputs: CutoutInputs, settings: CutoutSettings, out: Path) -> StageReport:
    """Write one row per captioned character of each captioned clip.

    Masks go to ``masks/``, all located boxes to ``locations.parquet``. Raises BadInput for an
    unreadable boxes file, masks file or reference image, MissingModel without the weights,
    Transient when the device runs out of memory.
    """
    requests = [
        (clip, list(inputs.captioned[clip["clip_id"]]))
        for clip in tables.usable(tables.read(inputs.clips.path, tables.CLIPS))
        if clip["clip_id"] in inputs.captioned
    ]
    folder = inputs.clips.folder
    names = alias_map(inputs.roster, inputs.aliases)
    (out / "masks").mkdir()
    rows: list[Row] = []
    locations: list[LocationRow] = []
    with _lease_device(inputs, settings):
        locator = create_locator(inputs.boxes, inputs.locator, names, folder, requests)
        segmenter = create_segmenter(
            settings,
            inputs.weights.path if inputs.weights else None,
            load_episode_masks(inputs.masks, names),
        )
        builder = _CutoutBuilder(folder, locator.name, segmenter, settings, out)
        batch: list[LocatedClip] = []
        for done, (clip, characters) in enumerate(requests, start=1):
            tracks = locator.locate(clip, characters)
            locations += build_location_rows(clip, tracks)
            rejected, located = builder.load_clip(clip, tracks)
            rows += rejected
            batch += located
            if len(batch) >= segmenter.batch_size:
                rows += builder.segment_clips(batch)
                batch = []
            progress.report_progress(done, len(requests), clip["clip_id"])
        rows += builder.segment_clips(batch)
    write_locations(out / LOCATIONS_FILE, locations)
    return StageReport(rows, rows_in=sum(len(characters) for _, characters in requests))


@contextmanager
def _lease_device(inputs: CutoutInputs, settings: CutoutSettings) -> Iterator[None]:
    """Acquire a GPU exclusively for a segmenter or locator that uses one."""
    wanted = []
    if settings.backend == "sam2":
        wanted.append(settings.sam2.device)
    if settings.backend == "sam3":
        wanted.append(settings.sam3.device)
    if inputs.boxes is None and isinstance(inputs.locator, Sam3LocatorInputs):
        wanted.append(inputs.locator.settings.device)
    if not wanted:
        yield
        return
    from mimix_core.engine.gpu_lease import acquire_device

    with acquire_device(next((device for device in wanted if device != "cpu"), "cpu")):
        yield


def captioned_characters(captions: TableRef) -> dict[str, tuple[str, ...]]:
    """Return the characters that the caption of each captioned clip names."""
    return {
        row["clip_id"]: tuple(dict.fromkeys(action["name"] for action in row["actions"]))
        for row in tables.usable(tables.read(captions.path, tables.CAPTIONS))
    }


@dataclass(frozen=True)
class _CutoutBuilder:
    """Build the rows and mask files of one unit."""

    folder: Path
    locator: str
    segmenter: Segmenter
    settings: CutoutSettings
    out: Path

    def load_clip(
        self, clip: ClipRow, tracks: Mapping[str, BoxTrack]
    ) -> tuple[list[Row], list[LocatedClip]]:
        """Return rows of the characters that cannot be segmented, and the clip if others can.

        The clip is decoded once, and only when at least one character is located in it.
        """
        rows, located = [], {}
        for character, track in tracks.items():
            columns = self._base_columns(clip, character)
            share = sum(box is not None for box in track.boxes) / len(track.boxes)
            if track.error:
                rows.append(tables.failed(Reason.LOCATE_FAILED, track.error, **columns))
            elif share < MIN_LOCATED_SHARE:
                found, wanted = format_beside_limit(share, MIN_LOCATED_SHARE, ".0%")
                evidence = f": {track.evidence}" if track.evidence else ""
                detail = f"located in {found} of the frames, at least {wanted} wanted{evidence}"
                rows.append(tables.rejected(Reason.NOT_LOCATED, detail, **columns))
            else:
                located[character] = track
        if not located:
            return rows, []
        try:
            frames_NHWC = read_rgb(self.folder / clip["file"])
        except UnreadableVideo as error:
            return rows + self._failed_rows(clip, located, error), []
        return rows, [LocatedClip(clip, located, frames_NHWC)]

    def segment_clips(self, clips: Sequence[LocatedClip]) -> list[Row]:
        """Segment the clips in one batch; a clip that raises an error fails on its own."""
        if not clips:
            return []
        try:
            mattes = self.segmenter.segment_batch(clips)
        except (cv2.error, ValueError) as error:
            if len(clips) == 1:
                return self._failed_rows(clips[0].row, clips[0].tracks, error)
            return [row for clip in clips for row in self.segment_clips([clip])]
        return [
            self._checked_row(clip, name, clip_mattes[name], track)
            for clip, clip_mattes in zip(clips, mattes, strict=True)
            for name, track in clip.tracks.items()
        ]

    def _checked_row(
        self, clip: LocatedClip, character: str, matte: CharacterMatte, track: BoxTrack
    ) -> Row:
        alpha_NHW, closed_share = matte.alpha_NHW, 0.0
        # A hole in a mask that was drawn is meant.
        if self.settings.backend != "masks":
            alpha_NHW, closed_share = close_holes(clip.frames_NHWC, alpha_NHW)
        quality = measure_mask_quality(clip.frames_NHWC, alpha_NHW, track.boxes, matte.scores)
        measured = asdict(quality)
        columns = self._base_columns(clip.row, character)
        columns |= {name: measured[name] for name in ("area", "boxes", "presence", "border")}
        columns["score"] = matte.scores
        rejection = rejection_reason(quality, self.settings)
        if rejection is None and closed_share > self.settings.max_closed_hole:
            hole, limit = format_beside_limit(closed_share, self.settings.max_closed_hole, ".0%")
            rejection = (
                Reason.MASK_HOLES,
                (
                    f"a hole of {hole} of it looks like the character and not like the "
                    f"background; up to {limit} are closed"
                ),
            )
        if rejection is not None:
            return tables.rejected(rejection[0], rejection[1], **columns)
        columns["file"] = f"masks/{columns['cutout_id']}.parquet"
        write_masks(self.out / columns["file"], alpha_NHW)
        return tables.ok(**columns)

    def _failed_rows(self, clip: ClipRow, characters: Iterable[str], error: Exception) -> list[Row]:
        return [
            tables.failed(Reason.SEGMENT_FAILED, str(error), **self._base_columns(clip, name))
            for name in characters
        ]

    def _base_columns(self, clip: ClipRow, character: str) -> dict[str, Any]:
        return {
            "cutout_id": f"{clip['clip_id']}-{slugify(character)}",
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
    version=8,
    inputs=CutoutInputs,
    settings=CutoutSettings,
    table=tables.CUTOUTS,
    run=run,
)
