"""LoRA on the backbone's transformer: load that, and attach adapters to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mimix_core.engine.torch_runtime import seeded_generator
from mimix_core.errors import BadInput


def load_transformer(folder: Path, dtype: torch.dtype) -> Any:
    """Wan's transformer, frozen; diffusers keeps its norms and time embedding in fp32."""
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel.from_pretrained(folder, torch_dtype=dtype).requires_grad_(False)


def attach(transformer: Any, rank: int, alpha: int, targets: Sequence[str], seed: int) -> None:
    """Put fp32 adapters of ``rank`` on every linear layer whose name is or ends in a target.

    A starts uniform in +-1/sqrt(inputs), keyed by seed and layer; B starts at 0, so the output is
    the frozen model's. Raises BadInput for a target that names no layer.
    """
    from peft import LoraConfig

    names = [name for name, _ in transformer.named_modules()]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise BadInput(
                f"the transformer has no layer {target}",
                where="settings, key lora.targets",
                fix="Name linear layers as diffusers does, e.g. to_q or ffn.net.2.",
            )
    transformer.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets)))
    with torch.no_grad():
        for name, weight in trainable(transformer):
            # peft makes adapters in the type of the layer they sit on.
            weight.data = weight.data.float()
            if "lora_A" in name:
                uniform = torch.rand(weight.shape, generator=seeded_generator(seed, name))
                weight.copy_((2 * uniform - 1) / math.sqrt(weight.shape[1]))


def trainable(transformer: Any) -> list[tuple[str, torch.nn.Parameter]]:
    """The adapters' parameters with their names, in the model's order."""
    return [(name, p) for name, p in transformer.named_parameters() if p.requires_grad]
