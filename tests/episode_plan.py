"""What each instant of a generated episode shows, drawn.

Each frame shows the counter of ``media_factory`` and a moving bar. In a frame that blends two
scenes, or is dimmed, the counter's last black block is white, which makes reading the counter
fail. A share of the other scene of a tenth or less does not count as a blend: it is invisible.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

import cv2
import numpy as np

from tests.media_factory import SIZE, draw_frame

MAX_PURE_SHARE = 0.1
_MIN_PURE_BRIGHTNESS = 0.85
_FAINT_BAR_BITS = 0x40
"""The bar of simple images flips this bit of what it covers."""

Join = Literal["cut", "dissolve", "fade"]


@dataclass(frozen=True)
class EpisodePlan:
    """The scene that each instant shows, and the share of the next one. See ``hard_cases.Case``."""

    join: Join
    scenes: int
    length: int
    blend: int
    pan: int
    seed: int
    dark: int = 8

    @property
    def step(self) -> int:
        extra = {"cut": 0, "dissolve": self.blend, "fade": 2 * self.blend + self.dark}[self.join]
        return self.length + extra

    @property
    def count(self) -> int:
        return self.step * (self.scenes - 1) + self.length

    def position(self, instant: int) -> tuple[int, int]:
        """Return its scene, and its position in the transition to the next one (-1: not in one)."""
        scene, inside = divmod(instant, self.step)
        return scene, inside - self.length if inside >= self.length else -1

    def brightness(self, instant: int) -> float:
        """Return the brightness during a fade: 1 full, 0 black."""
        _, into = self.position(instant)
        if self.join != "fade" or into < 0:
            return 1.0
        if into < self.blend:
            return 1 - (into + 1) / (self.blend + 1)
        return max(0.0, (into - self.blend - self.dark + 1) / (self.blend + 1))

    def share(self, instant: int) -> float:
        """Return the share of the next scene during a dissolve."""
        _, into = self.position(instant)
        return (into + 1) / (self.blend + 1) if self.join == "dissolve" and into >= 0 else 0.0

    def is_pure(self, instant: int) -> bool:
        share = self.share(instant)
        return (
            min(share, 1 - share) <= MAX_PURE_SHARE
            and self.brightness(instant) >= _MIN_PURE_BRIGHTNESS
        )

    def scene(self, instant: int) -> int:
        """Return the scene of a pure instant."""
        scene, into = self.position(instant)
        late = self.share(instant) > 0.5 or (self.join == "fade" and into > self.blend)
        return scene + late

    def draw(self, instant: int) -> np.ndarray:
        scene, _ = self.position(instant)
        share, brightness = self.share(instant), self.brightness(instant)
        if share:
            one, other = (self._draw_scene(instant, s) for s in (scene, scene + 1))
            image = np.round(one * (1 - share) + other * share).astype(np.uint8)
        else:
            image = self._draw_scene(instant, self.scene(instant))
        if brightness < 1:
            image = np.round(image * brightness).astype(np.uint8)
        if not self.is_pure(instant):
            mark_impure(image)
        return image

    def _draw_scene(self, instant: int, scene: int) -> np.ndarray:
        shown = number(instant, scene)
        if not self.pan:
            return draw_frame(shown, scene, instant, SIZE, backdrop(scene), _FAINT_BAR_BITS)
        # A scene is visible from the transition before its first instant to that after its last.
        since = instant - (scene - 1) * self.step
        wide = texture(self.seed, scene, SIZE[0] + self.pan * 3 * self.step)
        left = self.pan * (since if scene % 2 else 3 * self.step - since)
        return draw_frame(shown, scene, instant, SIZE, wide[:, left : left + SIZE[0]])


def number(instant: int, scene: int) -> int:
    """Return the unique counter value: one block changes per frame, and blocks differ per scene.

    The blocks fill a fifth of the image: scenes with the same blocks would look related.
    """
    assert instant < 1 << 12 and scene < 1 << 4
    return instant ^ scene << 12 ^ int(np.random.default_rng(scene).integers(1 << 12))


@cache
def backdrop(scene: int) -> np.ndarray:
    """Draw large soft spots of strong color: scenes have little in common, as in films."""
    spots = np.random.default_rng(scene).choice([30, 60, 195, 225], (4, 7, 3)).astype(np.uint8)
    return cv2.resize(spots, SIZE, interpolation=cv2.INTER_LINEAR)


@lru_cache(maxsize=4)
def texture(seed: int, scene: int, width: int) -> np.ndarray:
    """Draw multi-scale noise, uint8 RGB [height, width, 3], half of them with hard-edged shapes."""
    random = np.random.default_rng((seed, scene))
    height = SIZE[1]
    image = np.full((height, width, 3), random.integers(90, 166, 3), np.float32)
    for cell, strength in ((64, 84), (32, 63), (16, 49), (8, 35), (4, 25)):
        grid = height // cell + 2, width // cell + 2
        noise = random.uniform(-1, 1, (*grid, 1)) + random.uniform(-1, 1, (*grid, 3))
        size = grid[1] * cell, grid[0] * cell
        wave = cv2.resize(
            (strength / 2 * noise).astype(np.float32), size, None, 0, 0, cv2.INTER_CUBIC
        )
        image += wave[:height, :width]
    if (seed + scene) % 2:
        for _ in range(width // 8):
            centre = int(random.integers(width)), int(random.integers(height))
            colour = [float(level) for level in random.integers(0, 256, 3)]
            cv2.circle(image, centre, int(random.integers(4, 28)), colour, -1)
    return image.clip(0, 255).astype(np.uint8)


def mark_impure(image: np.ndarray) -> None:
    """Whiten the center of the counter's last block, to mark the image as blended or dimmed.

    Only the area read from the block is whitened: it must not look like a cut.
    """
    height, width = image.shape[:2]
    rows = slice(round(0.475 * height), round(0.525 * height))
    columns = slice(round(0.73 * width), round(0.77 * width))
    image[rows, columns] = 255
