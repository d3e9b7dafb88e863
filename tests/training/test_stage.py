"""Stage ``lora`` for real: DeepSpeed in child processes on a tiny random Wan."""

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
from mimix_core.training.launcher import run_job
from mimix_core.wan import safetensors_io
from tests.training import made

pytestmark = pytest.mark.slow

ADAPTER = "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, transformer_folder: Path) -> stage.LoraInputs:
    return made.stage_inputs(tmp_path_factory.mktemp("inputs"), transformer_folder)


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


def test_killed_after_10_of_20_steps_and_started_again_gives_the_same_bytes(
    inputs: stage.LoraInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The straight run is in this process, the other in two, without home folder or compiler."""
    settings = made.SETTINGS.model_copy(update={"micro_batch": 2, "ema_decay": 0.9})
    planned = stage.plan(inputs, settings, tmp_path / "straight")
    straight = planned.job.model_copy(update={"rendezvous": tmp_path / "rendezvous"})
    assert len(made.train_here(straight)) == 21

    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("PATH", "/nonexistent")
    kept = inputs.model_copy(update={"checkpoints": tmp_path / "checkpoints"})
    store = Store(tmp_path / "store")
    with (
        progress.listening(killed_at(11)),
        pytest.raises(Transient, match=r"training process 0 was ended by SIGKILL"),
    ):
        run_stage(store, stage.STAGE, kept, settings)
    folder = stage.run_folder(kept, settings)
    assert folder is not None
    found = checkpoint.newest(folder, pytest.fail)
    assert found is not None
    assert found.step == 10

    heard: list[int] = []
    with progress.listening(lambda done, *_: heard.append(done)):
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


@pytest.mark.parametrize(
    "zero_stage", [2, *(pytest.param(stage, marks=pytest.mark.e2e) for stage in (0, 1, 3))]
)
def test_two_processes_train_as_one_does(
    inputs: stage.LoraInputs, tmp_path: Path, zero_stage: int
) -> None:
    alone = made.SETTINGS.model_copy(update={"epochs": 2, "validate_every": 3})
    planned = stage.plan(inputs, alone, tmp_path / "one")
    one = planned.job.model_copy(update={"rendezvous": tmp_path / "rendezvous"})
    made.train_here(one)
    shared = {"processes": 2, "zero_stage": zero_stage, "micro_batch": 2}
    settings = alone.model_copy(update=shared)
    two = run_stage(Store(tmp_path / "store"), stage.STAGE, inputs, settings).ref
    assert_same_training(one.out, two.folder)


@pytest.mark.e2e
def test_a_run_of_two_processes_that_lost_one_goes_on_in_one(
    inputs: stage.LoraInputs, tmp_path: Path
) -> None:
    planned = stage.plan(inputs, made.SETTINGS, tmp_path / "straight")
    straight = planned.job.model_copy(update={"rendezvous": tmp_path / "rendezvous"})
    made.train_here(straight)
    kept = inputs.model_copy(update={"checkpoints": tmp_path / "checkpoints"})
    two = made.SETTINGS.model_copy(update={"processes": 2, "zero_stage": 2})
    with (
        progress.listening(killed_at(7, rank=1)),
        pytest.raises(Transient, match="training process 1 was ended by SIGKILL"),
    ):
        run_stage(Store(tmp_path / "store"), stage.STAGE, kept, two)
    heard: list[int] = []
    with progress.listening(lambda done, *_: heard.append(done)):
        ref = run_stage(Store(tmp_path / "store"), stage.STAGE, kept, made.SETTINGS).ref
    assert heard[0] == 6
    assert_same_training(straight.out, ref.folder)


PARENT = """
import sys
from pathlib import Path
from mimix_core import progress
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.training import stage
from tests.training import made
inputs = stage.LoraInputs.model_validate_json(Path(sys.argv[1]).read_bytes())
with progress.listening(lambda done, *_: print(done, flush=True)):
    run_stage(Store(Path(sys.argv[2])), stage.STAGE, inputs, made.SETTINGS)
"""


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_from_outside_leaves_a_checkpoint_of_its_last_step(
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
    folder = stage.run_folder(kept, made.SETTINGS)
    assert folder is not None
    with checkpoint.held(folder, 60):  # until the processes left behind are gone
        found = checkpoint.newest(folder, pytest.fail)
    assert found is not None
    # Checkpoints are due after 5 and 10 steps only.
    assert found.step in (7, 8, 9)


def assert_same_training(one: Path, two: Path) -> None:
    for ours, theirs in zip(log(one), log(two), strict=True):
        assert ours.keys() == theirs.keys()
        for name in ("train_loss", "grad_norm", "lr", "val_loss", "held_out_loss"):
            if name in ours:
                assert theirs[name] == pytest.approx(ours[name], rel=1e-3), (ours["step"], name)
    weights = [safetensors_io.read(folder / ADAPTER) for folder in (one, two)]
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], atol=2e-3), name


def test_how_work_is_shared_out_is_no_part_of_a_runs_folder(
    inputs: stage.LoraInputs, tmp_path: Path
) -> None:
    kept = inputs.model_copy(update={"checkpoints": tmp_path})

    def folder(**changed) -> Path | None:
        return stage.run_folder(kept, made.SETTINGS.model_copy(update=changed))

    first = folder()
    assert first is not None
    assert first.parent == tmp_path
    assert folder(processes=2, micro_batch=2, zero_stage=3, threads=7, device="cuda") == first
    assert folder(checkpoint_every=1, keep_checkpoints=9) == first
    assert folder(learning_rate=1.0) != first
    assert folder(seed=1) != first
    assert stage.run_folder(inputs, made.SETTINGS) is None


def test_parts_of_another_backbone_are_refused(inputs: stage.LoraInputs, tmp_path: Path) -> None:
    other = inputs.model_copy(update={"backbone_name": "wan2.1-t2v-14b"})
    with pytest.raises(BadInput, match=r"made with tiny-random-wan, not wan2.1-t2v-14b"):
        stage.run(other, made.SETTINGS, tmp_path)


def test_nothing_to_train_on_is_refused(inputs: stage.LoraInputs, tmp_path: Path) -> None:
    bare = inputs.model_copy(update={"latents": ()})
    with pytest.raises(BadInput, match="none of 15 samples can be trained on"):
        stage.run(bare, made.SETTINGS, tmp_path)


@pytest.mark.e2e
def test_a_sample_that_only_one_process_meets_and_cannot_read_is_named(
    inputs: stage.LoraInputs, tmp_path: Path
) -> None:
    settings = made.SETTINGS.model_copy(update={"processes": 2, "epochs": 1})
    planned = stage.plan(inputs, settings, tmp_path)
    slots = sample_schedule.global_batch(planned.job.train, 0, epochs=1, batch=4, seed=0)
    [first, *_] = sample_schedule.micro_batches(slots, 2, 1)[1]
    bad = first[0].sample
    gone = bad.latents.model_copy(update={"file": tmp_path / "gone"})
    train = [s.model_copy(update={"latents": gone}) if s == bad else s for s in planned.job.train]
    job = planned.job.model_copy(update={"train": tuple(train)})
    with pytest.raises(BadInput, match=r"gone: .* cannot be read"):
        run_job(job, tmp_path / "train.log", lambda *_: None)
