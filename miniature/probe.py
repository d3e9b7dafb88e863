"""Measure the speed of everything that training repeats."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch

from miniature import (
    backbone,
    feed,
    whole_clip,
)
from miniature.base_objective import Truth, TruthHead, losses, share_padding, token_truth
from miniature.base_training import build_optimizers, latent_size
from miniature.feed import SceneBatch
from miniature.judge import Judge
from miniature.training_run import Run, render, report

Tensor = torch.Tensor


def probe(run: Run) -> None:
    """Measure the parts that training repeats, in a few seconds each."""

    def timed(what: str, count: int, once: Callable[[], object], repeats: int = 5) -> None:
        started = time.monotonic()
        once()
        _finish(run)
        first = time.monotonic() - started
        started = time.monotonic()
        for _ in range(repeats):
            once()
        _finish(run)
        passed = time.monotonic() - started
        report(run, f"probe {what}", first_s=first, samples_per_s=count * repeats / passed)

    stream: Iterator[SceneBatch] = feed.stream("judged", run.batch(64), "probe", run.workers)
    batch = next(stream)
    timed("scenes", run.batch(64), lambda: next(stream), 40)
    timed("render", run.batch(64), lambda: render(run, batch))
    timed("render compiled", run.batch(64), lambda: render(run, batch, compiled=True), 20)
    plain, fused = render(run, batch), render(run, batch, compiled=True)
    difference = (plain.frames_BCTHW - fused.frames_BCTHW).abs()
    report(run, "probe compiled", mean=float(difference.mean()), most=float(difference.max()))
    vae = backbone.build_vae(run.sizes, run.device)
    frames = render(run, batch).frames_BCTHW[: run.batch(32)]
    half = len(frames)

    def vae_step() -> None:
        vae.zero_grad()
        with run.autocast():
            latents = whole_clip.moments(vae, frames).chunk(2, 1)[0]
            torch.autograd.backward(whole_clip.decode(vae, latents).float().abs().mean())

    timed("vae step", half, vae_step)
    with torch.no_grad(), run.autocast():
        timed("vae encode", half, lambda: backbone.encode(vae, frames))
    base = backbone.build_base(run.sizes, run.device)
    share_padding(base)
    head = TruthHead(run.sizes.heads * run.sizes.head_width).to(run.device)
    optimizers = build_optimizers(base, 1e-4, head)
    if run.device.type == "cuda":
        for block in base.transformer.blocks:
            block.compile()
    count = run.batch(192)
    latents = torch.randn(count, run.sizes.channels, *latent_size(), device=run.device)
    ids = batch.ids_BL[:1].to(run.device).expand(count, -1)

    one = token_truth(plain, batch.tensors.to(run.device))
    truth = Truth(one.owner_BN[:1].expand(count, -1), one.classes_BFK[:1].expand(count, -1, -1))

    def base_step() -> None:
        with run.autocast():
            error, told = losses(base, head, latents, ids, truth, 0.1)
            torch.autograd.backward(error + told)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    timed("base step", count, base_step, 10)
    report(
        run,
        "parameters",
        base=sum(p.numel() for _, p in base.parameters()),
        vae=sum(p.numel() for p in vae.parameters()),
        judge=sum(p.numel() for p in Judge().parameters()),
    )


def _finish(run: Run) -> None:
    if run.device.type == "cuda":
        torch.cuda.synchronize()
