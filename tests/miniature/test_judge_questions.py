"""What the judge that knows is asked, on answers of its network that the tests make up."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional

from miniature import figures, judge
from miniature.figures import ATTRIBUTES, NAMED_FIGURES, Figure

PIM, POG = (next(one for one in NAMED_FIGURES if one.name == name) for name in ("Pim", "Pog"))


def seen(*parts: Figure | None) -> dict[str, torch.Tensor]:
    """Make up outputs of one video, sure of one figure or none in each cell of a row."""
    outputs = {}
    values = {"figure": [int(figure is not None) for figure in parts]}
    for name in ATTRIBUTES:
        values[name] = [getattr(figure, name) if figure else 0 for figure in parts]
    for name, indices in values.items():
        one_hot = functional.one_hot(torch.tensor(indices), judge.DENSE[name]).float()
        outputs[name] = 50 * one_hot.T[None, :, None, None, :]
    return outputs


def cells(*parts: Figure | None) -> dict[str, int]:
    """Return in how many cells each character is recognizable."""
    counts = judge.recognizable(seen(*parts))[0].flatten(1).sum(1).round().int().tolist()
    return {
        figure.name: count for figure, count in zip(NAMED_FIGURES, counts, strict=True) if count
    }


def test_figures_are_recognizable_where_they_are() -> None:
    assert cells(PIM, None, POG, POG) == {"Pim": 1, "Pog": 2}


def test_another_gait_or_color_or_one_other_attribute_leaves_a_figure_recognizable() -> None:
    other_gait = figures.with_attribute(PIM, "gait", POG.gait)
    other_topper = figures.with_attribute(PIM, "topper", 2)
    assert cells(other_gait, replace(PIM, color=0), other_topper) == {"Pim": 3}


def test_half_of_the_attributes_are_not_enough() -> None:
    half = figures.with_attribute(figures.with_attribute(PIM, "topper", 2), "face", 1)
    assert cells(half) == {}


def test_look_alikes_are_told_apart_by_the_attribute_in_which_they_differ() -> None:
    assert PIM.marking != POG.marking
    assert cells(figures.with_attribute(PIM, "marking", POG.marking)) == {"Pog": 1}
