"""Hold the published weights to what their card says."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import torch

from miniature import (
    backbone,
    base_training,
    captions,
    checkpoints,
    judge,
    judge_training,
    pack_weights,
    renderer,
    scenes,
    vae_training,
)
from miniature.sizes import Sizes
from miniature.training_run import Run

WEIGHTS = Path(pack_weights.__file__).parent / "weights"
MAX_BASE_BYTES = 32_000_000
"""Of the transformer, the text projection and the VAE together."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(torch.device("cpu"), WEIGHTS, tmp_path_factory.mktemp("out"), Sizes(), workers=0)


def test_the_weights_are_whole_and_small_enough() -> None:
    sizes = dict.fromkeys(("base", "vae", "judge"), 0)
    for name in sizes:
        checkpoints.load(WEIGHTS, name)
        sizes[name] = sum(path.stat().st_size for path in WEIGHTS.glob(f"{name}.*"))
    assert sizes["base"] + sizes["vae"] < MAX_BASE_BYTES


def test_packing_what_is_packed_changes_no_weight(tmp_path: Path) -> None:
    pack_weights.pack(WEIGHTS, tmp_path)
    for name in ("base", "vae", "judge"):
        before, after = (
            checkpoints.from_8_bits(checkpoints.load(folder, name)["model"])
            for folder in (WEIGHTS, tmp_path)
        )
        assert before.keys() == after.keys()
        for key, value in before.items():
            torch.testing.assert_close(after[key], value, rtol=1e-6, atol=1e-9)


@pytest.mark.e2e
@torch.no_grad()
def test_the_vae_keeps_figures_and_the_judge_recognizes_them(run: Run) -> None:
    model, threshold = judge_training.load_judge(run)
    vae = vae_training.load_vae(run)
    rng = random.Random("published")
    drawn = [judge.draw_judged_scene(rng) for _ in range(16)]
    frames = renderer.render(scenes.to_tensors(drawn)).frames_BCTHW
    decoded = backbone.decode(vae, backbone.encode(vae, frames))
    assert -10 * math.log10(float((decoded - frames).square().mean())) > 25
    for video, least in ((frames, 1.0), (decoded, 0.8)):
        found = judge.verdict(
            judge_training.judge_videos(run, model, video),
            [scene.cast[0] for scene in drawn],
            [scene.actions()[0] for scene in drawn],
        )
        assert float((found.cells >= threshold).float().mean()) >= least


@pytest.mark.e2e
@torch.no_grad()
def test_the_base_draws_both_figures_that_a_prompt_names(run: Run) -> None:
    base, vae = base_training.load_base(run), vae_training.load_vae(run)
    model, threshold = judge_training.load_judge(run)
    rng = random.Random("published prompts")
    drawn = [scenes.draw_generic_scene(rng, figure_count=2) for _ in range(4)]
    texts = [captions.caption(scene, [True, True]) for scene in drawn]
    shape = (4, run.sizes.channels, *base_training.latent_size())
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    latents = backbone.sample(base, texts, noise, steps=10, guidance=6.0)
    outputs = judge_training.judge_videos(run, model, backbone.decode(vae, latents))
    both = torch.ones(4, dtype=torch.bool)
    for place in range(2):
        cast = [scene.cast[place] for scene in drawn]
        actions = [scene.actions()[place] for scene in drawn]
        both &= judge.verdict(outputs, cast, actions).cells >= threshold
    assert int(both.sum()) >= 3
