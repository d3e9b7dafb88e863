"""Hold training to its promises at tiny size: it runs, comes home in parts, and goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from miniature import backbone, base_training, checkpoints, judge_training, vae_training
from miniature.training_run import Run


@pytest.mark.e2e
def test_judge_vae_and_base_train_and_a_base_goes_on(tmp_path: Path) -> None:
    run = Run(
        torch.device("cpu"),
        tmp_path / "state",
        tmp_path / "out",
        backbone.TINY,
        workers=0,
        scale=1 / 64,
    )
    judge_training.train_judge(run, 0.01)
    vae_training.train_vae(run, 0.01)

    def two_steps() -> None:
        base_training.train_base(run, 1e9, 1e9, compile_blocks=False, stop=lambda step: step >= 2)

    two_steps()
    # Only what can be carried is left: the full state is gone, as on another machine.
    (run.state / "base-full.pt").unlink()
    two_steps()
    content = checkpoints.load(run.out, "base-average")
    assert content["steps"] == 4
    assert content["pieces"] == 2
    assert 0 <= base_training.evaluate_base(run, base_training.load_base(run), 2, steps=2) <= 1
    lines = [json.loads(line) for line in (run.out / "pretrain.jsonl").read_text().splitlines()]
    said = {line["what"]: line for line in lines}
    assert said["base resumed"]["steps"] == 2
    assert {"judge held-out", "vae held-out", "base sampled"} <= set(said)


def test_noise_levels_are_spread_over_the_whole_range() -> None:
    levels = base_training.noise_levels(1000, 1.0, torch.device("cpu"))
    counts = torch.histc(levels, bins=10, min=0, max=1)
    assert (counts == 100).all()
    shifted = base_training.noise_levels(1000, 3.0, torch.device("cpu"))
    assert float(shifted.median()) == pytest.approx(0.75, abs=0.01)
