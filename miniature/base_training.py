"""Train the base of ``miniature-wan`` on generic figures, in pieces, and sample it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from miniature import (
    backbone,
    captions,
    checkpoints,
    feed,
    judge,
)
from miniature import scenes as world
from miniature.backbone import Base
from miniature.contact_sheets import write_sheet
from miniature.figures import IDENTITY_ATTRIBUTES
from miniature.judge_training import judge_videos, load_judge
from miniature.scenes import FRAMES, HEIGHT, WIDTH
from miniature.text_encoder import END
from miniature.training_run import Clock, Run, decayed, render, report, set_rate
from miniature.vae_training import load_vae

Tensor = torch.Tensor


class Pool:
    """Recent latents and captions on the device; training draws from them at random.

    Each clip is used a few times, so that drawing and encoding take a small share of the time.
    """

    def __init__(self, run: Run, vae: Any, seed: str, size: int, fresh: int) -> None:
        self.run, self.vae = run, vae
        self.stream = feed.stream("generic", fresh, seed, run.workers)
        shape = (size, run.sizes.channels, *latent_size())
        self.latents = torch.zeros(shape, dtype=torch.bfloat16, device=run.device)
        self.ids = torch.zeros(size, feed.TOKENS, dtype=torch.int16, device=run.device)
        self.size, self.fresh, self.drawn = size, fresh, 0

    @torch.no_grad()
    def refresh(self) -> None:
        """Render and encode ``fresh`` more clips over the oldest."""
        batch = next(self.stream)
        with self.run.autocast():
            frames = render(self.run, batch, compiled=True).frames_BCTHW
            latents = backbone.encode(self.vae, frames)
        rows = torch.arange(self.drawn, self.drawn + self.fresh, device=self.run.device) % self.size
        self.latents[rows] = latents.to(torch.bfloat16)
        self.ids[rows] = batch.ids_BL.to(self.run.device, torch.int16, non_blocking=True)
        self.drawn += self.fresh

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Return latents_BCTHW (fp32) and ids_BL of random clips."""
        filled = min(self.drawn, self.size)
        rows = torch.randint(filled, (count,), device=self.run.device)
        return self.latents[rows].float(), self.ids[rows].long()


def latent_size() -> tuple[int, int, int]:
    """Return frames, rows and columns of a clip's latents."""
    return (FRAMES - 1) // 4 + 1, HEIGHT // 8, WIDTH // 8


def noise_levels(count: int, shift: float, device: torch.device) -> Tensor:
    """Draw sigma_B: uniform, one from each of ``count`` equal intervals, then shifted."""
    level = (torch.arange(count, device=device) + torch.rand(count, device=device)) / count
    return shift * level / (1 + (shift - 1) * level)


def velocity_loss(base: Base, latents: Tensor, ids: Tensor, drop: float, shift: float) -> Tensor:
    """Return the mean squared error of the velocity noise - x0, in Wan's flow matching."""
    count = len(latents)
    dropped = torch.rand(count, 1, device=ids.device) < drop
    end = torch.zeros_like(ids)
    end[:, 0] = END
    ids = torch.where(dropped, end, ids)
    text = backbone.embed(base, ids, (ids != 0).long())
    noise = torch.randn_like(latents)
    sigma = noise_levels(count, shift, latents.device)
    level = sigma.view(-1, 1, 1, 1, 1)
    velocity = base.transformer(
        hidden_states=(1 - level) * latents + level * noise,
        timestep=1000 * sigma,
        encoder_hidden_states=text,
        return_dict=False,
    )[0]
    return functional.mse_loss(velocity.float(), noise - latents)


def build_optimizers(base: Base, rate: float) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of the blocks and AdamW for everything else."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in base.parameters():
        inner = name.startswith("transformer.blocks") and parameter.ndim == 2
        (matrices if inner else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, weight_decay=0.0, betas=(0.9, 0.95), eps=1e-8),
    ]


def train_base(
    run: Run,
    seconds: float,
    planned: float,
    *,
    rate: float = 1e-3,
    compile_blocks: bool = True,
    drop: float = 0.1,
    stop: Callable[[int], bool] = lambda step: False,
) -> None:
    """Train the base for ``seconds``; the rate is set by the share of ``planned`` seconds done."""
    vae = load_vae(run)
    base = backbone.build_base(run.sizes, run.device)
    optimizers = build_optimizers(base, rate)
    done = {"seconds": 0.0, "samples": 0, "steps": 0, "pieces": 0}
    average = _resume(run, base, optimizers, done)
    parameters = [parameter for _, parameter in base.parameters()]
    if compile_blocks:
        for block in base.transformer.blocks:
            block.compile()
    count = run.batch(192)
    pool = Pool(run, vae, f"base {done['pieces']}", run.batch(131072), run.batch(32))
    clock = Clock(seconds)
    for _ in range(run.batch(256)):
        pool.refresh()
    report(run, "pool", clips=pool.drawn, seconds=clock.elapsed())
    step, last, total = 0, clock.elapsed(), torch.zeros((), device=run.device)
    while clock and not stop(step):
        passed = done["seconds"] + clock.elapsed()
        warm = min(1.0, (done["steps"] + step + 1) / 300, (step + 1) / 50)
        for optimizer in optimizers:
            set_rate(optimizer, warm * decayed(passed / planned))
        pool.refresh()
        latents, ids = pool.draw(count)
        with run.autocast():
            value = velocity_loss(base, latents, ids, drop, backbone.FLOW_SHIFT)
        torch.autograd.backward(value)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        decay = min(0.999, (done["steps"] + step + 1) / (done["steps"] + step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(average, [p.data for p in parameters], 1 - decay)
        total += value.detach()
        step += 1
        if step % 200 == 0:
            now = clock.elapsed()
            report(
                run,
                "base",
                step=done["steps"] + step,
                seconds=passed,
                loss=float(total) / 200,
                samples_per_s=200 * count / (now - last),
            )
            last, total = now, total * 0
    done = {
        "seconds": done["seconds"] + clock.elapsed(),
        "samples": int(done["samples"]) + step * count,
        "steps": int(done["steps"]) + step,
        "pieces": int(done["pieces"]) + 1,
    }
    report(run, "base trained", **done)
    _save(run, base, average, optimizers, done)


def _save(
    run: Run,
    base: Base,
    average: list[Tensor],
    optimizers: list[torch.optim.Optimizer],
    done: dict[str, Any],
) -> None:
    names = [name for name, _ in base.parameters()]
    weights = dict(base.parameters())
    averaged = dict(zip(names, average, strict=True))
    for folder in {run.out, run.state}:
        checkpoints.save(folder, "base-average", {"model": checkpoints.as_half(averaged), **done})
    torch.save(
        {
            "weights": {key: value.detach() for key, value in weights.items()},
            "average": averaged,
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "done": done,
        },
        run.state / "base-full.pt",
    )


def _resume(
    run: Run, base: Base, optimizers: list[torch.optim.Optimizer], done: dict[str, Any]
) -> list[Tensor]:
    """Load what earlier pieces left, and return the averaged weights."""
    parameters = dict(base.parameters())
    averaged: dict[str, Tensor] = {}
    if (run.state / "base-full.pt").exists():
        full = torch.load(run.state / "base-full.pt", map_location=run.device, weights_only=True)
        averaged = full["average"]
        weights = full["weights"]
        for optimizer, state in zip(optimizers, full["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        done.update(full["done"])
    elif checkpoints.exists(run.state, "base-average"):
        content = checkpoints.load(run.state, "base-average")
        weights = content["model"]
        done.update({key: content[key] for key in done})
    else:
        return [parameter.detach().clone() for parameter in parameters.values()]
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    report(run, "base resumed", full=bool(averaged), **done)
    return [
        (averaged[name] if averaged else parameter.detach()).clone().to(run.device)
        for name, parameter in parameters.items()
    ]


def load_base(run: Run) -> Base:
    """Load the averaged weights."""
    base = backbone.build_base(run.sizes, run.device)
    content = checkpoints.load(run.state, "base-average")
    with torch.no_grad():
        for name, parameter in base.parameters():
            parameter.copy_(content["model"][name])
    return base


@torch.no_grad()
def evaluate_base(
    run: Run,
    base: Base,
    prompts: int,
    *,
    steps: int = 30,
    guidance: float = 4.0,
    sheet: bool = True,
) -> float:
    """Sample prompts of two generic figures; return the share in which the judge finds both."""
    vae, (model, threshold) = load_vae(run), load_judge(run)
    rng = random.Random("base prompts")
    scenes = [world.draw_generic_scene(rng, figure_count=2) for _ in range(prompts)]
    texts = [captions.caption(scene, [True, True]) for scene in scenes]
    started = time.monotonic()
    generator = torch.Generator().manual_seed(0)
    videos = []
    for start in range(0, prompts, 64):
        chunk = texts[start : start + 64]
        shape = (len(chunk), run.sizes.channels, *latent_size())
        noise = torch.randn(shape, generator=generator).to(run.device)
        with run.autocast():
            latents = backbone.sample(base, chunk, noise, steps=steps, guidance=guidance)
            videos.append(backbone.decode(vae, latents))
    frames = torch.cat(videos)
    outputs = judge_videos(run, model, frames)
    found = [
        judge.verdict(outputs, [s.cast[p] for s in scenes], [s.actions()[p] for s in scenes])
        for p in range(2)
    ]
    present = torch.stack([one.cells >= threshold for one in found])
    styled = torch.stack([one.style_share > 0.5 for one in found])
    acted = torch.stack([one.action_share > 0.5 for one in found])
    single = {}
    for name in (*IDENTITY_ATTRIBUTES, "color"):
        hits = [
            judge.verdict(outputs, [s.cast[p] for s in scenes], [0] * prompts, (name,)).cells
            >= threshold
            for p in range(2)
        ]
        single[f"both_{name}"] = float(torch.stack(hits).all(0).float().mean())
    background = torch.tensor([s.background for s in scenes], device=run.device)
    both = float(present.all(0).float().mean())
    report(
        run,
        "base sampled",
        prompts=prompts,
        guidance=guidance,
        steps=steps,
        base_both_present=both,
        each_present=float(present.float().mean()),
        both_present_and_styled=float((present & styled).all(0).float().mean()),
        actions_right=float(acted[present].float().mean()) if present.any() else 0.0,
        background=float((outputs["background"].argmax(1) == background).float().mean()),
        seconds=time.monotonic() - started,
        **single,
    )
    if not sheet:
        return both
    write_sheet(run.out / "samples.png", frames[:24])
    (run.out / "samples.txt").write_text(
        "\n".join(
            f"{bool(a)!s:5} {bool(b)!s:5} {text}"
            for a, b, text in zip(*present.tolist(), texts, strict=True)
        )
    )
    return both
