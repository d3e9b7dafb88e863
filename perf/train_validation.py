"""Measure validations' share of a training's time at the paper's size: ``... OUT.json``.

The project's own planner (``training.validation_samples``) chooses the held-out samples of 52,000
clips of four shows and counts their forward passes; a validation's forward pass and a training
pass of the 14B are timed in one process. Everything else of a training takes no part in the share.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core.settings import DatasetSettings, LoraSettings
from mimix_core.training.sample_schedule import count_optimizer_steps
from mimix_core.training.validation_samples import (
    evaluation_steps,
    select_validation_samples,
    validation_share,
)
from mimix_core.training.worker_messages import TrainingSample
from mimix_core.wan import fast, lora
from mimix_core.wan.tensor_shards import TensorRef
from perf.train_models import LATENTS, WAN_14B, attach, batch, loss_of, timed, wan, write

CLIPS = 52_000
SHOWS = {
    "Tom and Jerry": ("cartoon", ("Tom", "Jerry", "Spike")),
    "We Bare Bears": ("cartoon", ("Grizzly", "Panda", "Ice Bear")),
    "Mr. Bean": ("realistic", ("Mr. Bean", "Teddy")),
    "Young Sheldon": ("realistic", ("Sheldon", "Missy", "Mary")),
}


def held_out(count: int) -> list[TrainingSample]:
    """Describe held-out clips, alike of each show, each of one or two of its characters."""
    nowhere = TensorRef(file=Path("none"), key="", shape=LATENTS)
    samples = []
    for number in range(count):
        show = list(SHOWS)[number % len(SHOWS)]
        style, cast = SHOWS[show]
        names = {cast[number % len(cast)], cast[number // 7 % len(cast)]}
        samples.append(
            TrainingSample(
                sample_id=f"s{number}",
                show=show,
                style=style,
                characters=tuple(sorted(names)),
                latents=nowhere,
                text=nowhere,
            )
        )
    return samples


def planned(settings: LoraSettings) -> dict[str, Any]:
    """Count the passes of a training at the paper's size, and those of all its validations."""
    validation = round(CLIPS * DatasetSettings().val_share)
    train = CLIPS - validation
    chosen = select_validation_samples(held_out(validation), train, settings)
    steps = count_optimizer_steps(train, settings.epochs, settings.global_batch_size)
    validations = evaluation_steps(steps, settings.validation_interval)
    return {
        "train_samples": train,
        "held_out_samples": validation,
        "validated_samples": len(chosen),
        "validations": len(validations),
        "training_passes": train * settings.epochs,
        "validation_passes": len(chosen) * settings.validation_quantiles * len(validations),
        "share_by_count": validation_share(train, len(chosen), settings),
    }


def main(out: Path) -> None:
    settings = LoraSettings()
    model = wan(WAN_14B, torch.bfloat16)
    attach(model, torch.float32)
    fast.accelerate_training(model, settings)
    given = batch()

    def train() -> torch.Tensor:
        for _, weight in lora.adapter_parameters(model):
            weight.grad = None
        loss = loss_of(model, given, torch.bfloat16)
        loss.backward()
        return loss.detach()

    @torch.no_grad()
    def validate() -> torch.Tensor:
        return loss_of(model, given, torch.bfloat16)

    training = timed(train, 2)
    model.eval()
    validation = timed(validate, 3)
    found = planned(settings) | {"training": vars(training), "validation": vars(validation)}
    spent = found["validation_passes"] * validation.seconds
    found["share"] = spent / (found["training_passes"] * training.seconds)
    write(out, found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
