"""The judge that knows: a network trained on renders alone, never on generated videos.

It says for every cell of a video whether a figure is there, and that figure's attributes, style,
action and name; and for the video its background and whether the figures touch. A figure asked for
is present where enough cells have all its attributes at once.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from miniature import figures, scenes
from miniature.figures import ATTRIBUTES, IDENTITY_ATTRIBUTES, NAMED_FIGURES, Figure
from miniature.renderer import Video
from miniature.scenes import ACTIONS, BACKGROUNDS, Scene, SceneTensors

Tensor = torch.Tensor

CELLS = (5, 20, 32)
"""Cells of a video: steps of time, rows and columns."""

DENSE = {
    "figure": 2,
    **{name: len(values) for name, values in ATTRIBUTES.items()},
    "style": len(figures.STYLES),
    "action": len(ACTIONS),
    "name": len(NAMED_FIGURES) + 1,
}
WHOLE = {"background": len(BACKGROUNDS), "background_style": 2, "contact": 2}
_IGNORE = -100


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.first = nn.Conv3d(inputs, outputs, 3, stride, 1)
        self.norm = nn.GroupNorm(8, outputs)
        self.second = nn.Conv3d(outputs, outputs, 3, 1, 1)
        self.norm2 = nn.GroupNorm(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.silu(self.norm(self.first(x)))
        out: Tensor = functional.silu(x + self.norm2(self.second(x)))
        return out


class Judge(nn.Module):
    """Predict the truth of a video in 0..1, frames_BCTHW."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, width // 2, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        self.fine = _Block(width // 2, width, (1, 2, 2))
        self.middle = _Block(width, 2 * width, (2, 2, 2))
        self.coarse = _Block(2 * width, 4 * width, (2, 2, 2))
        self.deep = _Block(4 * width, 4 * width, (1, 1, 1))
        self.join_middle = _Block(6 * width, 2 * width, (1, 1, 1))
        self.join_fine = _Block(3 * width, 2 * width, (1, 1, 1))
        self.dense = nn.Conv3d(2 * width, sum(DENSE.values()), 1)
        self.whole = nn.Linear(8 * width, sum(WHOLE.values()))

    def forward(self, frames_BCTHW: Tensor) -> dict[str, Tensor]:
        fine = self.fine(functional.silu(self.stem(frames_BCTHW * 2 - 1)))
        middle = self.middle(fine)
        coarse = self.deep(self.coarse(middle))
        up = functional.interpolate(coarse, size=middle.shape[2:], mode="nearest")
        joined = self.join_middle(torch.cat([up, middle], 1))
        up = functional.interpolate(joined, size=CELLS, mode="nearest")
        detail = functional.adaptive_avg_pool3d(fine, CELLS)
        dense = self.dense(self.join_fine(torch.cat([up, detail], 1))).float()
        flat = coarse.flatten(2)
        whole = self.whole(torch.cat([flat.mean(2), flat.amax(2)], 1)).float()
        return {
            **dict(zip(DENSE, dense.split(list(DENSE.values()), 1), strict=True)),
            **dict(zip(WHOLE, whole.split(list(WHOLE.values()), 1), strict=True)),
        }


def draw_judged_scene(rng: random.Random) -> Scene:
    """Draw a scene of the judge's training: every figure in either style, before any background.

    Named figures, figures that differ from one in a single attribute, and generic ones.
    """
    style = rng.choice(figures.STYLES)
    cast: list[Figure] = []
    count = 1 if rng.random() < 0.2 else 2
    mixed = rng.random() < 0.6
    while len(cast) < count:
        drawn = rng.choice(figures.STYLES) if mixed else style
        figure = figures.draw_generic_figure(rng, drawn)
        kind = rng.random()
        if kind < 0.45:
            figure = replace(rng.choice(NAMED_FIGURES), style=drawn)
            if kind < 0.12:
                attribute = rng.choice(IDENTITY_ATTRIBUTES)
                value = rng.randrange(len(ATTRIBUTES[attribute]))
                figure = figures.with_attribute(figure, attribute, value)
            if rng.random() < 0.3:
                figure = replace(figure, color=rng.randrange(len(figures.COLORS)))
        if all(figure.identity() != other.identity() for other in cast):
            cast.append(figure)
    return scenes.draw_scene(rng, cast, style)


def name_index(figure: Figure) -> int:
    """Return the index of the named figure with this identity; the last one means generic."""
    identities = [named.identity() for named in NAMED_FIGURES]
    identity = figure.identity()
    return identities.index(identity) if identity in identities else len(NAMED_FIGURES)


def truth(video: Video, tensors: SceneTensors, name_BF: Tensor) -> dict[str, Tensor]:
    """Return the judge's targets; cells at an edge and unknown ones are ignored."""
    masks = video.masks_BFTHW
    cover_BFN = functional.adaptive_avg_pool3d(masks, CELLS)
    most_BN, owner_BN = cover_BFN.max(1)
    solid = most_BN > 0.5
    figure = solid.long().masked_fill((cover_BFN.sum(1) > 0.15) & ~solid, _IGNORE)
    targets = {"figure": figure}
    values = dict(zip(ATTRIBUTES, tensors.attributes_BFA.unbind(-1), strict=True))
    values |= {"style": tensors.style_BF.long(), "action": tensors.action_BF, "name": name_BF}
    for name, value_BF in values.items():
        cells = value_BF.gather(1, owner_BN.flatten(1)).view_as(owner_BN)
        targets[name] = cells.masked_fill(~solid, _IGNORE)
    targets["background"] = tensors.background_B
    targets["background_style"] = tensors.background_style_B.long()
    targets["contact"] = video.contact_B.long()
    return targets


def loss(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of all cross-entropies."""
    parts = [functional.cross_entropy(outputs[name], targets[name]) for name in targets]
    return torch.stack(parts).sum()


@dataclass(frozen=True)
class Verdict:
    """What the judge says of figures asked for in videos, [B] each.

    ``cells``: how many cells (weighted by certainty) have all the asked attributes.
    ``style_share``: how much of those cells is drawn in the asked style; ``action_share``: how much
    does what was asked.
    """

    cells: Tensor
    style_share: Tensor
    action_share: Tensor


@torch.no_grad()
def verdict(
    outputs: Mapping[str, Tensor],
    asked: Sequence[Figure],
    actions: Sequence[int],
    attributes: Sequence[str] = IDENTITY_ATTRIBUTES,
) -> Verdict:
    """Look for one figure in each video by its attributes."""
    device = outputs["figure"].device
    weight = outputs["figure"].softmax(1)[:, 1]
    for name in attributes:
        index = torch.tensor([getattr(figure, name) for figure in asked], device=device)
        weight = weight * _probability(outputs[name], index)
    style = torch.tensor([figures.STYLES.index(figure.style) for figure in asked], device=device)
    total = weight.flatten(1).sum(1)
    shares = [
        (weight * _probability(outputs[name], index)).flatten(1).sum(1) / (total + 1e-6)
        for name, index in (
            ("style", style),
            ("action", torch.tensor(list(actions), device=device)),
        )
    ]
    return Verdict(total, shares[0], shares[1])


VISIBLE_ATTRIBUTES = ("form", "topper", "face", "marking")
"""The attributes of an identity that a still shows; the gait is left."""


@torch.no_grad()
def recognizable(outputs: Mapping[str, Tensor]) -> Tensor:
    """Say of each cell how surely it shows which named figure, recognizably: [B, name, ...].

    Recognizable is a figure with more than half of the visible attributes of the named one (as
    the judge expects them), and with more of them than of any other named one. ``verdict`` asks
    for more: all attributes at once.
    """
    matching = torch.stack(
        [
            sum(
                (outputs[name].softmax(1)[:, getattr(figure, name)] for name in VISIBLE_ATTRIBUTES),
                torch.zeros_like(outputs["figure"][:, 1]),
            )
            for figure in NAMED_FIGURES
        ],
        1,
    )
    most, best = matching.max(1, keepdim=True)
    numbers = torch.arange(len(NAMED_FIGURES), device=best.device).view(1, -1, 1, 1, 1)
    shown = (numbers == best) & (most > len(VISIBLE_ATTRIBUTES) / 2)
    return shown * outputs["figure"].softmax(1)[:, 1:]


def _probability(logits_BKN: Tensor, index_B: Tensor) -> Tensor:
    """Return each cell's probability of the video's index."""
    picked = index_B.view(-1, 1, 1, 1, 1).expand(-1, 1, *logits_BKN.shape[2:])
    return logits_BKN.softmax(1).gather(1, picked)[:, 0]


def best_threshold(present: Tensor, absent: Tensor) -> float:
    """Return the number of cells that separates present from absent figures best."""
    candidates = torch.linspace(1, 80, 317, device=present.device)
    right = (present[None] >= candidates[:, None]).float().mean(1)
    right = right + (absent[None] < candidates[:, None]).float().mean(1)
    best = right >= right.max() - 1e-6
    return float(candidates[best].median())


def change_one(rng: random.Random, figure: Figure) -> Figure:
    """Return a figure that differs in one attribute of the identity: the hardest absent one."""
    name = rng.choice(IDENTITY_ATTRIBUTES)
    others = [v for v in range(len(ATTRIBUTES[name])) if v != getattr(figure, name)]
    return figures.with_attribute(figure, name, rng.choice(others))
