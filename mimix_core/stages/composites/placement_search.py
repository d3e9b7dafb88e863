"""Place sampled pairs; a pair that cannot be placed is rejected and replaced by the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from mimix_core.domain.splits import hash_uniform
from mimix_core.errors import BadInput
from mimix_core.media import UnreadableVideo
from mimix_core.stages.composites.camera_motion import (
    CameraMotion,
    estimate_camera_motion,
    select_complete_boxes,
)
from mimix_core.stages.composites.ground import GroundMap, map_ground
from mimix_core.stages.composites.pairing import CompositePair, PairSampler
from mimix_core.stages.composites.placement import (
    BackgroundGeometry,
    CutoutGeometry,
    Placement,
    PlacementConstraints,
    PlacementError,
    find_placement,
)
from mimix_core.stages.composites.scale_translate import Boxes, FrameSize
from mimix_core.stages.composites.silhouettes import (
    Silhouette,
    load_silhouette,
    silhouette_of_boxes,
)
from mimix_core.stages.composites.yuv_frames import read_yuv_frames
from mimix_core.tables import Reason

_ROUND_SIZE = 16
"""Number of pairs placed together. It affects the sampling order: do not change."""


_MAX_SILHOUETTES = 256
"""Number of silhouettes in memory, about 0.1 MB each; those of other characters are read again."""


@dataclass(frozen=True)
class LocatedCharacter:
    """A character of a clip: its boxes, and the file of its masks; None without usable masks."""

    boxes_N4: Boxes
    masks: Path | None = None


@dataclass(frozen=True)
class ClipGeometry:
    """A clip: its file, its frame size and its known characters."""

    path: Path
    size: FrameSize
    characters: tuple[LocatedCharacter, ...] = ()

    @property
    def character_boxes(self) -> list[Boxes]:
        """The boxes of the known characters."""
        return [character.boxes_N4 for character in self.characters]


@dataclass(frozen=True)
class CutoutBoxes:
    """A cutout: its clip, its boxes and masks in it, and the frame sides that cut it off."""

    clip_id: str
    boxes_N4: Boxes
    border: frozenset[str]
    masks: Path


@dataclass(frozen=True)
class ClipAnalysis:
    """What is seen in a clip: how its camera moves, and where its ground is, if any is seen."""

    camera: CameraMotion
    ground: GroundMap | None


@dataclass(frozen=True)
class PlacedPair:
    """A pair with its placement, and whether each camera moves."""

    pair: CompositePair
    placement: Placement
    source_camera_moves: bool
    background_camera_moves: bool


@dataclass(frozen=True)
class RejectedPair:
    """A pair that cannot be placed. ``RENDER_FAILED``: one of its files cannot be read."""

    pair: CompositePair
    detail: str
    reason: Reason = Reason.NO_PLACE


class PairPlacer:
    """Place sampled pairs. Each clip is looked at once, when first needed."""

    def __init__(
        self,
        clips: Mapping[str, ClipGeometry],
        cutouts: Mapping[str, CutoutBoxes],
        constraints: PlacementConstraints,
        *,
        seed: int,
        pool: Executor,
    ) -> None:
        self._clips, self._cutouts, self._constraints = clips, cutouts, constraints
        self._seed, self._pool = seed, pool
        self._analyses: dict[str, ClipAnalysis | str] = {}
        self._silhouettes: dict[Path, Silhouette | str] = {}

    def place_pairs(self, sampler: PairSampler) -> Iterator[PlacedPair | RejectedPair]:
        """Place the sampler's pairs in order, until none are left.

        Pairs are placed in rounds, so the number of pairs consumed does not affect their order.
        """
        while pairs := sampler.next_pairs(_ROUND_SIZE):
            self._analyze_clips(
                clip_id
                for pair in pairs
                for clip_id in (self._cutouts[pair.cutout_id].clip_id, pair.background_id)
            )
            self._load_silhouettes(pairs)
            outcomes = [self._place_pair(pair) for pair in pairs]
            for outcome in outcomes:
                if isinstance(outcome, RejectedPair):
                    sampler.reject_pair(outcome.pair)
            yield from outcomes

    def _analyze_clips(self, clip_ids: Iterable[str]) -> None:
        new = sorted({clip_id for clip_id in clip_ids if clip_id not in self._analyses})
        analyses = self._pool.map(lambda clip_id: analyze_clip(self._clips[clip_id]), new)
        self._analyses.update(zip(new, analyses, strict=True))

    def _load_silhouettes(self, pairs: Iterable[CompositePair]) -> None:
        """Load the silhouettes of the pairs' figures, and forget the oldest of too many."""
        needed: dict[Path, tuple[int, FrameSize]] = {}
        for pair in pairs:
            cutout = self._cutouts[pair.cutout_id]
            count = len(cutout.boxes_N4)
            needed[cutout.masks] = count, self._clips[cutout.clip_id].size
            background = self._clips[pair.background_id]
            for masks in (character.masks for character in background.characters):
                if masks is not None:
                    needed[masks] = count, background.size
        new = [masks for masks in needed if masks not in self._silhouettes]
        loaded = self._pool.map(lambda masks: _try_silhouette(masks, *needed[masks]), new)
        self._silhouettes.update(zip(new, loaded, strict=True))
        old = [masks for masks in self._silhouettes if masks not in needed]
        for masks in old[: max(0, len(self._silhouettes) - _MAX_SILHOUETTES)]:
            del self._silhouettes[masks]

    def _place_pair(self, pair: CompositePair) -> PlacedPair | RejectedPair:
        cutout = self._cutouts[pair.cutout_id]
        source, background = self._clips[cutout.clip_id], self._clips[pair.background_id]
        source_analysis, background_analysis = (
            self._analyses[cutout.clip_id],
            self._analyses[pair.background_id],
        )
        if isinstance(source_analysis, str):
            return RejectedPair(pair, source_analysis, Reason.RENDER_FAILED)
        if isinstance(background_analysis, str):
            return RejectedPair(pair, background_analysis, Reason.RENDER_FAILED)
        own = [
            character
            for character in background.characters
            if select_complete_boxes([character.boxes_N4], len(cutout.boxes_N4))
        ]
        silhouettes = []
        for boxes_N4, masks, size in (
            (cutout.boxes_N4, cutout.masks, source.size),
            *((character.boxes_N4, character.masks, background.size) for character in own),
        ):
            found = self._silhouettes[masks] if masks else silhouette_of_boxes(boxes_N4, size)
            if isinstance(found, str):
                return RejectedPair(pair, found, Reason.RENDER_FAILED)
            silhouettes.append(found)
        for analysis, clip in (
            (source_analysis, "cutout's clip"),
            (background_analysis, "background"),
        ):
            if not analysis.camera.reliable:
                return RejectedPair(pair, f"the camera motion of the {clip} cannot be estimated")
        try:
            placement = find_placement(
                CutoutGeometry(
                    cutout.boxes_N4,
                    cutout.border,
                    source.size,
                    source_analysis.camera,
                    silhouettes[0],
                ),
                BackgroundGeometry(
                    background.size,
                    background_analysis.camera,
                    [character.boxes_N4 for character in own],
                    silhouettes[1:],
                    background_analysis.ground,
                ),
                self._constraints,
                self._chance(pair),
            )
        except PlacementError as error:
            return RejectedPair(pair, str(error), error.reason)
        except ValueError as error:
            return RejectedPair(pair, str(error))
        return PlacedPair(
            pair, placement, source_analysis.camera.is_moving, background_analysis.camera.is_moving
        )

    def _chance(self, pair: CompositePair) -> Callable[[str], float]:
        return lambda name: float(
            hash_uniform(self._seed, name, pair.cutout_id, pair.background_id)
        )


def analyze_clip(clip: ClipGeometry) -> ClipAnalysis | str:
    """Look at a clip; return the reason if it cannot be read."""
    try:
        frames = read_yuv_frames(clip.path)
    except (UnreadableVideo, ValueError) as error:
        return str(error)
    boxes = select_complete_boxes(clip.character_boxes, len(frames))
    camera = estimate_camera_motion((planes.y_HW for planes in frames), boxes)
    return ClipAnalysis(camera, map_ground(frames, boxes, clip.size))


def _try_silhouette(masks: Path, count: int, size: FrameSize) -> Silhouette | str:
    """Load a silhouette; return the reason if it cannot be read."""
    try:
        return load_silhouette(masks, count, size)
    except (BadInput, ValueError) as error:
        return str(error)
