"""Distill the base of ``miniature-wan`` into an adapter that needs few steps and no guidance.

    python -m miniature.distillation FOLDER/few-steps.safetensors

The base denoises noise with guidance and many steps; the adapter learns to go from the same noise
to the same result in a straight line (rectified flow's reflow, arXiv 2209.03003), at the noise
levels of its few steps alone. Captions are of generic figures, so the adapter has seen no named
character. It is written in diffusers' layout without MiMix's metadata, as other programs publish
such adapters, for ``samples.adapters``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mimix_core.wan import lora
from mimix_core.wan.lora_export import build_adapter
from mimix_core.wan.lora_formats import AdapterLayout, adapter_to_tensors
from miniature import backbone, base_training, feed
from miniature.backbone import Base
from miniature.base_objective import embed_short, share_padding
from miniature.miniature_wan import BACKBONE
from miniature.sizes import FLOW_SHIFT, TINY, Sizes
from miniature.training_run import Clock, Run, decayed, report
from miniature.unpack_weights import WEIGHTS

Tensor = torch.Tensor

STEPS = 4
"""Steps that the adapter is made for."""
RANK = 128


@dataclass(frozen=True)
class Pairs:
    """What the base makes of noise: latents x0_BCTHW of noise_BCTHW and ids_BL."""

    noise_BCTHW: Tensor
    x0_BCTHW: Tensor
    ids_BL: Tensor


def noise_levels(steps: int) -> list[float]:
    """Return the levels at which Euler's method takes equal steps of unshifted time."""
    times = [1 - step / steps for step in range(steps)]
    return [FLOW_SHIFT * time / (1 + (FLOW_SHIFT - 1) * time) for time in times]


def velocity(base: Base, latents: Tensor, level_B: Tensor, text_BLD: Tensor) -> Tensor:
    """Predict noise - x0 in fp32."""
    output: Tensor = base.transformer(
        hidden_states=latents,
        timestep=1000 * level_B,
        encoder_hidden_states=text_BLD,
        return_dict=False,
    )[0]
    return output.float()


@torch.no_grad()
def draw_pairs(run: Run, base: Base, count: int, *, steps: int, guidance: float) -> Pairs:
    """Denoise ``count`` clips of generic figures by Heun's method, guided."""
    size = min(count, run.batch(256))
    stream = feed.stream("generic", size, "distillation", run.workers)
    generator = torch.Generator(run.device).manual_seed(0)
    noises: list[Tensor] = []
    results: list[Tensor] = []
    ids: list[Tensor] = []
    while len(ids) * size < count:
        batch = next(stream).ids_BL.to(run.device)
        shape = (size, run.sizes.channels, *base_training.latent_size())
        noise = torch.randn(shape, generator=generator, device=run.device)
        with run.autocast():
            text = embed_short(base, batch)
            empty = embed_short(base, _empty_ids(base, run.device)).expand(size, -1, -1)
            x0 = backbone.denoise(base, text, empty, noise, steps=steps, guidance=guidance)
        noises.append(noise.bfloat16())
        results.append(x0.bfloat16())
        ids.append(batch.to(torch.int16))
    return Pairs(torch.cat(noises), torch.cat(results), torch.cat(ids))


def _empty_ids(base: Base, device: torch.device) -> Tensor:
    ids, _ = backbone.tokenize(base, [""], device)
    return torch.nn.functional.pad(ids, (0, feed.TOKENS - ids.shape[1]))


def train_adapter(
    run: Run,
    base: Base,
    pairs: Pairs,
    seconds: float,
    rate: float,
    *,
    stop: Callable[[int], bool] = lambda step: False,
) -> None:
    """Train an adapter of the base, which is attached here, on pairs drawn at random."""
    lora.attach_adapter(base.transformer, RANK, RANK, BACKBONE.lora_targets, seed=0)
    weights = [weight for _, weight in lora.adapter_parameters(base.transformer)]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0, betas=(0.9, 0.99))
    if run.device.type == "cuda":
        for block in base.transformer.blocks:
            block.compile()
    levels = torch.tensor(noise_levels(STEPS), device=run.device)
    count = run.batch(256)
    clock, step, total = Clock(seconds), 0, torch.zeros((), device=run.device)
    while clock and not stop(step):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * decayed(clock.progress(), 0.3)
        rows = torch.randint(len(pairs.ids_BL), (count,), device=run.device)
        level_B = levels[torch.randint(STEPS, (count,), device=run.device)]
        noise, x0 = pairs.noise_BCTHW[rows].float(), pairs.x0_BCTHW[rows].float()
        weight = level_B.view(-1, 1, 1, 1, 1)
        with run.autocast():
            text = embed_short(base, pairs.ids_BL[rows].long())
            found = velocity(base, weight * noise + (1 - weight) * x0, level_B, text)
        loss = (found - (noise - x0)).square().mean()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        total += loss.detach()
        step += 1
        if step % 100 == 0:
            report(run, "distillation", step=step, seconds=clock.elapsed(), loss=float(total) / 100)
            total = total * 0


@torch.no_grad()
def denoise_few(base: Base, text_BLD: Tensor, noise_BCTHW: Tensor, *, steps: int) -> Tensor:
    """Denoise latents with Euler's method in few steps, without guidance."""
    latents = noise_BCTHW.clone()
    for now, following in pairwise([*noise_levels(steps), 0.0]):
        level_B = torch.full((len(text_BLD),), now, device=latents.device)
        latents = latents + (following - now) * velocity(base, latents, level_B, text_BLD)
    return latents


def sample(base: Base, texts: list[str], noise_BCTHW: Tensor) -> Tensor:
    """Denoise latents of texts in the steps that the adapter is made for."""
    ids, _ = backbone.tokenize(base, texts, noise_BCTHW.device)
    return denoise_few(base, embed_short(base, ids), noise_BCTHW, steps=STEPS)


def write_adapter(transformer: Any, path: Path) -> None:
    """Write the attached adapter in bf16 in diffusers' layout."""
    adapter = build_adapter(dict(lora.adapter_parameters(transformer)), float(RANK))
    tensors = adapter_to_tensors(adapter, AdapterLayout.DIFFUSERS)
    save_file({name: value.bfloat16().contiguous() for name, value in tensors.items()}, path)


def distill(
    run: Run,
    path: Path,
    *,
    pairs: int,
    seconds: float,
    rate: float,
    teacher_steps: int,
    guidance: float,
    prompts: int,
) -> None:
    """Make pairs, train the adapter and write it; measure few steps with and without it."""
    base = base_training.load_base(run)
    share_padding(base)
    for _, parameter in base.parameters():
        parameter.requires_grad_(False)
    clock = Clock(math.inf)
    found = draw_pairs(run, base, pairs, steps=teacher_steps, guidance=guidance)
    report(run, "pairs", count=len(found.ids_BL), seconds=clock.elapsed())
    judged = partial(
        base_training.evaluate_base,
        run,
        base,
        prompts,
        steps=STEPS,
        guidance=1.0,
        sampler=sample,
    )
    if prompts:
        judged(sheet=False)
    train_adapter(run, base, found, seconds, rate)
    write_adapter(base.transformer, path)
    if prompts:
        judged(sheet=True)


def main() -> None:
    """Distill the published base into the file that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--pairs", type=int, default=16384)
    parser.add_argument("--seconds", type=float, default=180.0, help="of training")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--teacher-steps", type=int, default=14, help="of two passes each")
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--prompts", type=int, default=256, help="to be judged; 0: none")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--tiny", action="store_true", help="tiny networks, for a CPU")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    out = options.path.parent
    run = Run(device, options.weights, out, Sizes())
    if options.tiny:
        run = Run(device, options.weights, out, TINY, workers=0, scale=1 / 64)
    torch.manual_seed(0)
    distill(
        run,
        options.path,
        pairs=options.pairs,
        seconds=options.seconds,
        rate=options.rate,
        teacher_steps=options.teacher_steps,
        guidance=options.guidance,
        prompts=options.prompts,
    )


if __name__ == "__main__":
    main()
