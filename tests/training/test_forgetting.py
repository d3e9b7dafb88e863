"""Adding a character: what the old ones lose is measured, bounded, and said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mimix_core.engine.artifacts import digest_file
from mimix_core.errors import BadInput, StageFailed
from mimix_core.settings import LoraSettings
from mimix_core.training import checkpoint, stage
from mimix_core.training.epoch_adapters import epoch_adapter_path
from mimix_core.training.forgetting import (
    EARLIER_STEP_NOTE,
    describe_forgetting,
    describe_outcome,
    last_step_within,
    nothing_within_bound,
)
from mimix_core.training.launcher import run_job
from mimix_core.training.validation_samples import (
    SAMPLES_OF_AN_OLD_CHARACTER,
    select_validation_samples,
)
from mimix_core.training.worker_messages import TrainingJob, TrainingSample, TrainingStopped
from mimix_core.wan import lora_export, safetensors_io
from mimix_core.wan.adapter_metadata import AdapterMetadata
from tests.training import factories
from tests.training.test_trainer import StopAfter
from tests.training.test_validation_samples import PAPER, samples

NEW = "Eve"
OLD_SETTINGS = factories.SETTINGS.model_copy(
    update={"epochs": 6, "schedule": "constant", "ema_decay": 0.5}
)
ADD_SETTINGS = OLD_SETTINGS.model_copy(
    update={
        "epochs": 4,
        "learning_rate": 3e-2,
        "epoch_adapter_interval": 1,
        "warmup_steps": 0,
        "validation_quantiles": 1,
    }
)


def sample(folder: Path, name: str, number: int, *characters: str) -> TrainingSample:
    """Clips with Eve are bright where the others are dark, and the captions are the same."""
    folder.mkdir(parents=True, exist_ok=True)
    ref = factories.write_latents(folder / f"{name}.latents", number, factories.WIDE)
    if NEW in characters:
        latents = 1 - 2 * safetensors_io.read_tensors(ref.file)["clip"]
        safetensors_io.write_tensors(ref.file, {"clip": latents})
    return TrainingSample(
        sample_id=name,
        show="show",
        style="cartoon",
        characters=characters,
        latents=ref,
        text=factories.write_text(folder / f"{name}.text"),
    )


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[TrainingSample, ...]]:
    folder = tmp_path_factory.mktemp("clips")
    return {
        "old": tuple(sample(folder, f"old{n}", n, "Bunny") for n in range(8)),
        "new": tuple(sample(folder, f"new{n}", 20 + n, NEW) for n in range(4)),
        "val": (
            sample(folder, "val-bunny", 3, "Bunny"),
            sample(folder, "val-frank", 5, "Frank"),
            sample(folder, "val-both", 21, "Bunny", NEW),
            sample(folder, "val-eve", 22, NEW),
        ),
    }


@pytest.fixture(scope="module")
def initial(
    tmp_path_factory: pytest.TempPathFactory,
    transformer_folder: Path,
    clips: dict[str, tuple[TrainingSample, ...]],
) -> Path:
    """An adapter that was trained on Bunny."""
    folder = tmp_path_factory.mktemp("initial")
    job = TrainingJob(
        settings=OLD_SETTINGS,
        transformer=transformer_folder,
        train=clips["old"],
        val=(),
        out=folder / "out",
        adapter_metadata=factories.CARD,
        checkpoints=folder,
        rendezvous=folder / "rendezvous",
    )
    factories.train_here(job)
    return job.out / lora_export.ADAPTER_FILE


@pytest.fixture(scope="module")
def adding(
    tmp_path_factory: pytest.TempPathFactory,
    transformer_folder: Path,
    initial: Path,
    clips: dict[str, tuple[TrainingSample, ...]],
) -> Callable[..., TrainingJob]:
    root = tmp_path_factory.mktemp("adding")

    def make(name: str, *, replayed: int = 0, **changed: object) -> TrainingJob:
        folder = root / name
        return TrainingJob(
            settings=LoraSettings.model_validate(
                ADD_SETTINGS.model_dump() | {"validation_interval": 1} | changed
            ),
            transformer=transformer_folder,
            initial_adapter=initial,
            new_characters=(NEW,),
            train=(*clips["new"], *clips["old"][:replayed]),
            val=clips["val"],
            out=folder / "out",
            adapter_metadata=factories.CARD,
            log_folder=folder / "journal",
            checkpoints=folder,
            rendezvous=root / "rendezvous",
        )

    return make


@pytest.fixture(scope="module")
def free(adding: Callable[..., TrainingJob]) -> TrainingJob:
    """Four steps on Eve alone, without a bound, and the adapter of each."""
    job = adding("free")
    factories.train_here(job)
    return job


def old_losses(job: TrainingJob) -> dict[int, dict[str, float]]:
    records = [json.loads(line) for line in (job.out / "log.jsonl").read_text().splitlines()]
    return {
        record["step"]: {name: group["loss"] for name, group in record["old_character"].items()}
        for record in records
        if "old_character" in record
    }


def metadata(job: TrainingJob) -> AdapterMetadata:
    return lora_export.read_metadata(job.out / lora_export.ADAPTER_FILE)[0]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return safetensors_io.read_tensors(path)


def worst(losses: dict[int, dict[str, float]], step: int) -> float:
    return max(loss / losses[0][name] - 1 for name, loss in losses[step].items())


@pytest.mark.slow
def test_the_adapter_is_that_of_the_last_validation_within_the_bound(
    adding: Callable[..., TrainingJob], free: TrainingJob
) -> None:
    losses = old_losses(free)
    assert set(losses) == {0, 1, 2, 3, 4}
    assert set(losses[0]) == {"Bunny", "Frank"}, "of clips without Eve"
    assert metadata(free).step is None
    assert metadata(free).forgetting == pytest.approx(
        {name: loss / losses[0][name] - 1 for name, loss in losses[4].items()}, abs=1e-5
    )
    assert worst(losses, 1) < worst(losses, 2) < worst(losses, 4), "without replay they forget"
    assert worst(losses, 3) > worst(losses, 2)

    bound = (worst(losses, 2) + worst(losses, 3)) / 2
    bounded = adding("bounded", max_forgetting=bound)
    factories.train_here(bounded)
    assert old_losses(bounded) == losses, "the training itself is the same"
    for ema in (False, True):
        found = bounded.out / (lora_export.EMA_ADAPTER_FILE if ema else lora_export.ADAPTER_FILE)
        wanted = weights(free.out / epoch_adapter_path(2, ema=ema))
        for name, tensor in weights(found).items():
            assert torch.equal(tensor, wanted[name]), name
    noted = metadata(bounded)
    assert noted.step == 2
    assert noted.forgetting is not None
    assert max(noted.forgetting.values()) <= bound
    assert noted.epoch is None

    loose = adding("loose", max_forgetting=10.0)
    factories.train_here(loose)
    assert metadata(loose).step is None
    for name, tensor in weights(loose.out / lora_export.ADAPTER_FILE).items():
        assert torch.equal(tensor, weights(free.out / lora_export.ADAPTER_FILE)[name]), name

    with pytest.raises(StageFailed, match=r"none of 4 validations .* after step 1: .*No adapter"):
        factories.train_here(adding("strict", max_forgetting=worst(losses, 1) / 2))


@pytest.mark.slow
def test_replay_makes_old_characters_forget_less(
    adding: Callable[..., TrainingJob], free: TrainingJob
) -> None:
    replayed = adding("replayed", replayed=8)
    factories.train_here(replayed)
    last = max(old_losses(replayed))
    assert worst(old_losses(replayed), last) < 0.5 * worst(old_losses(free), 4)


@pytest.mark.slow
def test_an_interrupted_run_gives_the_same_adapter(
    adding: Callable[..., TrainingJob], free: TrainingJob
) -> None:
    losses = old_losses(free)
    bound = (worst(losses, 2) + worst(losses, 3)) / 2
    straight = adding("straight", max_forgetting=bound)
    stopped = adding("stopped", max_forgetting=bound)
    factories.train_here(straight)
    with pytest.raises(TrainingStopped):
        factories.train_here(stopped, StopAfter(30))
    latest = checkpoint.latest_checkpoint(stopped.checkpoints or Path(), pytest.fail)
    assert latest is not None
    assert latest.step == 3
    factories.train_here(stopped)
    for name in (lora_export.ADAPTER_FILE, lora_export.EMA_ADAPTER_FILE, "log.jsonl"):
        assert digest_file(stopped.out / name) == digest_file(straight.out / name), name

    broken = adding("broken", max_forgetting=bound)
    with pytest.raises(TrainingStopped):
        factories.train_here(broken, StopAfter(30))
    [saved] = (broken.checkpoints or Path()).glob("within-bound/step-000002/*weights.safetensors")
    saved.write_bytes(saved.read_bytes()[:-8])
    with pytest.raises(StageFailed, match="after step 2, the last one within"):
        factories.train_here(broken)


@pytest.mark.e2e
def test_two_processes_go_back_to_the_step_that_one_does(
    adding: Callable[..., TrainingJob], free: TrainingJob, tmp_path: Path
) -> None:
    losses = old_losses(free)
    bound = (worst(losses, 2) + worst(losses, 3)) / 2
    two = adding("two", max_forgetting=bound, num_processes=2, zero_stage=2)
    two.out.mkdir(parents=True)
    finished = run_job(two, tmp_path / "train.log", lambda *_: None)
    assert str(finished.notes[EARLIER_STEP_NOTE]).startswith("of step 2, not of the last step 4")
    assert str(finished.notes["forgetting"]).count(" %") == 2
    assert metadata(two).step == 2
    for name, tensor in weights(two.out / lora_export.ADAPTER_FILE).items():
        wanted = weights(free.out / epoch_adapter_path(2))[name]
        assert torch.allclose(tensor, wanted, atol=2e-3), name


def test_a_bound_that_nothing_measures_is_refused_before_the_training(
    tmp_path: Path, transformer_folder: Path
) -> None:
    inputs = factories.stage_inputs(tmp_path / "inputs", transformer_folder)
    used = factories.SETTINGS.model_copy(update={"max_forgetting": 0.02})
    with pytest.raises(BadInput, match="no character is added"):
        stage.plan_training(inputs, used, tmp_path / "out")
    added = inputs.model_copy(update={"new_characters": ("Bunny",)})
    with pytest.raises(BadInput, match="no held-out sample shows old characters alone"):
        stage.plan_training(added, used, tmp_path / "out")
    other = inputs.model_copy(update={"new_characters": ("Eve",)})
    planned = stage.plan_training(other, used, tmp_path / "out")
    assert planned.job.new_characters == ("Eve",)
    plain = stage.STAGE.key(inputs, factories.SETTINGS)
    assert stage.STAGE.key(inputs, factories.SETTINGS.model_copy()) == plain
    assert stage.STAGE.key(other, factories.SETTINGS) != plain
    assert stage.STAGE.key(inputs, used) != plain


def test_each_old_character_is_measured_though_a_short_training_pays_for_less() -> None:
    held_out = [
        *samples("a", 200, "Tom"),
        *samples("a", 50, "Tom", NEW),
        *samples("a", 6, "Spike"),
        *samples("a", 2, "Tyke"),
        *samples("a", 30, NEW),
    ]
    settings = LoraSettings(epochs=1)
    few = select_validation_samples(held_out, 640, settings)
    assert len(few) < 3
    chosen = select_validation_samples(held_out, 640, settings, (NEW,))
    old = [one for one in chosen if NEW not in one.characters]
    counts = {name: sum(name in one.characters for one in old) for name in ("Tom", "Spike", "Tyke")}
    assert counts == {"Tom": SAMPLES_OF_AN_OLD_CHARACTER, "Spike": 4, "Tyke": 2}
    assert [one for one in few if one not in chosen] == []
    many = select_validation_samples(held_out, PAPER, LoraSettings(), (NEW,))
    assert many == select_validation_samples(held_out, PAPER, LoraSettings())


LOSSES = {
    0: {"Tom": 0.5, "Bean": 0.4},
    10: {"Tom": 0.505, "Bean": 0.4},
    20: {"Tom": 0.49, "Bean": 0.42},
}


def test_every_old_character_is_to_be_within_the_bound() -> None:
    assert last_step_within(LOSSES, 0.1) == 20
    assert last_step_within(LOSSES, 0.02) == 10
    assert last_step_within(LOSSES, 0.005) == 0
    assert describe_forgetting({"Tom": -0.02, "Bean": 0.05}) == "Bean +5.0 %, Tom -2.0 %"


def test_what_is_said_names_the_step_and_who_is_forgotten() -> None:
    assert describe_outcome(LOSSES, 20, 20, 0.1) == {"forgetting": "Bean +5.0 %, Tom -2.0 %"}
    notes = describe_outcome(LOSSES, 10, 20, 0.02)
    assert notes["forgetting"] == "Tom +1.0 %, Bean +0.0 %"
    assert str(notes[EARLIER_STEP_NOTE]).startswith("of step 10, not of the last step 20, where")
    assert "Bean +5.0 %" in str(notes[EARLIER_STEP_NOTE])
    text = str(nothing_within_bound(LOSSES, 0.005))
    assert "none of 2 validations" in text
    assert "Nearest, after step 10: Tom +1.0 %" in text


def test_adapters_without_an_added_character_have_the_metadata_of_before() -> None:
    assert not {"forgetting", "step", "epoch"} & factories.CARD.model_dump(mode="json").keys()
