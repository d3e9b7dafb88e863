"""Compute where in a background a cutout goes, how large, and along which path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mimix_core.engine.limit_text import format_beside_limit
from mimix_core.stages.composites.camera_motion import CameraMotion, drop_zoom
from mimix_core.stages.composites.ground import GroundMap, select_standing
from mimix_core.stages.composites.scale_translate import (
    Boxes,
    FrameSize,
    ScaleTranslate,
    non_empty_mask,
    transform_boxes,
)
from mimix_core.stages.composites.silhouettes import PastedSilhouette, Silhouette
from mimix_core.tables import Reason

# Size of a complete character relative to that in its source clip: varied in this range ...
_SIZE_RANGE = (0.85, 1.10)
# ... and exactly 1 when the scale is this close to 1: no resampling, so grain and sharpness stay.
_UNIT_SCALE_TOLERANCE = 0.12
# Enlarged further, a figure is visibly blurred next to its background.
_MAX_SCALE = 1.5
# Size factors to try in turn: a smaller figure is further away.
_SIZE_FACTORS = (1.0, 0.85, 0.7)
# Range of the frame's height in which feet are placed without other evidence of the ground.
_FEET_RANGE = (0.82, 0.97)
# Range to which the ground level of the background's own characters is clipped.
_GROUND_RANGE = (0.55, 0.97)
# Share of a character's height below the frame when no ground is visible.
_BELOW_FRAME = 0.06
# Number of horizontal positions to try.
_POSITIONS = 16
# Required share of a character's mask inside the frame: mean over the clip, and in every frame.
_MIN_MEAN_VISIBLE, _MIN_VISIBLE = 0.9, 0.6


class PlacementError(Exception):
    """The cutout cannot be placed in this background; ``str`` gives the detail of the reason."""

    def __init__(self, detail: str, reason: Reason = Reason.NO_PLACE) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class PlacementConstraints:
    """Limits of a placement.

    ``min_height``, ``max_height``: of the character, shares of the frame's height.
    ``max_occlusion``: of any of the background's own characters, by masks, mean over the clip.
    ``min_ground``: share of the area under the feet that looks like the scene's ground; 0: any.
    """

    min_height: float
    max_height: float
    max_occlusion: float
    min_ground: float = 0.0


@dataclass(frozen=True)
class CutoutGeometry:
    """A cutout: its boxes [frames, 4], the frame sides that cut it off, frame size and camera."""

    boxes_N4: Boxes
    border: frozenset[str]
    size: FrameSize
    camera: CameraMotion
    silhouette: Silhouette


@dataclass(frozen=True)
class BackgroundGeometry:
    """A background: its frame size, its camera, and its own characters.

    ``character_boxes``: [frames, 4] of each. ``silhouettes``: what may not be covered.
    ``ground``: where it looks like the ground under their feet; None when that is not seen.
    """

    size: FrameSize
    camera: CameraMotion
    character_boxes: Sequence[Boxes] = ()
    silhouettes: Sequence[Silhouette] = ()
    ground: GroundMap | None = None


@dataclass(frozen=True)
class Placement:
    """A transform of the source's frame for each frame.

    ``covered``: share of the most occluded character. ``ground``: share of the area under the feet
    that looks like the scene's ground; None when the feet are not in sight, or any will do.
    """

    path: tuple[ScaleTranslate, ...]
    covered: float
    ground: float | None = None

    @property
    def cost(self) -> tuple[float, float]:
        """What the best placement has least of; it does not tell apart what nobody sees."""
        return round(self.covered, 2), -round(1.0 if self.ground is None else self.ground, 1)

    @property
    def is_perfect(self) -> bool:
        """Whether no other placement can be better."""
        return self.cost == (0.0, -1.0)


def find_placement(
    cutout: CutoutGeometry,
    background: BackgroundGeometry,
    constraints: PlacementConstraints,
    chance: Callable[[str], float],
) -> Placement:
    """Find the placement on the ground that occludes the background's characters least.

    ``chance(name)`` returns a number in [0, 1) for each random decision. A side at which the
    source's frame cuts the cutout off stays at the same side of the background in every frame, so
    no figure ends in mid air. The motion of the cutout's own camera is removed from its path and
    that of the background's is added; along a side that is cut off neither applies, and with any
    such side no zoom does.

    Raises PlacementError, and ValueError for an empty cutout.
    """
    if not non_empty_mask(cutout.boxes_N4).any():
        raise ValueError("the cutout is empty")
    best: Placement | None = None
    outside, barren = False, list[float]()
    for starts in _start_transforms(cutout, background, constraints, chance):
        for start in starts:
            path = _camera_path(start, cutout, background)
            pasted = PastedSilhouette(cutout.silhouette, path, background.size)
            if not _is_visible(pasted):
                outside = True
                continue
            ground = None
            if constraints.min_ground and "bottom" not in cutout.border:
                ground = _ground_share(cutout, background, path)
                if ground is not None and ground < constraints.min_ground:
                    barren.append(ground)
                    continue
            shares = (pasted.covered_share(own) for own in background.silhouettes)
            placement = Placement(path, round(max(shares, default=0.0), 4), ground)
            if best is None or placement.cost < best.cost:
                best = placement
            if best.is_perfect:
                return best
        if best is not None and best.covered == 0:
            break
    if best is None and barren:
        raise _no_ground_error(background, max(barren), constraints)
    if best is None:
        raise PlacementError(
            "it leaves the frame at every position" if outside else "it is too small"
        )
    if best.covered > constraints.max_occlusion:
        hidden, wanted = format_beside_limit(best.covered, constraints.max_occlusion, ".0%")
        raise PlacementError(
            f"hides {hidden} of one of the scene's own characters, at most {wanted} wanted"
        )
    return best


def _no_ground_error(
    background: BackgroundGeometry, best_share: float, constraints: PlacementConstraints
) -> PlacementError:
    if background.ground is None:
        detail = "no character of the scene shows by its feet where the ground is"
    else:
        share, wanted = format_beside_limit(best_share, constraints.min_ground, ".0%")
        detail = (
            f"at most {share} of the area under its feet looks like the ground under the "
            f"scene's own characters, at least {wanted} wanted"
        )
    return PlacementError(detail, Reason.NO_GROUND)


def _ground_share(
    cutout: CutoutGeometry, background: BackgroundGeometry, path: Sequence[ScaleTranslate]
) -> float | None:
    """Return the share of the area under the feet that looks like ground; None without feet.

    A figure in the air is measured at its usual level: who jumps comes down again.
    """
    boxes_N4 = transform_boxes(cutout.boxes_N4, path)
    present = non_empty_mask(boxes_N4)
    camera = background.camera.path
    scene_N4 = transform_boxes(boxes_N4, [transform.inverse() for transform in camera])
    scene_N4[present, 3] = np.maximum(scene_N4[present, 3], np.median(scene_N4[present, 3]))
    feet_N4 = transform_boxes(scene_N4, camera)
    if background.ground is None:
        return 0.0 if (feet_N4[present, 3] < background.size.height).any() else None
    return background.ground.share_under(feet_N4)


def _start_transforms(
    cutout: CutoutGeometry,
    background: BackgroundGeometry,
    constraints: PlacementConstraints,
    chance: Callable[[str], float],
) -> Iterator[list[ScaleTranslate]]:
    """Transforms to try for the first frame, of each size, in order of preference."""
    boxes_N4 = cutout.boxes_N4[non_empty_mask(cutout.boxes_N4)]
    for scale in _scales(cutout, background, constraints, chance("size")):
        y = _vertical_offset(boxes_N4, scale, cutout, background)
        offsets = _horizontal_offsets(boxes_N4, scale, cutout, background, chance("side"))
        yield [ScaleTranslate(scale, x, y) for x in offsets]


def _scales(
    cutout: CutoutGeometry,
    background: BackgroundGeometry,
    constraints: PlacementConstraints,
    chance: float,
) -> Iterator[float]:
    frame_scale = background.size.height / cutout.size.height
    if "top" in cutout.border:
        # A close-up stays a close-up: same size relative to the frame.
        yield round(frame_scale, 6)
        return
    share = _height_share(cutout.boxes_N4, cutout.size)
    target = share * (_SIZE_RANGE[0] + chance * (_SIZE_RANGE[1] - _SIZE_RANGE[0]))
    others = [
        _height_share(boxes_N4, background.size) for boxes_N4 in _complete_characters(background)
    ]
    if others:
        # Geometric mean of the size in the source and that of the background's characters.
        target = float(np.sqrt(target * np.median(others)))
    tried = set()
    for factor in _SIZE_FACTORS:
        height = float(np.clip(target * factor, constraints.min_height, constraints.max_height))
        scale = frame_scale * height / share
        fits = constraints.min_height <= share / frame_scale <= constraints.max_height
        if fits and abs(scale - 1) <= _UNIT_SCALE_TOLERANCE:
            scale = 1.0
        if scale <= _MAX_SCALE and scale not in tried:
            tried.add(scale)
            yield round(scale, 6)


def _height_share(boxes_N4: Boxes, size: FrameSize) -> float:
    """Median height of the boxes as a share of the frame's height."""
    present = boxes_N4[non_empty_mask(boxes_N4)]
    return float(np.median(present[:, 3] - present[:, 1])) / size.height


def _complete_characters(background: BackgroundGeometry) -> list[Boxes]:
    """The background's characters that are visible from head to feet."""
    return [
        boxes_N4
        for boxes_N4 in background.character_boxes
        if (boxes_N4[non_empty_mask(boxes_N4)][:, 3] < background.size.height - 1).mean() > 0.9
        and (boxes_N4[non_empty_mask(boxes_N4)][:, 1] > 1).mean() > 0.9
    ]


def _is_cut_off_below(boxes_N4: Boxes, size: FrameSize) -> bool:
    """Whether the frame cuts a character off at the bottom in most frames."""
    return bool((boxes_N4[non_empty_mask(boxes_N4)][:, 3] >= size.height - 1).mean() > 0.5)


def _vertical_offset(
    boxes_N4: Boxes, scale: float, cutout: CutoutGeometry, background: BackgroundGeometry
) -> float:
    frame_height = background.size.height
    if "top" in cutout.border:
        return 0
    if "bottom" in cutout.border:
        return frame_height - round(cutout.size.height * scale)
    top, bottom = float(boxes_N4[:, 1].min()), float(np.median(boxes_N4[:, 3]))
    own = background.character_boxes
    grounds = [
        float(np.median(standing_N4[non_empty_mask(standing_N4)][:, 3]))
        for standing_N4 in select_standing(own, background.size)
    ]
    if grounds:
        # The figure is pasted in front, so it must not be further away than the nearest character.
        low, high = (share * frame_height for share in _GROUND_RANGE)
        feet = float(np.clip(max(grounds), low, high))
    elif own and all(_is_cut_off_below(own_N4, background.size) for own_N4 in own):
        # No ground is visible in this framing: a complete figure would float above it.
        height = scale * float(np.median(boxes_N4[:, 3] - boxes_N4[:, 1]))
        feet = frame_height + _BELOW_FRAME * height
    else:
        feet = float(np.clip(bottom / cutout.size.height, *_FEET_RANGE)) * frame_height
    # The head of a tall character stays inside the frame, whatever the ground.
    return round(max(feet - scale * bottom, -scale * top))


def _horizontal_offsets(
    boxes_N4: Boxes,
    scale: float,
    cutout: CutoutGeometry,
    background: BackgroundGeometry,
    chance: float,
) -> Iterable[float]:
    if "left" in cutout.border:
        return [0.0]
    if "right" in cutout.border:
        return [float(background.size.width - round(cutout.size.width * scale))]
    middle = boxes_N4[len(boxes_N4) // 2]
    is_moving = cutout.camera.is_moving or background.camera.is_moving
    left = float(middle[0] if is_moving else boxes_N4[:, 0].min())
    right = float(middle[2] if is_moving else boxes_N4[:, 2].max())
    free_width = background.size.width - scale * (right - left)
    if free_width <= 0:
        return [float(round(free_width / 2 - scale * left))]
    positions = [(n + chance) % _POSITIONS / _POSITIONS * free_width for n in range(_POSITIONS)]
    first = int(chance * _POSITIONS)
    return [
        float(round(position - scale * left)) for position in positions[first:] + positions[:first]
    ]


def _camera_path(
    start: ScaleTranslate, cutout: CutoutGeometry, background: BackgroundGeometry
) -> tuple[ScaleTranslate, ...]:
    """The transform of each frame: out of the source's camera, into the background's."""
    if not (cutout.camera.is_moving or background.camera.is_moving):
        return (start,) * len(cutout.camera.path)
    source_path = [
        _restrict_to_border(transform, cutout.border, cutout.size).inverse()
        for transform in cutout.camera.path
    ]
    background_path = [
        _restrict_to_border(transform, cutout.border, background.size)
        for transform in background.camera.path
    ]
    # With moving cameras, ``start`` is the wanted transform of the middle frame.
    n = len(source_path) // 2
    start = background_path[n].inverse().compose(start).compose(source_path[n].inverse())
    return tuple(
        b.compose(start).compose(s) for b, s in zip(background_path, source_path, strict=True)
    )


def _restrict_to_border(
    transform: ScaleTranslate, border: frozenset[str], size: FrameSize
) -> ScaleTranslate:
    """Drop the part of a camera's motion that a figure cut off at ``border`` cannot follow."""
    if not border:
        return transform
    transform = drop_zoom(transform, size.width, size.height)
    horizontal, vertical = {"left", "right"} & border, {"top", "bottom"} & border
    return ScaleTranslate(1.0, 0.0 if horizontal else transform.x, 0.0 if vertical else transform.y)


def _is_visible(pasted: PastedSilhouette) -> bool:
    """Whether enough of the character is inside the frame."""
    shares = pasted.visible_shares()
    return bool(len(shares) and shares.mean() >= _MIN_MEAN_VISIBLE and shares.min() >= _MIN_VISIBLE)
