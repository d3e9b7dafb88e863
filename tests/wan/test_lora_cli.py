"""``mimix lora``: export an adapter to other layouts and import it unchanged."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from flows.cli import app
from mimix_core.engine.artifacts import digest_file
from mimix_core.wan import lora_export
from mimix_core.wan.lora_formats import AdapterLayout, fold_alpha
from tests.wan.test_lora_export import card, in_blocks, some_adapter

runner = CliRunner(env={"COLUMNS": "200"})


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    path = tmp_path / lora_export.ADAPTER_FILE
    lora_export.write_adapter(
        path, some_adapter(in_blocks, alpha=6.0), card(alpha=6, weights="ema")
    )
    return path


@pytest.mark.parametrize("layout", AdapterLayout)
def test_an_adapter_survives_a_round_trip_through_any_layout(
    tmp_path: Path, layout: AdapterLayout
) -> None:
    trained = tmp_path / lora_export.ADAPTER_FILE
    # ComfyUI's layout has alpha / rank in the weights: exact, because it is a power of two.
    lora_export.write_adapter(trained, some_adapter(in_blocks, alpha=8.0), card(alpha=8))
    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    asked = ["lora", "export", str(trained), "--format", layout.value, "--to", str(there)]
    done = runner.invoke(app, [*asked, "--dtype", "fp32"])
    assert done.exit_code == 0, done.output
    assert f"rank 4, {len(in_blocks)} layers, in fp32, for {layout.value}" in done.output
    alpha = 4.0 if layout is AdapterLayout.COMFYUI else 8.0
    assert lora_export.read_metadata(there) == (card(alpha=alpha), layout)
    done = runner.invoke(app, ["lora", "import", str(there), "--to", str(back)])
    assert done.exit_code == 0, done.output
    if layout is not AdapterLayout.COMFYUI:
        assert digest_file(back) == digest_file(trained)
    before, after = (lora_export.read_adapter(path)[0] for path in (trained, back))
    for layer, (down, up) in before.pairs.items():
        assert torch.equal(after.pairs[layer][0], down)
        assert torch.equal(after.pairs[layer][1] * (after.alpha / after.rank), up * 2)


@pytest.mark.parametrize("layout", AdapterLayout)
@pytest.mark.parametrize(
    ("options", "dtype", "rounding"),
    [
        ([], torch.bfloat16, 2**-8),
        (["--dtype", "fp16"], torch.float16, 2**-11),
        (["--dtype", "fp32"], torch.float32, 0.0),
    ],
)
def test_weights_are_written_in_the_data_type_that_was_asked_for(
    trained: Path,
    tmp_path: Path,
    layout: AdapterLayout,
    options: list[str],
    dtype: torch.dtype,
    rounding: float,
) -> None:
    to = tmp_path / "there.safetensors"
    asked = ["lora", "export", str(trained), "--format", layout.value, "--to", str(to)]
    done = runner.invoke(app, [*asked, *options])
    assert done.exit_code == 0, done.output
    exact, (found, _) = lora_export.read_adapter(trained)[0], lora_export.read_adapter(to)
    if layout is AdapterLayout.COMFYUI:
        exact = fold_alpha(exact)
    assert (found.rank, found.alpha) == (exact.rank, exact.alpha)
    for layer, pair in exact.pairs.items():
        for whole, rounded in zip(pair, found.pairs[layer], strict=True):
            assert rounded.dtype == dtype
            assert torch.allclose(rounded.float(), whole, rtol=rounding, atol=1e-6 * (rounding > 0))


def test_a_weight_too_large_for_its_data_type_is_refused(tmp_path: Path) -> None:
    source, to = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    large = some_adapter(in_blocks)
    large.pairs[in_blocks[0]][0][0, 0] = 1e5
    lora_export.write_adapter(source, large, card())
    asked = ["lora", "export", str(source), "--to", str(to), "--dtype"]
    done = runner.invoke(app, [*asked, "fp16"])
    assert done.exit_code == 2
    assert f"a weight of {in_blocks[0]} is too large for fp16" in " ".join(done.output.split())
    assert not to.exists()
    assert runner.invoke(app, [*asked, "bf16"]).exit_code == 0


def test_layers_outside_the_blocks_are_exported_or_refused_but_never_dropped(
    tmp_path: Path,
) -> None:
    layers = [*in_blocks, "proj_out", "condition_embedder.time_proj"]
    source, new = tmp_path / "lora.safetensors", tmp_path / "new.safetensors"
    lora_export.write_adapter(source, some_adapter(layers), card())
    done = runner.invoke(
        app, ["lora", "export", str(source), "--format", "kohya", "--to", str(new)]
    )
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    assert f"2 of {len(layers)} layers are outside the blocks" in said
    assert "condition_embedder.time_proj, proj_out" in said
    assert "Export it for comfyui or diffusers" in said
    assert not new.exists()
    done = runner.invoke(
        app, ["lora", "export", str(source), "--format", "comfyui", "--to", str(new)]
    )
    assert done.exit_code == 0, done.output
    assert "Layers outside the blocks: " in done.output
    assert "FastVideo" in done.output
    read, _ = lora_export.read_adapter(new)
    assert set(read.pairs) == set(layers)


def test_show_prints_the_metadata(trained: Path) -> None:
    done = runner.invoke(app, ["lora", "show", str(trained)])
    assert done.exit_code == 0, done.output
    shown = {" ".join(line.replace("│", " ").split()) for line in done.output.splitlines()}
    assert f"base tiny-random-wan, sha256 {'ab' * 32}" in shown
    assert "rank, alpha 4, 6" in shown
    assert "characters Bunny, Tom" in shown
    assert "weights EMA of the training" in shown
    assert "learning_rate 0.0001" in shown
    assert "prompts [Character: NAME], ACTION. ... CONTEXT. [scene-style:STYLE]" in shown


def test_show_prints_the_metadata_of_a_dora(tmp_path: Path) -> None:
    adapter = some_adapter(in_blocks)
    magnitudes = {layer: torch.ones(8) for layer in adapter.pairs}
    path = tmp_path / lora_export.ADAPTER_FILE
    lora_export.write_adapter(path, replace(adapter, magnitudes=magnitudes), card())
    done = runner.invoke(app, ["lora", "show", str(path)])
    assert done.exit_code == 0, done.output
    assert "Bunny, Tom" in done.output


def test_show_describes_the_file_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "peer.safetensors"
    layers = {"blocks_0_self_attn_q": (96, 4), "blocks_1_ffn_2": (96, 2), "head_head": (64, 4)}
    tensors = {}
    for layer, (outputs, rank) in layers.items():
        inputs = 192 if "ffn" in layer else 96
        tensors[f"lora_unet_{layer}.lora_down.weight"] = torch.ones(rank, inputs).bfloat16()
        tensors[f"lora_unet_{layer}.lora_up.weight"] = torch.ones(outputs, rank).bfloat16()
        tensors[f"lora_unet_{layer}.alpha"] = torch.tensor(2.0)
    save_file(tensors, path)
    done = runner.invoke(app, ["lora", "show", str(path)])
    assert done.exit_code == 0, done.output
    shown = {" ".join(line.replace("│", " ").split()) for line in done.output.splitlines()}
    example = "lora_unet_blocks_0_self_attn_q.lora_down.weight"
    assert {
        f"layout kohya, musubi-tuner: {example}",
        "data type BF16",
        "rank 2 to 4",
        "alpha 2",
        "layers attn1.to_q, ffn.net.2, proj_out",
        "blocks 2",
        "outside blocks proj_out",
        "fits tiny-random-wan, tiny-random-wan-experts",
    } <= shown
    tensors["lora_unet_blocks_0_self_attn_q.dora_scale"] = torch.ones(96, 1)
    save_file(tensors, path)
    done = runner.invoke(app, ["lora", "show", str(path)])
    assert done.exit_code == 2
    assert "DoRA (1 tensors)" in done.output


def test_errors_are_one_line_each(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"no")
    new = str(tmp_path / "new.safetensors")
    for asked, said in (
        (["show", str(other)], "is not a complete safetensors file"),
        (["import", str(other), "--to", new], "is not a complete safetensors file"),
        (["export", str(trained), "--to", str(other)], "already exists"),
        (["export", str(trained), "--ema", "--to", new], "--ema selects an adapter of a run"),
        (["export", str(trained), "--epoch", "2", "--to", new], "--epoch selects an adapter of"),
        (
            ["export", str(trained), "--to", str(tmp_path / "x.bin")],
            "is not a path for a .safetensors file",
        ),
        (
            ["export", str(trained), "--to", str(tmp_path / "no" / "x.safetensors")],
            "is not a path for a .safetensors file",
        ),
        (["export", str(tmp_path / "no.yaml"), "--to", new], "no.yaml"),
        (["export", str(tmp_path), "--to", new], "is a folder"),
        (["export", str(trained), "--to", new, "--base", "nowhere"], "nowhere: no such folder"),
        (["verify", str(tmp_path / "gone.safetensors"), "--base", "."], "the file does not exist"),
    ):
        done = runner.invoke(app, ["lora", *asked])
        assert done.exit_code == 2, (asked, done.output)
        assert said in done.output
        assert "Traceback" not in done.output
    assert not Path(new).exists()


def test_an_export_that_fails_or_is_late_leaves_the_folder_as_it_was(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "exports" / "new.safetensors"
    to.parent.mkdir()
    whole = lora_export.write_adapter

    def fill_disk(path: Path, *_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    asked = ["lora", "export", str(trained), "--to", str(to)]
    monkeypatch.setattr(lora_export, "write_adapter", fill_disk)
    done = runner.invoke(app, asked)
    assert done.exit_code == 1
    assert f"the disk is full: no space for {to}" in done.output
    assert not list(to.parent.iterdir())

    def be_late(path: Path, *others: Any) -> None:
        whole(path, *others)
        to.write_bytes(b"of another export")

    monkeypatch.setattr(lora_export, "write_adapter", be_late)
    done = runner.invoke(app, asked)
    assert done.exit_code == 2
    assert "already exists" in done.output
    assert to.read_bytes() == b"of another export"
    assert list(to.parent.iterdir()) == [to]


def test_show_says_what_adding_a_character_cost(tmp_path: Path) -> None:
    path = tmp_path / lora_export.ADAPTER_FILE
    lost = {"Tom": 0.012, "Bean": -0.003}
    adapter = some_adapter(in_blocks, alpha=6.0)
    lora_export.write_adapter(path, adapter, card(alpha=6, forgetting=lost, step=150))
    shown = runner.invoke(app, ["lora", "show", str(path)])
    assert shown.exit_code == 0, shown.output
    assert "Tom +1.2 %, Bean -0.3 %" in shown.output
    assert "150, the last validation at which old characters were within" in shown.output
    lora_export.write_adapter(path, adapter, card(alpha=6))
    assert "forgetting" not in runner.invoke(app, ["lora", "show", str(path)]).output
