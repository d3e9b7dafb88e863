"""Scenes of the miniature world: who does what before which background, and how everybody moves.

A scene is 17 frames of 80 x 128 pixels. An action with another figure has a visible reaction: the
pushed one stumbles back, the one jumped over ducks, a ball changes hands.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from miniature import figures
from miniature.figures import Figure

FRAMES, HEIGHT, WIDTH = 17, 80, 128
FIGURES = 2
"""Places for figures in a scene; one of them may be empty."""

BACKGROUNDS = ("A meadow", "A street", "A room")

ALONE = ("stands still", "strolls", "jumps up", "waves", "falls over")
TOGETHER = {
    "approach": ("approaches {other}", "waves at {other}"),
    "push": ("pushes {other}", "stumbles back"),
    "hand over": ("hands a ball to {other}", "takes the ball"),
    "jump over": ("jumps over {other}", "ducks"),
}
"""What the first figure does, and how the second reacts."""

ACTIONS = (*ALONE, *(phrase for pair in TOGETHER.values() for phrase in pair))

Array = NDArray[np.float64]

# Half the width of each form, and the height of its arms, in units of a figure's scale.
HALF_WIDTHS = (0.33, 0.29, 0.21, 0.38, 0.27, 0.48)
ARM_HEIGHTS = (0.46, 0.46, 0.46, 0.40, 0.40, 0.34)

POSE = ("x", "lift", "tilt", "squash", "reach", "raise_", "swing", "facing")
_X, _LIFT, _TILT, _SQUASH, _REACH, _RAISE, _SWING, _FACING = range(len(POSE))
_CYCLES = 2.0
_BALL_RADIUS = 3.2


@dataclass(frozen=True)
class Scene:
    """A scene: one or two figures, their actions, the background and the seed of its details.

    ``together``: a key of ``TOGETHER``; then the first figure acts on the second. Otherwise
    ``alone`` has each figure's index into ``ALONE``.
    """

    cast: tuple[Figure, ...]
    together: str | None
    alone: tuple[int, ...]
    background: int
    style: str
    seed: int

    def phrases(self) -> tuple[str, ...]:
        """Return what each figure does, as in a caption."""
        if self.together is None:
            return tuple(ALONE[action] for action in self.alone)
        act, react = TOGETHER[self.together]
        first, second = self.cast
        return act.format(other=second.name), react.format(other=first.name)

    def actions(self) -> tuple[int, ...]:
        """Return each figure's index into ``ACTIONS``."""
        if self.together is None:
            return self.alone
        return tuple(ACTIONS.index(phrase) for phrase in TOGETHER[self.together])


@dataclass(frozen=True)
class SceneTensors:
    """Scenes as tensors, the input of the renderer; B scenes, F = 2 places, T frames.

    ``front_B``: the place of the figure in front. ``pose_BFTP``: see ``POSE``; lengths in pixels,
    angles in radians. ``ball_BT3``: x, y and radius.
    """

    attributes_BFA: torch.Tensor
    style_BF: torch.Tensor
    present_BF: torch.Tensor
    scale_BF: torch.Tensor
    ground_BF: torch.Tensor
    front_B: torch.Tensor
    pose_BFTP: torch.Tensor
    ball_BT3: torch.Tensor
    action_BF: torch.Tensor
    background_B: torch.Tensor
    background_style_B: torch.Tensor
    layout_BL: torch.Tensor

    def to(self, device: torch.device | str) -> SceneTensors:
        """Return a copy on a device."""
        return SceneTensors(
            **{name: value.to(device, non_blocking=True) for name, value in vars(self).items()}
        )


def draw_scene(
    rng: random.Random,
    cast: Sequence[Figure],
    style: str,
    *,
    together: str | None = None,
    together_share: float = 0.65,
) -> Scene:
    """Draw actions, background and details at random for a cast of one or two figures."""
    if together is None and len(cast) == FIGURES and rng.random() < together_share:
        together = rng.choice(tuple(TOGETHER))
    return Scene(
        cast=tuple(cast),
        together=together,
        alone=() if together else tuple(rng.randrange(len(ALONE)) for _ in cast),
        background=rng.randrange(len(BACKGROUNDS)),
        style=style,
        seed=rng.getrandbits(32),
    )


def draw_generic_scene(rng: random.Random, *, figure_count: int | None = None) -> Scene:
    """Draw a scene of the base's training: generic figures, all in the style of the scene."""
    style = rng.choice(figures.STYLES)
    count = figure_count or (1 if rng.random() < 0.3 else FIGURES)
    cast = [figures.draw_generic_figure(rng, style) for _ in range(count)]
    while len({figure.name for figure in cast}) < count:
        cast[-1] = replace(cast[-1], name=figures.draw_name(rng))
    return draw_scene(rng, cast, style)


@dataclass(frozen=True)
class _Clock:
    """The times of frames: 0 at the first of a scene's 17 frames, 1 at the last."""

    time: Array

    def ramp(self, start: float, end: float) -> Array:
        """Return a smooth step from 0 at ``start`` to 1 at ``end``."""
        t = np.clip((self.time - start) / (end - start), 0, 1)
        step: Array = t * t * (3 - 2 * t)
        return step

    def arc(self, start: float, end: float) -> Array:
        """Return a parabola that is 0 outside ``start``..``end`` and 1 in the middle."""
        t = np.clip((self.time - start) / (end - start), 0, 1)
        arc: Array = 4 * t * (1 - t)
        return arc


def to_tensors(scenes: Sequence[Scene], *, before: int = 0, after: int = 0) -> SceneTensors:
    """Compute all positions and details of scenes; they depend on the scenes alone.

    ``before``, ``after``: frames in addition to a scene's 17, in which figures only move as they
    always do, and go on strolling.
    """
    clock = _Clock(np.arange(-before, FRAMES + after) / (FRAMES - 1))
    columns: dict[str, list[NDArray[np.float32]]] = {}
    for scene in scenes:
        for name, value in _scene_arrays(scene, clock).items():
            columns.setdefault(name, []).append(np.asarray(value, dtype=np.float32))
    integers = ("attributes_BFA", "action_BF", "background_B", "front_B")
    return SceneTensors(
        **{
            name: torch.from_numpy(np.stack(values)).to(
                torch.long if name in integers else torch.float32
            )
            for name, values in columns.items()
        }
    )


def _scene_arrays(scene: Scene, clock: _Clock) -> dict[str, object]:
    rng = random.Random(scene.seed)
    count = len(scene.cast)
    scale = [rng.uniform(35, 39) for _ in range(FIGURES)]
    ground = [rng.uniform(67, 73) for _ in range(FIGURES)]
    # Figures that touch are equally far away.
    if scene.together is not None:
        ground[1] = ground[0] + rng.uniform(-1.5, 1.5)
    widths = [HALF_WIDTHS[f.form] * s for f, s in zip(scene.cast, scale, strict=False)]
    poses = np.zeros((FIGURES, len(clock.time), len(POSE)))
    poses[:, :, _SQUASH] = poses[:, :, _FACING] = 1
    ball = np.zeros((len(clock.time), 3))
    if scene.together is None:
        _place_alone(rng, clock, scene, poses)
    else:
        _place_together(rng, clock, scene, poses, ball, scale, ground, widths)
    for place, figure in enumerate(scene.cast):
        _add_gait(rng, clock, figure, scale[place], poses[place])
    padded = [figure.indices() for figure in scene.cast] + [(0,) * 6] * (FIGURES - count)
    styles = [figures.STYLES.index(figure.style) for figure in scene.cast]
    return {
        "attributes_BFA": padded,
        "style_BF": styles + [0] * (FIGURES - count),
        "present_BF": [1] * count + [0] * (FIGURES - count),
        "scale_BF": scale,
        "ground_BF": ground,
        "front_B": int(ground[1] > ground[0]),
        "pose_BFTP": poses,
        "ball_BT3": ball,
        "action_BF": [*scene.actions(), *[0] * (FIGURES - count)],
        "background_B": scene.background,
        "background_style_B": figures.STYLES.index(scene.style),
        "layout_BL": [rng.random() for _ in range(12)],
    }


def _place_alone(rng: random.Random, clock: _Clock, scene: Scene, poses: Array) -> None:
    centers = [rng.uniform(44, 84)] if len(scene.cast) == 1 else [rng.uniform(28, 36)]
    centers.append(rng.uniform(92, 100))
    if len(scene.cast) == FIGURES and rng.random() < 0.5:
        centers.reverse()
    for place, (center, action) in enumerate(zip(centers, scene.alone, strict=False)):
        pose, facing = poses[place], rng.choice((-1, 1))
        pose[:, _X], pose[:, _FACING] = center, facing
        delay = rng.uniform(-0.08, 0.08)
        match ALONE[action]:
            case "strolls":
                pose[:, _X] += facing * 24 * (clock.time - 0.5)
            case "jumps up":
                pose[:, _LIFT] += 20 * clock.arc(0.25 + delay, 0.85 + delay)
                crouch = clock.arc(0.1 + delay, 0.3 + delay)
                pose[:, _SQUASH] -= 0.25 * crouch
            case "waves":
                pose[:, _RAISE] = clock.ramp(0.1, 0.3) * (
                    0.8 + 0.3 * np.sin(clock.time * 8 * math.pi)
                )
            case "falls over":
                fall = clock.ramp(0.3 + delay, 0.6 + delay)
                pose[:, _TILT] += 1.45 * fall
                pose[:, _X] -= facing * 8 * fall
            case _:
                pass


def _place_together(
    rng: random.Random,
    clock: _Clock,
    scene: Scene,
    poses: Array,
    ball: Array,
    scale: Sequence[float],
    ground: Sequence[float],
    widths: Sequence[float],
) -> None:
    side = rng.choice((-1, 1))
    center = WIDTH / 2 + rng.uniform(-6, 6)
    shift = rng.uniform(-0.04, 0.04)
    actor, other = poses
    actor[:, _FACING], other[:, _FACING] = side, -side
    near = sum(widths)
    first, second = [np.zeros(len(clock.time)) for _ in range(2)]
    match scene.together:
        case "approach":
            second += 0.5 * near + 7
            first += -46 + (46 - 0.5 * near - 7) * clock.ramp(0.05, 0.65 + shift)
            other[:, _RAISE] = clock.ramp(0.4, 0.55) * (
                0.8 + 0.3 * np.sin(clock.time * 8 * math.pi)
            )
        case "push":
            hit = 0.5 + shift
            second += 0.5 * near - 2 + 24 * clock.ramp(hit, 0.95)
            first += -42 + (42 - 0.5 * near + 1) * clock.ramp(0.05, hit)
            actor[:, _REACH] = clock.ramp(hit - 0.2, hit - 0.02) * (1 - 0.5 * clock.ramp(0.75, 1))
            actor[:, _TILT] -= 0.2 * clock.arc(hit - 0.2, hit + 0.25)
            other[:, _TILT] += 0.75 * clock.ramp(hit, hit + 0.18) * (1 - 0.4 * clock.ramp(0.85, 1))
            other[:, _LIFT] += 5 * clock.arc(hit, hit + 0.3)
        case "hand over":
            gap = 0.5 * near + 8
            first -= gap
            second += gap
            actor[:, _REACH] = 1 - clock.ramp(0.6, 0.8)
            other[:, _REACH] = clock.ramp(0.2, 0.4) * (1 - clock.ramp(0.65, 0.85))
            other[:, _RAISE] = clock.ramp(0.65, 0.85)
            hands = [
                x + sign * (widths[p] + 0.24 * scale[p])
                for p, (x, sign) in enumerate(((first, 1), (second, -1)))
            ]
            heights = [ground[p] - ARM_HEIGHTS[scene.cast[p].form] * scale[p] - 2 for p in range(2)]
            move = clock.ramp(0.4 + shift, 0.6 + shift)
            along = hands[0] * (1 - move) + hands[1] * move
            lifted = 12 * clock.ramp(0.65, 0.85)
            ball[:, 0] = center + side * along
            ball[:, 1] = (
                heights[0] * (1 - move) + heights[1] * move - 3 * clock.arc(0.4, 0.6) - lifted
            )
            ball[:, 2] = _BALL_RADIUS
        case "jump over":
            reach = min(44.0, near + 12)
            first += -reach + 2 * reach * clock.ramp(0.2 + shift, 0.8 + shift)
            actor[:, _LIFT] += 30 * np.sqrt(clock.arc(0.2 + shift, 0.8 + shift))
            other[:, _SQUASH] -= 0.40 * clock.ramp(0.15, 0.35) * (1 - clock.ramp(0.75, 0.95))
        case _:
            raise ValueError(f"unknown action {scene.together!r}; known: {', '.join(TOGETHER)}")
    actor[:, _X], other[:, _X] = center + side * first, center + side * second


def _add_gait(rng: random.Random, clock: _Clock, figure: Figure, scale: float, pose: Array) -> None:
    """Add the movement that a figure always makes, also where it stands."""
    phase = 2 * math.pi * (_CYCLES * clock.time + rng.random())
    # While a figure lies or ducks it moves less.
    calm = np.clip(1 - 0.6 * np.abs(pose[:, _TILT]), 0.2, 1) * pose[:, _SQUASH]
    match figures.GAITS[figure.gait]:
        case "walks":
            pose[:, _SWING] += 0.15 * np.sin(phase)
        case "hops":
            pose[:, _LIFT] += 0.2 * scale * np.abs(np.sin(phase / 2)) * calm
        case "waddles":
            pose[:, _TILT] += 0.26 * np.sin(phase) * calm
        case "floats":
            pose[:, _LIFT] += (0.16 + 0.05 * np.sin(phase / 2)) * scale * calm
        case other:
            raise ValueError(f"unknown gait {other!r}")
