"""Build a backbone with random weights: the real classes and folder layout, but untrained.

At the size of ``tiny-random-wan``, a few hundred thousand weights, it replaces the real backbone
where no weights are available, under a separate name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mimix_core.engine.torch_runtime import seeded_generator
from mimix_core.wan import model_registry
from mimix_core.wan.backbone import UNIPC_FLOW, Backbone

_TAGS = "[Character: [scene-style:cartoon] [scene-style:realistic]"
_FUNCTION_WORDS = """
a an and are as at away back before behind beside by down for from front her his in inside into is
it its left near no off on one onto out over past right the their them then they through to toward
towards two under up while who with
"""
_CONTENT_WORDS = """
air arm arms black blue body close dark door eyes face fast feet figure floor forest grass green
ground hand hands head house light little long looks lies man mouth moves open opens path picks
plays points red road rock room round runs sees shakes shouts sits sky slowly small smiles speaks
stands stops street table takes talks throws tree trees turns waits walks wall watches water waves
white window woman wood yellow
"""
_WORDS = tuple(f"{_TAGS} {_FUNCTION_WORDS} {_CONTENT_WORDS}".split())
"""Words that captions often have; all others are spelled."""


def build_random_backbone(
    seed: int, folder: Path, backbone: Backbone = model_registry.TINY
) -> None:
    """Write a complete pipeline folder for diffusers with a backbone's classes and sizes.

    Transformers, VAE and text encoder depend on ``seed`` alone; the tokenizer is always the same.
    """
    import diffusers
    import transformers

    transformers_by_component = {
        name: getattr(diffusers, network.class_name)(**network.config)
        for name, network in backbone.networks.items()
        if name.startswith("transformer")
    }
    vae = getattr(diffusers, backbone.vae.class_name)(**backbone.vae.config)
    text_encoder = _text_encoder_class(backbone)(
        _text_encoder_class(backbone).config_class(dropout_rate=0.0, **backbone.text_encoder.config)
    )
    for name, model in {**transformers_by_component, "vae": vae, "text": text_encoder}.items():
        randomize_weights(model, seed, name)
    unipc = backbone.scheduler.class_name == UNIPC_FLOW.class_name
    pipeline = getattr(diffusers, backbone.pipeline_class)(
        tokenizer=transformers.T5Tokenizer(
            vocab=build_vocabulary(), extra_ids=0, model_max_length=backbone.text_tokens
        ),
        text_encoder=text_encoder,
        vae=vae,
        scheduler=getattr(diffusers, backbone.scheduler.class_name)(
            **backbone.scheduler.config,
            # The other schedulers of flow matching name it otherwise.
            **({"flow_shift": backbone.flow_shift} if unipc else {}),
        ),
        **transformers_by_component,
        # Another architecture's pipeline does not know it.
        **({} if backbone.boundary is None else {"boundary_ratio": backbone.boundary}),
    )
    pipeline.save_pretrained(folder, safe_serialization=True)


def _text_encoder_class(backbone: Backbone) -> Any:
    import transformers

    return getattr(transformers, backbone.text_encoder.class_name)


def randomize_weights(model: Any, seed: int, name: str) -> None:
    """Fill a model's weights from generators seeded by seed, model and parameter name.

    Matrices and kernels are normal with variance 1 / fan-in, biases 0, norms 1; single numbers stay
    as they are. No weight depends on the shape or order of the others.
    """
    with torch.no_grad():
        for key, weight in sorted(model.named_parameters()):
            if key.endswith(
                ("gamma", "norm.weight", "norm2.weight", "norm_q.weight", "norm_k.weight")
            ):
                weight.fill_(1.0)
            elif weight.ndim == 1:
                weight.fill_(1.0 if "norm" in key and key.endswith("weight") else 0.0)
            elif weight.ndim > 1:
                fan_in = weight.shape[-1] if "table" in key else math.prod(weight.shape[1:])
                values = torch.randn(weight.shape, generator=seeded_generator(seed, name, key))
                weight.copy_(values / math.sqrt(fan_in))


def build_vocabulary() -> list[tuple[str, float]]:
    """Build the pieces and log-probabilities of a Unigram tokenizer: words and single characters.

    They are a constant: a vocabulary of the captions would change with each of them, and with it
    the embeddings of all others. Every printable ASCII character is a piece, so that names and
    new words are spelled. Ids 0, 1, 2 are padding, end and unknown, as in T5.
    """
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    characters = ["▁", *(chr(code) for code in range(33, 127))]
    return [*special, *_scored(characters), *_scored(["▁" + word for word in _WORDS])]


def _scored(pieces: Sequence[str]) -> list[tuple[str, float]]:
    """Return log-probabilities; these pieces share half of the total probability equally."""
    return [(piece, round(-math.log(2 * len(pieces)), 6)) for piece in pieces]
