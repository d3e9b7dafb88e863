"""Train the base of ``miniature-wan`` on generic figures, in pieces, and sample it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from miniature import (
    backbone,
    base_objective,
    captions,
    checkpoints,
    feed,
    judge,
)
from miniature import scenes as world
from miniature.backbone import Base
from miniature.base_objective import Truth, TruthHead, share_padding, token_truth
from miniature.contact_sheets import write_sheet
from miniature.figures import IDENTITY_ATTRIBUTES
from miniature.judge_training import judge_videos, load_judge
from miniature.muon import GroupedMuon
from miniature.scenes import FIGURES, FRAMES, HEIGHT, WIDTH
from miniature.training_run import Clock, Run, decayed, render, report, set_rate, take_step
from miniature.vae_training import load_vae

Tensor = torch.Tensor


class Pool:
    """Recent latents, captions and truths on the device; training draws from them at random.

    Each clip is used many times, so that drawing and encoding take a small share of the time.
    """

    def __init__(self, run: Run, vae: Any, seed: str, size: int, fresh: int) -> None:
        self.run, self.vae = run, vae
        self.stream = feed.stream("generic", fresh, seed, run.workers)
        frames, height, width = latent_size()
        device = run.device
        self.latents = torch.zeros(
            size, run.sizes.channels, frames, height, width, dtype=torch.bfloat16, device=device
        )
        self.ids = torch.zeros(size, feed.TOKENS, dtype=torch.int16, device=device)
        self.owner = torch.zeros(size, frames * height * width, dtype=torch.int8, device=device)
        self.classes = torch.zeros(
            size, FIGURES, len(base_objective.CLASSES), dtype=torch.uint8, device=device
        )
        self.size, self.fresh, self.drawn = size, fresh, 0

    @torch.no_grad()
    def refresh(self) -> None:
        """Render and encode ``fresh`` more clips over the oldest."""
        batch = next(self.stream)
        with self.run.autocast():
            video = render(self.run, batch, compiled=True)
            latents = backbone.encode(self.vae, video.frames_BCTHW)
        truth = token_truth(video, batch.tensors.to(self.run.device))
        rows = torch.arange(self.drawn, self.drawn + self.fresh, device=self.run.device) % self.size
        self.latents[rows] = latents.to(torch.bfloat16)
        self.ids[rows] = batch.ids_BL.to(self.run.device, torch.int16, non_blocking=True)
        self.owner[rows] = truth.owner_BN
        self.classes[rows] = truth.classes_BFK
        self.drawn += self.fresh

    def draw(self, count: int) -> tuple[Tensor, Tensor, Truth]:
        """Return latents_BCTHW (fp32), ids_BL and the truth of random clips."""
        filled = min(self.drawn, self.size)
        rows = torch.randint(filled, (count,), device=self.run.device)
        truth = Truth(self.owner[rows], self.classes[rows])
        return self.latents[rows].float(), self.ids[rows].long(), truth


def latent_size() -> tuple[int, int, int]:
    """Return frames, rows and columns of a clip's latents."""
    return (FRAMES - 1) // 4 + 1, HEIGHT // 8, WIDTH // 8


def build_optimizers(
    base: Base, rate: float, head: TruthHead | None = None
) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of the blocks and AdamW for everything else."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = [] if head is None else list(head.parameters())
    for name, parameter in base.parameters():
        inner = name.startswith("transformer.blocks") and parameter.ndim == 2
        (matrices if inner else others).append(parameter)
    return [
        GroupedMuon(matrices, rate),
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
    truth_weight: float = 0.15,
    check_every: float = 250.0,
    stop: Callable[[int], bool] = lambda step: False,
) -> None:
    """Train the base for ``seconds``; the rate is set by the share of ``planned`` seconds done.

    Every ``check_every`` seconds its averaged weights are written and measured. The truth head's
    weight falls with the rate: at the end there is the velocity's error alone.
    """
    vae = load_vae(run)
    base = backbone.build_base(run.sizes, run.device)
    share_padding(base)
    head = TruthHead(run.sizes.heads * run.sizes.head_width).to(run.device)
    optimizers = build_optimizers(base, rate, head)
    done = {"seconds": 0.0, "samples": 0, "steps": 0, "pieces": 0}
    average = _resume(run, base, head, optimizers, done)
    parameters = [*(parameter for _, parameter in base.parameters()), *head.parameters()]
    if compile_blocks:
        for block in base.transformer.blocks:
            block.compile()
    count, every = run.batch(256), 8
    pool = Pool(run, vae, f"base {done['pieces']}", run.batch(131072), run.batch(64))
    clock = Clock(seconds)
    for _ in range(run.batch(384)):
        pool.refresh()
    report(run, "pool", clips=pool.drawn, seconds=clock.elapsed())
    step, last, total, checks = 0, clock.elapsed(), torch.zeros(2, device=run.device), 1
    before = dict(done)

    def so_far() -> dict[str, Any]:
        return {
            "seconds": before["seconds"] + clock.elapsed(),
            "samples": int(before["samples"]) + step * count,
            "steps": int(before["steps"]) + step,
            "pieces": int(before["pieces"]) + 1,
        }

    while clock and not stop(step):
        passed = before["seconds"] + clock.elapsed()
        factor = decayed(passed / planned, 0.6)
        warm = min(1.0, (before["steps"] + step + 1) / 300, (step + 1) / 50)
        for optimizer in optimizers:
            set_rate(optimizer, warm * factor)
        if step % every == 0:
            pool.refresh()
        with run.autocast():
            error, told = base_objective.losses(base, head, *pool.draw(count), drop)
        torch.autograd.backward(error + truth_weight * factor * told)
        take_step(optimizers, parameters)
        decay = min(0.999, (before["steps"] + step + 1) / (before["steps"] + step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(average, [p.data for _, p in base.parameters()], 1 - decay)
        total += torch.stack([error.detach(), told.detach()])
        step += 1
        if step % 200 == 0:
            now = clock.elapsed()
            error_mean, told_mean = (total / 200).tolist()
            report(
                run,
                "base",
                step=before["steps"] + step,
                seconds=passed,
                loss=error_mean,
                truth_loss=told_mean,
                samples_per_s=200 * count / (now - last),
            )
            last, total = now, total * 0
        if clock.elapsed() > checks * check_every:
            checks += 1
            _save_average(run, base, average, so_far())
            evaluate_base(run, load_base(run), run.batch(256), steps=20, sheet=False)
            last = clock.elapsed()
    done = so_far()
    report(run, "base trained", **done)
    _save_average(run, base, average, done)
    torch.save(
        {
            "weights": {name: p.detach() for name, p in base.parameters()},
            "average": dict(zip((name for name, _ in base.parameters()), average, strict=True)),
            "head": head.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "done": done,
        },
        run.state / "base-full.pt",
    )


def _save_average(run: Run, base: Base, average: list[Tensor], done: dict[str, Any]) -> None:
    """Write the averaged weights in bf16, to go on from, and in 8 bits, to be used."""
    averaged = dict(zip((name for name, _ in base.parameters()), average, strict=True))
    for folder in {run.out, run.state}:
        checkpoints.save(folder, "base-average", {"model": checkpoints.as_half(averaged), **done})
        content = {"model": checkpoints.as_8_bits(averaged), **done}
        checkpoints.save(folder, "base", content)


def _resume(
    run: Run,
    base: Base,
    head: TruthHead,
    optimizers: list[torch.optim.Optimizer],
    done: dict[str, Any],
) -> list[Tensor]:
    """Load what earlier pieces left, and return the averaged weights."""
    parameters = dict(base.parameters())
    averaged: dict[str, Tensor] = {}
    if (run.state / "base-full.pt").exists():
        full = torch.load(run.state / "base-full.pt", map_location=run.device, weights_only=True)
        averaged = full["average"]
        weights = full["weights"]
        head.load_state_dict(full["head"])
        for optimizer, state in zip(optimizers, full["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        content = full["done"]
    elif checkpoints.exists(run.state, "base-average"):
        content = checkpoints.load(run.state, "base-average")
        weights = content["model"]
    elif checkpoints.exists(run.state, "base"):
        content = checkpoints.load(run.state, "base")
        weights = checkpoints.from_8_bits(content["model"])
    else:
        return [parameter.detach().clone() for parameter in parameters.values()]
    done.update({key: content[key] for key in done})
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    report(run, "base resumed", full=bool(averaged), **done)
    return [
        (averaged[name] if averaged else parameter.detach()).clone().to(run.device)
        for name, parameter in parameters.items()
    ]


def load_base(run: Run) -> Base:
    """Load the averaged weights of 8 bits."""
    base = backbone.build_base(run.sizes, run.device)
    model = checkpoints.from_8_bits(checkpoints.load(run.state, "base")["model"])
    with torch.no_grad():
        for name, parameter in base.parameters():
            parameter.copy_(model[name])
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
    sampler: Callable[[Base, list[str], Tensor], Tensor] | None = None,
) -> float:
    """Sample prompts of two generic figures; return the share in which the judge finds both.

    ``sampler``: in place of ``backbone.sample``; ``steps`` and ``guidance`` say what it does.
    """
    sampler = sampler or partial(backbone.sample, steps=steps, guidance=guidance)
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
            latents = sampler(base, chunk, noise)
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
