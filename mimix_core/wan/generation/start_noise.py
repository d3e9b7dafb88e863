"""Noise to start from whose low frequencies come from a layout, and which is still white noise.

Where figures end up in a video is largely decided by the lowest frequencies of the noise that it
starts from (FreeInit, arXiv 2312.07537, mixes noise with a generated video by frequency; MuDI,
arXiv 2404.04243, starts stills from noise shifted by placed cutouts of the subjects). A model has
only ever seen noise of unit variance and a flat spectrum as the start, so the layout's spectrum is
flattened first, and both are mixed by their power.
"""

from __future__ import annotations

import torch

_AXES = (-3, -2, -1)

_SHELLS = 16
"""Bands of equal width, from no frequency to the highest, in which the layout is flattened."""


def mix_layout(
    noise_CTHW: torch.Tensor, layout_CTHW: torch.Tensor, strength: float, stop_frequency: float
) -> torch.Tensor:
    """Replace part of the noise's low frequencies by those of a layout's latents, fp32.

    ``strength``: amplitude of the layout's part at the lowest frequencies, 0 to 1; it falls with
    the frequency as a Gaussian of width ``stop_frequency``, where 1 is the highest frequency of an
    axis. The mean of each channel stays the noise's. In each band of frequencies and each channel
    the layout's power is brought to that of white noise, so the result has, in expectation, unit
    variance and a flat spectrum. A band in which the layout has no power stays noise. With a
    strength of 0 the noise is returned as it is.
    """
    if strength == 0:
        return noise_CTHW
    distance_THW = _frequency_distance(noise_CTHW.shape[1:])
    amplitude_THW = strength * torch.exp(-(distance_THW**2) / (2 * stop_frequency**2))
    amplitude_THW[0, 0, 0] = 0
    noise_power = float(distance_THW.numel())
    layout_CTHW = torch.fft.fftn(layout_CTHW.double(), dim=_AXES)
    share_CTHW = amplitude_THW.expand(layout_CTHW.shape).clone()
    shells_THW = (distance_THW / distance_THW.max() * _SHELLS).long().clamp(max=_SHELLS - 1)
    for shell in range(_SHELLS):
        inside_THW = shells_THW == shell
        if not bool(inside_THW.any()):
            continue
        weight_N = amplitude_THW[inside_THW] ** 2
        power_CN = layout_CTHW[:, inside_THW].abs() ** 2
        total_C = (power_CN * weight_N).sum(dim=1)
        wanted = noise_power * weight_N.sum()
        # Without power, to rounding, there is nothing to flatten.
        has_power_C = total_C > 1e-12 * noise_power**2 * weight_N.sum()
        gain_C = torch.where(has_power_C, (wanted / total_C.clamp(min=1e-300)).sqrt(), 0.0)
        layout_CTHW[:, inside_THW] *= gain_C[:, None]
        share_CTHW[:, inside_THW] *= has_power_C[:, None]
    mixed_CTHW = share_CTHW * layout_CTHW
    rest_CTHW = (1 - share_CTHW**2).sqrt()
    mixed_CTHW += rest_CTHW * torch.fft.fftn(noise_CTHW.double(), dim=_AXES)
    start_CTHW: torch.Tensor = torch.fft.ifftn(mixed_CTHW, dim=_AXES).real.float()
    return start_CTHW


def _frequency_distance(shape: torch.Size) -> torch.Tensor:
    """Return distance_THW of each frequency from 0, with 1 the highest of an axis."""
    axes = [2 * torch.fft.fftfreq(size, dtype=torch.float64) for size in shape]
    grid = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([axis**2 for axis in grid]).sum(dim=0).sqrt()
