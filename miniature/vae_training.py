"""Train the VAE of ``miniature-wan`` on renders."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from miniature import (
    backbone,
    checkpoints,
    feed,
    judge,
    renderer,
    whole_clip,
)
from miniature import scenes as world
from miniature.contact_sheets import write_sheet
from miniature.judge_training import judge_videos, load_judge
from miniature.training_run import Clock, Run, decayed, render, report, set_rate

Tensor = torch.Tensor


_CUT_OUT_UNTIL, _CUT_OUT = 0.8, 64
"""Share of the VAE's training on square cut-outs of that side; the rest is on whole frames."""


def train_vae(run: Run, seconds: float, *, compiled: bool = False, rate: float = 2e-3) -> None:
    """Train the VAE on renders: absolute error, heavier on figures, and a small divergence.

    First on cut-outs, then on whole frames. It goes on from an earlier VAE where there is one, and
    replaces it in the run's state only if it is better.
    """
    if checkpoints.exists(run.state, "vae"):
        vae = load_vae(run).train().requires_grad_(True)
    else:
        vae = backbone.build_vae(run.sizes, run.device)
    optimizer = torch.optim.AdamW(vae.parameters(), rate, weight_decay=0.01, betas=(0.9, 0.98))
    stream = feed.stream("judged", run.batch(32), "vae", run.workers)
    clock, step, rng = Clock(seconds), 0, random.Random(0)
    encode: Callable[[Tensor], Tensor] = partial(whole_clip.moments, vae)
    decode: Callable[[Tensor], Tensor] = partial(whole_clip.decode, vae)
    if compiled:
        encode, decode = (torch.compile(one, dynamic=False) for one in (encode, decode))
    while clock:
        set_rate(optimizer, min(1.0, (step + 1) / 100) * decayed(clock.progress(), 0.4))
        video = render(run, next(stream), compiled=True)
        frames, covered = video.frames_BCTHW, video.masks_BFTHW.sum(1, keepdim=True)
        if clock.progress() < _CUT_OUT_UNTIL:
            top = rng.randint(0, frames.shape[-2] - _CUT_OUT)
            left = rng.randint(0, frames.shape[-1] - _CUT_OUT)
            part = (..., slice(top, top + _CUT_OUT), slice(left, left + _CUT_OUT))
            frames, covered = frames[part], covered[part]
        else:
            frames, covered = frames[: run.batch(16)], covered[: run.batch(16)]
            # Few steps: not worth compiling for another size.
            encode, decode = partial(whole_clip.moments, vae), partial(whole_clip.decode, vae)
        with run.autocast():
            mean, log_var = encode(frames * 2 - 1).float().chunk(2, 1)
            log_var = log_var.clamp(-30, 20)
            latents = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
            decoded = decode(latents).float() * 0.5 + 0.5
        error = ((decoded - frames).abs() * (1 + 3 * covered)).mean()
        divergence = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).mean()
        value = error + 1e-4 * divergence
        optimizer.zero_grad()
        torch.autograd.backward(value)
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 200 == 0:
            report(
                run,
                "vae",
                step=step,
                seconds=clock.elapsed(),
                error=float(error),
                divergence=float(divergence),
            )
    del stream
    report(run, "vae trained", steps=step, seconds=clock.elapsed())
    vae.eval()
    _set_statistics(run, vae)
    psnr = evaluate_vae(run, vae)
    content = {
        "psnr": psnr,
        "model": checkpoints.as_half(vae.state_dict()),
        "mean": vae.config.latents_mean,
        "std": vae.config.latents_std,
    }
    checkpoints.save(run.out, "vae", content)
    earlier = checkpoints.load(run.state, "vae") if checkpoints.exists(run.state, "vae") else {}
    if earlier.get("psnr", -math.inf) < psnr:
        checkpoints.save(run.state, "vae", content)


@torch.no_grad()
def _set_statistics(run: Run, vae: Any) -> None:
    """Measure mean and deviation of every latent channel, as Wan's VAE stores them."""
    stream = feed.stream("generic", run.batch(64), "statistics", 0)
    with run.autocast():
        latents = torch.cat(
            [
                whole_clip.moments(vae, render(run, next(stream)).frames_BCTHW * 2 - 1)
                .chunk(2, 1)[0]
                .float()
                for _ in range(4)
            ]
        )
    flat = latents.transpose(0, 1).flatten(1)
    vae.register_to_config(latents_mean=flat.mean(1).tolist(), latents_std=flat.std(1).tolist())


@torch.no_grad()
def evaluate_vae(run: Run, vae: Any) -> float:
    """Measure the VAE on held-out renders, and what the judge sees after it; return the PSNR."""
    stream = feed.stream("judged", run.batch(64), "held-out vae", 0)
    video = render(run, next(stream))
    with run.autocast():
        decoded = backbone.decode(vae, backbone.encode(vae, video.frames_BCTHW))
    mean_square = float((decoded - video.frames_BCTHW).square().mean())
    psnr = -10 * math.log10(mean_square)
    report(run, "vae held-out", psnr=psnr)
    pairs = torch.stack([video.frames_BCTHW[:8], decoded[:8]], 1).flatten(0, 1)
    write_sheet(run.out / "vae.png", pairs, scale=1)
    if not checkpoints.exists(run.state, "judge"):
        return psnr
    model, threshold = load_judge(run)
    for source in ("renders", "decoded"):
        rng = random.Random("judged vae")
        scenes = [judge.draw_judged_scene(rng) for _ in range(run.batch(128))]
        frames = renderer.render(world.to_tensors(scenes).to(run.device)).frames_BCTHW
        if source == "decoded":
            with run.autocast():
                frames = backbone.decode(vae, backbone.encode(vae, frames))
        asked = [scene.cast[0] for scene in scenes]
        found = judge.verdict(
            judge_videos(run, model, frames), asked, [scene.actions()[0] for scene in scenes]
        )
        report(
            run,
            f"judge on {source}",
            present=float((found.cells >= threshold).float().mean()),
            style=float((found.style_share > 0.5).float().mean()),
            action=float((found.action_share > 0.5).float().mean()),
        )
    return psnr


def load_vae(run: Run) -> Any:
    content = checkpoints.load(run.state, "vae")
    vae = backbone.build_vae(run.sizes, run.device)
    vae.load_state_dict({key: value.float() for key, value in content["model"].items()})
    vae.register_to_config(latents_mean=content["mean"], latents_std=content["std"])
    return vae.eval().requires_grad_(False)
