"""``mimix lora export`` and ``epochs`` of a run: epochs, experts, and the files to write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import lora_cli
from flows.cli import app
from mimix_core.training.epoch_adapters import epoch_adapter_path
from mimix_core.wan import lora_export
from tests.wan.test_lora_export import card, in_blocks, same, some_adapter

runner = CliRunner(env={"COLUMNS": "200"})


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
