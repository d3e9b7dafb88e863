"""Checkpoints: atomic, small, and found automatically."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mimix_core.errors import Transient
from mimix_core.settings import LoraSettings
from mimix_core.training import checkpoint
from mimix_core.training.deepspeed_engine import MOMENTS
from mimix_core.training.ema import resume_ema, start_ema

STATE = {"weight/a": torch.arange(6.0).reshape(2, 3), "exp_avg/a": torch.ones(2, 3)}


def ignore(_: str) -> None:
    pass


def test_old_checkpoints_are_removed_and_the_latest_is_found(tmp_path: Path) -> None:
    for step in (5, 10, 15, 100):
        checkpoint.write_checkpoint(tmp_path, step, STATE, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000015", "step-000100"]
    found = checkpoint.latest_checkpoint(tmp_path, ignore)
    assert found is not None
    assert found.step == 100
    assert found.load_tensors().keys() == STATE.keys()
    assert all(torch.equal(found.load_tensors()[name], value) for name, value in STATE.items())
    checkpoint.delete_checkpoints(tmp_path)
    assert checkpoint.latest_checkpoint(tmp_path, ignore) is None
    assert tmp_path.exists()


def test_a_complete_checkpoint_is_not_rewritten(tmp_path: Path) -> None:
    first = checkpoint.write_checkpoint(tmp_path, 5, STATE, keep=1)
    before = (first.folder / checkpoint.STATE_FILE).stat()
    assert checkpoint.write_checkpoint(tmp_path, 5, STATE, keep=1) == first
    after = (first.folder / checkpoint.STATE_FILE).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_empty_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoint.latest_checkpoint(tmp_path / "none", ignore) is None
    checkpoint.delete_checkpoints(tmp_path / "none")


@pytest.mark.parametrize("damage", ["cut", "no state", "no record", "half a record", "other step"])
def test_a_damaged_checkpoint_is_reported_skipped_and_rewritten(
    tmp_path: Path, damage: str
) -> None:
    checkpoint.write_checkpoint(tmp_path, 5, STATE, keep=3)
    newer = checkpoint.write_checkpoint(tmp_path, 10, STATE, keep=3)
    state, record = newer.folder / checkpoint.STATE_FILE, newer.folder / checkpoint.RECORD_FILE
    if damage == "cut":
        state.write_bytes(state.read_bytes()[:-4])
    elif damage == "no state":
        state.unlink()
    elif damage == "no record":
        record.unlink()
    elif damage == "half a record":
        record.write_text(record.read_text()[:20])
    else:
        record.write_text(json.dumps({**json.loads(record.read_text()), "step": 11}))
    told: list[str] = []
    found = checkpoint.latest_checkpoint(tmp_path, told.append)
    assert found is not None
    assert found.step == 5
    assert len(told) == 1
    assert "step-000010 is damaged" in told[0]
    checkpoint.write_checkpoint(tmp_path, 10, STATE, keep=3)
    again = checkpoint.latest_checkpoint(tmp_path, ignore)
    assert again is not None
    assert again.step == 10


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_changed_byte_is_detected(tmp_path_factory: pytest.TempPathFactory, data) -> None:
    root = tmp_path_factory.mktemp("run")
    path = checkpoint.write_checkpoint(root, 5, STATE, keep=1).folder / checkpoint.STATE_FILE
    blob = bytearray(path.read_bytes())
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(blob)
    assert checkpoint.latest_checkpoint(root, ignore) is None


def test_the_run_lock_is_exclusive_and_removes_incomplete_checkpoints(tmp_path: Path) -> None:
    left = tmp_path / ".step-000005.abc"
    left.mkdir()
    with checkpoint.lock_run(tmp_path, 0.0):
        assert not left.exists()
        with (
            pytest.raises(Transient, match="another process is training this run"),
            checkpoint.lock_run(tmp_path, 0.3),
        ):
            pass
    with checkpoint.lock_run(tmp_path, 0.0):
        pass


def test_rank_32_on_the_14b_model_takes_less_than_2_gb() -> None:
    from mimix_core.training.throughput import linear_layers

    # Wan2.1-T2V-14B's transformer/config.json
    config = {
        "num_attention_heads": 40,
        "attention_head_dim": 128,
        "num_layers": 40,
        "ffn_dim": 13824,
        "patch_size": (1, 2, 2),
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": 4096,
        "freq_dim": 256,
    }
    chosen = LoraSettings()
    numbers = sum(
        layer.count * chosen.rank * (layer.inputs + layer.outputs)
        for layer in linear_layers(config)
        if layer.name.endswith(chosen.target_modules)
    )
    assert numbers == 153_354_240
    gigabytes = 4 * numbers * (1 + len(MOMENTS)) / 1e9
    assert gigabytes == pytest.approx(1.84, abs=0.005)


def test_ema_weights_follow_the_adapter_and_survive_a_checkpoint() -> None:
    adapters = {"a": torch.zeros(3)}
    mean = start_ema(0.9, adapters)
    for step in range(1, 200):
        mean.update({"a": torch.ones(3)}, step)
        again = resume_ema(0.9, adapters, mean.checkpoint_tensors())
        assert torch.equal(again.weights["a"], mean.weights["a"])
    assert torch.allclose(mean.weights["a"], torch.ones(3), atol=1e-4)
    assert adapters["a"].eq(0).all()
    mean.update({"a": torch.zeros(3)}, 200)
    assert torch.allclose(mean.weights["a"], torch.full((3,), 0.9), atol=1e-4)
    # At first it forgets faster: after one step it is mostly that step.
    first = start_ema(0.999, adapters)
    first.update({"a": torch.ones(3)}, 1)
    assert torch.allclose(first.weights["a"], torch.full((3,), 1 - 2 / 11))
