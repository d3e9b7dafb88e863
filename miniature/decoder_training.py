"""Train the decoder of the VAE of ``miniature-wan`` alone: the base keeps its latents."""

from __future__ import annotations

import math

import torch

from miniature.training_run import Clock, Run, decayed, report, set_rate, take_step
from miniature.vae_training import (
    bind_networks,
    build_optimizers,
    evaluate_vae,
    fill_pool,
    load_vae,
    reconstruction_error,
    save_vae,
)


def train_decoder(run: Run, seconds: float, *, compiled: bool = False, rate: float = 1e-3) -> None:
    """Train the decoder on whole frames from the latents of the kept encoder.

    What is written is the average of its weights over about the last 500 steps. It replaces the VAE
    in the run's state only if it is better.
    """
    vae = load_vae(run)
    for part in (vae.decoder, vae.post_quant_conv):
        part.train().requires_grad_(True)
    trained = [p for p in vae.parameters() if p.requires_grad]
    average = [p.detach().clone() for p in trained]
    optimizers = build_optimizers(vae, rate)
    clock, step = Clock(seconds), 0
    pool = fill_pool(run, clock)
    encode, decode = bind_networks(vae, compiled=compiled)
    last = clock.elapsed()
    while clock:
        for optimizer in optimizers:
            set_rate(optimizer, min(1.0, (step + 1) / 100) * decayed(clock.progress(), 0.4))
        if step % 8 == 0:
            pool.refresh()
        frames, covered = pool.draw(run.batch(24), None)
        with run.autocast():
            with torch.no_grad():
                latents = encode(frames * 2 - 1).float().chunk(2, 1)[0]
            decoded = decode(latents).float() * 0.5 + 0.5
        error = reconstruction_error(decoded, frames, covered)
        torch.autograd.backward(error)
        take_step(optimizers, trained)
        with torch.no_grad():
            torch._foreach_lerp_(average, [p.data for p in trained], 1 / min(step + 1, 500))
        step += 1
        if step % 200 == 0:
            square = float((decoded.detach() - frames).square().mean())
            now = clock.elapsed()
            report(
                run,
                "decoder",
                step=step,
                seconds=now,
                error=float(error.detach()),
                psnr=-10 * math.log10(square),
                seconds_a_step=(now - last) / 200,
            )
            last = now
    report(run, "decoder trained", steps=step, seconds=clock.elapsed())
    del pool
    with torch.no_grad():
        for parameter, mean in zip(trained, average, strict=True):
            parameter.copy_(mean)
    vae.eval().requires_grad_(False)
    save_vae(run, vae, evaluate_vae(run, vae))
