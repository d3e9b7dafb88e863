"""Backend ``boxes``: manual box annotations, mapped to the frames and pixels of a clip."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ValidationError

from mimix_core.domain.sidecar_index import BOXES_ENDINGS
from mimix_core.domain.timeline import parse_seconds
from mimix_core.engine.artifacts import FileRef, FrozenModel
from mimix_core.engine.yaml_files import find_line, read_yaml_file, validation_error
from mimix_core.errors import BadInput
from mimix_core.media import Rect, plan_crop_resize
from mimix_core.stages.cutouts.locate.box_track import Box, BoxTrack, box_area, clip_box
from mimix_core.tables import ClipRow

MAX_KEYFRAME_GAP = Fraction(3)
"""Maximum seconds between two keyframes for interpolation between them."""

_MIN_VISIBLE_SHARE = 0.05
"""A box with a smaller share of its area inside the clip's crop counts as outside."""


def _check_fractions(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise ValueError(f"{list(box)} is not a box [x0, y0, x1, y1] in fractions of the frame")
    return box


class BoxKeyframe(FrozenModel):
    """An annotated box, in fractions of the frame, at a time in seconds since the first frame."""

    time: Annotated[Fraction, BeforeValidator(parse_seconds)]
    character: str
    box: Annotated[tuple[float, float, float, float], AfterValidator(_check_fractions)]


class BoxesFile(FrozenModel):
    """Annotated boxes of characters: keyframes, in any order."""

    boxes: tuple[BoxKeyframe, ...]


@dataclass(frozen=True)
class BoxAnnotationLocator:
    """Locate characters from keyframes, which are sorted by time for each character."""

    keyframes: Mapping[str, tuple[BoxKeyframe, ...]]
    name: str = "boxes"
    has_file: bool = True

    def locate(self, clip: ClipRow, characters: Sequence[str]) -> dict[str, BoxTrack]:
        """Interpolate the annotated boxes of each character; their score is 1."""
        times = source_frame_times(clip)
        tracks = {}
        for name in characters:
            keyframes = self.keyframes.get(name, ())
            boxes = [
                map_box_to_clip(box, clip) if (box := interpolate_box(keyframes, time)) else None
                for time in times
            ]
            scores = [0.0 if box is None else 1.0 for box in boxes]
            tracks[name] = BoxTrack(boxes, scores, evidence=self._evidence(name, times))
        return tracks

    def _evidence(self, name: str, times: Sequence[Fraction]) -> str:
        if not self.has_file:
            return (
                "the episode has no boxes file (library.yaml names none, and next to the video "
                f"there is none of its name with {' or '.join(BOXES_ENDINGS)}), and its locator, "
                "boxes, uses nothing else (docs/locating.md)"
            )
        keyframes = self.keyframes.get(name, ())
        inside = sum(times[0] <= keyframe.time <= times[-1] for keyframe in keyframes)
        return (
            f"its boxes file has {len(keyframes)} boxes of {name}, {inside} within the clip; they "
            f"are interpolated over at most {MAX_KEYFRAME_GAP} s"
        )


def load_box_annotations(file: FileRef | None, names: Mapping[str, str]) -> BoxAnnotationLocator:
    """Load a boxes file; ``names`` maps each casefolded name and alias to the roster name.

    Without a file no character is located. Raises BadInput naming the line of each problem.
    """
    if file is None:
        return BoxAnnotationLocator({}, has_file=False)
    document, lines = read_yaml_file(file.path)
    try:
        annotations = BoxesFile.model_validate(document)
    except ValidationError as error:
        raise validation_error(file.path, error, lines) from error
    tracks: dict[str, list[BoxKeyframe]] = {}
    for index, keyframe in enumerate(annotations.boxes):
        name = names.get(keyframe.character.casefold())
        if name is None:
            raise BadInput(
                f"this show has no character {keyframe.character!r}",
                where=f"{file.path}, line {find_line(lines, ('boxes', index))}",
                fix=f"Known: {', '.join(sorted(set(names.values())))}.",
            )
        tracks.setdefault(name, []).append(keyframe)
    for name, track in tracks.items():
        track.sort(key=lambda keyframe: keyframe.time)
        for one, two in pairwise(track):
            if one.time == two.time:
                raise BadInput(
                    f"{name} has two boxes at {float(one.time):g} s", where=str(file.path)
                )
    return BoxAnnotationLocator({name: tuple(track) for name, track in tracks.items()})


def read_box_names(file: FileRef | None, names: Mapping[str, str]) -> dict[str, str]:
    """Map each name in a boxes file to its roster name; empty without a file. Raises BadInput."""
    if file is None:
        return {}
    located = load_box_annotations(file, names).keyframes.values()
    return {
        keyframe.character: names[keyframe.character.casefold()]
        for keyframes in located
        for keyframe in keyframes
    }


def source_frame_times(clip: ClipRow) -> list[Fraction]:
    """Seconds since the episode's first frame of the source frame of each clip frame."""
    time_base = Fraction(clip["time_base_num"], clip["time_base_den"])
    return [(pts - clip["origin_pts"]) * time_base for pts in clip["source_pts"]]


def interpolate_box(track: Sequence[BoxKeyframe], time: Fraction) -> Box | None:
    """Interpolate linearly at ``time`` between keyframes at most MAX_KEYFRAME_GAP apart."""
    after = bisect_right(track, time, key=lambda keyframe: keyframe.time)
    if after == 0:
        return None
    left = track[after - 1]
    if left.time == time:
        return left.box
    if after == len(track):
        return None
    right = track[after]
    if right.time - left.time > MAX_KEYFRAME_GAP:
        return None
    weight = float((time - left.time) / (right.time - left.time))
    x0, y0, x1, y1 = (a + weight * (b - a) for a, b in zip(left.box, right.box, strict=True))
    return x0, y0, x1, y1


def clip_content_rect(clip: ClipRow) -> Rect:
    """Compute the rectangle of a clip's frame that shows the source: all but padding bars.

    ``crop`` of the clip's row is the part of the source that is shown. With ``fit: crop`` it has
    the frame's aspect ratio, so one side follows from the other; otherwise (``fit: pad``) the
    rectangle is computed as it was for the encoder. A crop for which both hold fills the frame to
    less than a pixel.
    """
    _, _, crop_width, crop_height = clip["crop"]
    width, height = clip["width"], clip["height"]
    aspect = Fraction(width, height)
    if crop_width == _even(crop_height * aspect) or crop_height == _even(crop_width / aspect):
        return Rect(0, 0, width, height)
    shape = plan_crop_resize(Rect(0, 0, crop_width, crop_height), width, height, "pad")
    left, top = width - shape.scaled_width, height - shape.scaled_height
    return Rect(
        _even(Fraction(left, 2)), _even(Fraction(top, 2)), shape.scaled_width, shape.scaled_height
    )


def _even(value: Fraction) -> int:
    return int(value // 2) * 2


def map_box_to_clip(box: Box, clip: ClipRow) -> Box | None:
    """Map a box in fractions of the displayed source frame to pixels of the clip.

    The box is clipped to the clip's content; None when (nearly) all of it was cropped away.
    """
    crop_x, crop_y, crop_width, crop_height = clip["crop"]
    content = clip_content_rect(clip)
    scale_x, scale_y = content.width / crop_width, content.height / crop_height
    x0, x1 = ((x * clip["source_width"] - crop_x) * scale_x for x in (box[0], box[2]))
    y0, y1 = ((y * clip["source_height"] - crop_y) * scale_y for y in (box[1], box[3]))
    full = (x0, y0, x1, y1)
    visible = clip_box(full, content.width, content.height)
    if visible is None or box_area(visible) < _MIN_VISIBLE_SHARE * box_area(full):
        return None
    x0, y0, x1, y1 = visible
    return x0 + content.x, y0 + content.y, x1 + content.x, y1 + content.y
