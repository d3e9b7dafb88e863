"""Trainings that start from an adapter: MiMix's own or diffusers', which must fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mimix_core.diagnostics.preflight import check_before_run
from mimix_core.engine.artifacts import digest_file, file_ref
from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings, load_config
from mimix_core.training import stage
from mimix_core.training.worker_messages import TrainingJob, TrainingStopped
from mimix_core.wan import lora_export, safetensors_io
from mimix_core.wan.lora_formats import Adapter
from tests.diagnostics.test_preflight import settings as project_settings
from tests.training import factories
from tests.training.test_trainer import StopAfter

TARGETS = ("to_q", "to_v", "ffn.net.2")
CARD = factories.CARD.model_copy(update={"targets": TARGETS})
LAYERS = [
    f"blocks.{number}.{name}"
    for number in (0, 1)
    for name in ("attn1.to_q", "attn1.to_v", "attn2.to_q", "attn2.to_v", "ffn.net.2")
]
RANK = factories.SETTINGS.rank


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    [weights] = folder.glob("*.safetensors")
    return {name: tuple(t.shape) for name, t in safetensors_io.read_tensors(weights).items()}


@pytest.fixture(scope="module")
def adapter(transformer_folder: Path) -> Adapter:
    """Random weights: no half of a pair is zero."""
    numbers = torch.Generator().manual_seed(3)
    known = shapes(transformer_folder)
    return Adapter(
        {
            layer: (
                torch.randn(RANK, known[f"{layer}.weight"][1], generator=numbers),
                0.1 * torch.randn(known[f"{layer}.weight"][0], RANK, generator=numbers),
            )
            for layer in LAYERS
        },
        alpha=RANK,
    )


def write_own(path: Path, adapter: Adapter) -> None:
    card = CARD.model_copy(update={"rank": adapter.rank, "alpha": adapter.alpha})
    lora_export.write_adapter(path, adapter, card)


def write_by_diffusers(path: Path, adapter: Adapter) -> None:
    from diffusers import WanPipeline

    tensors = {
        f"{layer}.lora_{half}.weight": weight
        for layer, pair in adapter.pairs.items()
        for half, weight in zip("AB", pair, strict=True)
    }
    WanPipeline.save_lora_weights(
        path.parent, transformer_lora_layers=tensors, weight_name=path.name
    )


@pytest.fixture
def make_job(tmp_path: Path, transformer_folder: Path) -> Callable[..., TrainingJob]:
    def make(name: str, initial: Path | None, **changed) -> TrainingJob:
        used = factories.SETTINGS.model_copy(
            update={"epochs": 1, "target_modules": TARGETS, "ema_decay": 0.5, **changed}
        )
        folder = tmp_path / name
        return TrainingJob(
            settings=used,
            transformer=transformer_folder,
            initial_adapter=initial,
            train=factories.write_samples(folder, [factories.WIDE] * 9),
            val=(),
            out=folder / "out",
            adapter_metadata=CARD,
            log_folder=folder / "journal",
            checkpoints=folder,
            rendezvous=tmp_path / "rendezvous",
        )

    return make


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_own, write_by_diffusers])
def test_the_first_step_starts_from_its_weights(
    make_job: Callable[..., TrainingJob],
    tmp_path: Path,
    adapter: Adapter,
    write: Callable[[Path, Adapter], None],
) -> None:
    path = tmp_path / "initial.safetensors"
    write(path, adapter)
    still = make_job("still", path, learning_rate=1e-12)
    factories.train_here(still)
    for name in (lora_export.ADAPTER_FILE, lora_export.EMA_ADAPTER_FILE):
        found, _ = lora_export.read_adapter(still.out / name)
        for layer, pair in adapter.pairs.items():
            for half, weight in zip(found.pairs[layer], pair, strict=True):
                assert torch.allclose(half, weight, atol=1e-9), layer


@pytest.mark.slow
def test_an_interrupted_run_does_not_start_from_it_again(
    make_job: Callable[..., TrainingJob], tmp_path: Path, adapter: Adapter
) -> None:
    path = tmp_path / "initial.safetensors"
    write_own(path, adapter)
    straight, stopped = make_job("straight", path), make_job("stopped", path)
    factories.train_here(straight)
    with pytest.raises(TrainingStopped):
        factories.train_here(stopped, StopAfter(6))
    factories.train_here(stopped)
    for name in (lora_export.ADAPTER_FILE, lora_export.EMA_ADAPTER_FILE):
        assert digest_file(stopped.out / name) == digest_file(straight.out / name)


def test_the_key_has_its_digest_and_the_metadata_too(
    tmp_path: Path, transformer_folder: Path, adapter: Adapter
) -> None:
    inputs = factories.stage_inputs(tmp_path / "inputs", transformer_folder)
    used = factories.SETTINGS.model_copy(update={"target_modules": TARGETS})
    card = CARD.model_copy(update={"base_sha256": inputs.transformer.sha256})
    paths = [tmp_path / name for name in ("one.safetensors", "same.safetensors", "two.safetensors")]
    for path, alpha in zip(paths, (RANK, RANK, RANK), strict=True):
        lora_export.write_adapter(path, Adapter(adapter.pairs, alpha), card)
    first = min(adapter.pairs)
    other = dict(adapter.pairs) | {first: tuple(2 * half for half in adapter.pairs[first])}
    lora_export.write_adapter(paths[2], Adapter(other, RANK), card)
    started = [inputs.model_copy(update={"initial_adapter": file_ref(path)}) for path in paths]
    keys = [stage.STAGE.key(one, used) for one in started]
    assert keys[0] == keys[1]
    assert len({*keys, stage.STAGE.key(inputs, used)}) == 3
    planned = stage.plan_training(started[0], used, tmp_path / "out")
    assert planned.job.initial_adapter == paths[0]
    noted = planned.job.adapter_metadata.settings["initial_adapter_sha256"]
    assert noted == digest_file(paths[0])
    write_own(paths[0], adapter)  # of a base with another digest
    with pytest.raises(BadInput, match="was trained on tiny-random-wan"):
        stage.plan_training(started[0], used, tmp_path / "out")


LORA = (
    f"lora: {{rank: {RANK}, alpha: {RANK}, initial_adapter: a.safetensors, target_modules: [%s]}}\n"
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pairs: pairs.pop("blocks.1.ffn.net.2"), "lacks a layer .* first: blocks.1.ffn"),
        (
            lambda pairs: pairs.update({"proj_out": (torch.ones(RANK, 64), torch.ones(16, RANK))}),
            "has a layer that lora.target_modules does not name, first: proj_out",
        ),
        (
            lambda pairs: pairs.update(
                {name: (down[:4], up[:, :4]) for name, (down, up) in pairs.items()}
            ),
            "has rank 4, but lora.rank is 8.*Set lora.rank to 4",
        ),
        (
            lambda pairs: pairs.update(
                {"blocks.0.attn1.to_q": (torch.ones(RANK, 5), torch.ones(7, RANK))}
            ),
            r"does not fit the backbone: blocks.0.attn1.to_q is .* not \(7, 5\)",
        ),
        (
            lambda pairs: pairs.update(
                {"blocks.0.attn1.to_q": tuple(half * float("nan") for half in pairs[LAYERS[0]])}
            ),
            "non-finite values .* in blocks.0.attn1.to_q",
        ),
    ],
)
@pytest.mark.parametrize("write", [write_own, write_by_diffusers])
def test_an_adapter_that_does_not_fit_is_refused_before_any_work(
    tmp_path: Path,
    adapter: Adapter,
    change: Callable[[dict], object],
    message: str,
    write: Callable[[Path, Adapter], None],
) -> None:
    config = load_config(project_settings(tmp_path, LORA % ", ".join(TARGETS)))
    path = tmp_path / "a.safetensors"
    write(path, adapter)
    check_before_run(config, "train")
    pairs = dict(adapter.pairs)
    change(pairs)
    pairs = {name: (down.clone(), up.contiguous()) for name, (down, up) in pairs.items()}
    write(path, Adapter(pairs, float(min(len(down) for down, _ in pairs.values()))))
    with pytest.raises(BadInput, match=message):
        check_before_run(config, "train")
    assert not (tmp_path / "workspace").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "the file does not exist"),
        (b"", "is not a complete safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"x" * 400, "is not a complete safetensors file"),
    ],
)
def test_a_file_that_is_no_adapter_is_refused_before_any_work(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    config = load_config(project_settings(tmp_path, LORA % ", ".join(TARGETS)))
    if content is not None:
        (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(BadInput, match=message):
        check_before_run(config, "train")


def test_alpha_and_patterns_in_other_programs_metadata_are_read(
    tmp_path: Path, adapter: Adapter
) -> None:
    config = load_config(project_settings(tmp_path, LORA % ", ".join(TARGETS)))
    tensors = {
        f"transformer.{layer}.lora_{half}.weight": weight
        for layer, pair in adapter.pairs.items()
        for half, weight in zip("AB", pair, strict=True)
    }
    for metadata, message in (
        ('{"transformer.lora_alpha": 16}', "has alpha 16, but lora.alpha is 8"),
        (
            '{"transformer.alpha_pattern": {"to_q": 2}}',
            r"its layers differ in rank \(\[8\]\) or alpha \(\[2.0, 8.0\]\)",
        ),
        ("{", "metadata of diffusers cannot be read"),
        ('{"transformer.lora_alpha": "much"}', "metadata of diffusers cannot be read"),
    ):
        safetensors_io.write_tensors(
            tmp_path / "a.safetensors", tensors, {lora_export.DIFFUSERS_METADATA: metadata}
        )
        with pytest.raises(BadInput, match=message):
            check_before_run(config, "train")
    assert LoraSettings().initial_adapter is None
