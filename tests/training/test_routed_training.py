"""Trainings in which tokens skip the middle blocks: steps, resuming, processes, validation."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch

from mimix_core.diagnostics.preflight import check_before_run
from mimix_core.engine.cache_key import canonical_json
from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings, load_config
from mimix_core.training import throughput
from mimix_core.training.data_loader import load_micro_batch, micro_batch_schedule
from mimix_core.training.launcher import run_job
from mimix_core.training.worker_messages import TrainingJob, TrainingSample, TrainingStopped
from mimix_core.wan import random_backbone, safetensors_io
from mimix_core.wan.adapter_metadata import result_settings
from mimix_core.wan.fast import offload_plan
from mimix_core.wan.fast.host_memory import HostTensors
from mimix_core.wan.lora_export import ADAPTER_FILE
from mimix_core.wan.model_registry import BACKBONES, TINY
from mimix_core.wan.token_routing import TokenRoute, plan_route
from tests.diagnostics.test_preflight import settings as project_settings
from tests.paths import ROOT
from tests.training import factories
from tests.training.test_objective import write_regions
from tests.training.test_trainer import StopAfter, digests

IMAGE = (16, 1, 4, 6)
SETTINGS = factories.SETTINGS.model_copy(
    update={
        "epochs": 1,
        "micro_batch_size": 2,
        "checkpoint_interval": 1,
        "routed_tokens": 0.5,
        "ema_decay": 0.5,
    }
)
"""3 steps of 9 samples, of three shapes."""
ROUTE = TokenRoute(0.5, (1, 2, 2))


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Wan with five blocks: tokens skip three of them."""
    config = {**TINY.transformer.config, "num_layers": 5}
    deep = replace(TINY, transformer=replace(TINY.transformer, config=config))
    folder = tmp_path_factory.mktemp("deep") / "pipeline"
    random_backbone.build_random_backbone(0, folder, deep)
    return folder / "transformer"


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingSample, ...]:
    """11 samples of two sizes and an image; some have regions."""
    folder = tmp_path_factory.mktemp("samples")
    shapes = [factories.TALL if number % 4 == 0 else factories.WIDE for number in range(10)]
    found = factories.write_samples(folder, [*shapes, IMAGE])
    return tuple(
        sample.model_copy(update={"regions": write_regions(folder, sample, number)})
        if number in (1, 4)
        else sample
        for number, sample in enumerate(found)
    )


@pytest.fixture
def make_job(
    tmp_path: Path, transformer: Path, samples: tuple[TrainingSample, ...]
) -> Callable[..., TrainingJob]:
    def make(name: str, **changed: object) -> TrainingJob:
        folder = tmp_path / name
        return TrainingJob(
            settings=SETTINGS.model_copy(update=changed),
            transformer=transformer,
            train=(*samples[:8], samples[10]),
            val=samples[8:10],
            out=folder / "out",
            adapter_metadata=factories.CARD,
            log_folder=folder / "journal",
            checkpoints=folder,
            rendezvous=tmp_path / "rendezvous",
        )

    return make


def log_of(job: TrainingJob, key: str) -> list[float]:
    lines = (job.out / "log.jsonl").read_text().splitlines()
    return [record[key] for record in map(json.loads, lines) if key in record]


def adapter_of(job: TrainingJob) -> dict[str, torch.Tensor]:
    return safetensors_io.read_tensors(job.out / ADAPTER_FILE)


def test_settings_without_routing_have_the_key_from_before_it_existed() -> None:
    plain = canonical_json(LoraSettings())
    assert "routed_tokens" not in plain
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    assert digest == "9adb35b5c1a527015a34a3cc1bbbff13a7ad7ff9d9597d54340ca8d162542ad3"
    assert "routed_tokens" not in result_settings(LoraSettings())
    assert canonical_json(LoraSettings(routed_tokens=0.5)) == {
        **plain,
        "routed_tokens": {"float": "0.5"},
    }
    assert result_settings(LoraSettings(routed_tokens=0.5))["routed_tokens"] == 0.5
    assert plan_route(LoraSettings(), {}) is None


@pytest.mark.slow
def test_tokens_do_not_depend_on_processes_micro_batches_or_order(
    samples: tuple[TrainingSample, ...],
) -> None:
    found: list[dict[tuple[int, str], torch.Tensor]] = []
    for processes, size in ((1, 1), (2, 1), (3, 2)):
        settings = SETTINGS.model_copy(
            update={"num_processes": processes, "micro_batch_size": size}
        )
        drawn: dict[tuple[int, str], torch.Tensor] = {}
        for rank in range(processes):
            for micro in micro_batch_schedule(samples[:9], range(3), settings, rank):
                batch = load_micro_batch(micro, settings, route=ROUTE)
                assert batch.processed_BK is not None
                assert batch.processed_BK.shape == (size, 9)
                for item, tokens_K in zip(micro, batch.processed_BK, strict=True):
                    drawn[item.epoch, item.occurrence] = tokens_K
        found.append(drawn)
    assert len(found[0]) == 9
    assert len({tuple(tokens_K.tolist()) for tokens_K in found[0].values()}) == 9
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        assert all(torch.equal(other[key], found[0][key]) for key in other)


@pytest.mark.slow
def test_an_interrupted_run_has_the_bytes_of_an_undisturbed_one_and_off_is_another(
    make_job: Callable[..., TrainingJob],
) -> None:
    changed = {"region_weight": 1.0, "region_preservation": 0.5, "offload_blocks": 2}
    straight, stopped = (make_job(name, **changed) for name in ("straight", "stopped"))
    factories.train_here(straight)
    with pytest.raises(TrainingStopped):
        factories.train_here(stopped, StopAfter(7))
    factories.train_here(stopped)
    assert digests(stopped) == digests(straight)
    off, none = (
        make_job(name, **{**changed, "routed_tokens": share})
        for name, share in (("off", 0.0), ("none", 0.001))
    )
    for job in (off, none):
        factories.train_here(job)
    # Validations are of all tokens: before the first step nothing differs.
    assert log_of(straight, "held_out_loss")[0] == log_of(off, "held_out_loss")[0]
    assert log_of(straight, "held_out_loss")[-1] != log_of(off, "held_out_loss")[-1]
    assert log_of(straight, "train_loss")[0] != log_of(off, "train_loss")[0]
    # A share of less than one token changes no bit.
    assert log_of(none, "train_loss") == log_of(off, "train_loss")
    assert all(
        torch.equal(adapter_of(none)[name], weight) for name, weight in adapter_of(off).items()
    )


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_activations_in_main_memory_change_no_bit_of_a_training(
    make_job: Callable[..., TrainingJob], monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    # Copies take no time, so that a tiny model's computation hides them.
    monkeypatch.setattr(offload_plan, "_COPY_BANDWIDTH", 1e15)
    offloaded: Counter[int] = Counter()
    save = HostTensors.save

    def saved(host: HostTensors, index: int, tensor: torch.Tensor) -> None:
        offloaded[index] += 1
        save(host, index, tensor)

    monkeypatch.setattr(HostTensors, "save", saved)
    here = make_job("here", routed_tokens=share)
    factories.train_here(here)
    assert not offloaded
    away = make_job(
        "away", routed_tokens=share, activation_budget_gb=0.0, offload_activations_gb=1.0
    )
    factories.train_here(away)
    # Of all blocks but the last two, the same activations in each micro batch.
    assert set(offloaded) == {0, 1, 2}
    assert len(set(offloaded.values())) == 1
    assert log_of(away, "train_loss") == log_of(here, "train_loss")
    assert log_of(away, "held_out_loss") == log_of(here, "held_out_loss")
    for name, weight in adapter_of(here).items():
        assert torch.equal(adapter_of(away)[name], weight)


@pytest.mark.e2e
def test_the_held_out_loss_falls_with_half_of_the_tokens(
    make_job: Callable[..., TrainingJob],
) -> None:
    job = make_job("longer", epochs=12)
    factories.train_here(job)
    losses = log_of(job, "held_out_loss")
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.e2e
@pytest.mark.parametrize("changed", [{}, {"zero_stage": 3}])
def test_two_processes_train_as_one_does(
    make_job: Callable[..., TrainingJob], changed: dict[str, object]
) -> None:
    one = make_job("one")
    factories.train_here(one)
    two = make_job("two", num_processes=2, **{"zero_stage": 2, **changed})
    two.out.mkdir(parents=True)
    run_job(two, two.out / "train.log", lambda *_: None)
    assert log_of(one, "train_loss") == pytest.approx(log_of(two, "train_loss"), rel=1e-3)
    for name, weight in adapter_of(one).items():
        assert torch.allclose(adapter_of(two)[name], weight, atol=2e-3), name


def test_flops_are_those_of_the_tokens_that_blocks_process() -> None:
    config = BACKBONES["wan2.1-t2v-14b"].transformer.config

    def flops(frames: int, blocks: int, **asked: float) -> float:
        return throughput.count_sample_flops(
            {**config, "num_layers": blocks},
            (16, frames, 60, 104),
            rank=32,
            targets=LoraSettings().target_modules,
            **asked,
        )

    # 35 of 40 blocks with 10 of 20 frames.
    per_block = flops(20, 40) - flops(20, 5)
    fewer = flops(10, 40) - flops(10, 5)
    assert flops(20, 40, routed=0.5) == pytest.approx(flops(20, 40) - per_block + fewer, rel=1e-9)
    assert flops(20, 40, routed=0.5) / flops(20, 40) == pytest.approx(0.43, abs=0.01)


@pytest.mark.slow
def test_the_measurement_of_a_step_runs_at_a_small_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "perf")
    train, train_steps = import_module("perf.train"), import_module("train_steps")
    value_at = import_module("perf.record").value_at
    sizes = {"num_attention_heads": 2, "attention_head_dim": 16, "ffn_dim": 64, "num_layers": 5}
    small = partial(train_steps.measure, sizes=sizes, latents=(16, 3, 8, 8), device="cpu")
    monkeypatch.setattr(train_steps, "measure", small)
    train_steps.main(tmp_path / "routed.json", list(train.PARTS["routed"][1:]), steps=1)
    found = json.loads((tmp_path / "routed.json").read_text())
    wanted = [figure for figure in train.FIGURES.values() if figure[0] == "routed"]
    assert len(wanted) == 5
    for part, keys, *_ in wanted:
        assert value_at({"routed": found}, (part, *keys)) is not None
    assert found["mimix"]["loss_difference"] == pytest.approx(0, abs=0.01)
    assert abs(found["mimix_routed"]["loss"] - found["mimix"]["loss"]) > 1e-3
    assert found["mimix_routed"]["kept_gb"] < found["mimix"]["kept_gb"]


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        ("tiny-random-ltx", "routed_tokens is not implemented for LTXVideoTransformer3DModel"),
        ("tiny-random-wan", "a transformer of 2 blocks has no middle ones"),
    ],
)
def test_what_cannot_be_routed_is_refused_before_any_work(
    tmp_path: Path, backbone: str, said: str
) -> None:
    path = project_settings(tmp_path, "lora: {routed_tokens: 0.5, target_modules: []}\n")
    path.write_text(path.read_text().replace("tiny-random-wan", backbone))
    with pytest.raises(BadInput, match=said):
        check_before_run(load_config(path), "train")
