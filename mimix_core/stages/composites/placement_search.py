"""Place sampled pairs; a pair that cannot be placed is rejected and replaced by the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from mimix_core.domain.splits import hash_uniform
from mimix_core.media import UnreadableVideo
from mimix_core.stages.composites.camera_motion import (
    CameraMotion,
    estimate_camera_motion,
    select_complete_boxes,
)
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
from mimix_core.stages.composites.yuv_frames import read_yuv_frames

_ROUND_SIZE = 16
"""Number of pairs placed together. It affects the sampling order: do not change."""


@dataclass(frozen=True)
class ClipGeometry:
    """A clip: its file, frame size and the boxes of its known characters."""

    path: Path
    size: FrameSize
    character_boxes: tuple[Boxes, ...] = ()


@dataclass(frozen=True)
class CutoutBoxes:
    """A cutout: its clip, its boxes in it, and the frame sides that cut it off."""

    clip_id: str
    boxes_N4: Boxes
    border: frozenset[str]


@dataclass(frozen=True)
class PlacedPair:
    """A pair with its placement, and whether each camera moves."""

    pair: CompositePair
    placement: Placement
    source_camera_moves: bool
    background_camera_moves: bool


@dataclass(frozen=True)
class RejectedPair:
    """A pair that cannot be placed. ``unreadable``: one of the two clips cannot be read."""

    pair: CompositePair
    detail: str
    unreadable: bool = False


class PairPlacer:
    """Place sampled pairs. The camera motion of each clip is estimated once, when first needed."""

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
        self._cameras: dict[str, CameraMotion | str] = {}

    def place_pairs(self, sampler: PairSampler) -> Iterator[PlacedPair | RejectedPair]:
        """Place the sampler's pairs in order, until none are left.

        Pairs are placed in rounds, so the number of pairs consumed does not affect their order.
        """
        while pairs := sampler.next_pairs(_ROUND_SIZE):
            self._load_cameras(
                clip_id
                for pair in pairs
                for clip_id in (self._cutouts[pair.cutout_id].clip_id, pair.background_id)
            )
            outcomes = [self._place_pair(pair) for pair in pairs]
            for outcome in outcomes:
                if isinstance(outcome, RejectedPair):
                    sampler.reject_pair(outcome.pair)
            yield from outcomes

    def _load_cameras(self, clip_ids: Iterable[str]) -> None:
        new = sorted({clip_id for clip_id in clip_ids if clip_id not in self._cameras})
        cameras = self._pool.map(lambda clip_id: load_camera_motion(self._clips[clip_id]), new)
        self._cameras.update(zip(new, cameras, strict=True))

    def _place_pair(self, pair: CompositePair) -> PlacedPair | RejectedPair:
        cutout = self._cutouts[pair.cutout_id]
        source, background = self._clips[cutout.clip_id], self._clips[pair.background_id]
        source_camera = self._cameras[cutout.clip_id]
        background_camera = self._cameras[pair.background_id]
        if isinstance(source_camera, str):
            return RejectedPair(pair, source_camera, unreadable=True)
        if isinstance(background_camera, str):
            return RejectedPair(pair, background_camera, unreadable=True)
        for camera, clip in ((source_camera, "cutout's clip"), (background_camera, "background")):
            if not camera.reliable:
                return RejectedPair(pair, f"the camera motion of the {clip} cannot be estimated")
        own_boxes = select_complete_boxes(background.character_boxes, len(cutout.boxes_N4))
        try:
            placement = find_placement(
                CutoutGeometry(cutout.boxes_N4, cutout.border, source.size, source_camera),
                BackgroundGeometry(background.size, background_camera, own_boxes),
                self._constraints,
                self._chance(pair),
            )
        except (PlacementError, ValueError) as error:
            return RejectedPair(pair, str(error))
        return PlacedPair(pair, placement, source_camera.is_moving, background_camera.is_moving)

    def _chance(self, pair: CompositePair) -> Callable[[str], float]:
        return lambda name: float(
            hash_uniform(self._seed, name, pair.cutout_id, pair.background_id)
        )


def load_camera_motion(clip: ClipGeometry) -> CameraMotion | str:
    """Estimate the camera motion of a clip; return the reason if it cannot be read."""
    try:
        frames = read_yuv_frames(clip.path)
    except (UnreadableVideo, ValueError) as error:
        return str(error)
    return estimate_camera_motion(
        (planes.y_HW for planes in frames), select_complete_boxes(clip.character_boxes, len(frames))
    )
