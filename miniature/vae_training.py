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
from miniature.muon import GroupedMuon
from miniature.training_run import Clock, Run, decayed, render, report, set_rate, take_step

Tensor = torch.Tensor


_CUT_OUT_UNTIL, _CUT_OUT = 0.88, 64
"""Share of the VAE's training on square cut-outs of that side; the rest is on whole frames."""
_FIGURE_WEIGHT, _EDGE_WEIGHT, _DIVERGENCE_WEIGHT = 4.0, 1.0, 1e-4


class FramePool:
    """Rendered clips on the device, in 8 bits, and where their figures are."""

    def __init__(self, run: Run, size: int, fresh: int) -> None:
        self.run, self.stream = run, feed.stream("judged", fresh, "vae", run.workers)
        shape = (size, 4, world.FRAMES, world.HEIGHT, world.WIDTH)
        self.clips = torch.zeros(shape, dtype=torch.uint8, device=run.device)
        self.centers = torch.zeros(size, world.FIGURES, device=run.device)
        self.size, self.fresh, self.drawn = size, fresh, 0

    def refresh(self) -> None:
        """Render ``fresh`` more clips over the oldest."""
        batch = next(self.stream)
        video = render(self.run, batch, compiled=True)
        covered = video.masks_BFTHW.sum(1, keepdim=True).clamp(0, 1)
        clips = torch.cat([video.frames_BCTHW, covered], 1).mul(255).round().to(torch.uint8)
        rows = torch.arange(self.drawn, self.drawn + self.fresh, device=self.run.device) % self.size
        self.clips[rows] = clips
        tensors = batch.tensors.to(self.run.device)
        x = tensors.pose_BFTP[..., world.POSE.index("x")]
        some = x[..., int(torch.randint(world.FRAMES, ()))]
        # An empty place counts as the other figure.
        self.centers[rows] = torch.where(tensors.present_BF > 0, some, some[:, :1])
        self.drawn += self.fresh

    def draw(self, count: int, side: int | None) -> tuple[Tensor, Tensor]:
        """Return frames_BCTHW in 0..1 and covered_B1THW; cut-outs of ``side`` around a figure."""
        device = self.run.device
        rows = torch.randint(min(self.drawn, self.size), (count,), device=device)
        clips = self.clips[rows]
        if side is not None:
            which = torch.randint(world.FIGURES, (count, 1), device=device)
            center = self.centers[rows].gather(1, which)[:, 0]
            spread = (torch.rand(count, device=device) - 0.5) * side
            left = (center - side / 2 + spread).round().long().clamp(0, world.WIDTH - side)
            top = torch.randint(world.HEIGHT - side + 1, (count,), device=device)
            clips = _windows(_windows(clips, left, side, 4), top, side, 3)
        values = clips.float() / 255
        return values[:, :3], values[:, 3:]


def fill_pool(run: Run, clock: Clock) -> FramePool:
    """Return a pool that holds more than a third of its clips; say how long that took."""
    pool = FramePool(run, run.batch(16384), run.batch(64))
    for _ in range(run.batch(96)):
        pool.refresh()
    report(run, "frames", clips=pool.drawn, seconds=clock.elapsed())
    return pool


def bind_networks(
    vae: Any, *, compiled: bool
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return encoder (video to moments) and decoder (latents to video) of whole clips."""
    encode: Callable[[Tensor], Tensor] = partial(whole_clip.moments, vae)
    decode: Callable[[Tensor], Tensor] = partial(whole_clip.decode, vae)
    if compiled:
        return torch.compile(encode, dynamic=False), torch.compile(decode, dynamic=False)
    return encode, decode


def _windows(clips: Tensor, start_B: Tensor, side: int, axis: int) -> Tensor:
    """Cut ``side`` rows or columns from each clip, starting where ``start_B`` says."""
    index = start_B[:, None] + torch.arange(side, device=clips.device)
    shape = [1] * clips.ndim
    shape[0], shape[axis] = len(clips), side
    sizes = list(clips.shape)
    sizes[axis] = side
    return clips.gather(axis, index.view(shape).expand(sizes))


def reconstruction_error(decoded: Tensor, frames: Tensor, covered: Tensor) -> Tensor:
    """Return the absolute error of pixels and of their differences, heavier on figures.

    The differences keep edges sharp: a blurred face costs twice.
    """
    weight = 1 + _FIGURE_WEIGHT * covered
    difference = decoded - frames
    error = (difference.abs() * weight).mean()
    for axis in (-1, -2):
        end = frames.shape[axis] - 1
        change = difference.diff(dim=axis).abs() * weight.narrow(axis, 1, end)
        error = error + 0.5 * _EDGE_WEIGHT * change.mean()
    return error


def build_optimizers(vae: Any, rate: float) -> list[torch.optim.Optimizer]:
    """Return Muon for the convolutions inside the networks and AdamW for all else that learns."""
    outer = {vae.encoder.conv_in.weight, vae.decoder.conv_out.weight}
    trained = [p for p in vae.parameters() if p.requires_grad]
    inner = [p for p in trained if p.ndim >= 4 and p.shape[0] > 1 and p not in outer]
    inner = [p for p in inner if p.numel() > p.shape[0]]
    chosen = set(inner)
    others = [p for p in trained if p not in chosen]
    return [
        GroupedMuon(inner, rate),
        torch.optim.AdamW(others, rate, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


def train_vae(run: Run, seconds: float, *, compiled: bool = False, rate: float = 1e-3) -> None:
    """Train the VAE on renders: first on cut-outs around figures, then on whole frames.

    It goes on from an earlier VAE where there is one, and replaces it in the run's state only if it
    is better.
    """
    if checkpoints.exists(run.state, "vae"):
        vae = load_vae(run).train().requires_grad_(True)
    else:
        vae = backbone.build_vae(run.sizes, run.device)
    optimizers = build_optimizers(vae, rate)
    clock, step = Clock(seconds), 0
    pool = fill_pool(run, clock)
    encode, decode = bind_networks(vae, compiled=compiled)
    whole, last = False, clock.elapsed()
    while clock:
        for optimizer in optimizers:
            set_rate(optimizer, min(1.0, (step + 1) / 100) * decayed(clock.progress(), 0.3))
        if step % 16 == 0:
            pool.refresh()
        if not whole and clock.progress() >= _CUT_OUT_UNTIL:
            # Few steps: not worth compiling for another size.
            whole = True
            encode, decode = bind_networks(vae, compiled=False)
        frames, covered = pool.draw(run.batch(24 if whole else 64), None if whole else _CUT_OUT)
        with run.autocast():
            mean, log_var = encode(frames * 2 - 1).float().chunk(2, 1)
            log_var = log_var.clamp(-30, 20)
            latents = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
            decoded = decode(latents).float() * 0.5 + 0.5
        error = reconstruction_error(decoded, frames, covered)
        divergence = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).mean()
        torch.autograd.backward(error + _DIVERGENCE_WEIGHT * divergence)
        take_step(optimizers, list(vae.parameters()))
        step += 1
        if step % 200 == 0:
            square = float((decoded.detach() - frames).square().mean())
            now = clock.elapsed()
            report(
                run,
                "vae",
                step=step,
                seconds=now,
                error=float(error.detach()),
                divergence=float(divergence.detach()),
                psnr=-10 * math.log10(square),
                seconds_a_step=(now - last) / 200,
            )
            last = now
    del pool
    report(run, "vae trained", steps=step, seconds=clock.elapsed())
    vae.eval()
    _set_statistics(run, vae)
    psnr = evaluate_vae(run, vae)
    save_vae(run, vae, psnr)


def save_vae(run: Run, vae: Any, psnr: float) -> None:
    """Write the VAE; in the run's state it replaces an earlier one only if it is better."""
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
        seen: dict[str, list[Tensor]] = {"present": [], "style": [], "action": []}
        for _ in range(max(1, run.batch(8) - 1)):
            scenes = [judge.draw_judged_scene(rng) for _ in range(run.batch(128))]
            frames = renderer.render(world.to_tensors(scenes).to(run.device)).frames_BCTHW
            if source == "decoded":
                with run.autocast():
                    frames = backbone.decode(vae, backbone.encode(vae, frames))
            asked = [scene.cast[0] for scene in scenes]
            found = judge.verdict(
                judge_videos(run, model, frames), asked, [scene.actions()[0] for scene in scenes]
            )
            seen["present"].append(found.cells >= threshold)
            seen["style"].append(found.style_share > 0.5)
            seen["action"].append(found.action_share > 0.5)
        joined = {name: torch.cat(values).float() for name, values in seen.items()}
        report(
            run,
            f"judge on {source}",
            figures=len(joined["present"]),
            **{name: float(values.mean()) for name, values in joined.items()},
        )
    return psnr


def load_vae(run: Run) -> Any:
    content = checkpoints.load(run.state, "vae")
    vae = backbone.build_vae(run.sizes, run.device)
    vae.load_state_dict(checkpoints.from_8_bits(content["model"]))
    vae.register_to_config(latents_mean=content["mean"], latents_std=content["std"])
    return vae.eval().requires_grad_(False)
