"""Proofs of exports: another loader's pipeline passes, one with another adapter does not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import pytest
import torch
from typer.testing import CliRunner

from flows.cli import app
from mimix_core.engine.artifacts import file_ref
from mimix_core.errors import BadInput
from mimix_core.wan import export_proof, lora, lora_export, random_backbone
from mimix_core.wan.export_proof import ProofSettings
from mimix_core.wan.lora_formats import Adapter, AdapterDtype, AdapterLayout
from mimix_core.wan.model_registry import EXPERT_COMPONENTS, TINY_EXPERTS
from tests.wan.test_lora import adapted, trained
from tests.wan.test_lora_export import ALL, card

pytestmark = pytest.mark.slow

runner = CliRunner(env={"COLUMNS": "200"})
SMALL = ProofSettings(
    prompt="[Character: Bunny], smiles.", width=32, height=32, num_frames=5, num_inference_steps=2
)


@pytest.fixture(scope="module")
def adapter(pipeline_folder: Path) -> Adapter:
    transformer = adapted(pipeline_folder, alpha=6, targets=ALL)
    trained(transformer)
    return lora_export.build_adapter(dict(lora.adapter_parameters(transformer)), 6.0)


@pytest.fixture
def source(adapter: Adapter, pipeline_folder: Path, tmp_path: Path) -> Path:
    digest = file_ref(pipeline_folder / "transformer").sha256
    path = tmp_path / lora_export.ADAPTER_FILE
    lora_export.write_adapter(path, adapter, card(alpha=6, base_sha256=digest))
    return path


@pytest.mark.parametrize(
    ("layout", "dtype", "allowed"),
    [
        (AdapterLayout.DIFFUSERS, "fp32", "allowed 1e-03"),
        (AdapterLayout.COMFYUI, "bf16", "allowed 1e-02"),
        (AdapterLayout.KOHYA, "fp32", "allowed 1e-03"),
    ],
)
def test_an_export_is_verified_with_the_loader_of_diffusers(
    source: Path,
    pipeline_folder: Path,
    layout: AdapterLayout,
    dtype: str,
    allowed: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def small(**changes: object) -> ProofSettings:
        return SMALL.model_copy(update=changes)

    monkeypatch.setattr(export_proof, "ProofSettings", small)
    file, base = source.parent / "export.safetensors", ["--base", str(pipeline_folder)]
    words = ["lora", "export", str(source), "--format", layout.value, "--to", str(file), *base]
    words += ["--dtype", dtype]
    done = runner.invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "export.proof.safetensors" in done.output
    proof, values = export_proof.read_proof(export_proof.proof_path(file))
    assert proof.settings.prompt == "[Character: Bunny], waves at the camera. [scene-style:cartoon]"
    assert tuple(values.velocity_CTHW.shape) == (16, 2, 4, 4)
    assert tuple(values.thumbnails_THWC.shape) == (3, 64, 64, 3)
    done = runner.invoke(app, ["lora", "verify", str(file), *base])
    assert done.exit_code == 0, done.output
    assert done.output.strip().endswith("equal")
    assert allowed in done.output


@pytest.mark.parametrize("dtype", [AdapterDtype.FP32, AdapterDtype.BF16])
def test_a_missing_adapter_and_another_scale_are_noticed(
    source: Path, pipeline_folder: Path, dtype: AdapterDtype
) -> None:
    found, metadata = lora_export.read_adapter(source)
    lora_export.write_adapter(source, lora_export.cast_adapter(found, dtype), metadata)
    path = export_proof.proof_path(source)
    export_proof.write_proof(path, source, pipeline_folder, SMALL)
    proof, expected = export_proof.read_proof(path)
    pipeline = export_proof.load_base_pipeline(pipeline_folder, "fp32")
    bare = export_proof.compare_with_proof(pipeline, proof, expected)
    assert not bare.passed
    pipeline.load_lora_weights(source.parent, weight_name=source.name)
    assert export_proof.compare_with_proof(pipeline, proof, expected).passed
    # As a loader that takes alpha for the rank does: 4 instead of 6.
    pipeline.set_adapters(pipeline.get_active_adapters(), [4 / 6])
    assert not export_proof.compare_with_proof(pipeline, proof, expected).passed


@pytest.mark.parametrize("expert", ["high-noise", "low-noise"])
def test_an_export_for_one_of_two_experts_is_verified_on_that_one(
    expert: Literal["high-noise", "low-noise"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    random_backbone.build_random_backbone(0, base, TINY_EXPERTS)
    transformer = lora.load_transformer(base / EXPERT_COMPONENTS[expert], torch.float32)
    lora.attach_adapter(transformer, 4, 6, ALL, 0)
    trained(transformer)
    digest = file_ref(base / EXPERT_COMPONENTS[expert]).sha256
    source = tmp_path / lora_export.ADAPTER_FILE
    lora_export.write_adapter(
        source,
        lora_export.build_adapter(dict(lora.adapter_parameters(transformer)), 6.0),
        card(alpha=6, base=TINY_EXPERTS.name, base_sha256=digest, expert=expert),
    )
    small = SMALL.model_copy(update={"num_inference_steps": 4})
    monkeypatch.setattr(export_proof, "ProofSettings", lambda **changes: small)
    file, given = tmp_path / "export.safetensors", ["--base", str(base)]
    done = runner.invoke(app, ["lora", "export", str(source), "--to", str(file), *given])
    assert done.exit_code == 0, done.output
    proof, _ = export_proof.read_proof(export_proof.proof_path(file))
    assert proof.expert == expert
    done = runner.invoke(app, ["lora", "verify", str(file), *given])
    assert done.exit_code == 0, done.output
    # Loaded into the other expert, as by mistake, it is another video.
    pipeline = export_proof.load_base_pipeline(base, "fp32")
    pipeline.load_lora_weights(
        tmp_path, weight_name=file.name, load_into_transformer_2=expert == "high-noise"
    )
    values = export_proof.read_proof(export_proof.proof_path(file))
    assert not export_proof.compare_with_proof(pipeline, *values).passed
    # The other expert's folder is no base for it.
    shutil.rmtree(base / EXPERT_COMPONENTS[expert])
    done = runner.invoke(app, ["lora", "verify", str(file), *given])
    assert done.exit_code == 2
    assert f"holds no folder {EXPERT_COMPONENTS[expert]}" in done.output


def test_a_proof_needs_its_base_and_its_file(
    source: Path, pipeline_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "other" / "transformer").mkdir(parents=True)
    with pytest.raises(BadInput, match="was trained on tiny-random-wan"):
        export_proof.check_base_folder(source, tmp_path / "other")
    with pytest.raises(BadInput, match="holds no folder transformer"):
        export_proof.check_base_folder(source, tmp_path)
    for part, said in (
        ("tokenizer", "tokenizer is missing"),
        ("scheduler", "scheduler is missing"),
        ("vae/config.json", r"config\.json: the file is missing"),
        ("model_index.json", r"model_index\.json is missing"),
    ):
        base = tmp_path / part.replace("/", "-")
        shutil.copytree(pipeline_folder, base)
        (base / part).rename(tmp_path / "removed")
        with pytest.raises(BadInput, match=said):
            export_proof.check_base_folder(source, base)
        (tmp_path / "removed").rename(base / part)
        export_proof.check_base_folder(source, base)
    with pytest.raises(BadInput, match="there is no proof beside the adapter"):
        export_proof.read_proof(export_proof.proof_path(source))
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(BadInput, match="is not a proof"):
        export_proof.read_proof(tmp_path / "x.safetensors")
    words = ["lora", "export", str(source), "--to", str(tmp_path / "e.safetensors")]
    done = runner.invoke(app, [*words, "--prompt", "x"])
    assert done.exit_code == 2
    assert "a proof needs the base model" in " ".join(done.output.split())
