"""Estimates of LTX-Video's memory are just above the bytes of tensors that are alive at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLLTXVideo
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mimix_core.settings import LoraSettings, SampleSettings
from mimix_core.wan import fast, flow_matching, lora, ltx_memory
from mimix_core.wan.backbone import MAX_TEXT_TOKENS
from mimix_core.wan.generation import device_plan
from mimix_core.wan.ltx_backbones import LTX_VIDEO, TEXT_TOKENS
from mimix_core.wan.ltx_interface import LTXVelocityTransformer
from mimix_core.wan.ltx_memory import TokenShape

pytestmark = pytest.mark.slow

# 832 x 480 x 81, the usual size, and 256 x 256 x 17.
USUAL, SMALL = (11, 15, 26), (3, 8, 8)
SMALLER_MODEL = {
    "num_attention_heads": 4,
    "cross_attention_dim": 256,
    "in_channels": 16,
    "out_channels": 16,
    "caption_channels": 64,
}


class AliveBytes(TorchDispatchMode):
    """Counts the bytes of storages that operators create, from then until they are freed."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self._weights = [p.untyped_storage() for p in [*module.parameters(), *module.buffers()]]
        self._known = {storage._cdata for storage in self._weights}
        self._now = 0
        self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


class _FlashAttention(torch.autograd.Function):
    """What flash attention allocates: its output and a number per query, then the gradients."""

    @staticmethod
    def forward(ctx: Any, *inputs: torch.Tensor) -> torch.Tensor:
        query = inputs[0]
        output = torch.empty_like(query)
        statistics = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(*inputs, output, statistics)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(map(torch.empty_like, ctx.saved_tensors[:3]))


@pytest.fixture
def flash_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """On meta tensors PyTorch would take an implementation that builds all scores."""

    def attention(query: Any, key: Any, value: Any, **_options: object) -> Any:
        return _FlashAttention.apply(query, key, value)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)


def build(build_network: Callable[[], Any], dtype: torch.dtype, device: str) -> Any:
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return build_network().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)


def transformer(config: dict[str, Any], dtype: torch.dtype, device: str) -> Any:
    return build(lambda: LTXVelocityTransformer(**config), dtype, device)


def training_peak(
    config: dict[str, Any],
    shape_THW: tuple[int, int, int],
    dtype: torch.dtype,
    device: str,
    **settings: Any,
) -> tuple[int, float]:
    """Count the peak of a training step besides weights, and estimate it with the gradients."""
    lora_settings = LoraSettings(**{"rank": 8, "alpha": 8, "device": "cpu", **settings})
    network = transformer(config, dtype, device)
    lora.attach_adapter(
        network,
        lora_settings.rank,
        lora_settings.alpha,
        LTX_VIDEO.lora_targets,
        0,
        use_dora=lora_settings.use_dora,
    )
    fast.accelerate_training(network.train(), lora_settings)
    samples = lora_settings.micro_batch_size
    with AliveBytes(network) as alive, torch.device(device):
        latents = torch.randn(samples, config["in_channels"], *shape_THW)
        losses_B = flow_matching.velocity_losses(
            network,
            latents,
            torch.randn(samples, MAX_TEXT_TOKENS, config["caption_channels"]),
            torch.full((samples,), 0.5),
            torch.randn_like(latents),
            dtype,
        )
        losses_B.mean().backward()
    frames, rows, columns = shape_THW
    shape = TokenShape(samples, frames * rows * columns, TEXT_TOKENS, dtype.itemsize)
    gradients = sum(4 * weight.numel() for _, weight in lora.adapter_parameters(network))
    estimate = ltx_memory.training_bytes(config, shape, use_dora=lora_settings.use_dora)
    return alive.peak, estimate + gradients


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    ("shape_THW", "settings", "least"),
    [
        (USUAL, {}, 0.95),
        (USUAL, {"micro_batch_size": 2, "rank": 64, "alpha": 64}, 0.93),
        (USUAL, {"use_dora": True}, 0.88),
        (SMALL, {}, 0.8),
        (SMALL, {"use_dora": True}, 0.8),
    ],
)
def test_training_is_estimated_for_the_published_size(
    flash_attention: None,
    dtype: torch.dtype,
    shape_THW: tuple[int, int, int],
    settings: dict[str, Any],
    least: float,
) -> None:
    config = {**LTX_VIDEO.transformer.config, "num_layers": 3}
    peak, estimate = training_peak(config, shape_THW, dtype, "meta", **settings)
    assert least * estimate <= peak <= estimate, (peak / estimate, peak)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_training_is_estimated_for_a_small_model_that_computes(dtype: torch.dtype) -> None:
    """With PyTorch's own attention on a CPU, which is flash attention as well."""
    config = {**LTX_VIDEO.transformer.config, **SMALLER_MODEL, "num_layers": 4}
    peak, estimate = training_peak(config, (6, 10, 20), dtype, "cpu")
    assert 0.9 * estimate <= peak <= estimate, peak / estimate


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize(("shape_THW", "least"), [(USUAL, 0.9), (SMALL, 0.4)])
@pytest.mark.parametrize("samples", [1, 2])
def test_denoising_is_estimated_for_the_published_size(
    flash_attention: None,
    precision: str,
    shape_THW: tuple[int, int, int],
    least: float,
    samples: int,
) -> None:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    config = {**LTX_VIDEO.transformer.config, "num_layers": 2}
    network = transformer(config, dtype, "meta")
    with AliveBytes(network) as alive, torch.device("meta"), torch.no_grad():
        network(
            hidden_states=torch.randn(samples, 128, *shape_THW, dtype=dtype),
            timestep=torch.rand(samples),
            encoder_hidden_states=torch.randn(samples, MAX_TEXT_TOKENS, 4096, dtype=dtype),
        )
    frames, rows, columns = shape_THW
    shape = TokenShape(samples, frames * rows * columns, TEXT_TOKENS, dtype.itemsize)
    estimate = ltx_memory.denoising_bytes(config, shape)
    assert least * estimate <= alive.peak <= estimate, alive.peak / estimate


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize(("width", "height", "frames"), [(832, 480, 81), (1280, 704, 25)])
def test_decoding_is_estimated_for_the_published_size(
    tmp_path: Any, precision: str, tiled: bool, width: int, height: int, frames: int
) -> None:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    vae = build(lambda: AutoencoderKLLTXVideo(**LTX_VIDEO.vae.config), dtype, "meta").eval()
    if tiled:
        vae.enable_tiling()
    with AliveBytes(vae) as alive, torch.device("meta"), torch.no_grad():
        latents = torch.randn(1, 128, (frames - 1) // 8 + 1, height // 32, width // 32, dtype=dtype)
        vae.decode(latents, torch.ones(1, dtype=dtype), return_dict=False)
    settings = SampleSettings.model_validate(
        {"width": width, "height": height, "num_frames": frames, "vae_precision": precision}
    )
    folders = dict.fromkeys(("text_encoder", "transformer", "vae"), tmp_path)
    needed = device_plan.estimate_memory(LTX_VIDEO, settings, **folders)
    estimate = needed.decoding_tiled if tiled else needed.decoding
    assert (0.5 if tiled else 0.8) * estimate <= alive.peak <= estimate, alive.peak / estimate
