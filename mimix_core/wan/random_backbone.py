"""A backbone with random weights: its classes, its folder layout, and no idea of any picture.

At the size of ``tiny-random-wan``, a few hundred thousand weights, it stands in for the real one
where no weights are, under its own name.
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

VOCABULARY = 512


def build(
    captions: Iterable[str], seed: int, folder: Path, backbone: Backbone = model_registry.TINY
) -> None:
    """Write a complete pipeline folder that diffusers loads: a backbone's classes at its size.

    Transformer, VAE and text encoder depend on ``seed`` alone and the tokenizer on ``captions``
    alone: new captions leave all other components' bytes as they were.
    """
    import diffusers
    import transformers

    transformer = getattr(diffusers, backbone.transformer.kind)(**backbone.transformer.config)
    vae = getattr(diffusers, backbone.vae.kind)(**backbone.vae.config)
    text_encoder = getattr(transformers, backbone.text_encoder.kind)(
        transformers.UMT5Config(dropout_rate=0.0, **backbone.text_encoder.config)
    )
    for name, model in (("transformer", transformer), ("vae", vae), ("text", text_encoder)):
        randomise(model, seed, name)
    pipeline = getattr(diffusers, backbone.pipeline)(
        tokenizer=transformers.T5Tokenizer(
            vocab=vocabulary(captions), extra_ids=0, model_max_length=512
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


def randomise(model: Any, seed: int, name: str) -> None:
    """Fill a model's weights from generators keyed by seed, model and parameter.

    Matrices and kernels are normal with variance 1 / fan-in, biases 0, norms 1; so no weight
    depends on any other one's shape or order.
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


def vocabulary(captions: Iterable[str]) -> list[tuple[str, float]]:
    """Pieces and log-probabilities of a Unigram tokenizer: words, and characters for the rest.

    Counted, not fitted: ``tokenizers``' Unigram trainer gives other scores in every process. Ids
    0, 1, 2 are padding, end and unknown, as T5's are; at most VOCABULARY pieces.
    """
    words = Counter(word for caption in captions for word in caption.split())
    letters = Counter(letter for word, count in words.items() for letter in word * count)
    # Every printable ASCII character, so that a prompt with a new word has no unknown piece.
    letters.update(chr(code) for code in range(33, 127))
    letters["▁"] += sum(words.values()) + 1
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    singles = _ranked(letters)[: VOCABULARY - len(special)]
    whole = [("▁" + word, count) for word, count in _ranked(words)]
    return [
        *special,
        *_scored(singles),
        *_scored(whole[: VOCABULARY - len(special) - len(singles)]),
    ]


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _scored(pieces: list[tuple[str, int]]) -> list[tuple[str, float]]:
    """Log-probabilities, with half of all probability for these pieces."""
    total = 2 * sum(count for _, count in pieces)
    return [(piece, round(math.log(count / total), 6)) for piece, count in pieces]
