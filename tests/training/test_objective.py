"""The loss weighted by regions: off it changes nothing, on it looks at the characters."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mimix_core.engine.artifacts import digest_file
from mimix_core.engine.cache_key import canonical_json
from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings
from mimix_core.tables import REGIONS, ok
from mimix_core.training import (
    data_loader,
    deepspeed_engine,
    distributed,
    objective,
    sample_schedule,
    stage,
)
from mimix_core.training.deepspeed_engine import TrainingEngine
from mimix_core.training.distributed import DistributedContext
from mimix_core.training.launcher import run_job
from mimix_core.training.sample_schedule import BatchItem
from mimix_core.training.worker_messages import TrainingJob, TrainingSample
from mimix_core.wan import flow_matching, lora, safetensors_io
from mimix_core.wan.adapter_metadata import result_settings
from mimix_core.wan.latent_regions import cell_weights
from mimix_core.wan.tensor_shards import TensorRef
from tests.training import factories

SHORT = factories.SETTINGS.model_copy(update={"epochs": 1})
ADAPTER = "pytorch_lora_weights.safetensors"


def test_settings_without_regions_have_the_key_from_before_they_existed() -> None:
    plain = canonical_json(LoraSettings())
    assert not [name for name in plain if "region" in name]
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    assert digest == "9adb35b5c1a527015a34a3cc1bbbff13a7ad7ff9d9597d54340ca8d162542ad3", (
        "the defaults changed"
    )
    assert result_settings(LoraSettings()).keys() >= {"rank", "shift"}
    assert not [name for name in result_settings(LoraSettings()) if "region" in name]
    on = LoraSettings(region_weight=1.0)
    assert "region_weight" in canonical_json(on)
    assert result_settings(on)["region_weight"] == 1.0


def write_regions(folder: Path, sample: TrainingSample, number: int) -> TensorRef:
    """Two characters: one in half of the columns, one in a single cell."""
    regions = torch.zeros(2, *sample.shape[1:], dtype=torch.uint8)
    regions[0, :, :, : sample.shape[3] // 2] = 1
    regions[1, number % 3, 0, -1] = 1
    path = folder / f"regions{number}"
    safetensors_io.write_tensors(path, {"clip": regions})
    return TensorRef(file=path, key="clip", shape=tuple(regions.shape))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingSample, ...]:
    """9 samples of two sizes; every third has no mask."""
    folder = tmp_path_factory.mktemp("samples")
    shapes = [factories.TALL if number % 4 == 0 else factories.WIDE for number in range(9)]
    return tuple(
        sample
        if number % 3 == 2
        else sample.model_copy(update={"regions": write_regions(folder, sample, number)})
        for number, sample in enumerate(factories.write_samples(folder, shapes))
    )


def make_job(
    folder: Path, transformer: Path, samples: tuple[TrainingSample, ...], **changed: object
) -> TrainingJob:
    return TrainingJob(
        settings=SHORT.model_copy(update=changed),
        transformer=transformer,
        train=samples,
        val=(),
        out=folder / "out",
        adapter_metadata=factories.CARD,
        rendezvous=folder / "rendezvous",
    )


def log_of(job: TrainingJob) -> list[dict[str, float]]:
    return [json.loads(line) for line in (job.out / "log.jsonl").read_text().splitlines()]


def adapter_of(job: TrainingJob) -> dict[str, torch.Tensor]:
    return safetensors_io.read_tensors(job.out / ADAPTER)


def unweighted(samples: tuple[TrainingSample, ...]) -> tuple[TrainingSample, ...]:
    return tuple(sample.model_copy(update={"regions": None}) for sample in samples)


@pytest.mark.slow
def test_off_the_adapter_has_the_same_bytes_and_on_another(
    tmp_path: Path, transformer_folder: Path, samples: tuple[TrainingSample, ...]
) -> None:
    jobs = {
        "before": make_job(tmp_path / "before", transformer_folder, unweighted(samples)),
        "off": make_job(tmp_path / "off", transformer_folder, samples),
        "on": make_job(tmp_path / "on", transformer_folder, samples, region_weight=2.0),
        "no-masks": make_job(
            tmp_path / "no-masks", transformer_folder, unweighted(samples), region_weight=2.0
        ),
    }
    for job in jobs.values():
        factories.train_here(job)
    for name in (ADAPTER, "log.jsonl"):
        assert digest_file(jobs["off"].out / name) == digest_file(jobs["before"].out / name)
    assert digest_file(jobs["on"].out / ADAPTER) != digest_file(jobs["off"].out / ADAPTER)
    for name, weight in adapter_of(jobs["before"]).items():
        assert torch.allclose(adapter_of(jobs["no-masks"])[name], weight, atol=1e-5), name
    steps = [record for record in log_of(jobs["on"]) if "train_loss" in record]
    # More than half of the cells and 2 of 3 of the weight are the characters'.
    assert all(0.5 < record["region_share"] < 1 for record in steps)
    for job in (jobs["off"], jobs["no-masks"]):
        assert not any("region_share" in record for record in log_of(job))


def alone(folder: Path, transformer: Path, settings: LoraSettings):
    """An engine of this process with adapters that change the prediction, and its context."""
    job = make_job(folder, transformer, ()).model_copy(update={"settings": settings})
    context = distributed.init_distributed(job)
    model = lora.load_transformer(transformer, torch.float32)
    lora.attach_adapter(model, 4, 4, ("to_q", "to_v"), 0)
    numbers = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, weight in lora.adapter_parameters(model):
            weight.copy_(0.3 * torch.randn(weight.shape, generator=numbers))
    return deepspeed_engine.init_engine(model, settings, context), context


def losses_of(
    engine: TrainingEngine,
    context: DistributedContext,
    micro: list[BatchItem],
    settings: LoraSettings,
) -> tuple[torch.Tensor, objective.SampleLosses]:
    batch = data_loader.load_micro_batch(micro, settings)
    with torch.no_grad():
        return batch.weight_B, objective.sample_losses(engine, batch, settings, context)


@pytest.mark.slow
def test_the_objective_is_the_formula_and_does_not_depend_on_the_split(
    tmp_path: Path, transformer_folder: Path, samples: tuple[TrainingSample, ...]
) -> None:
    settings = SHORT.model_copy(
        update={
            "region_weight": 2.0,
            "region_weight_limit": 20.0,
            "region_preservation": 0.5,
            "loss_weighting": "none",
        }
    )
    items = sample_schedule.plan_global_batch(samples, 0, epochs=1, batch_size=9, seed=0)
    with factories.alone():
        engine, context = alone(tmp_path, transformer_folder, settings)
        found: dict[tuple[int, int], float] = {}
        by_sample: dict[str, float] = {}
        for processes, size in ((1, 1), (2, 1), (3, 2), (2, 4)):
            total = 0.0
            for share in sample_schedule.split_micro_batches(items, processes, size):
                for micro in share:
                    weight_B, computed = losses_of(engine, context, micro, settings)
                    total += float((weight_B * computed.objective_B).sum())
                    if size == 1 and processes == 1:
                        by_sample[micro[0].sample.sample_id] = float(computed.objective_B)
            found[processes, size] = total
        assert max(found.values()) == pytest.approx(min(found.values()), rel=1e-5)
        for item in items:
            wanted = objective_by_hand(engine.transformer, item, settings)
            assert by_sample[item.sample.sample_id] == pytest.approx(wanted, rel=1e-4)


def objective_by_hand(transformer: object, item: BatchItem, settings: LoraSettings) -> float:
    """One sample, cell by cell, with the frozen model's prediction by peft's own switch."""
    clean, text = sample_schedule.load_sample(item.sample)
    sigma = data_loader.noise_levels(settings).sigma_at(item.quantile)
    noise = flow_matching.draw_training_noise(
        settings.seed, item.epoch, item.sample.sample_id, clean.shape
    )
    arguments = (
        clean[None],
        flow_matching.pad_embeddings([text]),
        torch.tensor([sigma]),
        noise[None],
        torch.float32,
    )
    with torch.no_grad():
        velocity = flow_matching.predict_velocity(transformer, *arguments)[0]
        transformer.disable_adapters()  # type: ignore[attr-defined]
        frozen = flow_matching.predict_velocity(transformer, *arguments)[0]
        transformer.enable_adapters()  # type: ignore[attr-defined]
    assert not torch.allclose(velocity, frozen, atol=1e-3)
    error = (velocity - (noise - clean)).square().mean(0).numpy().astype(np.float64)
    if item.sample.regions is None:
        return float(error.mean())
    regions = safetensors_io.read_tensors(item.sample.regions.file)["clip"].numpy().astype(bool)
    weights = cell_weights(regions, settings.region_weight, settings.region_weight_limit)
    change = (velocity - frozen).square().mean(0).numpy()[~regions.any(axis=0)]
    return float((weights * error).mean() + settings.region_preservation * change.mean())


@pytest.mark.slow
def test_without_the_adapter_a_block_is_the_frozen_model_and_gradients_are_as_before(
    transformer_folder: Path,
) -> None:
    model = lora.load_transformer(transformer_folder, torch.float32)
    lora.attach_adapter(model, 4, 4, ("to_q",), 0)
    trained = [name for name, _ in lora.adapter_parameters(model)]
    with lora.without_adapter(model):
        assert [name for name, _ in lora.adapter_parameters(model)] == trained
    with pytest.raises(KeyError), lora.without_adapter(model):
        raise KeyError
    layers = [layer for layer in model.modules() if hasattr(layer, "disable_adapters")]
    assert not any(
        layer.disable_adapters for layer in layers if isinstance(layer.disable_adapters, bool)
    )


@pytest.mark.e2e
@pytest.mark.parametrize("zero_stage", [1, 3])
def test_preservation_keeps_the_prediction_outside_nearer_to_the_frozen_model(
    tmp_path: Path,
    transformer_folder: Path,
    samples: tuple[TrainingSample, ...],
    zero_stage: int,
) -> None:
    changes = []
    for strength in (0.0, 20.0):
        job = make_job(
            tmp_path / str(strength),
            transformer_folder,
            samples,
            region_weight=1.0,
            region_preservation=strength,
            zero_stage=zero_stage,
            epochs=3,
        )
        factories.train_here(job)
        changes.append(change_outside(job))
    assert changes[1] < 0.7 * changes[0]


def change_outside(job: TrainingJob) -> float:
    """Mean squared difference to the frozen model's prediction in cells without a character."""
    model = lora.load_transformer(job.transformer, torch.float32)
    settings, total = job.settings, 0.0
    lora.attach_adapter(model, settings.rank, settings.alpha, settings.target_modules, 0)
    trained = adapter_of(job)
    with torch.no_grad():
        for name, weight in lora.adapter_parameters(model):
            weight.copy_(trained[f"transformer.{name.replace('.default', '')}"])
        for sample in (s for s in job.train if s.regions is not None):
            clean, text = sample_schedule.load_sample(sample)
            noise = flow_matching.draw_validation_noise(0, sample.sample_id, clean.shape)
            arguments = (
                clean[None],
                flow_matching.pad_embeddings([text]),
                torch.tensor([0.7]),
                noise[None],
                torch.float32,
            )
            now = flow_matching.predict_velocity(model, *arguments)[0]
            with lora.without_adapter(model):
                before = flow_matching.predict_velocity(model, *arguments)[0]
            assert sample.regions is not None
            inside = safetensors_io.read_tensors(sample.regions.file)["clip"].bool().any(dim=0)
            total += float((now - before).square().mean(0)[~inside].mean())
    return total


@pytest.mark.e2e
def test_two_processes_train_as_one_does(
    tmp_path: Path, transformer_folder: Path, samples: tuple[TrainingSample, ...]
) -> None:
    one, two = (
        make_job(
            tmp_path / str(processes),
            transformer_folder,
            samples,
            region_weight=2.0,
            region_preservation=0.5,
            num_processes=processes,
            zero_stage=2,
        )
        for processes in (1, 2)
    )
    factories.train_here(one)
    two.out.mkdir(parents=True)
    run_job(two, two.out / "train.log", lambda *_: None)
    for name, weight in adapter_of(one).items():
        assert torch.allclose(adapter_of(two)[name], weight, atol=2e-3), name
    losses = [[r["train_loss"] for r in log_of(job) if "train_loss" in r] for job in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    shares = [[r["region_share"] for r in log_of(job) if "region_share" in r] for job in (one, two)]
    assert len(shares[0]) == 3
    assert shares[0] == pytest.approx(shares[1], rel=1e-3)


@pytest.mark.slow
def test_the_stage_reads_regions_and_names_a_missing_table(
    tmp_path: Path, transformer_folder: Path
) -> None:
    inputs = factories.stage_inputs(tmp_path / "inputs", transformer_folder)
    on = SHORT.model_copy(update={"region_weight": 1.0})
    key = stage.STAGE.key(inputs, SHORT)
    with pytest.raises(BadInput, match="their table is missing"):
        stage.plan_training(inputs, on, tmp_path)
    row = ok(
        sample_id="clip00",
        backbone=factories.NAME,
        characters=["Bunny"],
        areas=[0.5],
        file="regions",
        key="clip",
        shape=[1, 3, 6, 4],
        sha256="",
    )
    table = factories._beside(tmp_path / "inputs", "regions", REGIONS, [row])
    more = inputs.model_copy(update={"regions": (table,)})
    planned = stage.plan_training(more, on, tmp_path).job.train
    assert {s.sample_id for s in planned if s.regions is not None} == {"clip00"}
    assert planned[0].regions == TensorRef(
        file=tmp_path / "inputs" / "regions", key="clip", shape=(1, 3, 6, 4)
    )
    assert stage.STAGE.key(inputs, SHORT) == key
    assert stage.STAGE.key(more, on) != key
