"""Time the VAE at real size on one clip of 81 x 480 x 832: ``python perf/train_vae.py OUT.json``.

Milliseconds per encoding, and the error against fp32 without TF32.
"""

from __future__ import annotations

import copy
import gc
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core.wan import random_backbone
from mimix_core.wan.vae_layers import replace_convolutions
from perf.train_kernels import error, milliseconds
from perf.train_models import write


def main(out: Path) -> None:
    from diffusers import AutoencoderKLWan

    numbers = torch.Generator("cuda").manual_seed(0)
    # Smooth moving frames: white noise is not a realistic input.
    coarse = torch.randn(1, 3, 21, 15, 26, generator=numbers, device="cuda")
    video = torch.nn.functional.interpolate(coarse, (81, 480, 832), mode="trilinear").clamp(-1, 1)
    random = AutoencoderKLWan()
    random_backbone.randomize_weights(random, 0, "vae")
    random.eval().requires_grad_(False).to("cuda")
    found: dict[str, Any] = {}
    with torch.no_grad():
        torch.backends.cudnn.allow_tf32 = False
        reference = copy.deepcopy(random).encode(video).latent_dist.mode()
        torch.backends.cudnn.allow_tf32 = True
        for name, dtype, swapped, search in (
            ("diffusers_fp32", torch.float32, False, False),
            ("diffusers_bf16", torch.bfloat16, False, False),
            ("mimix_fp32", torch.float32, True, False),
            ("mimix_bf16", torch.bfloat16, True, False),
            ("mimix_fp32_searched", torch.float32, True, True),
            ("mimix_bf16_searched", torch.bfloat16, True, True),
        ):
            # cuDNN times its kernels for each shape and takes the fastest.
            torch.backends.cudnn.benchmark = search
            model = copy.deepcopy(random).to(dtype)
            given = video.to(dtype)
            if swapped:
                model = replace_convolutions(model)
                given = given.contiguous(memory_format=torch.channels_last_3d)
            torch.cuda.reset_peak_memory_stats()

            def encode(model: Any = model, given: Any = given) -> torch.Tensor:
                found: torch.Tensor = model.encode(given).latent_dist.mode()
                return found

            found[name] = {
                "error": error(encode(), reference),
                "ms": milliseconds(encode, 3),
                "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
            }
            write(out, found)
            del model
            gc.collect()
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
