"""Model FLOPs against the published count and torch's own counter."""

from __future__ import annotations

import pytest
import torch

from mimix_core.settings import LoraSettings
from mimix_core.training import throughput
from mimix_core.wan import flow_matching, lora
from mimix_core.wan.model_registry import BACKBONES

TARGETS = LoraSettings().target_modules


def test_a_full_size_sample_is_4_27_petaflops() -> None:
    config = BACKBONES["wan2.1-t2v-14b"].transformer.config
    shape = (16, 21, 60, 104)  # 81 frames of 832 x 480
    assert throughput.count_video_tokens(config, shape) == 32_760
    flops = throughput.count_sample_flops(config, shape, rank=32, targets=TARGETS)
    assert flops == pytest.approx(4.27e15, rel=2e-3)
    without = throughput.count_sample_flops(config, shape, rank=32, targets=())
    assert 0.99 < without / flops < 1


@pytest.mark.slow
def test_the_count_is_torchs_own() -> None:
    """Forward and backward of a small Wan, each multiplication counted as it runs."""
    from diffusers import WanTransformer3DModel
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        num_layers=8,
        ffn_dim=128,
        text_dim=32,
        freq_dim=32,
    ).requires_grad_(False)
    lora.attach_adapter(transformer, 8, 8, TARGETS, 0)
    latents_BCTHW = torch.randn(1, 16, 3, 8, 12)
    counter = FlopCounterMode(display=False)
    # The kernel that is made of plain products: the counter knows no other one of the CPU's.
    with counter, sdpa_kernel(SDPBackend.MATH):
        flow_matching.velocity_losses(
            transformer,
            latents_BCTHW,
            torch.zeros(1, 512, 32),
            torch.tensor([0.5]),
            torch.randn_like(latents_BCTHW),
            torch.float32,
        ).sum().backward()
    shape = latents_BCTHW.shape[1:]
    expected = throughput.count_sample_flops(transformer.config, shape, rank=8, targets=TARGETS)
    # Ours counts the gradient of the first block's input too, which nobody asks for.
    assert counter.get_total_flops() == pytest.approx(expected, rel=5e-3)
    assert counter.get_total_flops() < expected


def test_unknown_devices_have_no_peak() -> None:
    cpu = torch.device("cpu")
    assert throughput.peak_flops(cpu) is None
    assert throughput.peak_memory_gb(cpu) > 0.05


def test_the_peak_is_found_by_the_device_name(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 0)
    for name, peak in [
        ("NVIDIA H200", 989.4e12),
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("Some new device", None),
    ]:
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _, name=name: name)
        assert throughput.peak_flops(device) == peak
