"""Backend ``boxes``: boxes given by hand, brought to the frames and pixels of a clip."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ValidationError

from mimix_core.domain.library import invalid, read_yaml
from mimix_core.domain.timeline import exact_seconds
from mimix_core.engine.artifacts import FileRef, Frozen
from mimix_core.errors import BadInput
from mimix_core.media import Rect, fit
from mimix_core.stages.cutouts.locate.box_track import Box, Located, area, within
from mimix_core.tables import Row

MAX_GAP = Fraction(3)
"""Seconds between two keyframes; further apart, nothing is assumed about the time between."""

_LEAST_SHARE_SEEN = 0.05
"""A box of which less than this lies inside the clip's crop is outside of the clip."""


def _inside(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise ValueError(f"{list(box)} is no box [x0, y0, x1, y1] in fractions of the frame")
    return box


class Keyframe(Frozen):
    """A box at a time (seconds of play since the episode's first frame), in fractions."""

    time: Annotated[Fraction, BeforeValidator(exact_seconds)]
    character: str
    box: Annotated[tuple[float, float, float, float], AfterValidator(_inside)]


class _BoxesFile(Frozen):
    boxes: tuple[Keyframe, ...]


@dataclass(frozen=True)
class BoxesLocator:
    """Keyframes of each character in the order of their times."""

    keyframes: Mapping[str, tuple[Keyframe, ...]]
    name: str = "boxes"

    def locate(self, clip: Row, characters: Sequence[str]) -> dict[str, Located]:
        """A hand-given box is as sure as can be: its score is 1."""
        times = frame_times(clip)
        found = {}
        for name in characters:
            track = self.keyframes.get(name, ())
            boxes = [in_clip(box, clip) if (box := box_at(track, time)) else None for time in times]
            found[name] = Located(boxes, [0.0 if box is None else 1.0 for box in boxes])
        return found


def read_boxes(file: FileRef | None, names: Mapping[str, str]) -> BoxesLocator:
    """Read a boxes file; ``names`` gives the roster's name for each name and alias (casefolded).

    Without a file nobody is located. Raises BadInput naming the line of each problem.
    """
    if file is None:
        return BoxesLocator({})
    document, lines = read_yaml(file.path)
    try:
        found = _BoxesFile.model_validate(document)
    except ValidationError as error:
        raise invalid(file.path, error, lines) from error
    tracks: dict[str, list[Keyframe]] = {}
    for index, keyframe in enumerate(found.boxes):
        name = names.get(keyframe.character.casefold())
        if name is None:
            raise BadInput(
                f"nobody is called {keyframe.character!r} in this show",
                where=f"{file.path}, line {lines[('boxes', index)]}",
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
    return BoxesLocator({name: tuple(track) for name, track in tracks.items()})


def frame_times(clip: Row) -> list[Fraction]:
    """Seconds of play since the episode's first frame, of the source frame behind each frame."""
    time_base = Fraction(clip["time_base_num"], clip["time_base_den"])
    return [(pts - clip["origin_pts"]) * time_base for pts in clip["source_pts"]]


def box_at(track: Sequence[Keyframe], time: Fraction) -> Box | None:
    """The box at ``time``, on a straight line between two keyframes at most MAX_GAP apart."""
    after = bisect_right(track, time, key=lambda keyframe: keyframe.time)
    if after == 0:
        return None
    left = track[after - 1]
    if left.time == time:
        return left.box
    if after == len(track):
        return None
    right = track[after]
    if right.time - left.time > MAX_GAP:
        return None
    weight = float((time - left.time) / (right.time - left.time))
    x0, y0, x1, y1 = (a + weight * (b - a) for a, b in zip(left.box, right.box, strict=True))
    return x0, y0, x1, y1


def picture_in(clip: Row) -> Rect:
    """Where in a clip's frame the source's picture is: all of it, but for the bars of ``fit: pad``.

    ``crop`` of the clip's row is what of the source was drawn. Cut to the frame's aspect ratio
    (``fit: crop``) one of its sides follows from the other; else it was drawn whole, and the
    rectangle follows as it did for the encoder. A crop that is both is less than a pixel away from
    filling the frame.
    """
    _, _, crop_width, crop_height = clip["crop"]
    width, height = clip["width"], clip["height"]
    aspect = Fraction(width, height)
    if crop_width == _even(crop_height * aspect) or crop_height == _even(crop_width / aspect):
        return Rect(0, 0, width, height)
    shape = fit(Rect(0, 0, crop_width, crop_height), width, height, "pad")
    left, top = width - shape.drawn_width, height - shape.drawn_height
    return Rect(
        _even(Fraction(left, 2)), _even(Fraction(top, 2)), shape.drawn_width, shape.drawn_height
    )


def _even(value: Fraction) -> int:
    return int(value // 2) * 2


def in_clip(box: Box, clip: Row) -> Box | None:
    """A box in fractions of the source frame as shown, in the clip's pixels, cut to its picture.

    None when (nearly) all of the box was cropped away.
    """
    crop_x, crop_y, crop_width, crop_height = clip["crop"]
    picture = picture_in(clip)
    scale_x, scale_y = picture.width / crop_width, picture.height / crop_height
    x0, x1 = ((x * clip["source_width"] - crop_x) * scale_x for x in (box[0], box[2]))
    y0, y1 = ((y * clip["source_height"] - crop_y) * scale_y for y in (box[1], box[3]))
    whole = (x0, y0, x1, y1)
    seen = within(whole, picture.width, picture.height)
    if seen is None or area(seen) < _LEAST_SHARE_SEEN * area(whole):
        return None
    x0, y0, x1, y1 = seen
    return x0 + picture.x, y0 + picture.y, x1 + picture.x, y1 + picture.y
