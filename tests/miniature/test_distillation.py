"""An adapter for few steps goes where the base goes with many, from the same noise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mimix_core.wan.foreign_adapters import read_foreign_adapter
from mimix_core.wan.generation.euler_scheduler import EqualStepsEulerScheduler
from miniature import backbone, base_training, distillation
from miniature.base_objective import share_padding
from miniature.sizes import FLOW_SHIFT, TINY
from miniature.training_run import Run


def test_levels_are_those_of_the_solver() -> None:
    scheduler = EqualStepsEulerScheduler(shift=FLOW_SHIFT)
    scheduler.set_timesteps(distillation.STEPS)
    expected = scheduler.sigmas[:-1].tolist()
    assert distillation.noise_levels(distillation.STEPS) == pytest.approx(expected, abs=1e-6)


def test_few_steps_learn_the_results_of_many(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = Run(torch.device("cpu"), tmp_path, tmp_path, TINY, workers=0, scale=1 / 64)
    base = backbone.build_base(TINY, run.device)
    torch.nn.init.normal_(base.transformer.proj_out.weight, std=0.1)
    share_padding(base)
    for _, parameter in base.parameters():
        parameter.requires_grad_(False)
    pairs = distillation.draw_pairs(run, base, 4, steps=3, guidance=4.0)
    again = distillation.draw_pairs(run, base, 4, steps=3, guidance=4.0)
    assert torch.equal(pairs.x0_BCTHW, again.x0_BCTHW)
    assert pairs.noise_BCTHW.shape == (4, TINY.channels, *base_training.latent_size())
    assert not torch.equal(pairs.noise_BCTHW[0], pairs.noise_BCTHW[1])

    def error() -> float:
        text = distillation.embed_short(base, pairs.ids_BL.long())
        found = distillation.denoise_few(base, text, pairs.noise_BCTHW.float(), steps=4)
        return float((found - pairs.x0_BCTHW.float()).square().mean())

    before = error()
    distillation.train_adapter(run, base, pairs, 1e9, 3e-3, stop=lambda step: step >= 150)
    assert error() < 0.7 * before
    distillation.write_adapter(base.transformer, tmp_path / "few.safetensors")
    adapter = read_foreign_adapter(tmp_path / "few.safetensors")
    assert len(adapter.pairs) == 10 * TINY.layers
