"""Flow matching follows Wan's definition exactly."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mimix_core.engine.torch_runtime import seeded_generator
from mimix_core.wan import flow_matching
from mimix_core.wan.flow_matching import NoiseLevelDistribution

SHAPE = torch.Size([16, 3, 2, 4])
levels = st.floats(0, 1)
shifts = st.floats(1, 12)
distributions = st.builds(
    NoiseLevelDistribution,
    st.sampled_from(["uniform", "logit_normal"]),
    shifts,
    st.floats(-1, 1),
    st.floats(0.2, 2),
)


@given(levels, levels, shifts)
def test_the_shift_preserves_ends_and_order(low: float, high: float, shift: float) -> None:
    assert flow_matching.shift_sigma(0.0, shift) == 0.0
    assert math.isclose(flow_matching.shift_sigma(1.0, shift), 1.0)
    if low < high:
        assert flow_matching.shift_sigma(low, shift) <= flow_matching.shift_sigma(high, shift)
    assert flow_matching.shift_sigma(low, shift) >= low - 1e-12


def test_the_shift_of_five() -> None:
    assert flow_matching.shift_sigma(0.5, 5.0) == pytest.approx(5 / 6)


@given(distributions)
def test_levels_increase_with_the_quantile_and_their_mean_weight_is_one(
    chosen: NoiseLevelDistribution,
) -> None:
    sigmas = [chosen.sigma_at((index + 0.5) / 500) for index in range(500)]
    assert sigmas == sorted(sigmas)
    assert 0 < sigmas[0] < sigmas[-1] < 1
    for weighting in ("none", "gaussian"):
        weights = [flow_matching.loss_weight(sigma, weighting, chosen) for sigma in sigmas]
        assert sum(weights) / 500 == pytest.approx(1, rel=0.01)
        assert min(weights) >= 0


def test_the_logit_normal_matches_samples() -> None:
    chosen = NoiseLevelDistribution("logit_normal", 3.0, 0.4, 0.7)
    numbers = torch.Generator().manual_seed(0)
    logits = 0.4 + 0.7 * torch.randn(20000, generator=numbers, dtype=torch.float64)
    drawn = sorted(flow_matching.shift_sigma(s, 3.0) for s in torch.sigmoid(logits).tolist())
    for quantile in (0.05, 0.3, 0.5, 0.8, 0.95):
        assert chosen.sigma_at(quantile) == pytest.approx(drawn[int(20000 * quantile)], abs=0.01)


@settings(max_examples=30, deadline=None)
@given(distributions, st.sampled_from([(0.0, 0.875), (0.875, 1.0), (0.2, 0.6)]))
def test_a_truncated_distribution_is_what_remains_of_the_whole_one(
    whole: NoiseLevelDistribution, levels: tuple[float, float]
) -> None:
    """Rejecting the levels outside gives the same quantiles: none is rejected in training."""
    truncated = replace(whole, levels=levels)
    assume(truncated.share > 1e-4)
    count = 1000
    drawn = [whole.sigma_at((index + 0.5) / count) for index in range(count)]
    inside = [sigma for sigma in drawn if levels[0] <= sigma < levels[1]]
    assert len(inside) / count == pytest.approx(truncated.share, abs=1.001 / count)
    for index, sigma in enumerate(inside):
        # One of the whole distribution's levels is a part of 1 / len(inside) of the truncated one.
        before, after = (
            truncated.sigma_at(min(max((index + 0.5 + step) / len(inside), 1e-9), 1 - 1e-9))
            for step in (-1, 1)
        )
        assert levels[0] <= before <= sigma <= after <= levels[1]
    ends = [truncated.sigma_at(quantile) for quantile in (2**-53, 1 - 2**-53)]
    assert levels[0] <= ends[0] < ends[1] <= levels[1]
    weights = [
        flow_matching.loss_weight(truncated.sigma_at((i + 0.5) / 500), "gaussian", truncated)
        for i in range(500)
    ]
    assert sum(weights) / 500 == pytest.approx(1, rel=0.02)


@given(distributions, st.floats(1e-6, 1 - 1e-6))
def test_all_levels_are_no_truncation(whole: NoiseLevelDistribution, quantile: float) -> None:
    if whole.sampling == "uniform":
        assert whole.sigma_at(quantile) == flow_matching.shift_sigma(quantile, whole.shift)


def test_the_share_of_an_expert_is_that_of_diffsynth() -> None:
    """Its max_timestep_boundary of Wan2.2 at boundary 0.9: 0.358 of 1000 levels with shift 5."""
    assert 1 - flow_matching.unshift_sigma(0.9, 5.0) == pytest.approx(0.358, abs=0.001)
    assert flow_matching.unshift_sigma(0.875, 12.0) == pytest.approx(0.3684, abs=1e-4)


@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_the_gaussian_weighting_is_diffsynths(shift: float) -> None:
    # Its 1000 levels and weights as set_timesteps(1000) and set_training_weight make them.
    sigmas = torch.linspace(1.0, 0.003 / 1.002, 1000, dtype=torch.float64)
    sigmas = shift * sigmas / (1 + (shift - 1) * sigmas)
    bell = torch.exp(-2 * ((1000 * sigmas - 500) / 1000) ** 2)
    theirs = (bell - bell.min()) * 1000 / (bell - bell.min()).sum()
    ours = [
        flow_matching.loss_weight(sigma, "gaussian", NoiseLevelDistribution("uniform", shift))
        for sigma in sigmas.tolist()
    ]
    assert torch.allclose(torch.tensor(ours, dtype=torch.float64), theirs, rtol=0.01, atol=0.01)


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
    loss = flow_matching.velocity_losses(oracle, clean, text, sigma, noise, torch.float32)
    assert loss.shape == (2,)
    assert loss.max() < 1e-9
    off = Oracle(clean, lambda *given: exact_velocity(*given) + 3)
    assert torch.allclose(
        flow_matching.velocity_losses(off, clean, text, sigma, noise, torch.float32),
        torch.full((2,), 9.0),
    )


def test_the_timestep_stays_in_fp32() -> None:
    clean = torch.zeros(1, *SHAPE)
    oracle = Oracle(clean, lambda noised, *_: noised)
    sigma = torch.tensor([0.7773])
    flow_matching.velocity_losses(
        oracle, clean, torch.zeros(1, 512, 8), sigma, clean, torch.bfloat16
    )
    assert oracle.seen["timestep"].dtype == torch.float32
    assert oracle.seen["timestep"].item() == pytest.approx(777.3, abs=1e-3)
    assert oracle.seen["hidden_states"].dtype == torch.bfloat16


def test_noise_depends_on_seed_epoch_and_sample() -> None:
    def noise(*key):
        return tuple(flow_matching.draw_training_noise(*key, SHAPE).flatten()[:4].tolist())

    torch.manual_seed(1)
    first = noise(0, 3, "clip")
    torch.manual_seed(2)
    assert noise(0, 3, "clip") == first
    others = {noise(1, 3, "clip"), noise(0, 4, "clip"), noise(0, 3, "other")}
    assert len({first, *others}) == 4
    held_out = flow_matching.draw_validation_noise(0, "clip", SHAPE).flatten()[:4].tolist()
    assert tuple(held_out) not in {first, *others}


def test_held_out_noise_is_that_of_its_seed_purpose_and_sample() -> None:
    def noise(seed, sample):
        return flow_matching.draw_validation_noise(seed, sample, SHAPE)

    first = noise(0, "clip")
    torch.manual_seed(5)
    assert torch.equal(noise(0, "clip"), first)
    assert not torch.equal(noise(1, "clip"), first)
    assert not torch.equal(noise(0, "other"), first)
    # What was trained before goes on with the same noise: the names are a contract.
    for drawn, names in (
        (first, ("validation", "clip")),
        (flow_matching.draw_training_noise(0, 3, "clip", SHAPE), ("training", 3, "clip")),
    ):
        assert torch.equal(drawn, torch.randn(SHAPE, generator=seeded_generator(0, *names)))


def test_without_a_weighting_every_level_weighs_one() -> None:
    distribution = flow_matching.NoiseLevelDistribution("uniform", 5.0)
    for sigma in (0.01, 0.5, 0.99):
        assert flow_matching.loss_weight(sigma, "none", distribution) == 1.0
        assert flow_matching.loss_weight(sigma, "gaussian", distribution) != 1.0


def test_the_network_receives_the_text_in_its_own_precision() -> None:
    clean = torch.zeros(1, *SHAPE)
    oracle = Oracle(clean, lambda noised, *_: noised)
    text = torch.full((1, 512, 8), 1.5)
    flow_matching.velocity_losses(oracle, clean, text, torch.ones(1), clean, torch.bfloat16)
    assert oracle.seen["encoder_hidden_states"].dtype == torch.bfloat16
    assert oracle.seen["encoder_hidden_states"].eq(1.5).all()
    assert oracle.seen["return_dict"] is False


def test_validation_levels_are_midpoints_of_equal_parts() -> None:
    assert flow_matching.validation_sigmas(4, 1.0) == [0.125, 0.375, 0.625, 0.875]
    assert flow_matching.validation_sigmas(2, 1.0, (0.8, 1.0)) == pytest.approx([0.85, 0.95])
    shifted = flow_matching.validation_sigmas(9, 5.0)
    assert shifted == sorted(shifted)
    assert 0 < shifted[0] < shifted[-1] < 1


def test_texts_are_padded_with_zeros_to_512() -> None:
    padded = flow_matching.pad_embeddings([torch.ones(3, 8), torch.ones(512, 8)])
    assert padded.shape == (2, 512, 8)
    assert padded[0, :3].eq(1).all()
    assert padded[0, 3:].eq(0).all()
    assert padded[1].eq(1).all()
