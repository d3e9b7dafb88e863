"""Estimates of memory, disk and tokens: they follow the settings, and warn where it is too much."""

from __future__ import annotations

import re
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from typer.testing import CliRunner

from flows.cli import app
from mimix_core.diagnostics import training_estimates
from mimix_core.diagnostics.doctor import run_checks
from mimix_core.diagnostics.machine_check import GpuMemory, MachineCheck
from mimix_core.diagnostics.run_estimates import estimate_run
from mimix_core.diagnostics.training_estimates import adapter_parameters
from mimix_core.settings import load_config
from mimix_core.wan.expected_tensors import expected_tensors
from mimix_core.wan.model_registry import get_backbone
from tests.diagnostics.test_preflight import PROMPT, published

LARGE = "wan2.1-t2v-14b"
SIZE = "clips: {width: 832, height: 480}\n"
LTX_LORA = "target_modules: []"
Usage = namedtuple("Usage", "total used free")


def estimates(
    folder: Path, more: str = SIZE, *, flow: str = "generate", gb: float | None = 80
) -> dict[str, MachineCheck]:
    path = published(folder, LARGE, f"samples: {{prompts: prompts.yaml}}\n{more}")
    (folder / "prompts.yaml").write_text(yaml.safe_dump({"prompts": [PROMPT]}))
    gpu = None if gb is None else GpuMemory("H100", int(gb * 1e9), int(gb * 1e9))
    return {check.name: check for check in estimate_run(load_config(path), flow, gpu)}


@pytest.mark.parametrize(
    ("gb", "training", "generation", "vae"),
    [
        (141, "fits; part of", "blocks stay on the GPU", "whole frames"),
        (80, "fits; part of", "blocks stay on the GPU", "whole frames"),
        (48, "(42 GB, pinned)", "blocks stay on the GPU", "whole frames"),
        (
            24,
            "40 of 40 blocks and the inputs",
            "blocks are copied from main memory",
            "whole frames",
        ),
        (16, "fits; part of", "blocks are copied from main memory", "whole frames"),
        (6, "does not fit", "blocks are copied from main memory", "decodes in tiles"),
        (2, "does not fit", "does not fit", "does not fit"),
    ],
)
def test_the_plan_follows_the_memory(
    tmp_path: Path, gb: float, training: str, generation: str, vae: str
) -> None:
    """Measured at 832 x 480 x 81: a step of training needs 53 GB at most, generation 31 GB."""
    checks = estimates(tmp_path, gb=gb)
    for name, expected in (("training", training), ("generation", generation), ("the VAE", vae)):
        check = checks[f"GPU memory for {name}"]
        assert expected in check.finding
        assert (check.state == "limited") == ("does not fit" in expected) == bool(check.fix)


@pytest.mark.parametrize(
    ("gb", "training", "generation", "vae"),
    [
        (80, "at least 9 GB", "the transformer's blocks stay on the GPU", "whole frames"),
        (24, "at least 7 GB", "the transformer's blocks stay on the GPU", "whole frames"),
        (12, "at least 7 GB", "the transformer's blocks are copied", "whole frames"),
        (10, "at least 7 GB", "the transformer's blocks are copied", "in tiles"),
        (8, "at least 7 GB", "the transformer's blocks are copied", "does not fit"),
        (6, "does not fit", "the transformer's blocks are copied", "does not fit"),
        (4, "does not fit", "does not fit", "does not fit"),
    ],
)
def test_the_plan_of_ltx_video_follows_the_memory(
    tmp_path: Path, gb: float, training: str, generation: str, vae: str
) -> None:
    """Training at 832 x 480 x 81: 3.8 GB of weights, 1.3 GB of state, 1.6 GB of activations."""
    checks = ltx_estimates(tmp_path, gb=gb)
    for name, expected in (("training", training), ("generation", generation), ("the VAE", vae)):
        check = checks[f"GPU memory for {name}"]
        assert expected in check.finding
        assert (check.state == "limited") == ("does not fit" in check.finding) == bool(check.fix)
    finding = checks["GPU memory for training"].finding
    assert ("fits; all activations are recomputed" in finding) == ("at least" in training)


def test_fixes_of_ltx_video_are_those_that_it_supports(tmp_path: Path) -> None:
    checks = ltx_estimates(tmp_path, gb=4)
    assert checks["GPU memory for training"].fix == (
        "Use a GPU with more memory, use several GPUs with lora.zero_stage 3, or set a smaller "
        "latents.width and latents.height."
    )
    assert "set samples.vae_precision to bf16, or lower" in checks["GPU memory for the VAE"].fix
    smaller = ltx_estimates(tmp_path / "bf16", samples=", vae_precision: bf16", gb=8)
    assert "fits; it decodes whole frames" in smaller["GPU memory for the VAE"].finding
    smallest = ltx_estimates(tmp_path / "2", samples=", vae_precision: bf16", gb=2)
    assert "vae_precision" not in smallest["GPU memory for the VAE"].fix


@pytest.mark.parametrize(
    ("lora", "more"),
    [
        # In GB: two samples in a micro batch, weights in fp32, a rank four times as large (of seven
        # copies), half of the weights, DoRA.
        ("micro_batch_size: 2", 1.57),
        ("precision: fp32", 3.85 + 0.59),
        ("rank: 128, alpha: 128", 3 * 7 * 0.191),
        ("zero_stage: 3, num_processes: 2", -3.85 / 2),
        ("use_dora: true", 1.13),
    ],
)
def test_memory_for_training_ltx_video_follows_the_settings(
    tmp_path: Path, lora: str, more: float
) -> None:
    def needed(folder: str, settings: str) -> float:
        checks = ltx_estimates(tmp_path / folder, f"{LTX_LORA}, {settings}")
        return float(checks["GPU memory for training"].finding.split()[2])

    assert needed("b", lora) - needed("a", "rank: 32") == pytest.approx(more, abs=1.01)


def ltx_estimates(
    folder: Path, lora: str = LTX_LORA, samples: str = "", *, gb: float = 80
) -> dict[str, MachineCheck]:
    text = f"{SIZE}lora: {{{lora}}}\nsamples: {{prompts: prompts.yaml, shift: 1.0{samples}}}\n"
    path = published(folder, "ltx-video-0.9.5", text)
    (folder / "prompts.yaml").write_text(yaml.safe_dump({"prompts": [PROMPT]}))
    gpu = GpuMemory("H100", int(gb * 1e9), int(gb * 1e9))
    return {check.name: check for check in estimate_run(load_config(path), "generate", gpu)}


def test_main_memory_for_activations_is_named_where_they_do_not_all_fit(tmp_path: Path) -> None:
    more = SIZE + "lora: {offload_activations_gb: 40, num_processes: 2}\n"
    for gb, named in ((80, True), (300, False)):
        finding = estimates(tmp_path, more, gb=gb)["GPU memory for training"].finding
        assert ("recomputed or waits in main memory (up to 80 GB, pinned)" in finding) == named


@pytest.mark.parametrize(
    ("main_gb", "lora", "state", "expected"),
    [
        (64, "", "ok", "at least 42 GB, pinned, of 64 GB available: fits"),
        (32, "", "limited", "set lora.frozen_weights to int8 (27 GB), set lora.frozen_weights to"),
        (32, "frozen_weights: int8", "ok", "at least 27 GB, pinned, of 32 GB available: fits"),
        (32, "use_dora: true", "limited", "machine with more, or set a smaller latents.width"),
        (0, "", None, ""),  # The system does not say.
    ],
)
def test_main_memory_that_a_small_card_needs_is_compared_with_what_is_available(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    main_gb: int,
    lora: str,
    state: str | None,
    expected: str,
) -> None:
    monkeypatch.setattr(training_estimates, "available_main_memory", lambda: main_gb * 10**9)
    check = estimates(tmp_path, f"{SIZE}lora: {{{lora}}}\n", gb=24).get("main memory for training")
    assert (check and check.state) == state
    assert check is None or expected in check.finding + check.fix


def test_nothing_is_said_of_main_memory_where_nothing_waits_there(tmp_path: Path) -> None:
    assert "main memory for training" not in estimates(tmp_path, gb=80)


def test_narrower_weights_are_suggested_only_where_they_make_it_fit(tmp_path: Path) -> None:
    """With all blocks in main memory, narrower weights hardly take less of the GPU."""
    narrower = "lora.frozen_weights"
    assert narrower not in estimates(tmp_path / "12", gb=12)["GPU memory for training"].fix
    whole = f"{SIZE}lora: {{offload_blocks: 0}}\n"
    check = estimates(tmp_path / "48", whole, gb=48)["GPU memory for training"]
    assert f"set {narrower} to int8" in check.fix
    int8 = f"{SIZE}lora: {{offload_blocks: 0, frozen_weights: int8}}\n"
    assert estimates(tmp_path / "int8", int8, gb=48)["GPU memory for training"].state == "ok"


@pytest.mark.parametrize(("gb", "state"), [(24.1, "ok"), (16.9, "limited")])
def test_the_doctor_takes_a_card_of_24_gb_for_large_enough(
    monkeypatch: pytest.MonkeyPatch, gb: float, state: str
) -> None:
    card = SimpleNamespace(name="RTX 4090", total_memory=int(gb * 1e9))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    [check] = [check for check in run_checks(None) if check.name == "GPU"]
    assert check.state == state
    assert ("a GPU of 24 GB or more" in check.fix) == (state == "limited")


@pytest.mark.parametrize("count", [1, 2])
def test_a_video_of_more_gpus_than_there_are_is_named(tmp_path: Path, count: int) -> None:
    more = "samples: {prompts: prompts.yaml, gpus_per_video: 2}\n"
    config = load_config(published(tmp_path, LARGE, more + SIZE))
    (tmp_path / "prompts.yaml").write_text(yaml.safe_dump({"prompts": [PROMPT]}))
    gpu = GpuMemory("H100", 80 * 10**9, 80 * 10**9, count)
    found = [check.finding for check in estimate_run(config, "generate", gpu)]
    said = "samples.gpus_per_video is 2, and this machine has 1"
    assert (said in found) == (count == 1)


def test_two_experts_take_turns_and_their_shift_is_named(tmp_path: Path) -> None:
    path = published(tmp_path, "wan2.2-t2v-a14b", f"samples: {{prompts: prompts.yaml}}\n{SIZE}")
    (tmp_path / "prompts.yaml").write_text(yaml.safe_dump({"prompts": [PROMPT]}))

    def checks(gb: int) -> dict[str, MachineCheck]:
        gpu = GpuMemory("H100", gb * 10**9, gb * 10**9)
        return {check.name: check for check in estimate_run(load_config(path), "generate", gpu)}

    assert "blocks stay on the GPU" in checks(80)["GPU memory for generation"].finding
    assert "experts take turns" in checks(48)["GPU memory for generation"].finding
    assert "copied from main memory" in checks(24)["GPU memory for generation"].finding
    # Training has one of them at a time: the same as of Wan2.1-T2V-14B.
    one = estimates(tmp_path / "one", gb=80)
    assert checks(80)["GPU memory for training"] == one["GPU memory for training"]
    assert "timestep shift" not in one
    assert "published with 12" in checks(80)["timestep shift"].finding
    assert checks(80)["timestep shift"].state == "limited"
    assert "that are saved 1.23 GB" in checks(80)["disk for training"].finding


def test_a_model_of_another_frame_rate_is_named(tmp_path: Path) -> None:
    """Wan2.2-TI2V-5B is published with 24 frames per second; clips have 16."""
    size = "clips: {width: 832, height: 480}\n"
    path = published(tmp_path, "wan2.2-ti2v-5b", size)
    [check] = [
        check
        for check in estimate_run(load_config(path), "train", None)
        if check.name == "frame rate"
    ]
    assert check.state == "limited"
    assert "wan2.2-ti2v-5b was trained on 24: to it, everything moves 1.5 times" in check.finding
    assert "frame rate" not in estimates(tmp_path / "other", flow="train")


def test_the_adapter_of_the_14b_has_the_parameters_that_peft_gives_it() -> None:
    backbone = get_backbone(LARGE)
    shapes = expected_tensors("WanTransformer3DModel", backbone.transformer.config)
    assert shapes is not None
    width, ffn = 5120, 13824
    expected = 40 * 32 * (8 * 2 * width + 2 * (width + ffn))
    assert adapter_parameters(load_like(rank=32), backbone, shapes) == expected


def load_like(rank: int):
    from mimix_core.settings import Config

    return Config.model_validate({"library": "library.yaml", "lora": {"rank": rank}})


def test_a_full_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = estimates(tmp_path / "a", gb=None)
    assert checks["disk for training"].state == "ok"
    assert "latents and embeddings take up to 12.6 GB per 1,000 clips" in (
        checks["disk for training"].finding
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, 10**8))
    assert estimates(tmp_path / "b", gb=None)["disk for training"].state == "limited"


@pytest.mark.parametrize(
    ("lora", "checkpoints", "adapters"),
    [
        # 153 million parameters of 4 bytes: 0.613 GB, with AdamW's moments 1.84 GB.
        ("", 5.52, 0.61),
        ("epoch_adapter_interval: 1", 5.52, 9 * 0.6134),
        ("max_forgetting: 0.02", 5.52, 4 * 0.6134),
        ("epoch_adapter_interval: 2, ema_decay: 0.9", 7.36, 2 * 5 * 0.6134),
        ("optimizer: adamw8bit, zero_stage: 0", 3 * 0.6134 * 1.508, 0.61),
        ("optimizer: prodigy, zero_stage: 0, learning_rate: 1", 9.20, 0.61),
    ],
)
def test_the_disk_for_checkpoints_and_adapters_follows_the_settings(
    tmp_path: Path, lora: str, checkpoints: float, adapters: float
) -> None:
    finding = estimates(tmp_path, f"{SIZE}lora: {{{lora}}}\n", gb=None)["disk for training"].finding
    found = re.search(
        r"checkpoints up to ([\d.]+) GB, the adapters that are saved ([\d.]+) GB", finding
    )
    assert found is not None
    assert [float(n) for n in found.groups()] == pytest.approx([checkpoints, adapters], abs=0.02)


def test_only_what_the_flow_does_is_estimated(tmp_path: Path) -> None:
    assert "GPU memory for generation" not in estimates(tmp_path / "a", flow="train")
    assert estimates(tmp_path / "b", flow="curate") == {}
    on_cpu = estimates(tmp_path / "c", SIZE + "lora: {device: cpu}\n")
    assert "GPU memory for training" not in on_cpu


def test_prompts_that_will_be_truncated_are_named(tmp_path: Path) -> None:
    assert estimates(tmp_path / "a")["length of the prompts"].state == "ok"
    words = " ".join(["runs"] * 600)
    prompts = [PROMPT, PROMPT | {"id": "long", "actions": [{"name": "Tom", "action": words}]}]
    path = published(tmp_path / "b", LARGE, f"samples: {{prompts: prompts.yaml}}\n{SIZE}")
    (tmp_path / "b" / "prompts.yaml").write_text(yaml.safe_dump({"prompts": prompts}))
    [check] = [
        check
        for check in estimate_run(load_config(path), "generate", None)
        if check.name == "length of the prompts"
    ]
    assert check.state == "limited"
    assert "long (" in check.finding
    assert "one (" not in check.finding


def test_doctor_tells_the_same(tmp_path: Path) -> None:
    estimates(tmp_path)
    command = ["doctor", str(tmp_path / "mimix.yaml")]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "2000"})
    assert "disk for training" in result.output
    assert "length of the prompts" in result.output
