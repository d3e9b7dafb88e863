"""A tiny SAM 3 with random weights, from transformers' own classes, saved as a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

IMAGE_SIZE = 112
"""Side of the model's input: a grid of eight patches of 14 pixels."""

_GRID = IMAGE_SIZE // 14
# Memories have 64 channels, and an object pointer is split into several of them.
_WIDTH = 128


def tiny_config() -> Any:
    """Return the smallest configuration that the classes can be built from."""
    from transformers import Sam3VideoConfig

    vision = {
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": _WIDTH,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": IMAGE_SIZE,
            "pretrain_image_size": 56,
            "window_size": 4,
            "global_attn_indexes": [1],
        },
        "fpn_hidden_size": _WIDTH,
        "backbone_feature_sizes": [[4 * _GRID] * 2, [2 * _GRID] * 2, [_GRID] * 2],
    }
    layer = {"hidden_size": _WIDTH, "num_attention_heads": 2, "intermediate_size": 64}
    small = {"num_layers": 1, "dropout": 0.0, **layer}
    detector = {
        "vision_config": vision,
        "text_config": {
            "vocab_size": 520,
            "projection_dim": _WIDTH,
            "num_hidden_layers": 1,
            "max_position_embeddings": 32,
            "bos_token_id": 518,
            "eos_token_id": 519,
            "pad_token_id": 519,
            **layer,
        },
        "geometry_encoder_config": small,
        "detr_encoder_config": small,
        "detr_decoder_config": {"num_queries": 6, **small},
        "mask_decoder_config": {"hidden_size": _WIDTH, "num_attention_heads": 2},
    }
    tracker = {
        "image_size": IMAGE_SIZE,
        "vision_config": vision,
        "prompt_encoder_config": {"hidden_size": _WIDTH, "image_size": IMAGE_SIZE},
        "mask_decoder_config": {
            "hidden_size": _WIDTH,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
        "memory_attention_hidden_size": _WIDTH,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 32,
        "memory_attention_rope_feat_sizes": [_GRID, _GRID],
        "memory_encoder_hidden_size": _WIDTH,
        "memory_encoder_output_channels": 64,
        "mask_downsampler_embed_dim": _WIDTH,
        "memory_fuser_embed_dim": _WIDTH,
        "memory_fuser_intermediate_dim": 32,
        "num_maskmem": 3,
        "max_object_pointers_in_encoder": 4,
    }
    return Sam3VideoConfig(
        detector_config=detector, tracker_config=tracker, low_res_mask_size=4 * _GRID
    )


def build_tiny_sam3(seed: int = 0) -> Any:
    """Build the detector with its tracker, random weights."""
    import torch
    from transformers import Sam3VideoModel

    torch.manual_seed(seed)
    return Sam3VideoModel(tiny_config())


def save_tokenizer(folder: Path) -> None:
    """Write a CLIP tokenizer whose vocabulary is single bytes."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += [f"<unused{n}>" for n in range(518 - len(words))]
    vocabulary = {word: n for n, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def save_tiny_sam3(folder: Path, seed: int = 0) -> Path:
    """Save a folder with the names of files and parameters that the published one has."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    model = build_tiny_sam3(seed)
    model.config.save_pretrained(folder)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    save_tokenizer(folder)
    return folder
