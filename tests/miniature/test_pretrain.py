"""Hold training to its promises at tiny size: it runs, comes home in parts, and goes on."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from miniature import (
    backbone,
    base_objective,
    base_training,
    checkpoints,
    decoder_training,
    feed,
    judge_training,
    muon,
    renderer,
    scenes,
    vae_training,
)
from miniature.sizes import TINY
from miniature.training_run import Run


@pytest.mark.e2e
def test_judge_vae_and_base_train_and_a_base_goes_on(tmp_path: Path) -> None:
    run = Run(
        torch.device("cpu"),
        tmp_path / "state",
        tmp_path / "out",
        TINY,
        workers=0,
        scale=1 / 64,
    )
    judge_training.train_judge(run, 0.01)
    vae_training.train_vae(run, 0.01)
    before = vae_training.load_vae(run)
    decoder_training.train_decoder(run, 3.0)
    trained = checkpoints.load(run.out, "vae")["model"]
    changed = {
        name.split(".")[0]
        for name, value in before.state_dict().items()
        if not torch.equal(value.to(trained[name].dtype), trained[name])
    }
    assert changed == {"decoder", "post_quant_conv"}

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


def test_cut_outs_show_the_clips_around_a_figure(tmp_path: Path) -> None:
    run = Run(torch.device("cpu"), tmp_path, tmp_path, TINY, workers=0, scale=1 / 64)
    pool = vae_training.FramePool(run, 4, 4)
    pool.refresh()
    torch.manual_seed(0)
    whole, whole_covered = pool.draw(4, None)
    assert whole.shape == (4, 3, scenes.FRAMES, scenes.HEIGHT, scenes.WIDTH)
    frames, covered = pool.draw(64, 32)
    assert frames.shape[-2:] == (32, 32)
    # A cut-out shows figures more often than the clip it is from.
    assert covered.mean() > 1.2 * whole_covered.mean()
    # Every cut-out is found again in one of the clips.
    windows = (pool.clips[:, 0].float() / 255).unfold(2, 32, 1).unfold(3, 32, 1)[:, 0]
    for cut in frames[:4, 0, 0]:
        assert (windows == cut).flatten(3).all(3).any()


def test_errors_on_figures_and_at_edges_count_more() -> None:
    frames, covered = torch.zeros(1, 3, 1, 8, 8), torch.zeros(1, 1, 1, 8, 8)
    covered[..., :4] = 1
    left, right, smooth = (torch.zeros_like(frames) for _ in range(3))
    left[..., 1], right[..., 6], smooth[:] = 0.8, 0.8, 0.1
    on_figure, beside, everywhere = (
        float(vae_training.reconstruction_error(one, frames, covered))
        for one in (left, right, smooth)
    )
    assert on_figure > 2 * beside
    # The same sum of errors without an edge counts less.
    assert everywhere < (on_figure + beside) / 2


def test_noise_levels_are_spread_over_the_whole_range() -> None:
    levels = base_objective.noise_levels(1000, 1.0, torch.device("cpu"))
    counts = torch.histc(levels, bins=10, min=0, max=1)
    assert (counts == 100).all()
    shifted = base_objective.noise_levels(1000, 3.0, torch.device("cpu"))
    assert float(shifted.median()) == pytest.approx(0.75, abs=0.01)


def test_the_head_is_told_which_figure_covers_a_token() -> None:
    rng = random.Random(3)
    drawn = [scenes.draw_generic_scene(rng, figure_count=2) for _ in range(4)]
    tensors = scenes.to_tensors(drawn)
    truth = base_objective.token_truth(renderer.render(tensors), tensors)
    owner = truth.owner_BN.view(4, *base_training.latent_size())
    for row, scene in enumerate(drawn):
        for place, figure in enumerate(scene.cast):
            # The first latent frame shows the first frame alone.
            columns = (owner[row, 0] == place + 1).any(0).nonzero().flatten()
            x = float(tensors.pose_BFTP[row, place, 0, scenes.POSE.index("x")])
            assert columns.min() <= x / 8 <= columns.max() + 1
            assert truth.classes_BFK[row, place].tolist() == [
                *figure.indices(),
                scene.actions()[place],
            ]


def test_a_short_text_whose_last_token_stands_for_all_padding_gives_the_same_velocity() -> None:
    torch.manual_seed(0)
    base = backbone.build_base(TINY, torch.device("cpu"))
    torch.nn.init.normal_(base.transformer.proj_out.weight)
    batch = feed.draw_batch(random.Random(0), base.tokenizer, "generic", 2)
    latents, timestep = torch.randn(2, 16, 2, 4, 6), torch.tensor([100.0, 800.0])
    text = backbone.embed(base, batch.ids_BL, (batch.ids_BL != 0).long())
    whole = base.transformer(latents, timestep, text, return_dict=False)[0]
    base_objective.share_padding(base)
    short = base_objective.embed_short(base, batch.ids_BL)
    velocity, features = base_objective.velocity_and_features(
        base.transformer, latents, timestep, short, depth=0
    )
    torch.testing.assert_close(velocity, whole, atol=1e-4, rtol=1e-4)
    assert features.shape == (2, 2 * 4 * 6, 48)


def test_muon_steps_along_the_orthogonal_part_of_a_gradient() -> None:
    torch.manual_seed(0)
    gradient = torch.randn(2, 24, 12)
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    steps = muon.orthogonalize(gradient)
    cosine = torch.nn.functional.cosine_similarity(steps.flatten(1), (left @ right).flatten(1))
    assert (cosine > 0.97).all()
    parameters = [torch.nn.Parameter(torch.zeros(8, 2, 3, 3)), torch.nn.Parameter(torch.ones(4, 6))]
    optimizer = muon.GroupedMuon(parameters, 0.5, weight_decay=0)
    targets = [torch.randn_like(parameter) for parameter in parameters]
    for step in range(100):
        optimizer.param_groups[0]["lr"] = 0.5 * (1 - step / 100)
        optimizer.zero_grad()
        torch.autograd.backward(
            [(p - t).square().sum() for p, t in zip(parameters, targets, strict=True)]
        )
        optimizer.step()
    for parameter, target in zip(parameters, targets, strict=True):
        torch.testing.assert_close(parameter.detach(), target, atol=0.3, rtol=0)


def test_weights_of_8_bits_are_within_half_a_step_of_the_originals() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(64, 70) * torch.logspace(-3, 0, 64)[:, None]
    state = {"matrix": matrix, "bias": torch.ones(5)}
    stored = checkpoints.as_8_bits(state)
    assert stored["matrix"].dtype == torch.int8
    again = checkpoints.from_8_bits(stored)
    assert again.keys() == state.keys()
    half_step = matrix.abs().amax(1, keepdim=True) / 127 / 2
    assert ((again["matrix"] - matrix).abs() <= half_step * 1.001).all()
    assert torch.equal(again["bias"], state["bias"])
