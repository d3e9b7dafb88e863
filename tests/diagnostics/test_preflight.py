"""What a command could not run with is found before any work, and by every command alike."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from typer.testing import CliRunner

from flows.cli import app
from mimix_core.diagnostics.preflight import check_before_run, find_problems
from mimix_core.errors import BadInput
from mimix_core.project.templates import write_project_templates
from mimix_core.settings import load_config
from mimix_core.wan import lora_export, model_registry
from mimix_core.wan.lora_formats import Adapter
from tests.flows.test_commands import project
from tests.wan.published_folder import published_folder
from tests.wan.test_lora_export import card

PROMPT = {
    "id": "one",
    "category": "single",
    "characters": ["Tom"],
    "actions": [{"name": "Tom", "action": "runs"}],
    "style": "cartoon",
}
TINY = (
    "backbone: {name: tiny-random-wan}\noverlays: {backend: none}\n"
    "transcripts: {asr_backend: none}\ncutouts: {backend: grabcut}\n"
)


def settings(folder: Path, more: str = "samples: {prompts: prompts.yaml}\n") -> Path:
    (folder / "prompts.yaml").write_text(yaml.safe_dump({"prompts": [PROMPT]}))
    return project(folder, TINY + more)


def test_complete_settings_pass(tmp_path: Path) -> None:
    check_before_run(load_config(settings(tmp_path)), "benchmark")


@pytest.mark.parametrize("command", ["run", "generate", "score"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "key samples.prompts: no file"),
        (lambda path: path.write_text("prompts: ["), "prompts.yaml"),
        (lambda path: path.write_text("prompts: []"), "prompts.yaml, line 1, key prompts"),
        (
            lambda path: path.write_text(
                yaml.safe_dump({"prompts": [PROMPT | {"characters": ["Jo"]}]})
            ),
            "prompts.yaml, line",
        ),
        (
            lambda path: path.write_text(
                yaml.safe_dump(
                    {
                        "prompts": [
                            PROMPT
                            | {"characters": ["Jo"], "actions": [{"name": "Jo", "action": "runs"}]}
                        ]
                    }
                )
            ),
            "no character is named 'Jo'",
        ),
    ],
)
def test_unusable_prompts_stop_a_run_before_any_work(
    tmp_path: Path, command: str, spoil: Callable[[Path], object], message: str
) -> None:
    path = settings(tmp_path)
    spoil(tmp_path / "prompts.yaml")
    result = CliRunner().invoke(app, [command, str(path)], env={"COLUMNS": "2000"})
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "workspace").exists()


def adapter_settings(folder: Path, *names: str) -> Path:
    chosen = ", ".join(f"{{path: {name}}}" for name in names)
    return settings(folder, f"samples: {{prompts: prompts.yaml, adapters: [{chosen}]}}\n")


@pytest.mark.parametrize(
    ("names", "shape", "value", "message"),
    [
        (("x.lora_A.weight", "x.lora_B.weight"), (96, 96), 1.0, "are not a LoRA of Wan"),
        (("{q}.lora_A.weight", "{q}.lora_B.weight"), (64, 64), 1.0, "does not fit the backbone"),
        (("{q}.lora_A.weight", "{q}.lora_B.weight"), (96, 96), float("nan"), "non-finite values"),
        (("{q}.lora_A.weight",), (96, 96), 1.0, "only one half of its pair"),
        (("{q}.dora_scale",), (96, 96), 1.0, "it has DoRA"),
    ],
)
def test_an_unusable_adapter_stops_a_run_before_any_work(
    tmp_path: Path, names: tuple[str, ...], shape: tuple[int, int], value: float, message: str
) -> None:
    path = adapter_settings(tmp_path, "bad.safetensors")
    layer = "diffusion_model.blocks.0.self_attn.q"
    save_file(
        {name.format(q=layer): torch.full(shape, value) for name in names},
        tmp_path / "bad.safetensors",
    )
    result = CliRunner().invoke(app, ["generate", str(path)], env={"COLUMNS": "2000"})
    assert result.exit_code == 2
    assert message in result.output
    assert str(tmp_path / "bad.safetensors") in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "workspace").exists()


def test_adapters_are_found_beside_the_settings_and_all_are_checked(tmp_path: Path) -> None:
    path = adapter_settings(tmp_path, "good.safetensors", "no.safetensors", "pickle.pt")
    layer = "diffusion_model.blocks.0.self_attn.q"
    halves = {f"{layer}.lora_A.weight": torch.ones(2, 96)}
    halves[f"{layer}.lora_B.weight"] = torch.ones(96, 2)
    save_file(halves, tmp_path / "good.safetensors")
    torch.save(halves, tmp_path / "pickle.pt")
    config = load_config(path)
    assert [one.path.parent for one in config.samples.adapters] == [tmp_path] * 3
    [problem] = map(str, find_problems(config, "benchmark", with_models=False))
    assert "no.safetensors: the file does not exist" in problem
    assert "pickle.pt: is a pickle" in problem
    assert "good.safetensors" not in problem


def test_a_training_needs_no_prompts(tmp_path: Path) -> None:
    check_before_run(load_config(settings(tmp_path, "")), "train")


@pytest.mark.parametrize(
    ("more", "flow", "message"),
    [
        ("samples: {width: 480, height: 272}\n", "generate", "no prompts to generate from"),
        (
            "lora: {show_repeats: {tm: 2}}\n",
            "train",
            "lora.show_repeats: no show has the id 'tm'. The library has ",
        ),
        (
            "lora: {use_dora: true}\nsamples: {adapter_weight: 0.5}\n",
            "generate",
            "a DoRA cannot be added to other adapters, nor used at another strength than 1",
        ),
        (
            "lora: {trackers: [wandb]}\n",
            "train",
            r"lora.trackers: wandb (is not installed|needs a key)",
        ),
    ],
)
def test_later_phases_are_checked_before_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, flow: str, message: str
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(BadInput, match=message):
        check_before_run(load_config(settings(tmp_path, more)), flow)


def published(folder: Path, name: str, more: str = "") -> Path:
    """Settings of a published backbone, whose folder lies next to them."""
    published_folder(folder / "wan", model_registry.get_backbone(name))
    return published_project(folder, name, more)


def published_project(folder: Path, name: str, more: str = "") -> Path:
    """Settings of a published backbone whose folder will be next to them."""
    text = TINY.replace("{name: tiny-random-wan}", f"{{name: {name}, path: wan}}")
    return project(folder, text + more)


@pytest.mark.parametrize("command", ["run", "train", "generate", "score"])
def test_a_damaged_backbone_stops_a_run_before_any_work(tmp_path: Path, command: str) -> None:
    path = published(tmp_path, "wan2.1-t2v-14b")
    index = tmp_path / "wan" / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    first = index.name.removesuffix(".index.json")
    shards = {"w": first, "x": "model-00002-of-00002.safetensors"}
    index.write_text(json.dumps({"weight_map": shards}))
    result = CliRunner().invoke(app, [command, str(path)], env={"COLUMNS": "2000"})
    assert result.exit_code == 2
    assert "1 of 2 weight files of its index are missing" in result.output
    assert "model-00002-of-00002.safetensors" in result.output
    assert not (tmp_path / "workspace").exists()
    check_before_run(load_config(path), "augment")


@pytest.mark.parametrize("command", ["run", "train"])
def test_wan_2_2_is_not_trained_as_wan_2_1(tmp_path: Path, command: str) -> None:
    path = published(tmp_path, "wan2.1-t2v-14b")
    (tmp_path / "wan" / "transformer_2").mkdir()
    result = CliRunner().invoke(app, [command, str(path)], env={"COLUMNS": "2000"})
    assert result.exit_code == 2
    assert "Wan2.2-T2V-A14B, not wan2.1-t2v-14b" in result.output


def test_sizes_and_layers_that_the_backbone_lacks_are_found(tmp_path: Path) -> None:
    path = published(
        tmp_path,
        "wan2.2-ti2v-5b",
        "clips: {width: 624, height: 624}\nlora: {target_modules: [to_qkv]}\n",
    )
    with pytest.raises(BadInput) as caught:
        check_before_run(load_config(path), "train")
    message = str(caught.value)
    assert "clips.width and clips.height: 624x624: wan2.2-ti2v-5b takes multiples of 32" in message
    assert "lora.target_modules: the transformer has no layer to_qkv" in message


@pytest.mark.parametrize("flow", ["train", "benchmark"])
def test_a_backbone_of_another_frame_rate_has_to_be_accepted(tmp_path: Path, flow: str) -> None:
    """Wan2.2-TI2V-5B was trained on 24 frames per second, LTX-Video is told the rate."""
    size = "clips: {width: 832, height: 480}\nsamples: {height: 448, prompts: prompts.yaml}\n"
    (tmp_path / "prompts.yaml").write_text(yaml.safe_dump({"prompts": [PROMPT]}))
    path = published(tmp_path, "wan2.2-ti2v-5b", size)
    with pytest.raises(BadInput, match="was trained on 24 frames per second, but") as caught:
        check_before_run(load_config(path), flow)
    assert "clips.frame_rate to 24" in str(caught.value)
    assert "samples.num_frames to 121" in str(caught.value)
    text = path.read_text()
    path.write_text(text.replace("backbone: {", "backbone: {accept_clip_rate: true, "))
    check_before_run(load_config(path), flow)
    path.write_text(text.replace("clips: {", "clips: {frame_rate: 24, frames: 121, "))
    check_before_run(load_config(path), flow)
    ltx = text.replace("wan2.2-ti2v-5b", "tiny-random-ltx").replace(", path: wan", "")
    path.write_text(f"{ltx}lora: {{target_modules: []}}\n")
    check_before_run(load_config(path), flow)
    told = path.read_text().replace("clips: {", "clips: {frame_rate: 24, ")
    for accepted in ("false", "true"):
        path.write_text(told.replace("backbone: {", f"backbone: {{accept_clip_rate: {accepted}, "))
        with pytest.raises(BadInput, match="is told the frame rate, and MiMix tells it 16"):
            check_before_run(load_config(path), flow)


EXPERTS = TINY.replace("tiny-random-wan", "tiny-random-wan-experts")


def test_settings_of_experts_are_refused_for_one_transformer_alone(tmp_path: Path) -> None:
    more = (
        "samples: {prompts: prompts.yaml, guidance_scale_low_noise: 3}\n"
        "lora: {experts: [low-noise]}\n"
    )
    with pytest.raises(BadInput) as caught:
        check_before_run(load_config(settings(tmp_path, more)), "generate")
    for key in ("lora.experts", "samples.guidance_scale_low_noise"):
        assert f"key {key}: names an expert, but tiny-random-wan has one transformer" in str(
            caught.value
        )
    check_before_run(load_config(project(tmp_path, EXPERTS + more)), "generate")


def test_noise_levels_that_an_expert_would_never_see_are_found(tmp_path: Path) -> None:
    lora = "lora: {timestep_sampling: logit_normal, shift: 1, logit_mean: -2, logit_std: 0.5}\n"
    path = project(tmp_path, EXPERTS + lora)
    with pytest.raises(BadInput, match=r"between 0\.875 and 1, where this expert predicts"):
        check_before_run(load_config(path), "train")
    path = project(tmp_path, EXPERTS + lora.replace("{", "{experts: [low-noise], "))
    check_before_run(load_config(path), "train")


def test_a_video_that_cannot_be_split_is_refused(tmp_path: Path) -> None:
    more = "samples: {prompts: prompts.yaml, gpus_per_video: 3}\n"
    with pytest.raises(BadInput, match=r"samples\.gpus_per_video: 4 attention heads"):
        check_before_run(load_config(project(tmp_path, TINY + more)), "generate")


@pytest.mark.parametrize("expert", ["high-noise", "low-noise"])
def test_an_adapter_of_one_expert_is_not_used_for_the_other(tmp_path: Path, expert: str) -> None:
    path = tmp_path / "adapter.safetensors"
    layers = [f"blocks.{n}.{attention}.to_q" for n in (0, 1) for attention in ("attn1", "attn2")]
    adapter = Adapter({layer: (torch.ones(4, 96), torch.ones(96, 4)) for layer in layers}, 4.0)
    lora_export.write_adapter(path, adapter, card(base="tiny-random-wan-experts", expert=expert))
    [other] = {"high-noise", "low-noise"} - {expert}
    (tmp_path / "prompts.yaml").write_text(yaml.safe_dump({"prompts": [PROMPT]}))

    def problems(more: str, flow: str) -> str:
        config = load_config(project(tmp_path, EXPERTS + more))
        return " ".join(str(problem) for problem in find_problems(config, flow))

    adapters = (
        "samples: {prompts: prompts.yaml, adapters: [{path: adapter.safetensors, expert: X}]}"
    )
    assert problems(adapters.replace("X", expert), "generate") == ""
    assert f"was trained for the {expert} expert alone" in problems(
        adapters.replace("X", other), "generate"
    )
    assert "expert alone" in problems(adapters.replace(", expert: X", ""), "generate")
    settings_ = {"high-noise": "initial_adapter", "low-noise": "initial_adapter_low_noise"}
    start = f"lora: {{rank: 4, alpha: 4, target_modules: [to_q], {settings_[expert]}: {path}}}"
    assert problems(start, "train") == ""
    assert f"is for the {expert} expert, not for the {other} expert" in problems(
        start.replace(settings_[expert] + ":", settings_[other] + ":"), "train"
    )


def test_doctor_tells_the_same(tmp_path: Path) -> None:
    path = settings(tmp_path)
    (tmp_path / "prompts.yaml").unlink()
    result = CliRunner().invoke(app, ["doctor", str(path)], env={"COLUMNS": "2000"})
    assert "samples.prompts: no file" in result.output
    assert result.exit_code == 1


def test_doctor_says_once_what_is_left_of_the_template(tmp_path: Path) -> None:
    """The library does not load: three checks look at it."""
    write_project_templates(tmp_path)
    command = ["doctor", str(tmp_path / "mimix.yaml")]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "2000"})
    assert result.exit_code == 1
    text = " ".join(result.output.replace("│", " ").split())
    assert text.count("key shows.0.episodes.0.path: no file") == 1
    problems = find_problems(load_config(tmp_path / "mimix.yaml"), "mimix", with_models=False)
    assert [str(one).count("episodes.0.path") for one in problems] == [2], "of two shows"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("dataset: {excluded_characters: [Jo]}\n", "excluded_characters: no character .* 'Jo'"),
        (
            "dataset: {new_characters: [Jo]}\nlora: {initial_adapter: a.safetensors}\n",
            "new_characters: no character is named 'Jo'",
        ),
        (
            "dataset: {new_characters: [Tom]}\n",
            "the adapter to add them to is not given.* Set lora.initial_adapter, or",
        ),
        (
            "dataset: {new_characters: [Tom]}\nlora: {initial_adapter: a.safetensors}\n"
            "backbone: {name: tiny-random-wan-experts}\n",
            "Set lora.initial_adapter_low_noise, or",
        ),
        ("lora: {max_forgetting: 0.02}\n", "nothing measures it.*dataset.new_characters"),
        (
            "dataset: {new_characters: [Tom], val_share: 0}\n"
            "lora: {max_forgetting: 0.02, initial_adapter: a.safetensors}\n",
            "nothing measures it.*dataset.val_share",
        ),
    ],
)
def test_what_adds_a_character_is_checked_as_a_whole(
    tmp_path: Path, more: str, message: str
) -> None:
    path = settings(tmp_path, "" if "backbone" in more else more)
    if "backbone" in more:
        path.write_text(path.read_text().replace("backbone: {name: tiny-random-wan}\n", more))
    config = load_config(path)
    found = "\n".join(str(problem) for problem in find_problems(config, "train"))
    assert re.search(message, found), found
    assert not (tmp_path / "workspace").exists()
