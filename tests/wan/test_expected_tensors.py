"""The tensors that a model folder must have are those of the real classes."""

from __future__ import annotations

import pytest
import torch

from mimix_core.wan import expected_tensors, model_registry

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", model_registry.BACKBONES)
def test_the_expected_tensors_are_those_of_the_real_classes(name: str) -> None:
    import diffusers
    import transformers

    backbone = model_registry.get_backbone(name)
    encoder = getattr(transformers, backbone.text_encoder.class_name)
    with torch.device("meta"):
        networks = [
            (spec, getattr(diffusers, spec.class_name)(**spec.config))
            for spec in (backbone.transformer, backbone.vae)
        ]
        text = encoder(encoder.config_class(**backbone.text_encoder.config))
        networks.append((backbone.text_encoder, text))
    for spec, network in networks:
        shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        shapes.pop("encoder.embed_tokens.weight", None)
        assert expected_tensors.expected_tensors(spec.class_name, spec.config) == shapes
