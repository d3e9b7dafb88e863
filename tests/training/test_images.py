"""Images mixed into training as videos of one frame: how often, how they weigh, and exactly off."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimix_core import tables
from mimix_core.engine.artifacts import TableRef, digest_file
from mimix_core.engine.cache_key import key_parts
from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings
from mimix_core.tables import LATENTS
from mimix_core.training import sample_schedule, stage
from mimix_core.training.data_loader import load_micro_batch, noise_levels
from mimix_core.training.validation_samples import validation_share
from mimix_core.training.worker_messages import TrainingJob, TrainingSample, TrainingStopped
from mimix_core.wan import flow_matching, lora
from mimix_core.wan.lora_export import ADAPTER_FILE
from tests.training import factories
from tests.training.test_sample_schedule import SHAPES, samples
from tests.training.test_trainer import StopAfter

pytestmark = pytest.mark.slow

IMAGE = (16, 1, 4, 6)
HALF = factories.SETTINGS.model_copy(update={"image_ratio": 0.5, "epochs": 2})


def mixed(videos: int, images: int) -> list[TrainingSample]:
    """The first videos also as images."""
    known = samples(videos, shapes=2)
    shape = (16, 1, *SHAPES[0][2:])
    return known + [
        one.model_copy(
            update={
                "sample_id": f"{one.sample_id}/image",
                "image": True,
                "latents": one.latents.model_copy(update={"shape": shape}),
            }
        )
        for one in known[:images]
    ]


runs = st.fixed_dictionaries(
    {
        "videos": st.integers(1, 12),
        "images": st.integers(1, 12),
        "ratio": st.sampled_from([0.1, 0.25, 0.5, 1.0, 1.7, 3.0]),
        "epochs": st.integers(1, 4),
        "batch": st.integers(1, 9),
        "micro_batch_size": st.integers(1, 3),
        "repeats": st.sampled_from([{}, {"show": 3}]),
    }
)


@given(runs)
def test_every_epoch_has_the_ratio_and_all_images_take_turns(run) -> None:
    known = mixed(run["videos"], min(run["images"], run["videos"]))
    settings = LoraSettings(
        epochs=run["epochs"],
        global_batch_size=run["batch"],
        image_ratio=run["ratio"],
        show_repeats=run["repeats"],
    )
    length = sample_schedule.mixed_epoch_length(known, settings)
    videos = run["videos"] * run["repeats"].get("show", 1)
    assert length == videos + round(run["ratio"] * videos)
    steps = sample_schedule.count_optimizer_steps(length, run["epochs"], run["batch"])
    total: Counter[str] = Counter()
    for step in range(steps):
        items = sample_schedule.plan_global_batch(
            known[:: 1 if step % 2 else -1],
            step,
            epochs=run["epochs"],
            batch_size=run["batch"],
            seed=0,
            show_repeats=run["repeats"],
            image_ratio=run["ratio"],
        )
        assert sum(item.weight for item in items) == pytest.approx(1)
        assert len({item.weight for item in items}) == 1, "an image weighs as much as a video"
        for micro in sample_schedule.split_micro_batches(items, 1, run["micro_batch_size"])[0]:
            assert len({item.sample.shape for item in micro}) == 1
        total.update(item.sample.sample_id for item in items)
    assert total == sample_schedule.count_occurrences(known, settings)
    images = [total[sample.sample_id] for sample in known if sample.image]
    assert sum(images) == run["epochs"] * round(run["ratio"] * videos)
    assert max(images) - min(images) <= 1
    for sample in known:
        if not sample.image:
            assert total[sample.sample_id] == run["epochs"] * run["repeats"].get("show", 1)


def test_without_a_ratio_images_change_nothing() -> None:
    known = mixed(9, 9)
    for step in range(5):
        plain, more = (
            sample_schedule.plan_global_batch(some, step, epochs=2, batch_size=4, seed=0)
            for some in (known[:9], known)
        )
        assert plain == more


def test_validations_are_paid_for_by_videos_alone() -> None:
    plain = LoraSettings()
    mixed_in = plain.model_copy(update={"image_ratio": 1.0})
    # The same videos in twice as many steps, in which twice as many validations are due.
    assert validation_share(12_800, 10, mixed_in) == pytest.approx(
        2 * validation_share(6_400, 10, plain), rel=0.1
    )


@pytest.fixture(scope="module")
def inputs(
    tmp_path_factory: pytest.TempPathFactory, transformer_folder: Path
) -> tuple[stage.LoraInputs, TableRef]:
    """Nine videos to train on, and the middle frames of eight of them and of one held out."""
    folder = tmp_path_factory.mktemp("inputs")
    made = factories.stage_inputs(folder, transformer_folder)
    rows = []
    for number, name in enumerate([*(f"clip{n:02d}" for n in range(8)), "clip09"]):
        ref = factories.write_latents(folder / f"{name}.image", 100 + number, IMAGE)
        place = factories._place(ref)
        rows.append(tables.ok(sample_id=name, backbone=factories.NAME, sha256="", **place))
    return made, factories._beside(folder, "images", LATENTS, rows)


def job_of(
    inputs: tuple[stage.LoraInputs, TableRef], run: Path, settings: LoraSettings = HALF
) -> TrainingJob:
    made, images = inputs
    (run / "out").mkdir(parents=True)
    more = made.model_copy(update={"image_latents": (images,)})
    planned = stage.plan_training(more, settings, run / "out").job
    return planned.model_copy(
        update={"val": (), "checkpoints": run, "rendezvous": run / "rendezvous"}
    )


def test_only_frames_of_the_training_split_are_mixed_in(
    inputs: tuple[stage.LoraInputs, TableRef], tmp_path: Path
) -> None:
    job = job_of(inputs, tmp_path / "run")
    images = [sample for sample in job.train if sample.image]
    assert [image.sample_id for image in images] == [f"clip{n:02d}/image" for n in range(8)]
    videos = {sample.sample_id: sample for sample in job.train if not sample.image}
    for image in images:
        video = videos[image.sample_id.removesuffix("/image")]
        assert image.shape == IMAGE
        assert (image.text, image.characters) == (video.text, video.characters)


def test_a_step_is_that_of_plain_pytorch(
    inputs: tuple[stage.LoraInputs, TableRef], tmp_path: Path
) -> None:
    """One step of all samples: each is the mean over its own cells, whatever their number."""
    settings = HALF.model_copy(
        update={"epochs": 1, "global_batch_size": 13, "micro_batch_size": 2, "warmup_steps": 0}
    )
    job = job_of(inputs, tmp_path / "run", settings)
    factories.train_here(job)
    transformer = lora.load_transformer(job.transformer, torch.float32)
    lora.attach_adapter(transformer, 8, 8, settings.target_modules, 0)
    adapters = [weight for _, weight in lora.adapter_parameters(transformer)]
    items = sample_schedule.plan_global_batch(
        job.train, 0, epochs=1, batch_size=13, seed=0, image_ratio=0.5
    )
    assert sum(item.sample.image for item in items) == round(0.5 * 9)
    levels, losses = noise_levels(settings), []
    for item in items:
        batch = load_micro_batch([item], settings)
        loss = flow_matching.velocity_losses(
            transformer,
            batch.latents_BCTHW,
            batch.text_BLD,
            batch.sigma_B,
            batch.noise_BCTHW,
            torch.float32,
        )
        weight = flow_matching.loss_weight(float(batch.sigma_B), "gaussian", levels)
        losses.append(weight * loss.sum() / 13)
    sum(losses).backward()
    norm = torch.nn.utils.clip_grad_norm_(adapters, settings.max_grad_norm)
    first = json.loads((job.out / "log.jsonl").read_text().splitlines()[0])
    assert first["step"] == 1
    assert first["train_loss"] == pytest.approx(sum(losses).item(), rel=1e-5)
    assert first["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)


def test_a_stopped_run_resumes_as_if_uninterrupted(
    inputs: tuple[stage.LoraInputs, TableRef], tmp_path: Path
) -> None:
    straight, stopped = (job_of(inputs, tmp_path / name) for name in ("straight", "stopped"))
    assert factories.train_here(straight) == [1, 2, 3, 4, 5, 6, 7]
    with pytest.raises(TrainingStopped):
        factories.train_here(stopped, StopAfter(14))
    assert factories.train_here(stopped)[0] > 1
    digests = [digest_file(job.out / ADAPTER_FILE) for job in (straight, stopped)]
    assert digests[0] == digests[1]


def test_off_is_exactly_off(inputs: tuple[stage.LoraInputs, TableRef], tmp_path: Path) -> None:
    made, images = inputs
    more = made.model_copy(update={"image_latents": (images,)})
    off = factories.SETTINGS.model_copy(update={"epochs": 1})
    for some in (made, more):
        assert not any(
            sample.image for sample in stage.plan_training(some, off, tmp_path).job.train
        )
    parts = str(key_parts(made, off))
    assert "image" not in parts
    assert "image_ratio" in str(key_parts(more, HALF))


def test_images_without_any_latent_are_refused(
    inputs: tuple[stage.LoraInputs, TableRef], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="none has a latent"):
        stage.plan_training(inputs[0], HALF, tmp_path)
