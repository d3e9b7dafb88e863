"""Adapters of a small LTX-Video play in diffusers and ComfyUI as they do here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import LTXConditionPipeline
from typer.testing import CliRunner

from flows.cli import app
from mimix_core.errors import BadInput
from mimix_core.wan import export_proof, lora_export
from mimix_core.wan.export_proof import ProofSettings
from mimix_core.wan.lora_formats import Adapter, AdapterLayout
from mimix_core.wan.ltx_backbones import TINY_LTX
from tests.wan.ltx_factory import PROMPT, generator, own_card, some_adapter, wanted_latents
from tests.wan.test_lora_export import card

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mode", ["merged", "unmerged"])
def test_an_adapter_generates_as_diffusers_plays_it(
    ltx_folder: Path, tmp_path: Path, mode: str
) -> None:
    adapter = some_adapter(ltx_folder)
    path = tmp_path / lora_export.ADAPTER_FILE
    lora_export.write_adapter(path, adapter, own_card(ltx_folder))
    played = LTXConditionPipeline.from_pretrained(ltx_folder)
    played.set_progress_bar_config(disable=True)
    played.load_lora_weights(tmp_path, weight_name=path.name)
    wanted = wanted_latents(played)
    latents = generator(ltx_folder, adapter, adapter_mode=mode).denoise(PROMPT, 5)
    assert torch.allclose(latents, wanted, atol=1e-3)
    assert not torch.allclose(latents, generator(ltx_folder).denoise(PROMPT, 5), atol=1e-2)


@pytest.mark.parametrize("layout", [AdapterLayout.DIFFUSERS, AdapterLayout.COMFYUI])
def test_an_export_is_verified_with_the_loader_of_diffusers(
    ltx_folder: Path, tmp_path: Path, layout: AdapterLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ProofSettings(prompt=PROMPT, width=96, height=64, num_frames=9, num_inference_steps=2)
    monkeypatch.setattr(export_proof, "ProofSettings", lambda **changes: small)
    source = tmp_path / lora_export.ADAPTER_FILE
    lora_export.write_adapter(source, some_adapter(ltx_folder), own_card(ltx_folder))
    file, base = tmp_path / "export.safetensors", ["--base", str(ltx_folder)]
    runner = CliRunner(env={"COLUMNS": "200"})
    words = ["lora", "export", str(source), "--format", layout.value, "--to", str(file), *base]
    done = runner.invoke(app, [*words, "--dtype", "fp32"])
    assert done.exit_code == 0, done.output
    done = runner.invoke(app, ["lora", "verify", str(file), *base])
    assert done.exit_code == 0, done.output
    assert done.output.strip().endswith("equal")


def test_layouts_have_the_names_of_the_authors_and_read_back(
    ltx_folder: Path, tmp_path: Path
) -> None:
    adapter = some_adapter(ltx_folder)
    path = tmp_path / "export.safetensors"
    lora_export.write_adapter(path, adapter, own_card(ltx_folder), AdapterLayout.COMFYUI)
    found, metadata = lora_export.read_adapter(path)
    assert metadata.base == TINY_LTX.name
    for layer, (down, up) in adapter.pairs.items():
        read_down, read_up = found.pairs[layer]
        delta = adapter.alpha / adapter.rank * up @ down
        assert torch.allclose(found.alpha / found.rank * read_up @ read_down, delta, atol=1e-6)
    names = set(lora_export.safetensors_io.read_tensors(path))
    assert "diffusion_model.transformer_blocks.1.attn2.to_out.0.lora_A.weight" in names
    other = card(alpha=6, base="my_backbones.small_mochi")
    with pytest.raises(BadInput, match="may name its layers otherwise"):
        lora_export.write_adapter(path, adapter, other, AdapterLayout.COMFYUI)
    lora_export.write_adapter(path, adapter, other)
    assert set(lora_export.read_adapter(path)[0].pairs) == set(adapter.pairs)
    with pytest.raises(BadInput, match="musubi-tuner does not have"):
        lora_export.write_adapter(path, adapter, own_card(ltx_folder), AdapterLayout.KOHYA)


def test_layers_outside_the_blocks_are_named_as_comfyui_names_them(tmp_path: Path) -> None:
    layers = ("time_embed.linear", "proj_in", "proj_out", "transformer_blocks.0.ff.net.2")
    path = tmp_path / "outside.safetensors"
    adapter = Adapter({name: (torch.ones(4, 6), torch.ones(8, 4)) for name in layers}, 4.0)
    lora_export.write_adapter(path, adapter, card(base=TINY_LTX.name), AdapterLayout.COMFYUI)
    names = {name.split(".lora_")[0] for name in lora_export.safetensors_io.read_tensors(path)}
    assert names == {
        "diffusion_model.adaln_single.linear",
        "diffusion_model.patchify_proj",
        "diffusion_model.proj_out",
        "diffusion_model.transformer_blocks.0.ff.net.2",
    }
    assert set(lora_export.read_adapter(path)[0].pairs) == set(layers)
