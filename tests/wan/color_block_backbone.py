"""A minimal backbone of another architecture, for tests: encode blocks as their mean color."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mimix_core.wan.model_registry import TINY, Backbone, BackboneInterface, NetworkSpec

ENTRY = Backbone(
    name="blocks-of-colour",
    hub_id=None,
    transformer=NetworkSpec("SomeTransformer", {"patch_size": (1, 1, 1)}),
    vae=NetworkSpec("SomeVae", {"side": 4}),
    text_encoder=NetworkSpec("SomeEncoder", {}),
    vae_stride=(2, 4, 4),
    flow_shift=1.0,
    lora_targets=("attention",),
    interface_module=__name__,
    pipeline_class=TINY.pipeline_class,
)


def _load(folder: Path, device: torch.device, precision: str) -> dict[str, int]:
    found: dict[str, int] = json.loads((folder / "config.json").read_text())
    return found


def _encode(vae: dict[str, int], frames_THWC: NDArray[np.uint8]) -> torch.Tensor:
    """Each second frame's blocks of 4 x 4 pixels as their mean colour in 0..1."""
    side = vae["side"]
    count, height, width, _ = frames_THWC.shape
    blocks = frames_THWC[::2].reshape(-1, height // side, side, width // side, side, 3)
    assert len(blocks) == (count - 1) // 2 + 1
    means_THWC = torch.from_numpy(blocks.mean(axis=(2, 4), dtype=np.float32) / 255)
    return means_THWC.permute(3, 0, 1, 2).contiguous()


def _ids(tokenizer: Any, captions: Sequence[str]) -> list[list[int]]:
    return [[*caption.encode(), 0] for caption in captions]


def _embed(encoder: Any, ids: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    return [torch.tensor(one, dtype=torch.float32)[:, None] / 255 for one in ids]


def _load_transformer(folder: Path, dtype: torch.dtype) -> Any:
    raise NotImplementedError("nothing is trained on blocks of colour")


INTERFACE = BackboneInterface(
    load_vae=_load,
    encode_frames=_encode,
    load_tokenizer=lambda folder: folder,
    tokenize=_ids,
    load_text_encoder=lambda folder, device: folder,
    embed_tokens=_embed,
    load_transformer=_load_transformer,
)
