"""Noise with a layout's low frequencies is still white noise, and the layout is in it."""

from __future__ import annotations

import pytest
import torch

from mimix_core.wan.generation import sampling, start_noise

SHAPE = (16, 5, 30, 52)


def layout(offset: float = 0.0) -> torch.Tensor:
    """Two smooth blobs in a bright scene, of another strength and sign in each channel."""
    t, y, x = torch.meshgrid(*(torch.linspace(0, 1, n) for n in SHAPE[1:]), indexing="ij")
    blobs = torch.exp(-((x - 0.25 - 0.1 * t) ** 2 + (y - 0.6) ** 2) / 0.02)
    blobs = blobs - torch.exp(-((x - 0.75) ** 2 + (y - 0.6) ** 2) / 0.02)
    gains = torch.linspace(-2, 2, SHAPE[0]).view(-1, 1, 1, 1)
    return gains * blobs + 3.0 + offset


def noise(seed: int) -> torch.Tensor:
    return sampling.draw_noise(seed, torch.Size(SHAPE))


def mixed(seed: int, strength: float = 1.0, frequency: float = 0.25) -> torch.Tensor:
    return start_noise.mix_layout(noise(seed), layout(), strength, frequency)


def shell_power(tensor: torch.Tensor, shells: int = 8) -> torch.Tensor:
    """Mean power in bands of spatial frequency, 1 for white noise of unit variance."""
    power = torch.fft.fftn(tensor.double(), dim=(-3, -2, -1)).abs() ** 2 / tensor[0].numel()
    axes = (2 * torch.fft.fftfreq(n) for n in SHAPE[1:])
    distance = torch.stack([a**2 for a in torch.meshgrid(*axes, indexing="ij")]).sum(0).sqrt()
    band = (distance / distance.max() * shells).long().clamp(max=shells - 1)
    return torch.stack([power[:, band == n].mean() for n in range(shells)])


@pytest.mark.parametrize("strength", [0.3, 0.7, 1.0])
def test_it_has_the_mean_variance_and_spectrum_of_white_noise(strength: float) -> None:
    count = 6
    found = torch.stack([mixed(seed, strength) for seed in range(count)])
    plain = torch.stack([noise(seed) for seed in range(count)])
    assert found.dtype == torch.float32
    # The mean of each channel is that of the noise itself, however bright the layout is.
    assert torch.allclose(found.mean((2, 3, 4)), plain.mean((2, 3, 4)), atol=1e-6)
    assert float(found.var()) == pytest.approx(1, abs=0.01)
    assert torch.allclose(found.var((0, 2, 3, 4)), torch.ones(SHAPE[0]), atol=0.05)
    power = torch.stack([shell_power(one) for one in found]).mean(0)
    assert torch.allclose(power, torch.ones(8, dtype=torch.float64), atol=0.08)
    # Most values are normal ones: no more tails than a hundredth beyond 2.58 deviations, times 1.3.
    assert float((found.abs() > 2.576).double().mean()) < 0.013


def test_stronger_starts_look_more_like_the_layout_at_low_frequencies_only() -> None:
    def similarity(one: torch.Tensor, low: bool) -> float:
        """Correlation of the means over time, in a band of spatial frequencies."""
        spectra = [torch.fft.fftn(z.double().mean(1), dim=(-2, -1)) for z in (one, layout())]
        axes = (torch.fft.fftfreq(n).abs() for n in SHAPE[2:])
        y, x = torch.meshgrid(*axes, indexing="ij")
        band = (y < 0.06) & (x < 0.06) & (y + x > 0) if low else (y > 0.4) | (x > 0.4)
        a, b = (spectrum[..., band].flatten() for spectrum in spectra)
        return float((a.conj() * b).sum().real / (a.norm() * b.norm()))

    low = [similarity(mixed(0, strength), low=True) for strength in (0.0, 0.3, 0.7, 1.0)]
    assert abs(low[0]) < 0.15
    assert sorted(low) == low
    assert low[-1] > 0.5
    assert abs(similarity(mixed(0), low=False)) < 0.1


def test_it_depends_on_the_seed_and_without_strength_is_the_pipelines_noise() -> None:
    assert torch.equal(mixed(0), mixed(0))
    assert not torch.allclose(mixed(0), mixed(1), atol=0.1)
    assert torch.equal(mixed(0, strength=0.0), noise(0))


def test_a_layout_of_nothing_leaves_the_noise() -> None:
    flat = torch.full(SHAPE, 2.0)
    found = start_noise.mix_layout(noise(0), flat, 1.0, 0.25)
    assert torch.allclose(found, noise(0), atol=1e-5)
