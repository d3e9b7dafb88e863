"""Load the backbone's transformer and attach LoRA adapters to it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mimix_core.engine.torch_runtime import seeded_generator
from mimix_core.errors import BadInput

MAGNITUDE = "lora_magnitude_vector"
"""peft's name of DoRA's magnitudes."""


def load_transformer(folder: Path, dtype: torch.dtype) -> Any:
    """Load Wan's transformer, frozen; diffusers leaves its norms and time embedding in fp32."""
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel.from_pretrained(folder, torch_dtype=dtype).requires_grad_(False)


def attach_adapter(
    transformer: Any,
    rank: int,
    alpha: int,
    targets: Sequence[str],
    seed: int,
    *,
    use_dora: bool = False,
) -> None:
    """Add fp32 adapters of ``rank`` to every linear layer that a target names, fully or by suffix.

    A is initialized uniformly in +-1/sqrt(inputs), seeded by seed and layer, and B with 0, so the
    initial output is the frozen model's. ``use_dora``: also a magnitude for each output of a layer
    (DoRA, arXiv 2402.09353), initially that of the frozen weights. Raises BadInput for a target
    that matches no layer.
    """
    from peft import LoraConfig

    names = [name for name, _ in transformer.named_modules()]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise BadInput(
                f"the transformer has no layer {target}",
                where="settings, key lora.target_modules",
                fix="Name linear layers as diffusers does, e.g. to_q or ffn.net.2.",
            )
    transformer.add_adapter(
        LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), use_dora=use_dora)
    )
    with torch.no_grad():
        for name, weight in adapter_parameters(transformer):
            # peft creates adapters in the dtype of the layer that they adapt.
            weight.data = weight.data.float()
            if "lora_A" in name:
                uniform = torch.rand(weight.shape, generator=seeded_generator(seed, name))
                weight.copy_((2 * uniform - 1) / math.sqrt(weight.shape[1]))
            elif MAGNITUDE in name:
                # peft computes it in the dtype of the layer, but compares it in fp32.
                layer = transformer.get_submodule(name.partition(f".{MAGNITUDE}")[0])
                weight.copy_(torch.linalg.norm(layer.base_layer.weight.float(), dim=1))


@contextmanager
def without_adapter(transformer: Any) -> Iterator[None]:
    """Let the transformer predict as the frozen model does, inside of a ``with`` block.

    peft's own ``disable_adapters`` also turns the adapter's gradients off and on, which DeepSpeed's
    hooks do not expect; the layers read this attribute alone.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [layer for layer in transformer.modules() if isinstance(layer, BaseTunerLayer)]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def adapter_parameters(transformer: Any) -> list[tuple[str, torch.nn.Parameter]]:
    """Return the adapter's parameters with their names, in the model's order."""
    return [(name, p) for name, p in transformer.named_parameters() if p.requires_grad]
