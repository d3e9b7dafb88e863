"""Backgrounds of the two styles: a meadow, a street and a room, drawn flat or as on film."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from miniature.noise import lattice_noise
from miniature.scenes import HEIGHT, WIDTH, SceneTensors

Tensor = torch.Tensor
Color = tuple[float, float, float]
_HORIZON = 50.0
_LINE = (0.1, 0.1, 0.12)


def draw_background(scenes: SceneTensors, x: Tensor, y: Tensor) -> list[Tensor]:
    """Return the color channels, each [B, H, W], of every scene's background."""
    layout = [value.view(-1, 1, 1) for value in scenes.layout_BL.unbind(1)]
    kind = scenes.background_B.view(-1, 1, 1)
    real = scenes.background_style_B.view(-1, 1, 1)
    flat = [draw(x, y, layout) for draw in (_flat_meadow, _flat_street, _flat_room)]
    film = [draw(x, y, layout) for draw in (_film_meadow, _film_street, _film_room)]
    vignette = 1 - 0.32 * (((x - WIDTH / 2) / 64) ** 2 + ((y - HEIGHT / 2) / 40) ** 2) / 2
    channels = []
    for channel, tint in enumerate((1.03, 0.99, 0.92)):
        drawn = torch.where(
            kind == 0,
            flat[0][channel],
            torch.where(kind == 1, flat[1][channel], flat[2][channel]),
        )
        filmed = torch.where(
            kind == 0,
            film[0][channel],
            torch.where(kind == 1, film[1][channel], film[2][channel]),
        )
        channels.append(drawn + real * (filmed * vignette * tint - drawn))
    return channels


def _mix(below: list[Tensor], cover: Tensor, color: Sequence[float | Tensor]) -> list[Tensor]:
    return [c + cover * (new - c) for c, new in zip(below, color, strict=True)]


def _shape(below: list[Tensor], distance: Tensor, color: Color, line: float = 1.2) -> list[Tensor]:
    """Paint a flat shape with an outline; ``distance`` in pixels, negative inside."""
    outlined = _mix(below, (0.5 - distance).clamp(0, 1), _LINE)
    return _mix(outlined, (0.5 - distance - line).clamp(0, 1), color)


def _box(x: Tensor, y: Tensor, cx: Tensor | float, cy: float, hx: float, hy: float) -> Tensor:
    return torch.maximum((x - cx).abs() - hx, (y - cy).abs() - hy)


def _flat_meadow(x: Tensor, y: Tensor, r: list[Tensor]) -> list[Tensor]:
    image = [0 * (x + y + r[0]) + c for c in (0.62, 0.86, 0.98)]
    sun = torch.sqrt((x - 18 - 92 * r[4]) ** 2 + (y - 14) ** 2) - 8
    image = _shape(image, sun, (1.0, 0.9, 0.35))
    hill = 40 - y - 7 * torch.sin(x / 21 + 6.3 * r[5])
    image = _shape(image, hill, (0.45, 0.78, 0.42))
    return _shape(image, _HORIZON + 2 - y + 0 * x, (0.6, 0.86, 0.45))


def _flat_street(x: Tensor, y: Tensor, r: list[Tensor]) -> list[Tensor]:
    image = [0 * (x + y + r[0]) + c for c in (0.98, 0.88, 0.7)]
    for index, color in enumerate(((0.95, 0.62, 0.6), (0.62, 0.72, 0.9), (0.9, 0.8, 0.5))):
        cx = 8 + 48 * index + 22 * r[4 + index]
        image = _shape(image, _box(x, y, cx, 36, 17, 22 - 5 * (index % 2)), color)
        for side in (-8, 8):
            image = _shape(image, _box(x, y, cx + side, 30, 4, 5), (0.98, 0.98, 0.9))
    return _shape(image, _HORIZON + 3 - y + 0 * x, (0.72, 0.72, 0.76))


def _flat_room(x: Tensor, y: Tensor, r: list[Tensor]) -> list[Tensor]:
    image = [0 * (x + y + r[0]) + c for c in (0.98, 0.83, 0.86)]
    cx = 30 + 68 * r[4]
    image = _shape(image, _box(x, y, cx, 24, 15, 13), (0.7, 0.9, 1.0))
    image = _shape(image, _box(x, y, cx, 24, 1.5, 13), (0.98, 0.98, 0.98))
    lamp = torch.sqrt((x - 128 + cx) ** 2 + (y - 12) ** 2) - 6
    image = _shape(image, lamp, (1.0, 0.95, 0.6))
    return _shape(image, _HORIZON + 2 - y + 0 * x, (0.8, 0.62, 0.42))


def _grain(x: Tensor, y: Tensor, step_x: float, step_y: float, seed: Tensor) -> Tensor:
    coarse = lattice_noise(x / step_x, y / step_y, seed)
    fine = lattice_noise(2.3 * x / step_x, 2.3 * y / step_y, seed + 0.37)
    return 0.65 * coarse + 0.35 * fine


def _film_meadow(x: Tensor, y: Tensor, r: list[Tensor]) -> list[Tensor]:
    clouds = _grain(x, y, 26, 9, r[4])
    sky = [0.42 + 0.004 * y + 0.3 * clouds, 0.5 + 0.0035 * y + 0.25 * clouds, 0.62 + 0.2 * clouds]
    trees = 30 - 14 * _grain(x, 0 * y, 9, 1, r[5]) + 6
    leaf = 0.5 + 0.9 * _grain(x, y, 4, 4, r[6])
    image = _mix(sky, (0.5 + (y - trees) / 2).clamp(0, 1), [leaf * c for c in (0.2, 0.27, 0.16)])
    grass = (0.45 + 0.75 * _grain(x, y, 2.5, 4, r[7])) * (0.75 + 0.008 * (y - _HORIZON))
    ground = [grass * c for c in (0.42, 0.46, 0.24)]
    return _mix(image, (0.5 + (y - _HORIZON) / 3).clamp(0, 1), ground)


def _film_street(x: Tensor, y: Tensor, r: list[Tensor]) -> list[Tensor]:
    row = torch.floor(y / 4)
    brick_x = x / 9 + 0.5 * (row - 2 * torch.floor(row / 2)) + r[4]
    joint = torch.maximum(
        (y / 4 - row - 0.5).abs() * 4, (brick_x - torch.floor(brick_x) - 0.5).abs() * 9 - 2.7
    )
    mortar = (joint - 1.3).clamp(0, 1)
    stain = 0.6 + 0.6 * _grain(x, y, 14, 10, r[5]) + 0.2 * _grain(x, y, 3, 3, r[6])
    wall = [stain * (c + mortar * (0.5 - c)) for c in (0.5, 0.32, 0.25)]
    cx = 24 + 80 * r[7]
    door = (0.5 - _box(x, y, cx, 36, 10, 16) / 2).clamp(0, 1)
    wall = _mix(wall, door, [0.25 * stain, 0.27 * stain, 0.3 * stain])
    asphalt = 0.3 + 0.22 * _grain(x, y, 2, 1.6, r[8]) + 0.003 * (y - _HORIZON)
    road = [asphalt, asphalt * 0.98, asphalt * 0.97]
    return _mix(wall, (0.5 + (y - _HORIZON - 1) / 3).clamp(0, 1), road)


def _film_room(x: Tensor, y: Tensor, r: list[Tensor]) -> list[Tensor]:
    cx = 28 + 72 * r[4]
    glow = torch.exp(-(((x - cx) / 38) ** 2 + ((y - 18) / 26) ** 2))
    plaster = 0.36 + 0.42 * glow + 0.1 * _grain(x, y, 8, 8, r[5])
    wall = [plaster, plaster * 0.9, plaster * 0.74]
    pane = (0.5 - (_box(x, y, 128 - cx, 24, 13, 12)) / 2.5).clamp(0, 1)
    view = 0.55 + 0.3 * _grain(x, y, 11, 9, r[6])
    wall = _mix(wall, pane, [0.8 * view, 0.95 * view, 1.1 * view])
    plank = torch.floor((y - _HORIZON) / 5)
    wood = 0.5 + 0.5 * _grain(x, y + 31 * plank, 17, 2.2, r[7])
    seam = ((y - _HORIZON) / 5 - plank < 0.18) * 0.18
    floor = [(wood - seam) * c for c in (0.62, 0.43, 0.27)]
    return _mix(wall, (0.5 + (y - _HORIZON) / 2.5).clamp(0, 1), floor)
