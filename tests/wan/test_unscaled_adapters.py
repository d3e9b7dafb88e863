"""Adapters of other programs to start a training from: their weights as they are stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mimix_core.errors import BadInput
from mimix_core.wan import foreign_adapters
from tests.wan.test_foreign_adapters import LAYOUTS, WIDTH, random_pairs, write


@pytest.mark.parametrize("layout", LAYOUTS)
def test_stored_weights_and_their_alpha_are_those_of_every_layout(
    tmp_path: Path, layout: str
) -> None:
    pairs = random_pairs()
    path = tmp_path / "a.safetensors"
    write(path, LAYOUTS[layout](pairs))
    found = foreign_adapters.read_unscaled_adapter(path)
    assert found.pairs.keys() == pairs.keys()
    for layer, (down, up) in pairs.items():
        assert torch.equal(found.pairs[layer][0], down)
        assert torch.equal(found.pairs[layer][1], up)
    stated = "alpha" in "".join(LAYOUTS[layout](pairs))
    assert found.alpha == (6.0 if stated else 4.0)


def test_a_dora_is_read_as_stored_and_never_as_a_lora(tmp_path: Path) -> None:
    pairs = random_pairs()
    tensors = LAYOUTS["diffusers"](pairs)
    magnitudes = {layer: torch.rand(len(up)) for layer, (_, up) in pairs.items()}
    for layer, values in magnitudes.items():
        tensors[f"transformer.{layer}.lora_magnitude_vector"] = values
    path = tmp_path / "a.safetensors"
    write(path, tensors)
    found = foreign_adapters.read_unscaled_adapter(path)
    assert all(torch.equal(found.magnitudes[layer], magnitudes[layer]) for layer in pairs)
    with pytest.raises(BadInput, match=rf"it has DoRA \({len(pairs)} tensors\)"):
        foreign_adapters.read_foreign_adapter(path)
    first = min(pairs)
    del tensors[f"transformer.{first}.lora_magnitude_vector"]
    write(path, tensors)
    with pytest.raises(BadInput, match=f"layer {first} has no magnitudes, but others have"):
        foreign_adapters.read_unscaled_adapter(path)


def test_changes_of_whole_parameters_are_nothing_to_start_from(tmp_path: Path) -> None:
    tensors = LAYOUTS["diffusers"](random_pairs())
    tensors["transformer.blocks.0.attn1.to_q.diff_b"] = torch.ones(WIDTH)
    path = tmp_path / "a.safetensors"
    write(path, tensors)
    with pytest.raises(BadInput, match="changes whole parameters, first blocks"):
        foreign_adapters.read_unscaled_adapter(path)
