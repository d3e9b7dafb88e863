"""Stage ``lora`` end to end: DeepSpeed in child processes on a tiny random Wan."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from mimix_core import tables
from mimix_core.engine import progress
from mimix_core.engine.artifacts import TableRef, digest_file
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput, Transient
from mimix_core.tables import LORA
from mimix_core.training import checkpoint, sample_schedule, stage
from mimix_core.training.epoch_adapters import epoch_adapter_path
from mimix_core.training.launcher import run_job
from mimix_core.wan import safetensors_io
from tests.training import factories

pytestmark = pytest.mark.slow

ADAPTER = "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, transformer_folder: Path) -> stage.LoraInputs:
    return factories.stage_inputs(tmp_path_factory.mktemp("inputs"), transformer_folder)


def killed_at(step: int, *, rank: int = 0) -> Callable[[int, int, str], None]:
    """Hears progress; kills a training process by SIGKILL once that many steps are done."""

    def hear(done: int, _total: int, _note: str) -> None:
        if done == step:
            ours = [
                process
                for process in psutil.Process().children()
                if process.status() != psutil.STATUS_ZOMBIE
                and "mimix_core.training" in process.cmdline()
            ]
            next(p for p in ours if p.environ()["RANK"] == str(rank)).kill()

    return hear


def log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.e2e
def test_a_run_killed_after_10_of_20_steps_resumes_with_the_same_bytes(
    inputs: stage.LoraInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The straight run is in this process, the other in two, without home folder or compiler."""
    settings = factories.SETTINGS.model_copy(update={"micro_batch_size": 2, "ema_decay": 0.9})
    planned = stage.plan_training(inputs, settings, tmp_path / "straight")
    straight = planned.job.model_copy(update={"rendezvous": tmp_path / "rendezvous"})
    assert len(factories.train_here(straight)) == 21

    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("PATH", "/nonexistent")
    kept = inputs.model_copy(update={"checkpoints": tmp_path / "checkpoints"})
    store = Store(tmp_path / "store")
    with (
        progress.progress_listener(killed_at(11)),
        pytest.raises(Transient, match=r"training process 0 was killed by SIGKILL"),
    ):
        run_stage(store, stage.STAGE, kept, settings)
    folder = stage.run_folder(kept, settings)
    assert folder is not None
    found = checkpoint.latest_checkpoint(folder, pytest.fail)
    assert found is not None
    assert found.step == 10

    heard: list[int] = []
    with progress.progress_listener(lambda done, *_: heard.append(done)):
        ref = run_stage(store, stage.STAGE, kept, settings).ref
    assert heard == list(range(11, 22))
    for name in (ADAPTER, "pytorch_lora_weights_ema.safetensors", "log.jsonl"):
        assert digest_file(ref.folder / name) == digest_file(straight.out / name), name
    logged = (ref.folder / "train.log").read_text()
    assert str(tmp_path) not in logged
    assert os.sep + "site-packages" not in logged
    assert_rows(ref)
    steps = [record for record in log(ref.folder) if "train_loss" in record]
    assert [record["step"] for record in steps] == list(range(1, 22))
    assert [record["lr"] for record in steps[:3]] == [0.005, 0.01, 0.01]
    assert store.record(ref).notes["steps"] == 21


def assert_rows(ref: TableRef) -> None:
    """Each dataset row is answered for."""
    rows = {row["sample_id"]: row for row in tables.read(ref.path, LORA)}
    assert {name: row["seen"] for name, row in rows.items() if row["status"] == "ok"} == {
        **{f"clip{n:02d}": 9 for n in range(9)},
        **{f"clip{n:02d}": 0 for n in (9, 10, 11)},
    }
    assert {name: row["reason"] for name, row in rows.items() if row["status"] == "failed"} == {
        "no-latent": "no_latent",
        "no-text": "no_caption",
        "other-text": "no_caption",
    }


@pytest.mark.e2e
def test_an_adapter_trained_otherwise_is_another_result_though_its_rows_are_the_same(
    inputs: stage.LoraInputs, tmp_path: Path
) -> None:
    """Else the videos of the first one would be taken for those of the second."""
    store = Store(tmp_path)
    one, two = (
        run_stage(
            store,
            stage.STAGE,
            inputs,
            factories.SETTINGS.model_copy(update={"epochs": 1, "learning_rate": rate}),
        ).ref
        for rate in (1e-3, 2e-3)
    )
    assert tables.read(one.path, LORA) == tables.read(two.path, LORA)
    assert one.content != two.content


@pytest.mark.e2e
@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_two_processes_train_as_one_does(
    inputs: stage.LoraInputs, tmp_path: Path, zero_stage: int
) -> None:
    alone = factories.SETTINGS.model_copy(
        update={
            "epochs": 2,
            "validation_interval": 3,
            "schedule": "cosine",
            "epoch_adapter_interval": 1,
        }
    )
    planned = stage.plan_training(inputs, alone, tmp_path / "one")
    one = planned.job.model_copy(update={"rendezvous": tmp_path / "rendezvous"})
    factories.train_here(one)
    shared = {"num_processes": 2, "zero_stage": zero_stage, "micro_batch_size": 2}
    settings = alone.model_copy(update=shared)
    two = run_stage(Store(tmp_path / "store"), stage.STAGE, inputs, settings).ref
    assert_same_training(one.out, two.folder)
    kept = Path(epoch_adapter_path(1)).parent
    assert_same_weights(one.out / kept, two.folder / kept)
    rates = [record["lr"] for record in log(two.folder) if "lr" in record]
    assert rates == pytest.approx([0.005, 0.01, 0.01, 0.0075, 0.0025], rel=1e-9)


@pytest.mark.e2e
def test_a_run_of_two_processes_that_lost_one_resumes_with_one(
    inputs: stage.LoraInputs, tmp_path: Path
) -> None:
    planned = stage.plan_training(inputs, factories.SETTINGS, tmp_path / "straight")
    straight = planned.job.model_copy(update={"rendezvous": tmp_path / "rendezvous"})
    factories.train_here(straight)
    kept = inputs.model_copy(update={"checkpoints": tmp_path / "checkpoints"})
    two = factories.SETTINGS.model_copy(update={"num_processes": 2, "zero_stage": 2})
    with (
        progress.progress_listener(killed_at(7, rank=1)),
        pytest.raises(Transient, match="training process 1 was killed by SIGKILL"),
    ):
        run_stage(Store(tmp_path / "store"), stage.STAGE, kept, two)
    heard: list[int] = []
    with progress.progress_listener(lambda done, *_: heard.append(done)):
        ref = run_stage(Store(tmp_path / "store"), stage.STAGE, kept, factories.SETTINGS).ref
    assert heard[0] == 6
    assert_same_training(straight.out, ref.folder)


PARENT = """
import sys
from pathlib import Path
from mimix_core.engine import progress
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.training import stage
from tests.training import factories
inputs = stage.LoraInputs.model_validate_json(Path(sys.argv[1]).read_bytes())
with progress.progress_listener(lambda done, *_: print(done, flush=True)):
    run_stage(Store(Path(sys.argv[2])), stage.STAGE, inputs, factories.SETTINGS)
"""


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_terminated_run_leaves_a_checkpoint_of_its_last_step(
    inputs: stage.LoraInputs, tmp_path: Path, number: signal.Signals
) -> None:
    """SIGTERM is passed on; SIGKILL is noticed by the processes left behind."""
    kept = inputs.model_copy(update={"checkpoints": tmp_path / "checkpoints"})
    (tmp_path / "inputs.json").write_text(kept.model_dump_json())
    root = Path(__file__).parent.parent.parent
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "inputs.json"), str(tmp_path / "store")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    while int(parent.stdout.readline()) < 7:
        pass
    parent.send_signal(number)
    assert parent.wait(120) == -number
    folder = stage.run_folder(kept, factories.SETTINGS)
    assert folder is not None
    with checkpoint.lock_run(folder, 60):  # until the processes left behind are gone
        found = checkpoint.latest_checkpoint(folder, pytest.fail)
    assert found is not None
    # Checkpoints are due after 5 and 10 steps only.
    assert found.step in (7, 8, 9)


def assert_same_training(one: Path, two: Path) -> None:
    for ours, theirs in zip(log(one), log(two), strict=True):
        assert ours.keys() == theirs.keys()
        for name in ("train_loss", "grad_norm", "lr", "val_loss", "held_out_loss"):
            if name in ours:
                assert theirs[name] == pytest.approx(ours[name], rel=1e-3), (ours["step"], name)
    assert_same_weights(one, two)


def assert_same_weights(one: Path, two: Path) -> None:
    weights = [safetensors_io.read_tensors(folder / ADAPTER) for folder in (one, two)]
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], atol=2e-3), name


def test_the_run_folder_does_not_depend_on_the_distribution_of_work(
    inputs: stage.LoraInputs, tmp_path: Path
) -> None:
    kept = inputs.model_copy(update={"checkpoints": tmp_path})

    def folder(**changed) -> Path | None:
        return stage.run_folder(kept, factories.SETTINGS.model_copy(update=changed))

    first = folder()
    assert first is not None
    assert first.parent == tmp_path
    assert (
        folder(num_processes=2, micro_batch_size=2, zero_stage=3, threads=7, device="cuda") == first
    )
    assert folder(checkpoint_interval=1, keep_checkpoints=9) == first
    assert folder(learning_rate=1.0) != first
    assert folder(seed=1) != first
    assert stage.run_folder(inputs, factories.SETTINGS) is None


def test_inputs_of_another_backbone_are_rejected(inputs: stage.LoraInputs, tmp_path: Path) -> None:
    other = inputs.model_copy(update={"backbone_name": "wan2.1-t2v-14b"})
    with pytest.raises(BadInput, match=r"made with tiny-random-wan, not wan2.1-t2v-14b"):
        stage.run(other, factories.SETTINGS, tmp_path)


def test_an_empty_training_set_is_rejected(inputs: stage.LoraInputs, tmp_path: Path) -> None:
    bare = inputs.model_copy(update={"latents": ()})
    with pytest.raises(BadInput, match="none of 15 samples can be used for training"):
        stage.run(bare, factories.SETTINGS, tmp_path)


@pytest.mark.e2e
def test_an_unreadable_sample_in_one_process_is_reported(
    inputs: stage.LoraInputs, tmp_path: Path
) -> None:
    settings = factories.SETTINGS.model_copy(update={"num_processes": 2, "epochs": 1})
    planned = stage.plan_training(inputs, settings, tmp_path)
    items = sample_schedule.plan_global_batch(planned.job.train, 0, epochs=1, batch_size=4, seed=0)
    [first, *_] = sample_schedule.split_micro_batches(items, 2, 1)[1]
    bad = first[0].sample
    gone = bad.latents.model_copy(update={"file": tmp_path / "gone"})
    train = [s.model_copy(update={"latents": gone}) if s == bad else s for s in planned.job.train]
    job = planned.job.model_copy(update={"train": tuple(train)})
    with pytest.raises(BadInput, match=r"gone: .* cannot be read"):
        run_job(job, tmp_path / "train.log", lambda *_: None)
