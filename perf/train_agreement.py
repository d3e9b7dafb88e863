"""Compare the accelerated variants with the reference: ``python perf/train_agreement.py OUT.json``.

Two comparisons on small models. One step: loss and gradients of a Wan of 1.3B's width and six
layers, in bf16 and in fp8, against fp32 with the same weights. A training run: a Wan of a few
million parameters, trained on drifting patterns, is adapted to other patterns; held-out losses at
nine noise levels during training, in bf16 by diffusers + PEFT, by this project, in fp8, and in bf16
with other samples and noise, which shows the difference between two equally valid runs.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core.settings import LoraSettings
from mimix_core.wan import fast, flow_matching, lora
from perf.train_models import Batch, attach, batch, gradient, loss_of, wan, write

WIDE: dict[str, Any] = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 6}
WIDE_LATENTS = (16, 9, 32, 32)
SMALL: dict[str, Any] = {
    "num_attention_heads": 3,
    "ffn_dim": 1536,
    "num_layers": 6,
    "text_dim": 64,
}
SHAPE = (16, 5, 16, 16)
SHIFT = 5.0
PATTERNS = 8
BATCH = 16
TAUGHT, ADAPTED, EVERY = 300, 100, 20


def one_step(dtype: torch.dtype, settings: LoraSettings | None) -> tuple[float, torch.Tensor]:
    """Compute the loss and all gradients, concatenated, for weights representable in bf16."""
    model = wan(WIDE, torch.bfloat16).to(dtype) if dtype == torch.float32 else wan(WIDE, dtype)
    attach(model, torch.float32)
    if settings is not None:
        fast.accelerate_training(model, settings)
    loss = loss_of(model, batch(WIDE_LATENTS), dtype)
    loss.backward()
    grads = [gradient(weight).flatten() for _, weight in lora.adapter_parameters(model)]
    return loss.item(), torch.cat(grads).float()


def agreement() -> dict[str, dict[str, float]]:
    torch.backends.cuda.matmul.allow_tf32 = False
    loss, grads = one_step(torch.float32, None)
    found = {}
    for name, settings in {
        "diffusers": None,
        "cudnn": LoraSettings(attention="cudnn", compile="off"),
        "auto": LoraSettings(),
        "fp8": LoraSettings(fp8=True, compile="off"),
    }.items():
        torch._dynamo.reset()
        own_loss, own = one_step(torch.bfloat16, settings)
        found[name] = {
            "loss": own_loss,
            "loss_error": own_loss / loss - 1,
            "gradient_error": ((own - grads).norm() / grads.norm()).item(),
            "gradient_cosine": torch.nn.functional.cosine_similarity(own, grads, 0).item(),
        }
    return found


def patterns(kinds: range, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Generate drifting plane waves as latents_BCTHW, and text_BLD that identifies their kind."""
    numbers = torch.Generator("cuda").manual_seed(seed)
    of = torch.randint(kinds.start, kinds.stop, (count,), generator=numbers, device="cuda")
    phase = torch.rand(count, generator=numbers, device="cuda") * 2 * math.pi
    t, h, w = (torch.arange(n, device="cuda").float() for n in SHAPE[1:])
    own = torch.Generator("cuda").manual_seed(7)
    speed, rows, columns = (torch.rand(3, 64, generator=own, device="cuda") - 0.5).mul(2.0)
    colours = torch.randn(64, SHAPE[0], generator=own, device="cuda")
    texts = torch.randn(64, 4, SMALL["text_dim"], generator=own, device="cuda")
    wave_BTHW = torch.sin(
        phase.view(-1, 1, 1, 1)
        + speed[of].view(-1, 1, 1, 1) * t.view(1, -1, 1, 1)
        + rows[of].view(-1, 1, 1, 1) * h.view(1, 1, -1, 1)
        + columns[of].view(-1, 1, 1, 1) * w
    )
    latents_BCTHW = colours[of].view(count, -1, 1, 1, 1) * wave_BTHW[:, None]
    return latents_BCTHW, torch.nn.functional.pad(texts[of], (0, 0, 0, 508))


def batches(kinds: range, steps: int, seed: int) -> Iterator[Batch]:
    for step in range(steps):
        latents, text = patterns(kinds, BATCH, seed * 100000 + step)
        numbers = torch.Generator("cuda").manual_seed(seed * 100000 + step)
        level = torch.rand(BATCH, generator=numbers, device="cuda")
        sigma = SHIFT * level / (1 + (SHIFT - 1) * level)
        yield Batch(latents, text, sigma, torch.randn(*latents.shape, generator=numbers,
                                                      device="cuda"))  # fmt: skip


@torch.no_grad()
def held_out(model: Any, kinds: range) -> float:
    latents, text = patterns(kinds, 32, 999)
    noise = torch.randn(*latents.shape, generator=torch.Generator("cuda").manual_seed(5),
                        device="cuda")  # fmt: skip
    levels = flow_matching.validation_sigmas(9, SHIFT)
    found = [
        loss_of(model, Batch(latents, text, torch.full((32,), s, device="cuda"), noise),
                torch.bfloat16).item()
        for s in levels
    ]  # fmt: skip
    return sum(found) / len(found)


def train(
    model: Any,
    given: Iterator[Batch],
    rate: float,
    look: Callable[[int], None],
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    weights = [weight for _, weight in lora.adapter_parameters(model)]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
    for step, one in enumerate(given):
        look(step)
        loss_of(model, one, dtype).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()


def taught() -> dict[str, torch.Tensor]:
    """Train a small Wan from scratch, in fp32, on the first patterns; return its weights."""
    model = wan(SMALL, torch.float32).requires_grad_(True)
    train(model, batches(range(PATTERNS), TAUGHT, 1), 1e-3, lambda step: None, torch.float32)
    return {name: weight.detach() for name, weight in model.named_parameters()}


def curves() -> dict[str, list[float]]:
    weights = taught()
    new = range(PATTERNS, 2 * PATTERNS)
    found: dict[str, list[float]] = {}
    for name, settings, seed in (
        ("diffusers", None, 2),
        ("bf16", LoraSettings(compile="off"), 2),
        ("fp8", LoraSettings(compile="off", fp8=True), 2),
        ("bf16_other_noise", LoraSettings(compile="off"), 3),
    ):
        model = wan(SMALL, torch.bfloat16)
        with torch.no_grad():
            for key, weight in model.named_parameters():
                weight.copy_(weights[key])
        attach(model, torch.float32, rank=16)
        for key, weight in lora.adapter_parameters(model):
            if "lora_B" in key:
                weight.data.zero_()
        if settings is not None:
            fast.accelerate_training(model, settings)
        curve: list[float] = []

        def look(step: int, model: Any = model, curve: list[float] = curve) -> None:
            if step % EVERY == 0:
                curve.append(held_out(model, new))

        train(model, batches(new, ADAPTED, seed), 1e-3, look)
        look(ADAPTED)
        found[name] = curve
    return found


def main(out: Path) -> None:
    learned = curves()
    reference = torch.tensor(learned["bf16"])
    apart = {
        name: (torch.tensor(curve) / reference - 1).abs().max().item()
        for name, curve in learned.items()
    }
    found: dict[str, Any] = {"curves": learned, "curves_apart": apart}
    write(out, found)
    write(out, found | {"one_step": agreement()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
