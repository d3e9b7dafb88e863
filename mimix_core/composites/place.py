"""Where in a scene a cutout goes, and how large."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

# A character pasted whole is drawn near the size it had in its own picture.
_OWN_SIZE = (0.85, 1.10)
# Its feet stand in this part of the scene's height, where a ground can be.
_FEET = (0.82, 0.97)
# So many places from left to right are tried.
_STARTS = 16


@dataclass(frozen=True)
class Size:
    width: int
    height: int


@dataclass(frozen=True)
class Placement:
    """One transform for all frames: the source's frame is scaled and put with its corner at x, y.

    The character keeps the motion it had in its own picture.
    """

    scale: float
    x: int
    y: int

    def scaled(self, source: Size) -> Size:
        """Size of the source's frame in the scene, pixels."""
        return Size(round(source.width * self.scale), round(source.height * self.scale))


def place(
    boxes: Sequence[Sequence[int]],
    border: Sequence[str],
    source: Size,
    scene: Size,
    *,
    min_height: float,
    max_height: float,
    chance: Callable[[str], float],
    occupied: Sequence[tuple[float, float]] = (),
) -> Placement:
    """Place a cutout; ``boxes`` and ``border`` as in the cutouts table.

    ``occupied``: columns of the scene, from and to, where its own characters are known to be; they
    are covered as little as the cutout's freedom allows.

    ``chance(what)`` gives a number in [0, 1) for each decision. Sides that the source's frame cut
    off come to lie on the same side of the scene: nobody ends in mid air. Cut off at the top, a
    character keeps the size and height of its own framing. Raises ValueError without any box.
    """
    present = np.array([box for box in boxes if box[3] > box[1]], dtype=float)
    if not present.size:
        raise ValueError("the cutout is empty")
    left, top = present[:, 0].min(), present[:, 1].min()
    right, bottom = present[:, 2].max(), present[:, 3].max()
    fill = scene.height / source.height
    if "top" in border:
        scale, y = fill, 0
    else:
        share = float(np.median(present[:, 3] - present[:, 1])) / source.height
        own = _OWN_SIZE[0] + chance("size") * (_OWN_SIZE[1] - _OWN_SIZE[0])
        scale = fill * float(np.clip(own, min_height / share, max_height / share))
        if "bottom" in border:
            y = scene.height - round(source.height * scale)
        else:
            feet = float(np.clip(bottom / source.height, *_FEET)) * scene.height
            # A tall character must not lose its head for the sake of the ground.
            y = round(max(feet - scale * bottom, -scale * top))
    if "left" in border:
        x = 0
    elif "right" in border:
        x = scene.width - round(source.width * scale)
    else:
        width = scale * (right - left)
        room = scene.width - width
        start = _free_start(width, room, occupied, chance("side")) if room > 0 else room / 2
        x = round(start - scale * left)
    return Placement(round(scale, 6), x, y)


def _free_start(
    width: float, room: float, occupied: Sequence[tuple[float, float]], chance: float
) -> float:
    """Where in 0..room something ``width`` wide covers the least of what is occupied.

    ``chance`` in [0, 1) decides between places that are equally good.
    """
    starts = [(n + chance) % _STARTS / _STARTS * room for n in range(_STARTS)]

    def covered(start: float) -> float:
        shared = (min(start + width, end) - max(start, begin) for begin, end in occupied)
        return sum(max(0.0, length) for length in shared)

    first = int(chance * _STARTS)
    return min(starts[first:] + starts[:first], key=covered)
