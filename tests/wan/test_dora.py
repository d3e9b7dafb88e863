"""DoRA: a LoRA with magnitudes, as peft computes it, in diffusers' layout alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings
from mimix_core.wan import fast, lora, lora_export, lora_formats
from mimix_core.wan.generation import adapter_merging
from mimix_core.wan.generation_adapters import weighted_adapter
from mimix_core.wan.lora_formats import Adapter, AdapterDtype, AdapterLayout
from tests.wan.test_lora import answer, trained
from tests.wan.test_lora_export import card, same

pytestmark = pytest.mark.slow

TARGETS = LoraSettings().target_modules


def adapted(folder: Path, dtype: torch.dtype = torch.float32):
    transformer = lora.load_transformer(folder / "transformer", dtype)
    lora.attach_adapter(transformer, 4, 6, TARGETS, 0, use_dora=True)
    return transformer


@pytest.fixture(scope="module")
def whole(pipeline_folder: Path) -> tuple[object, Adapter]:
    """A trained DoRA: other directions, and each magnitude changed by up to 20 %."""
    transformer = adapted(pipeline_folder)
    with torch.no_grad():
        before = {name: w.clone() for name, w in lora.adapter_parameters(transformer)}
        trained(transformer)
        for index, (name, weight) in enumerate(lora.adapter_parameters(transformer)):
            if lora.MAGNITUDE in name:
                numbers = torch.Generator().manual_seed(index)
                weight.copy_(
                    before[name] * (0.8 + 0.4 * torch.rand(weight.shape, generator=numbers))
                )
    parameters = dict(lora.adapter_parameters(transformer))
    return transformer, lora_export.build_adapter(parameters, 6.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_begins_as_the_frozen_model_and_trains_its_magnitudes(
    pipeline_folder: Path, dtype: torch.dtype
) -> None:
    base = lora.load_transformer(pipeline_folder / "transformer", dtype)
    transformer = adapted(pipeline_folder, dtype)
    if dtype == torch.float32:
        assert torch.allclose(answer(transformer), answer(base), atol=1e-6)
    names = dict(lora.adapter_parameters(transformer))
    magnitudes = {n: w for n, w in names.items() if lora.MAGNITUDE in n}
    assert len(magnitudes) == len(names) / 3
    assert {weight.dtype for weight in names.values()} == {torch.float32}
    frozen = base.get_submodule("blocks.0.attn1.to_q").weight.float()
    assert torch.equal(
        magnitudes[f"blocks.0.attn1.to_q.{lora.MAGNITUDE}.default.weight"],
        torch.linalg.norm(frozen, dim=1),
    )


def test_wan_pipeline_loads_it(whole, pipeline_folder: Path, tmp_path: Path) -> None:
    from diffusers import WanPipeline

    transformer, adapter = whole
    lora_export.write_adapter(tmp_path / lora_export.ADAPTER_FILE, adapter, card(alpha=6))
    read, _ = lora_export.read_adapter(tmp_path / lora_export.ADAPTER_FILE)
    assert same(read, adapter)
    assert all(
        torch.equal(read.magnitudes[layer], value) for layer, value in adapter.magnitudes.items()
    )
    assert len(read.magnitudes) == len(read.pairs)
    pipeline = WanPipeline.from_pretrained(pipeline_folder)
    without = answer(pipeline.transformer)
    pipeline.load_lora_weights(tmp_path)
    loaded = answer(pipeline.transformer)
    assert torch.allclose(loaded, answer(transformer), atol=1e-5)
    plain = Adapter(adapter.pairs, 6.0)
    lora_export.write_adapter(tmp_path / "plain.safetensors", plain, card(alpha=6))
    pipeline.unload_lora_weights()
    pipeline.load_lora_weights(tmp_path, weight_name="plain.safetensors")
    assert not torch.allclose(answer(pipeline.transformer), loaded, atol=1e-2)
    assert not torch.allclose(without, loaded, atol=1e-2)


@pytest.mark.parametrize("layout", [AdapterLayout.COMFYUI, AdapterLayout.KOHYA])
def test_layouts_that_cannot_carry_it_refuse_it(whole, layout: AdapterLayout) -> None:
    _, adapter = whole
    with pytest.raises(BadInput, match=r"is a DoRA.*layout (comfyui|kohya).*--format diffusers"):
        lora_formats.adapter_to_tensors(adapter, layout)


def test_a_cast_keeps_the_magnitudes(whole) -> None:
    _, adapter = whole
    found = lora_export.cast_adapter(adapter, AdapterDtype.BF16)
    assert {value.dtype for value in found.magnitudes.values()} == {torch.bfloat16}
    assert found.magnitudes.keys() == adapter.magnitudes.keys()


def test_generation_attaches_and_merges_what_training_computed(
    whole, pipeline_folder: Path
) -> None:
    transformer, adapter = whole
    folder = pipeline_folder / "transformer"
    attached = lora.load_transformer(folder, torch.float32)
    adapter_merging.check_adapter(attached, adapter, "here")
    adapter_merging.attach_trained_adapter(attached, adapter)
    assert torch.allclose(answer(attached), answer(transformer), atol=1e-6)
    merged = lora.load_transformer(folder, torch.float32)
    adapter_merging.merge_adapter(merged, adapter_merging.StoredWeights(folder), adapter)
    assert torch.allclose(answer(merged), answer(transformer), atol=1e-5)


def test_magnitudes_that_do_not_fit_are_refused(whole, pipeline_folder: Path) -> None:
    _, adapter = whole
    transformer = lora.load_transformer(pipeline_folder / "transformer", torch.float32)
    first = min(adapter.magnitudes)
    for value, message in (
        (adapter.magnitudes[first][:-1], "magnitudes for"),
        (adapter.magnitudes[first] * float("nan"), "non-finite"),
    ):
        spoiled = Adapter(adapter.pairs, 6.0, dict(adapter.magnitudes) | {first: value})
        with pytest.raises(BadInput, match=message):
            adapter_merging.check_adapter(transformer, spoiled, "here")
    tensors = lora_formats.adapter_to_tensors(adapter, AdapterLayout.DIFFUSERS)
    tensors.pop(f"transformer.{first}.{lora.MAGNITUDE}")
    with pytest.raises(BadInput, match=f"layer {first} has only one of a pair and a magnitude"):
        lora_formats.adapter_from_tensors(tensors, 6.0, "here")


def test_the_fast_layers_give_the_same_gradients(pipeline_folder: Path) -> None:
    """Only attention and frozen layers are replaced; the adapted ones stay peft's."""
    found = []
    for settings in (None, LoraSettings(precision="fp32", compile="off", device="cpu")):
        transformer = adapted(pipeline_folder)
        trained(transformer)
        if settings is not None:
            fast.accelerate_training(transformer, settings)
        transformer.train()
        numbers = torch.Generator().manual_seed(7)
        out = transformer(
            hidden_states=torch.randn(1, 16, 2, 4, 4, generator=numbers),
            timestep=torch.tensor([500.0]),
            encoder_hidden_states=torch.randn(1, 512, 32, generator=numbers),
            return_dict=False,
        )[0]
        out.square().mean().backward()
        found.append({name: w.grad for name, w in lora.adapter_parameters(transformer)})
    for name, gradient in found[0].items():
        assert gradient is not None
        assert torch.allclose(found[1][name], gradient, rtol=1e-3, atol=1e-6), name


def test_it_is_used_by_itself_and_whole(whole) -> None:
    _, adapter = whole
    assert weighted_adapter([adapter], [1.0]) is adapter
    for parts, weights in (([adapter], [0.5]), ([adapter, adapter], [1.0, 1.0])):
        with pytest.raises(BadInput, match="DoRA cannot be added"):
            weighted_adapter(parts, weights)
