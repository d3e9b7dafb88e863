"""The commands that need no run: init, doctor, models, and how errors reach a person."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows import cli, shutdown
from flows.cli import app
from mimix_core.domain.library import Library
from mimix_core.settings import Config
from tasks.run_summary import RunSummary

runner = CliRunner()
ROOT = Path(__file__).parents[2]


def test_init_writes_files_that_mean_something(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    result = runner.invoke(app, ["init", str(folder)])
    assert result.exit_code == 0, result.output
    Library.model_validate(yaml.safe_load((folder / "library.yaml").read_text()))
    Config.model_validate(yaml.safe_load((folder / "mimix.yaml").read_text()))


def test_init_never_writes_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "library.yaml").write_text("mine")
    result = runner.invoke(app, ["init", str(tmp_path)])
    assert result.exit_code == 2
    assert "exists already" in result.output
    assert (tmp_path / "library.yaml").read_text() == "mine"
    assert not (tmp_path / "mimix.yaml").exists()


def project(folder: Path, settings: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_text(name)
    (folder / "library.yaml").write_text(
        "shows:\n"
        "  - {id: a, title: A, style: cartoon, characters: [{name: Tom}],"
        " episodes: [{path: a.mp4}]}\n"
        "  - {id: b, title: B, style: realistic, characters: [{name: Mr. Bean}],"
        " episodes: [{path: b.mp4}]}\n"
    )
    path = folder / "mimix.yaml"
    path.write_text(f"library: library.yaml\n{settings}")
    return path


def test_models_says_what_is_missing_and_how_to_get_it(tmp_path: Path) -> None:
    path = project(tmp_path, "backbone: {name: wan2.1-t2v-14b, path: weights}\n")
    result = runner.invoke(app, ["models", str(path)], env={"COLUMNS": "300"})
    assert result.exit_code == 2
    row = next(line for line in result.output.splitlines() if "wan2.1-t2v-14b" in line)
    assert "missing" in row
    assert str(tmp_path / "weights")[-20:] in result.output
    assert "Wan-AI/Wan2.1-T2V-14B-Diffusers" in result.output
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model_index.json").write_text("{}")
    result = runner.invoke(app, ["models", str(path)], env={"COLUMNS": "300"})
    row = next(line for line in result.output.splitlines() if "wan2.1-t2v-14b" in line)
    assert "found" in row


def test_a_missing_model_stops_a_run_before_any_work(tmp_path: Path) -> None:
    path = project(tmp_path, "cutouts: {backend: selfie}\n")
    result = runner.invoke(app, ["run", str(path)])
    assert result.exit_code == 2
    assert "wan2.1-t2v-14b for stage backbone: the settings have no path" in result.output
    assert "MediaPipe selfie segmentation for stage cutouts" in result.output
    assert not (tmp_path / "workspace").exists()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("", "stage backbone: the settings have no path. Get it with"),
        ("none", "none does not exist. Get it with"),
        ("comfy", "comfy has no model_index.json. It must be a folder in diffusers layout"),
        ("comfy/wan_14B.safetensors", "wan_14B.safetensors has no model_index.json. It must be"),
    ],
)
def test_what_is_wrong_with_a_models_path_is_named(tmp_path: Path, setting: str, said: str) -> None:
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfy" / "wan_14B.safetensors").write_bytes(b"weights")
    more = f", path: {setting}" if setting else ""
    path = project(tmp_path, f"backbone: {{name: wan2.1-t2v-14b{more}}}\n")
    result = runner.invoke(app, ["train", str(path)])
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_a_stage_that_is_not_run_needs_no_model(tmp_path: Path) -> None:
    from mimix_core.diagnostics.model_requirements import required_models
    from mimix_core.settings import load_config

    config = load_config(project(tmp_path, ""))
    assert {need.stage for need in required_models(config, "curate")} == {"overlays"}


def test_wrong_settings_end_with_one_message_and_no_traceback(tmp_path: Path) -> None:
    path = project(tmp_path, "clips: {wdith: 832}\n")
    result = runner.invoke(app, ["curate", str(path)], env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert "line 2, key clips.wdith: unknown key" in result.output
    assert "Traceback" not in result.output


def test_doctor_tells_what_this_machine_can_do() -> None:
    result = runner.invoke(
        app, ["doctor", str(ROOT / "demo" / "mimix.yaml")], env={"COLUMNS": "300"}
    )
    for word in ("Python", "ffmpeg", "GPU", "disk", "packages for train", "model for scores"):
        assert word in result.output


def test_doctor_names_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from mimix_core.diagnostics import doctor

    found = doctor.find_spec
    monkeypatch.setattr(
        doctor, "find_spec", lambda name: None if name == "deepspeed" else found(name)
    )
    check = next(c for c in doctor.run_checks(None) if c.name == "packages for train")
    assert (check.state, check.finding) == ("limited", "missing: deepspeed")
    assert check.fix == "pip install 'mimix[train]'"


def test_the_end_of_a_run_says_where_its_adapter_and_videos_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project(tmp_path, "backbone: {name: tiny-random-wan}\n")
    adapter, videos = tmp_path / "lora" / "key", tmp_path / "samples"
    summary = RunSummary(stages=(), adapter_folders=(adapter,), video_folder=videos)
    monkeypatch.setattr(cli, "check_before_run", lambda config, flow: None)
    monkeypatch.setattr(cli, "_import_flow", lambda name: lambda config: summary)
    monkeypatch.setattr(shutdown, "install_signal_handlers", lambda: None)
    monkeypatch.setattr(shutdown, "start_ephemeral_server", lambda: None)
    lines = runner.invoke(app, ["generate", str(path)]).output.splitlines()
    assert f"Adapter: {adapter}" in lines
    assert f"Export it for ComfyUI and others: mimix lora export {path} --to NAME.safetensors" in (
        lines
    )
    assert f"Videos: {videos}" in lines


def test_what_to_do_about_a_failed_check_can_be_copied_from_a_narrow_terminal(
    tmp_path: Path,
) -> None:
    path = project(tmp_path, "backbone: {name: wan2.1-t2v-14b}\ncutouts: {backend: grabcut}\n")
    result = runner.invoke(app, ["doctor", str(path)], env={"COLUMNS": "80"})
    assert result.exit_code == 1
    lines = [line for line in result.output.splitlines() if line.startswith("model for backbone: ")]
    download = "`hf download Wan-AI/Wan2.1-T2V-14B-Diffusers --local-dir FOLDER`"
    assert lines == [f"model for backbone: Get it with {download} and set backbone.path to FOLDER."]
