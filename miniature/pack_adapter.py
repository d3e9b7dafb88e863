"""Write a trained adapter of ``miniature-wan`` small, as miniature/weights holds it.

    python -m miniature.pack_adapter pytorch_lora_weights.safetensors miniature/weights adapter-20

Of each layer's update the largest singular values are kept (20 of 32 by default), in 8 bits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from mimix_core.wan.lora_export import read_adapter
from mimix_core.wan.lora_formats import Adapter
from miniature import checkpoints

RANK = 20


def pack_adapter(path: Path, out: Path, name: str, rank: int = RANK) -> None:
    """Write the adapter of rank ``rank`` that is nearest to the one in ``path``."""
    adapter, metadata = read_adapter(path)
    factors = {}
    for layer, (down_RI, up_OR) in adapter.pairs.items():
        update_OI = (up_OR.float() @ down_RI.float()) * (adapter.alpha / adapter.rank)
        u, s, v = torch.linalg.svd(update_OI, full_matrices=False)
        root = s[:rank].sqrt()
        factors[f"{layer}.up"] = u[:, :rank] * root
        factors[f"{layer}.down"] = root[:, None] * v[:rank]
    content = {
        "model": checkpoints.as_8_bits(factors),
        "rank": rank,
        "settings": metadata.model_dump_json(),
    }
    checkpoints.save(out, name, content)


def load_adapter(folder: Path, name: str) -> Adapter:
    """Load an adapter that ``pack_adapter`` wrote. Raises DamagedCheckpoint."""
    content = checkpoints.load(folder, name)
    factors = checkpoints.from_8_bits(content["model"])
    layers = [key.removesuffix(".up") for key in factors if key.endswith(".up")]
    pairs = {layer: (factors[f"{layer}.down"], factors[f"{layer}.up"]) for layer in layers}
    return Adapter(pairs, alpha=float(content["rank"]))


def main() -> None:
    """Pack the adapter that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("adapter", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("name")
    parser.add_argument("--rank", type=int, default=RANK)
    options = parser.parse_args()
    pack_adapter(options.adapter, options.out, options.name, options.rank)


if __name__ == "__main__":
    main()
