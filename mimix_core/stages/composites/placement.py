"""Where in a scene a cutout goes, how large, and along which path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mimix_core.stages.composites.camera_motion import Camera, without_zoom
from mimix_core.stages.composites.scale_translate import (
    Boxes,
    Move,
    Size,
    area_of,
    moved,
    present,
    shared_area,
)

# A character pasted whole is drawn near the size it had in its own picture ...
_OWN_SIZE = (0.85, 1.10)
# ... and when that is nearly its own size, at its own: nothing is resampled, its grain stays.
_SNAP = 0.12
# Enlarged further, it is blurred beside the scene.
_MOST_SCALE = 1.5
# Where it does not fit, it may stand further away.
_SMALLER = (1.0, 0.85, 0.7)
# Its feet stand in this part of the scene's height, where a ground can be.
_FEET = (0.82, 0.97)
# The scene's own characters show where the ground is; they too must stand in the picture.
_GROUND = (0.55, 0.97)
# Where no ground is in the picture, so much of a character is below it (share of its height).
_BELOW = 0.06
# So many places from left to right are tried.
_STARTS = 16
# Of a character's box so much must be in the picture: over the clip, and in each frame.
_SEEN, _ALWAYS_SEEN = 0.9, 0.6


class NoPlace(Exception):
    """The cutout cannot stand in this scene; ``str`` says why."""


@dataclass(frozen=True)
class Wishes:
    """What a placement must keep to: heights and cover are shares.

    ``max_covered``: of any one of the scene's own characters, by the boxes, mean over the clip.
    """

    min_height: float
    max_height: float
    max_covered: float


@dataclass(frozen=True)
class Cut:
    """A cutout: its boxes [frames, 4], the sides its frame cuts off, its frame, its camera."""

    boxes_N4: Boxes
    border: frozenset[str]
    size: Size
    camera: Camera


@dataclass(frozen=True)
class Scene:
    """A background: its size, its camera, boxes [frames, 4] of its own characters."""

    size: Size
    camera: Camera
    own: Sequence[Boxes] = ()


@dataclass(frozen=True)
class Placed:
    """One move of the source's frame for each frame; ``covered``: of the character hidden most."""

    path: tuple[Move, ...]
    covered: float


def place(cut: Cut, scene: Scene, wishes: Wishes, chance: Callable[[str], float]) -> Placed:
    """The place where the cutout hides the least of whom the scene shows.

    ``chance(what)`` gives a number in [0, 1) for each decision. Sides that the source's frame cut
    off stay on the same side of the scene, in every frame: nobody ends in mid air. The cutout's
    own camera is taken out of its path and the scene's is put in; along a side that is cut off
    neither counts, and with any such side no zoom.

    Raises NoPlace, and ValueError for a cutout that is nowhere.
    """
    there = present(cut.boxes_N4)
    if not there.any():
        raise ValueError("the cutout is empty")
    best: Placed | None = None
    outside = False
    for start in _starts(cut, scene, wishes, chance):
        path = _path(start, cut, scene)
        boxes_N4 = moved(cut.boxes_N4, path)[there]
        if not _seen(boxes_N4, cut, scene.size):
            outside = True
            continue
        covered = max((_covered(one[there], boxes_N4) for one in scene.own), default=0.0)
        if best is None or covered < best.covered - 1e-6:
            best = Placed(path, round(covered, 4))
        if best.covered == 0:
            break
    if best is None:
        raise NoPlace("it leaves the picture wherever it is put" if outside else "it is too small")
    if best.covered > wishes.max_covered:
        raise NoPlace(
            f"hides {best.covered:.0%} of one of the scene's own characters, "
            f"at most {wishes.max_covered:.0%} wanted"
        )
    return best


def _starts(
    cut: Cut, scene: Scene, wishes: Wishes, chance: Callable[[str], float]
) -> Iterator[Move]:
    """Moves to try for the first frame, the most wanted first."""
    boxes_N4 = cut.boxes_N4[present(cut.boxes_N4)]
    for scale in _scales(cut, scene, wishes, chance("size")):
        y = _height(boxes_N4, scale, cut, scene)
        for x in _columns(boxes_N4, scale, cut, scene, chance("side")):
            yield Move(scale, x, y)


def _scales(cut: Cut, scene: Scene, wishes: Wishes, chance: float) -> Iterator[float]:
    fill = scene.size.height / cut.size.height
    if "top" in cut.border:
        # A close-up keeps its framing: its size on the screen is what makes it one.
        yield round(fill, 6)
        return
    share = _share(cut.boxes_N4, cut.size)
    own = share * (_OWN_SIZE[0] + chance * (_OWN_SIZE[1] - _OWN_SIZE[0]))
    others = [_share(one, scene.size) for one in _standing(scene)]
    if others:
        # Halfway between how large it was shown and how large this scene shows its own.
        own = float(np.sqrt(own * np.median(others)))
    given = set()
    for smaller in _SMALLER:
        wanted = float(np.clip(own * smaller, wishes.min_height, wishes.max_height))
        scale = fill * wanted / share
        fits = wishes.min_height <= share / fill <= wishes.max_height
        if fits and abs(scale - 1) <= _SNAP:
            scale = 1.0
        if scale <= _MOST_SCALE and scale not in given:
            given.add(scale)
            yield round(scale, 6)


def _share(boxes_N4: Boxes, size: Size) -> float:
    there = boxes_N4[present(boxes_N4)]
    return float(np.median(there[:, 3] - there[:, 1])) / size.height


def _standing(scene: Scene) -> list[Boxes]:
    """The scene's characters that are seen from head to feet."""
    return [
        one
        for one in scene.own
        if (one[present(one)][:, 3] < scene.size.height - 1).mean() > 0.9
        and (one[present(one)][:, 1] > 1).mean() > 0.9
    ]


def _cut_off_below(own_N4: Boxes, size: Size) -> bool:
    """Whether the frame cuts a character off at its lower side, most of the time."""
    return bool((own_N4[present(own_N4)][:, 3] >= size.height - 1).mean() > 0.5)


def _height(boxes_N4: Boxes, scale: float, cut: Cut, scene: Scene) -> float:
    if "top" in cut.border:
        return 0
    if "bottom" in cut.border:
        return scene.size.height - round(cut.size.height * scale)
    top, bottom = float(boxes_N4[:, 1].min()), float(np.median(boxes_N4[:, 3]))
    grounds = [float(np.median(one[present(one)][:, 3])) for one in _standing(scene)]
    if grounds:
        # Pasted in front of them, it stands no further back than the nearest of them.
        low, high = (share * scene.size.height for share in _GROUND)
        feet = float(np.clip(max(grounds), low, high))
    elif scene.own and all(_cut_off_below(one, scene.size) for one in scene.own):
        # The scene is framed so that no ground is seen: whole figures would float in it.
        height = scale * float(np.median(boxes_N4[:, 3] - boxes_N4[:, 1]))
        feet = scene.size.height + _BELOW * height
    else:
        feet = float(np.clip(bottom / cut.size.height, *_FEET)) * scene.size.height
    # A tall character must not lose its head for the sake of the ground.
    return round(max(feet - scale * bottom, -scale * top))


def _columns(
    boxes_N4: Boxes, scale: float, cut: Cut, scene: Scene, chance: float
) -> Iterable[float]:
    if "left" in cut.border:
        return [0.0]
    if "right" in cut.border:
        return [float(scene.size.width - round(cut.size.width * scale))]
    middle = boxes_N4[len(boxes_N4) // 2]
    moves = cut.camera.moves or scene.camera.moves
    left = float(middle[0] if moves else boxes_N4[:, 0].min())
    right = float(middle[2] if moves else boxes_N4[:, 2].max())
    room = scene.size.width - scale * (right - left)
    if room <= 0:
        return [float(round(room / 2 - scale * left))]
    places = [(n + chance) % _STARTS / _STARTS * room for n in range(_STARTS)]
    first = int(chance * _STARTS)
    return [float(round(at - scale * left)) for at in places[first:] + places[:first]]


def _path(start: Move, cut: Cut, scene: Scene) -> tuple[Move, ...]:
    own = [_free(move, cut.border, cut.size).undone() for move in cut.camera.path]
    there = [_free(move, cut.border, scene.size) for move in scene.camera.path]
    # With cameras that move, the middle frame is where the figure was wanted.
    n = len(own) // 2
    start = there[n].undone().after(start).after(own[n].undone())
    return tuple(b.after(start).after(s) for b, s in zip(there, own, strict=True))


def _free(move: Move, border: frozenset[str], size: Size) -> Move:
    """What of a camera's move a figure that is cut off at ``border`` can follow."""
    if not border:
        return move
    move = without_zoom(move, size.width, size.height)
    across, along = {"left", "right"} & border, {"top", "bottom"} & border
    return Move(1.0, 0.0 if across else move.x, 0.0 if along else move.y)


def _seen(boxes_N4: Boxes, cut: Cut, size: Size) -> bool:
    """Whether enough of the character is in the picture."""
    whole = np.tile([0.0, 0.0, size.width, size.height], (len(boxes_N4), 1))
    shares = shared_area(boxes_N4, whole) / np.maximum(area_of(boxes_N4), 1e-9)
    return bool(shares.mean() >= _SEEN and shares.min() >= _ALWAYS_SEEN)


def _covered(own_N4: Boxes, boxes_N4: Boxes) -> float:
    """Share of a character's boxes under the pasted ones, over the frames it is in."""
    there = present(own_N4)
    if not there.any():
        return 0.0
    shares = shared_area(own_N4, boxes_N4)[there] / area_of(own_N4)[there]
    return float(shares.mean())
