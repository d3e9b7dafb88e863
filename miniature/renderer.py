"""Draw scenes with signed distances, batched, with the same code on CPU and GPU.

A cartoon is flat color with a dark outline. A realistic figure is shaded, textured and soft at the
edge, drops a soft shadow, and its scene has film grain. A figure is drawn in its own style whatever
the background's is, so true joint scenes of two styles can be drawn too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from miniature import scenery
from miniature.noise import lattice_noise
from miniature.scenes import ARM_HEIGHTS, HALF_WIDTHS, HEIGHT, WIDTH, SceneTensors

Tensor = torch.Tensor

_OFF = -9.0
# center y, half width, half height, radius, taper; second circle: y, radius; top: y, width; face y.
_FORMS = (
    (0.46, 0.00, 0.00, 0.33, 0.00, 0.50, _OFF, 0.77, 0.27, 0.54),  # ball
    (0.46, 0.22, 0.24, 0.07, 0.00, 0.50, _OFF, 0.77, 0.27, 0.57),  # box
    (0.51, 0.06, 0.24, 0.15, 0.00, 0.50, _OFF, 0.89, 0.18, 0.70),  # pillar
    (0.45, 0.20, 0.28, 0.05, 0.65, 0.50, _OFF, 0.77, 0.14, 0.50),  # cone
    (0.38, 0.00, 0.00, 0.27, 0.00, 0.72, 0.19, 0.90, 0.18, 0.73),  # pear
    (0.34, 0.34, 0.08, 0.14, 0.00, 0.50, _OFF, 0.55, 0.36, 0.42),  # loaf
)
# Two tapered segments in |u|: from x (times the top's width), y to x, y; radii at both ends.
_TOPPERS = (
    ((0.95, 0.02, 0.95, 0.03, 0.12, 0.12), (0.0, 0.0, 0.0, 0.01, _OFF, _OFF)),  # round ears
    ((0.45, -0.05, 0.75, 0.30, 0.07, 0.055), (0.0, 0.0, 0.0, 0.01, _OFF, _OFF)),  # long ears
    ((0.70, -0.04, 1.45, 0.19, 0.08, 0.015), (0.0, 0.0, 0.0, 0.01, _OFF, _OFF)),  # horns
    ((0.0, -0.02, 0.0, 0.20, 0.025, 0.025), (0.0, 0.24, 0.0, 0.25, 0.085, 0.085)),  # antenna
    ((0.0, 0.0, 1.20, 0.001, 0.04, 0.04), (0.0, 0.12, 0.45, 0.121, 0.11, 0.11)),  # hat
    ((0.0, -0.03, 0.0, 0.22, 0.09, 0.01), (0.75, -0.07, 0.95, 0.13, 0.08, 0.01)),  # spikes
)
# Eyes: x, radius, radius of the pupil; a segment: half length, y, radius; its color.
_FACES = (
    (0.11, 0.080, 0.042, 0.0, 0.0, _OFF, 0.0, 0.0, 0.0),  # two eyes
    (0.00, 0.135, 0.070, 0.0, 0.0, _OFF, 0.0, 0.0, 0.0),  # one eye
    (0.12, 0.045, 0.045, 0.05, -0.12, 0.085, 1.0, 0.62, 0.1),  # beak
    (0.10, 0.060, 0.035, 0.15, -0.13, 0.055, 0.2, 0.12, 0.1),  # moustache
)
_TOPPER_COLORS = (None, None, (0.95, 0.9, 0.75), (0.3, 0.3, 0.35), (0.22, 0.2, 0.3), None)
_COLORS = (
    (0.88, 0.25, 0.22),
    (0.95, 0.55, 0.15),
    (0.95, 0.85, 0.25),
    (0.30, 0.70, 0.32),
    (0.28, 0.48, 0.88),
    (0.62, 0.36, 0.76),
)
_CONTACT_PIXELS = 2


@dataclass(frozen=True)
class Video:
    """Rendered scenes and their truth.

    ``frames_BCTHW``: 0..1. ``masks_BFTHW``: the visible share of each figure in each pixel.
    ``contact_B``: whether the two figures touch in some frame.
    """

    frames_BCTHW: Tensor
    masks_BFTHW: Tensor
    contact_B: Tensor

    def boxes(self) -> Tensor:
        """Return boxes_BFT4: left, top, right, bottom in pixels; zeros where nothing is visible."""
        solid = self.masks_BFTHW > 0.5
        columns, rows = solid.any(-2), solid.any(-1)

        def ends(line: Tensor) -> tuple[Tensor, Tensor]:
            first = line.to(torch.uint8).argmax(-1)
            last = line.shape[-1] - line.flip(-1).to(torch.uint8).argmax(-1)
            return first, torch.where(line.any(-1), last, torch.zeros_like(last))

        (left, right), (top, bottom) = ends(columns), ends(rows)
        return torch.stack([left, top, right, bottom], -1)


Layer = tuple[list[Tensor], Tensor, Tensor]
"""The color channels, the coverage and the ground shadow of one place's figures, [B, T, H, W]."""


def render(scenes: SceneTensors, draw_figure: Callable[..., Layer] | None = None) -> Video:
    """Draw scenes on the device of their tensors.

    ``draw_figure``: a compiled version of ``draw_one``.
    """
    frames, masks = _draw(scenes, draw_figure or draw_one)
    near = torch.nn.functional.max_pool2d(
        masks.flatten(0, 1), 2 * _CONTACT_PIXELS + 1, 1, _CONTACT_PIXELS
    ).view_as(masks)
    contact = (near.amin(1) > 0.5).flatten(1).any(1)
    return Video(frames, masks, contact)


def _draw(scenes: SceneTensors, draw_figure: Callable[..., Layer]) -> tuple[Tensor, Tensor]:
    """Return frames_BCTHW and masks_BFTHW."""
    device = scenes.pose_BFTP.device
    x = torch.arange(WIDTH, device=device).view(1, 1, 1, -1) + 0.5
    y = torch.arange(HEIGHT, device=device).view(1, 1, -1, 1) + 0.5
    batch, _, frames, _ = scenes.pose_BFTP.shape
    back = scenery.draw_background(scenes, x[:, 0], y[:, 0])
    image = [channel[:, None].expand(batch, frames, HEIGHT, WIDTH) for channel in back]
    layers = [
        draw_figure(
            scenes.attributes_BFA[:, place].contiguous(),
            *(
                value[:, place].clone().view(-1, 1, 1, 1)
                for value in (
                    scenes.style_BF,
                    scenes.present_BF,
                    scenes.scale_BF,
                    scenes.ground_BF,
                )
            ),
            scenes.pose_BFTP[:, place].contiguous(),
            scenes.layout_BL[:, place].clone().view(-1, 1, 1, 1),
            x,
            y,
        )
        for place in range(2)
    ]
    for _, _, shadow in layers:
        image = [channel * (1 - shadow) for channel in image]
    swap = (scenes.front_B == 0).view(-1, 1, 1, 1)
    below = [
        torch.where(swap, b, a) for a, b in zip(_flat(layers[0]), _flat(layers[1]), strict=True)
    ]
    above = [
        torch.where(swap, a, b) for a, b in zip(_flat(layers[0]), _flat(layers[1]), strict=True)
    ]
    for *color, alpha in (below, above):
        image = [c + alpha * (new - c) for c, new in zip(image, color, strict=True)]
    ball_alpha, ball_color = _draw_ball(scenes, x, y)
    image = [c + ball_alpha * (new - c) for c, new in zip(image, ball_color, strict=True)]
    hidden = below[3] * (1 - above[3])
    masks = (
        torch.stack([torch.where(swap, above[3], hidden), torch.where(swap, hidden, above[3])], 1)
        * (1 - ball_alpha)[:, None]
    )
    grain = _grain(scenes, x, y, frames)
    video = torch.stack([(channel + grain).clamp(0, 1) for channel in image], 1)
    return video, masks


def _flat(layer: Layer) -> list[Tensor]:
    return [*layer[0], layer[1]]


def _grain(scenes: SceneTensors, x: Tensor, y: Tensor, frames: int) -> Tensor:
    t = torch.arange(frames, device=x.device).view(1, -1, 1, 1)
    seed = scenes.layout_BL[:, 11].view(-1, 1, 1, 1)
    value = torch.sin(x * 12.9898 + y * 78.233 + t * 37.719 + seed * 91.7) * 437.585
    real = scenes.background_style_B.view(-1, 1, 1, 1)
    return (value - torch.floor(value) - 0.5) * 0.05 * real


def _segment(
    u: Tensor, v: Tensor, ax: Tensor, ay: Tensor, bx: Tensor, by: Tensor, ra: Tensor, rb: Tensor
) -> Tensor:
    """Return the distance to a segment whose radius changes from ``ra`` to ``rb``."""
    dx, dy = bx - ax, by - ay
    along = (((u - ax) * dx + (v - ay) * dy) / (dx * dx + dy * dy + 1e-6)).clamp(0, 1)
    return torch.sqrt((u - ax - along * dx) ** 2 + (v - ay - along * dy) ** 2 + 1e-9) - (
        ra + along * (rb - ra)
    )


def _draw_ball(scenes: SceneTensors, x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
    bx, by, radius = (scenes.ball_BT3[..., i, None, None] for i in range(3))
    distance = torch.sqrt((x - bx) ** 2 + (y - by) ** 2 + 1e-9) - radius
    real = scenes.background_style_B.view(-1, 1, 1, 1)
    alpha = (0.5 - distance).clamp(0, 1) * (radius > 0)
    flat = torch.where(distance > -1.3, 0.1, 1.0)
    light = 0.75 - 0.12 * (x - bx + y - by)
    shade = flat + real * (light.clamp(0.2, 1.2) - flat)
    return alpha, [(shade * channel).clamp(0, 1) for channel in (0.95, 0.25, 0.55)]


def _table(rows: object, index: Tensor) -> list[Tensor]:
    """Look up a row for each scene, as columns of shape [B, 1, 1, 1]."""
    table = torch.tensor(rows, device=index.device, dtype=torch.float32).flatten(1)
    return [column.view(-1, 1, 1, 1) for column in table[index].unbind(1)]


def _cover(distance: Tensor, scale: Tensor, softness: Tensor) -> Tensor:
    return (0.5 - distance * scale / softness).clamp(0, 1)


def draw_one(  # noqa: PLR0915 - one formula a line
    attributes_BA: Tensor,
    real: Tensor,
    present: Tensor,
    scale: Tensor,
    ground: Tensor,
    pose_BTP: Tensor,
    texture: Tensor,
    x: Tensor,
    y: Tensor,
) -> Layer:
    """Draw one figure a scene; only pointwise operations, for torch.compile.

    Values of a scene have the shape [B, 1, 1, 1]; ``x`` and ``y`` are the pixels' centers.
    """
    form, topper, face, marking, gait, hue = attributes_BA.unbind(1)
    center, lift, tilt, squash, reach, raised, swing, facing = (
        value[..., None, None] for value in pose_BTP.unbind(-1)
    )
    cy, hx, hy, radius, taper, y2, r2, top_y, top_w, face_y = _table(_FORMS, form)
    (wide,) = _table([[w] for w in HALF_WIDTHS], form)
    (arm_y,) = _table([[h] for h in ARM_HEIGHTS], form)

    du = (x - center) * facing / scale
    dv = (ground - lift - y) / scale - 0.35
    sin, cos = torch.sin(tilt), torch.cos(tilt)
    u = (du * cos + dv * sin) * torch.sqrt(squash)
    v = (dv * cos - du * sin + 0.35) / squash
    mirrored = u.abs()

    # Body
    width = (1 - taper * (v - cy) / hy.clamp(min=0.1)).clamp(min=0.2)
    qu, qv = mirrored / width - hx, (v - cy).abs() - hy
    box = (
        torch.sqrt(qu.clamp(min=0) ** 2 + qv.clamp(min=0) ** 2 + 1e-9)
        + torch.maximum(qu, qv).clamp(max=0)
        - radius
    )
    circle = torch.sqrt(u * u + (v - y2) ** 2 + 1e-9) - r2
    blend = (0.5 + (circle - box) / 0.16).clamp(0, 1)
    body = circle + blend * (box - circle) - 0.08 * blend * (1 - blend)

    # Topper, arms and legs
    a, b = (_table([row[i] for row in _TOPPERS], topper) for i in range(2))
    crown = torch.minimum(
        _segment(mirrored, v, a[0] * top_w, a[1] + top_y, a[2] * top_w, a[3] + top_y, a[4], a[5]),
        _segment(mirrored, v, b[0] * top_w, b[1] + top_y, b[2] * top_w, b[3] + top_y, b[4], b[5]),
    )
    shoulder = wide * 0.8
    rest = 1 - torch.maximum(reach, raised.clamp(0, 1))
    hand_x = wide + 0.06 * rest + 0.26 * reach + 0.16 * raised * (1 - reach)
    hand_y = arm_y - 0.17 * rest + 0.05 * reach + 0.42 * raised
    thick = 0.05 + 0 * arm_y
    front = _segment(u, v, shoulder, arm_y, hand_x, hand_y, thick, thick + 0.015)
    behind = _segment(-u, v, shoulder, arm_y, wide + 0.06, arm_y - 0.17, thick, thick + 0.015)
    hip = wide * 0.4
    floats = (gait == 3).view(-1, 1, 1, 1) * 9.0
    legs = (
        torch.minimum(
            _segment(u, v, hip, thick + 0.15, hip + swing, thick - 0.01, thick, thick + 0.01),
            _segment(-u, v, hip, thick + 0.15, hip + swing, thick - 0.01, thick, thick + 0.01),
        )
        + floats
    )

    # Colors: cartoon colors are clean, realistic ones muted.
    base = [c * (1 - 0.35 * real) + 0.35 * real * 0.42 for c in _table(_COLORS, hue)]
    own = torch.tensor([c is None for c in _TOPPER_COLORS], device=hue.device)[topper]
    fixed = _table([c or (0.0, 0.0, 0.0) for c in _TOPPER_COLORS], topper)
    crown_color = [
        torch.where(own.view(-1, 1, 1, 1), c, f) for c, f in zip(base, fixed, strict=True)
    ]
    skin = _marked(base, marking, u, v, cy, wide)
    painted, inside = _paint_face(skin, face, u, v, face_y)

    # Light, texture and outline
    light_x, light_y = u * facing / wide, (v - 0.45) / 0.45
    depth = torch.sqrt((1 - 0.7 * light_x**2 - 0.7 * light_y**2).clamp(min=0.02))
    lit = (0.35 + 0.65 * (-0.45 * light_x + 0.5 * light_y + 0.65 * depth)).clamp(0.15, 1.25)
    fur = lattice_noise(u * 16, v * 16, texture)
    fine = lattice_noise(u * 34, v * 22, texture + 0.41)
    shaded = lit * (0.72 + 0.34 * fur + 0.22 * fine)
    plain_eye = lit.clamp(min=0.6)
    shade = 1 + real * (inside * plain_eye + (1 - inside) * shaded - 1)
    soft = 1 + 0.9 * real

    color = [0 * u + c for c in base]
    alpha = 0 * u
    for distance, paint in (
        (torch.minimum(legs, behind), base),
        (crown, crown_color),
        (body, painted),
        (front, base),
    ):
        cover = _cover(distance, scale, soft)
        line = (1 - real) * (1.1 + distance * scale).clamp(0, 1)
        color = [
            c + cover * ((p * shade * (1 - line) + 0.07 * line) - c)
            for c, p in zip(color, paint, strict=True)
        ]
        alpha = alpha + cover * (1 - alpha)
    fade = present / (1 + 0.06 * lift.clamp(min=0))
    sx, sy = (x - center - 3) / (wide * 1.25 * scale), (y - ground) / (0.11 * scale)
    shadow = 0.55 * real * fade * torch.exp(-1.5 * (sx * sx + sy * sy))
    return [c.clamp(0, 1) for c in color], alpha * present, shadow


def _marked(
    base: list[Tensor], marking: Tensor, u: Tensor, v: Tensor, cy: Tensor, wide: Tensor
) -> list[Tensor]:
    """Return the body's color with stripes, dots or a light belly."""
    kind = marking.view(-1, 1, 1, 1)
    stripes = (0.5 + 3 * (torch.sin(v * (2 * math.pi / 0.19)) - 0.1)).clamp(0, 1)
    row = torch.floor(v / 0.17)
    column = u / 0.19 + 0.5 * (row - 2 * torch.floor(row / 2))
    in_u = (column - torch.floor(column) - 0.5) * 0.19
    in_v = v - (row + 0.5) * 0.17
    dots = (0.5 + (0.062 - torch.sqrt(in_u**2 + in_v**2 + 1e-9)) * 30).clamp(0, 1)
    belly_distance = torch.sqrt((u / (0.68 * wide)) ** 2 + ((v - cy + 0.1) / 0.17) ** 2 + 1e-9)
    belly = (0.5 + (1 - belly_distance) * 6).clamp(0, 1)
    dark = (kind == 1) * stripes + (kind == 2) * dots
    light = (kind == 3) * belly
    return [(c * (1 - 0.62 * dark)) * (1 - 0.75 * light) + 0.75 * light for c in base]


def _paint_face(
    skin: list[Tensor], face: Tensor, u: Tensor, v: Tensor, face_y: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Paint eyes and what is below them; also return where they are."""
    eye_x, eye_r, pupil_r, half, below, seg_r, red, green, blue = _table(_FACES, face)
    turned = u - 0.04
    to_eye = torch.sqrt((turned.abs() - eye_x) ** 2 + (v - face_y) ** 2 + 1e-9)
    to_pupil = torch.sqrt(((turned - 0.015).abs() - eye_x) ** 2 + (v - face_y) ** 2 + 1e-9)
    sharp = 36.0
    rim = (0.5 + (eye_r + 0.022 - to_eye) * sharp).clamp(0, 1)
    white = (0.5 + (eye_r - to_eye) * sharp).clamp(0, 1)
    pupil = (0.5 + (pupil_r - to_pupil) * sharp).clamp(0, 1)
    segment = _segment(turned, v, -half, face_y + below, half + 0.001, face_y + below, seg_r, seg_r)
    mouth = (0.5 - segment * sharp).clamp(0, 1)
    edge = (0.5 - (segment - 0.022) * sharp).clamp(0, 1)
    painted = []
    for c, m in zip(skin, (red, green, blue), strict=True):
        value = c * (1 - 0.85 * torch.maximum(rim, edge))
        value = value + white * (0.97 - value)
        value = value + pupil * (0.05 - value)
        painted.append(value + mouth * (m - value))
    return painted, torch.maximum(rim, edge)
