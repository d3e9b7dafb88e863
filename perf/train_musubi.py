"""Time a step of the 14B by musubi-tuner on a card of 24, 48 or 80 GB, with its block swap.

``python perf/train_musubi.py OUT.json FOLDER SIZE``, after perf/train_cards.py. FOLDER: ``src`` in
a checkout of musubi-tuner, whose code is no part of MiMix. Model, adapter, sample, noise and limit
of the memory are those of train_cards.py, so both compute the same loss; musubi-tuner's options are
the fastest that it has for adapters and for memory: ``--blocks_to_swap``, ``--block_swap_h2d_only``
and ``--use_pinned_memory_for_block_swap``, ``--gradient_checkpointing`` with
``--gradient_checkpointing_cpu_offload``, ``--sdpa``, bf16. Results are added to SIZE in OUT.json.
It takes more than three minutes.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core.wan import lora
from perf.train_cards import CUDA_GIB, GIB, STEPS, repeated_wan
from perf.train_models import LATENTS, TEXT_WIDTH, WAN_14B, attach, batch, timed, write

RANK = 32
SWAPPED = {"24": 39, "48": 30, "80": 0}
"""Blocks that wait in main memory, of 40."""

OWN_NAMES = (
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("attn1.to_out.0", "self_attn.o"),
    ("attn2.to_out.0", "cross_attn.o"),
    ("attn1.to_", "self_attn."),
    ("attn2.to_", "cross_attn."),
    ("attn1.", "self_attn."),
    ("attn2.", "cross_attn."),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
    (".norm2.", ".norm3."),
)
"""Parts of names in diffusers, and in Wan's own code and musubi-tuner."""


def own_name(name: str) -> str:
    """Return the name in Wan's own code of a weight in diffusers' model."""
    for theirs, own in OWN_NAMES:
        name = name.replace(theirs, own)
    if name.startswith("proj_out."):
        return name.replace("proj_out", "head.head")
    if name == "scale_shift_table":
        return "head.modulation"
    return name.replace("scale_shift_table", "modulation")


def musubi_model(source: Any, config: dict[str, Any]) -> Any:
    """Create musubi-tuner's model in bf16 in main memory, with the weights of diffusers' one."""
    from accelerate import init_empty_weights
    from musubi_tuner.wan.modules.model import WanModel

    heads, head = (config.get("num_attention_heads", 40), config.get("attention_head_dim", 128))
    with init_empty_weights():
        model = WanModel(
            model_type="t2v",
            dim=heads * head,
            ffn_dim=config.get("ffn_dim", 13824),
            text_dim=config.get("text_dim", TEXT_WIDTH),
            num_heads=heads,
            num_layers=config.get("num_layers", 40),
            attn_mode="torch",
        )
    weights = {}
    shapes = {name: weight.shape for name, weight in model.state_dict().items()}
    for name, weight in source.named_parameters():
        if "lora_" not in name:
            own = own_name(name.replace(".base_layer", ""))
            weights[own] = weight.data.bfloat16().reshape(shapes[own])
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def musubi_adapter(model: Any, source: Any) -> Any:
    """Attach musubi-tuner's adapter, with the values of peft's."""
    from musubi_tuner.networks import lora_wan

    network = lora_wan.create_arch_network(1.0, RANK, RANK, None, None, model)
    network.apply_to(None, model, apply_text_encoder=False, apply_unet=True)
    own = {
        re.sub(r"\.default$", "", name.removesuffix(".weight")): weight
        for name, weight in lora.adapter_parameters(source)
    }
    pairs = {name.rsplit(".lora_", 1)[0] for name in own}
    modules = {module.lora_name: module for module in network.unet_loras}
    assert len(modules) == len(pairs), (len(modules), len(pairs))
    for layer in pairs:
        module = modules["lora_unet_" + own_name(layer).replace(".", "_")]
        module.lora_down.weight.data = own[f"{layer}.lora_A"].data.float().clone()
        module.lora_up.weight.data = own[f"{layer}.lora_B"].data.float().clone()
    return network


def measure(size: str, config: dict[str, Any], latents: tuple[int, ...], device: str) -> Any:
    from musubi_tuner.modules.custom_offloading_utils import BlockSwapConfig

    gpu = device == "cuda"
    source = repeated_wan(config, torch.bfloat16, device)
    attach(source, torch.float32)
    model = musubi_model(source, config)
    swapped = min(SWAPPED[size], len(model.blocks) - 1)
    if gpu:
        torch.cuda.empty_cache()
        total = torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction((int(size) - CUDA_GIB) * GIB / total)
        if swapped:
            swap = BlockSwapConfig(
                torch.device(device),
                supports_backward=True,
                use_pinned_memory=True,
                h2d_only=True,
            )
            model.enable_block_swap(swapped, swap)
            model.move_to_device_except_swap_blocks(torch.device(device))
        else:
            model.to(device)
    network = musubi_adapter(model, source)
    del source
    network.to(device)
    model.enable_gradient_checkpointing(swapped > 0)
    model.prepare_block_swap_before_forward()
    model.train()
    given = batch(latents, device=device)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    frames, height, width = latents[1:]

    def step() -> torch.Tensor:
        for weight in weights:
            weight.grad = None
        sigma = given.sigma_B.view(-1, 1, 1, 1, 1)
        noisy = (1 - sigma) * given.latents_BCTHW + sigma * given.noise_BCTHW
        noisy = noisy.bfloat16().requires_grad_(True)
        text = [text_LD.bfloat16().requires_grad_(True) for text_LD in given.text_BLD]
        with torch.autocast(device, torch.bfloat16):
            found = model(
                noisy,
                t=given.sigma_B * 1000,
                context=text,
                seq_len=frames * height * width // 4,
            )
        target = given.noise_BCTHW - given.latents_BCTHW
        loss = torch.nn.functional.mse_loss(torch.stack(found).float(), target)
        loss.backward()
        return loss.detach()

    found = timed(step, STEPS)
    gradients = [weight.grad.float().norm().cpu() for weight in weights]
    return {
        **vars(found),
        "swapped_blocks": swapped,
        "gradient_norm": torch.stack(gradients).norm().item(),
        "limit_gb": (int(size) - CUDA_GIB) * GIB / 1e9,
    }


def main(out: Path, folder: Path, size: str) -> None:
    sys.path.insert(0, str(folder))
    found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    card = found.setdefault(size, {})
    card["musubi"] = measure(size, WAN_14B, LATENTS, "cuda")
    own = card.get("mimix", {})
    if "seconds" in own:
        card["ratio_to_musubi"] = own["seconds"] / card["musubi"]["seconds"]
        card["loss_difference_musubi"] = own["loss"] / card["musubi"]["loss"] - 1
    write(out, found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
