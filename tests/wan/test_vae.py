"""The VAE with this project's convolutions computes the same as diffusers' VAE."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from hypothesis import given, settings
from hypothesis import strategies as st

from mimix_core.wan import vae_layers
from mimix_core.wan.vae import encode_frames, load_vae

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair(pipeline_folder: Path) -> tuple[AutoencoderKLWan, AutoencoderKLWan]:
    torch.set_num_threads(1)
    plain = AutoencoderKLWan.from_pretrained(pipeline_folder / "vae").eval()
    return plain, load_vae(pipeline_folder / "vae", torch.device("cpu"))


def test_layers_change_and_parameters_do_not(
    pair: tuple[AutoencoderKLWan, AutoencoderKLWan],
) -> None:
    plain, own = pair
    assert list(own.state_dict()) == list(plain.state_dict())
    kinds = {type(layer) for layer in own.modules()}
    assert vae_layers.CausalConv3d in kinds
    assert vae_layers.WanCausalConv3d not in kinds


@settings(max_examples=6, deadline=None)
@given(
    batch=st.integers(1, 2),
    groups=st.integers(0, 3),
    height=st.sampled_from([16, 32]),
    width=st.sampled_from([16, 48]),
    seed=st.integers(0, 9),
)
def test_encoding_is_the_same_except_for_rounding(
    pair: tuple[AutoencoderKLWan, AutoencoderKLWan],
    batch: int,
    groups: int,
    height: int,
    width: int,
    seed: int,
) -> None:
    plain, own = pair
    numbers = torch.Generator().manual_seed(seed)
    video = torch.rand(batch, 3, 1 + 4 * groups, height, width, generator=numbers) * 2 - 1
    with torch.no_grad():
        wanted = plain.encode(video).latent_dist.mode()
        found = own.encode(video).latent_dist.mode()
    assert torch.allclose(found, wanted, atol=2e-5)


def test_decoding_is_the_same_except_for_rounding(
    pair: tuple[AutoencoderKLWan, AutoencoderKLWan],
) -> None:
    plain, own = pair
    latents = torch.randn(1, 16, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, found = plain.decode(latents).sample, own.decode(latents).sample
    assert torch.allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize(("frames", "height", "width"), [(4, 16, 16), (5, 24, 16), (5, 16, 20)])
def test_unsupported_frame_sizes_are_rejected(
    pair: tuple[AutoencoderKLWan, AutoencoderKLWan], frames: int, height: int, width: int
) -> None:
    with pytest.raises(ValueError, match="does not support"):
        encode_frames(pair[1], np.zeros((frames, height, width, 3), np.uint8))


def test_convolutions_read_channels_last_also_where_earlier_frames_come_first(
    pair: tuple[AutoencoderKLWan, AutoencoderKLWan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a GPU turns every input over, which made encoding slower than diffusers' own."""
    _, own = pair
    convolve = vae_layers.conv3d
    last: list[bool] = []

    def watched(x: torch.Tensor, weight: torch.Tensor, *rest: object) -> torch.Tensor:
        if weight.shape[2] > 1 and rest[1] == (1, 1, 1):
            last.append(x.is_contiguous(memory_format=torch.channels_last_3d))
        result: torch.Tensor = convolve(x, weight, *rest)
        return result

    monkeypatch.setattr(vae_layers, "conv3d", watched)
    with torch.no_grad():
        own.encode(torch.zeros(1, 3, 9, 32, 48))
    assert len(last) > 20
    assert all(last)
