"""Build a backbone with random weights: the real classes and folder layout, but untrained.

At the size of ``tiny-random-wan``, a few hundred thousand weights, it replaces the real backbone
where no weights are available, under a separate name.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from mimix_core.engine.torch_runtime import seeded_generator
from mimix_core.wan import model_registry
from mimix_core.wan.model_registry import Backbone

VOCABULARY_SIZE = 512


def build_random_backbone(
    captions: Iterable[str], seed: int, folder: Path, backbone: Backbone = model_registry.TINY
) -> None:
    """Write a complete pipeline folder for diffusers with a backbone's classes and sizes.

    Transformer, VAE and text encoder depend on ``seed`` alone and the tokenizer on ``captions``
    alone: new captions do not change the bytes of the other components.
    """
    import diffusers
    import transformers

    transformer = getattr(diffusers, backbone.transformer.class_name)(**backbone.transformer.config)
    vae = getattr(diffusers, backbone.vae.class_name)(**backbone.vae.config)
    text_encoder = getattr(transformers, backbone.text_encoder.class_name)(
        transformers.UMT5Config(dropout_rate=0.0, **backbone.text_encoder.config)
    )
    for name, model in (("transformer", transformer), ("vae", vae), ("text", text_encoder)):
        randomize_weights(model, seed, name)
    pipeline = getattr(diffusers, backbone.pipeline_class)(
        tokenizer=transformers.T5Tokenizer(
            vocab=build_vocabulary(captions), extra_ids=0, model_max_length=512
        ),
        text_encoder=text_encoder,
        vae=vae,
        scheduler=diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            num_train_timesteps=1000,
            flow_shift=backbone.flow_shift,
        ),
        transformer=transformer,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)


def randomize_weights(model: Any, seed: int, name: str) -> None:
    """Fill a model's weights from generators seeded by seed, model and parameter name.

    Matrices and kernels are normal with variance 1 / fan-in, biases 0, norms 1. No weight depends
    on the shape or order of the others.
    """
    with torch.no_grad():
        for key, weight in sorted(model.named_parameters()):
            if key.endswith(
                ("gamma", "norm.weight", "norm2.weight", "norm_q.weight", "norm_k.weight")
            ):
                weight.fill_(1.0)
            elif weight.ndim < 2:
                weight.fill_(1.0 if "norm" in key and key.endswith("weight") else 0.0)
            else:
                fan_in = weight.shape[-1] if "table" in key else math.prod(weight.shape[1:])
                values = torch.randn(weight.shape, generator=seeded_generator(seed, name, key))
                weight.copy_(values / math.sqrt(fan_in))


def build_vocabulary(captions: Iterable[str]) -> list[tuple[str, float]]:
    """Build the pieces and log-probabilities of a Unigram tokenizer: words and single characters.

    They are counted, not fitted: the scores of ``tokenizers``' Unigram trainer differ between
    processes. Ids 0, 1, 2 are padding, end and unknown, as in T5; at most VOCABULARY_SIZE pieces.
    """
    words = Counter(word for caption in captions for word in caption.split())
    character_counts = Counter(
        character for word, count in words.items() for character in word * count
    )
    # Every printable ASCII character: prompts with new words have no unknown pieces.
    character_counts.update(chr(code) for code in range(33, 127))
    character_counts["▁"] += sum(words.values()) + 1
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    characters = _ranked(character_counts)[: VOCABULARY_SIZE - len(special)]
    word_pieces = [("▁" + word, count) for word, count in _ranked(words)]
    return [
        *special,
        *_scored(characters),
        *_scored(word_pieces[: VOCABULARY_SIZE - len(special) - len(characters)]),
    ]


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _scored(pieces: list[tuple[str, int]]) -> list[tuple[str, float]]:
    """Return log-probabilities; these pieces share half of the total probability."""
    total = 2 * sum(count for _, count in pieces)
    return [(piece, round(math.log(count / total), 6)) for piece, count in pieces]
