"""Wan's rules, to the letter."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.wan import objective

SHAPE = torch.Size([16, 3, 2, 4])
levels = st.floats(0, 1)
shifts = st.floats(1, 12)


@given(levels, levels, shifts)
def test_the_shift_keeps_ends_and_order(low: float, high: float, shift: float) -> None:
    assert objective.shifted(0.0, shift) == 0.0
    assert math.isclose(objective.shifted(1.0, shift), 1.0)
    if low < high:
        assert objective.shifted(low, shift) <= objective.shifted(high, shift)
    assert objective.shifted(low, shift) >= low - 1e-12


def test_the_shift_of_five() -> None:
    assert objective.shifted(0.5, 5.0) == pytest.approx(5 / 6)


class Oracle:
    """A network that is told the clean latents and answers from them; keeps what it was given."""

    def __init__(self, latents, answer) -> None:
        self.latents, self.answer, self.seen = latents, answer, {}

    def __call__(self, **given):
        self.seen = given
        return (self.answer(given["hidden_states"], given["timestep"], self.latents),)


def exact_velocity(noised, timestep, clean):
    sigma = (timestep / 1000).view(-1, 1, 1, 1, 1)
    return (noised - clean) / sigma


def test_the_exact_velocity_has_no_loss_and_a_wrong_one_its_square() -> None:
    numbers = torch.Generator().manual_seed(0)
    clean = torch.randn(2, *SHAPE, generator=numbers)
    noise = torch.randn(2, *SHAPE, generator=numbers)
    sigma = torch.tensor([0.25, 0.8])
    text = torch.zeros(2, 512, 8)
    oracle = Oracle(clean, exact_velocity)
    loss = objective.losses(oracle, clean, text, sigma, noise, torch.float32)
    assert loss.shape == (2,)
    assert loss.max() < 1e-9
    off = Oracle(clean, lambda *given: exact_velocity(*given) + 3)
    assert torch.allclose(
        objective.losses(off, clean, text, sigma, noise, torch.float32), torch.full((2,), 9.0)
    )


def test_the_timestep_stays_in_fp32() -> None:
    clean = torch.zeros(1, *SHAPE)
    oracle = Oracle(clean, lambda noised, *_: noised)
    sigma = torch.tensor([0.7773])
    objective.losses(oracle, clean, torch.zeros(1, 512, 8), sigma, clean, torch.bfloat16)
    assert oracle.seen["timestep"].dtype == torch.float32
    assert oracle.seen["timestep"].item() == pytest.approx(777.3, abs=1e-3)
    assert oracle.seen["hidden_states"].dtype == torch.bfloat16


def test_a_draw_is_keyed_by_seed_epoch_and_sample() -> None:
    def draw(*key):
        made = objective.draw(*key, SHAPE, 5.0)
        return made.sigma, tuple(made.noise_CTHW.flatten()[:4].tolist())

    torch.manual_seed(1)
    first = draw(0, 3, "clip")
    torch.manual_seed(2)
    assert draw(0, 3, "clip") == first
    assert len({first, draw(1, 3, "clip"), draw(0, 4, "clip"), draw(0, 3, "other")}) == 4


def test_levels_are_uniform_before_the_shift() -> None:
    tiny = torch.Size([1])
    sigmas = [objective.draw(0, 0, str(n), tiny, 1.0).sigma for n in range(2000)]
    for share in (0.1, 0.5, 0.9):
        assert sum(s < share for s in sigmas) / 2000 == pytest.approx(share, abs=0.03)


def test_validation_levels_are_the_middles_of_equal_parts() -> None:
    assert objective.validation_sigmas(4, 1.0) == [0.125, 0.375, 0.625, 0.875]
    shifted = objective.validation_sigmas(9, 5.0)
    assert shifted == sorted(shifted)
    assert 0 < shifted[0] < shifted[-1] < 1


def test_texts_are_padded_with_zeros_to_512() -> None:
    padded = objective.pad_text([torch.ones(3, 8), torch.ones(512, 8)])
    assert padded.shape == (2, 512, 8)
    assert padded[0, :3].eq(1).all()
    assert padded[0, 3:].eq(0).all()
    assert padded[1].eq(1).all()
