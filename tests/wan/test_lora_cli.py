"""``mimix lora``: export an adapter to other layouts and import it unchanged."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from flows import lora_cli
from flows.cli import app
from mimix_core.engine.artifacts import digest_file
from mimix_core.training.epoch_adapters import epoch_adapter_path
from mimix_core.wan import lora_export
from mimix_core.wan.lora_formats import AdapterLayout, fold_alpha
from tests.wan.test_lora_export import card, in_blocks, same, some_adapter

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


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "library.yaml").write_text("shows: []\n")
    path = tmp_path / "mimix.yaml"
    path.write_text("library: library.yaml\n")
    return path


@pytest.mark.parametrize(
    ("backbone", "present"),
    [
        ("tiny-random-wan", "tom.safetensors"),
        ("tiny-random-wan", "tom.proof.safetensors"),
        ("tiny-random-wan-experts", "tom_low_noise.safetensors"),
        ("tiny-random-wan-experts", "tom_high_noise.proof.safetensors"),
    ],
)
def test_files_to_write_are_checked_before_results_are_looked_up(
    settings: Path, backbone: str, present: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(_config: object) -> list[Path]:
        raise AssertionError("looked up")

    monkeypatch.setattr(lora_cli, "_find_results", look_up)
    settings.write_text(f"library: library.yaml\nbackbone: {{name: {backbone}}}\n")
    asked = ["lora", "export", "mimix.yaml", "--to", "tom.safetensors", "--base", "."]
    Path(present).symlink_to("nowhere")
    done = runner.invoke(app, asked)
    assert done.exit_code == 2, done.output
    assert f"{present}: already exists. Give the path of a new file." in done.output
    Path(present).unlink()
    with pytest.raises(AssertionError, match="looked up"):
        runner.invoke(app, asked, catch_exceptions=False)


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


@pytest.fixture
def result(settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The result of a run of 4 epochs that kept the second one's adapter, without EMA weights."""
    folder = tmp_path / "result"
    for number, name in enumerate((lora_export.ADAPTER_FILE, epoch_adapter_path(2))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        adapter = some_adapter(in_blocks, seed=number)
        metadata = card(epoch=2 if number else None, settings={"epochs": 4})
        lora_export.write_adapter(folder / name, adapter, metadata)
    records = [
        {"step": 1, "train_loss": 0.5},
        {"step": 2, "train_loss": 0.3},
        {"step": 2, "epoch": 2, "adapter": epoch_adapter_path(2), "epoch_loss": 0.4},
        {"step": 2, "held_out_loss": 0.45},
        {"step": 2, "preview": "previews/step-000002/0.mp4", "prompt": "p", "seed": 1},
        {"step": 4, "held_out_loss": 0.2},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    monkeypatch.setattr(lora_cli, "_find_results", lambda _config: [folder])
    return folder


def test_an_epoch_of_a_run_is_exported_and_listed(result: Path, tmp_path: Path) -> None:
    to = tmp_path / "two.safetensors"
    asked = ["lora", "export", "mimix.yaml", "--epoch", "2", "--dtype", "fp32", "--to", str(to)]
    done = runner.invoke(app, asked)
    assert done.exit_code == 0, done.output
    found, metadata = lora_export.read_adapter(to)
    assert metadata.epoch == 2
    assert same(found, some_adapter(in_blocks, seed=1))
    shown = runner.invoke(app, ["lora", "show", str(to)]).output.splitlines()
    assert "epoch 2" in {" ".join(line.replace("│", " ").split()) for line in shown}
    listed = runner.invoke(app, ["lora", "epochs", "mimix.yaml"])
    assert listed.exit_code == 0, listed.output
    [row] = [line for line in listed.output.splitlines() if "0.4000" in line]
    assert "0.4500" in row
    assert "step-000002" in listed.output
    [last] = [line for line in listed.output.splitlines() if "0.2000" in line]
    assert last.replace("│", " ").split() == ["4", "(final)", "4", "0.2000"]


def test_the_last_epoch_is_the_final_adapter(result: Path, tmp_path: Path) -> None:
    to = tmp_path / "four.safetensors"
    asked = ["lora", "export", "mimix.yaml", "--dtype", "fp32", "--to"]
    done = runner.invoke(app, [*asked, str(to), "--epoch", "4"])
    assert done.exit_code == 0, done.output
    assert same(lora_export.read_adapter(to)[0], some_adapter(in_blocks, seed=0))
    # Within a bound on forgetting the final adapter can be of an earlier step.
    final = result / lora_export.ADAPTER_FILE
    adapter, metadata = lora_export.read_adapter(final)
    final.unlink()
    lora_export.write_adapter(final, adapter, metadata.model_copy(update={"step": 3}))
    done = runner.invoke(app, [*asked, str(tmp_path / "new.safetensors"), "--epoch", "4"])
    assert done.exit_code == 2
    assert "the run saved no adapter of epoch 4" in done.output
    assert "(final)" not in runner.invoke(app, ["lora", "epochs", "mimix.yaml"]).output


def test_two_experts_are_exported_as_two_files(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ComfyUI's users have them: one for the loader before each of the two samplers."""
    settings.write_text("library: library.yaml\nbackbone: {name: wan2.2-t2v-a14b}\n")
    folders = []
    for number, expert in enumerate(("high-noise", "low-noise")):
        folder = tmp_path / expert
        (folder / epoch_adapter_path(2)).parent.mkdir(parents=True)
        metadata = card(base="wan2.2-t2v-a14b", expert=expert)
        for name in (lora_export.ADAPTER_FILE, epoch_adapter_path(2)):
            adapter = some_adapter(in_blocks, seed=number)
            lora_export.write_adapter(folder / name, adapter, metadata)
        record = {"step": 2, "epoch": 2, "adapter": epoch_adapter_path(2), "epoch_loss": 0.4}
        (folder / "log.jsonl").write_text(
            "".join(f"{json.dumps(r)}\n" for r in ({"step": 2, "train_loss": 0.4}, record))
        )
        folders.append(folder)
    monkeypatch.setattr(lora_cli, "_find_results", lambda _config: folders)
    to = tmp_path / "tom.safetensors"
    asked = ["lora", "export", "mimix.yaml", "--dtype", "fp32", "--to", str(to)]
    done = runner.invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [
        "tom_high_noise.safetensors",
        "tom_low_noise.safetensors",
    ]
    for number, expert in enumerate(("high-noise", "low-noise")):
        written = tmp_path / f"tom_{expert.replace('-', '_')}.safetensors"
        found, metadata = lora_export.read_adapter(written)
        assert metadata.expert == expert
        assert same(found, some_adapter(in_blocks, seed=number))
        shown = runner.invoke(app, ["lora", "show", str(written)]).output
        assert f"expert {expert}" in " ".join(shown.replace("│", " ").split())
    # Neither file is written if one of them is there.
    (tmp_path / "tom_high_noise.safetensors").unlink()
    done = runner.invoke(app, asked)
    assert done.exit_code == 2
    assert "tom_low_noise.safetensors: already exists" in " ".join(done.output.split())
    assert not (tmp_path / "tom_high_noise.safetensors").exists()
    listed = runner.invoke(app, ["lora", "epochs", "mimix.yaml"]).output
    assert "high-noise" in listed
    assert "low-noise" in listed


def test_epochs_that_were_not_kept_are_refused(result: Path, tmp_path: Path) -> None:
    to = str(tmp_path / "new.safetensors")
    asked = ["lora", "export", "mimix.yaml", "--to", to]
    done = runner.invoke(app, [*asked, "--epoch", "3"])
    assert done.exit_code == 2
    assert "the run saved no adapter of epoch 3" in done.output
    assert "It saved those of 2." in done.output
    done = runner.invoke(app, [*asked, "--epoch", "2", "--ema"])
    assert done.exit_code == 2
    assert "the run has no EMA weights" in done.output
    (result / "log.jsonl").write_text("")
    done = runner.invoke(app, [*asked, "--epoch", "1"])
    assert done.exit_code == 2
    assert "Train with lora.epoch_adapter_interval" in done.output
    assert "none" in runner.invoke(app, ["lora", "epochs", "mimix.yaml"]).output


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
