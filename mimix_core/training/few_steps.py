"""Notice a training that ends before it has learned much: few clips and large batches."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mimix_core import tables
from mimix_core.settings import LoraSettings
from mimix_core.training.sample_schedule import (
    count_images,
    count_optimizer_steps,
    epoch_length,
)

FEW_STEPS = 100
"""A training of fewer optimizer steps is one of few; the demo of a dozen clips has 114."""


class _Sample(NamedTuple):
    show: str
    composite: bool


def describe_few_steps(dataset: Path, settings: LoraSettings) -> str | None:
    """Describe a training on ``dataset`` (a table) that has few optimizer steps, or return None."""
    rows = tables.iterate(dataset, tables.DATASET, ("status", "split", "kind", "show"))
    samples = [
        _Sample(row["show"], row["kind"] == "composite")
        for row in tables.usable(rows)
        if row["split"] == "train"
    ]
    videos = epoch_length(samples, settings.show_repeats)
    length = videos + count_images(videos, settings.image_ratio)
    steps = count_optimizer_steps(length, settings.epochs, settings.global_batch_size)
    if not 0 < steps < FEW_STEPS:
        return None
    return (
        f"only {steps} optimizer steps in all ({length} samples x {settings.epochs} "
        f"epochs, {settings.global_batch_size} samples a step); the defaults are for tens of "
        "thousands of clips. With few, raise lora.epochs or lower lora.global_batch_size"
    )
