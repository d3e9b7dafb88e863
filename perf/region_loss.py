"""Measure what a loss weighted by regions costs a training step, on a CPU.

    python perf/region_loss.py [--rounds 12]

One micro batch of a clip with two characters on a random transformer of the miniature's size (20 M
parameters, 800 tokens, rank 32): loading, forward and backward pass, without the optimizer. The
three losses take turns, and CPU time of one thread counts, so that a busy machine matters less.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from diffusers import WanTransformer3DModel

from mimix_core.settings import LoraSettings
from mimix_core.training import data_loader, objective
from mimix_core.training.deepspeed_engine import TrainingEngine
from mimix_core.training.distributed import DistributedContext
from mimix_core.training.sample_schedule import BatchItem
from mimix_core.training.worker_messages import TrainingSample
from mimix_core.wan import lora, safetensors_io
from mimix_core.wan.tensor_shards import TensorRef
from miniature.sizes import Sizes
from perf.record import record

LATENTS = (16, 5, 10, 16)
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")
ARMS = {
    "unweighted": LoraSettings(),
    "weighted": LoraSettings(region_weight=1.0),
    "preserved": LoraSettings(region_weight=1.0, region_preservation=1.0),
}


def write_item(folder: Path, text_width: int) -> BatchItem:
    """Write a clip with two characters of 5 x 3 and 2 x 2 cells, and its caption."""
    regions = torch.zeros(2, *LATENTS[1:], dtype=torch.uint8)
    regions[0, :, 3:8, 2:5] = 1
    regions[1, :, 6:8, 10:12] = 1
    tensors = {
        "latents": torch.randn(LATENTS),
        "text": torch.randn(40, text_width),
        "regions": regions,
    }
    refs = {}
    for name, tensor in tensors.items():
        safetensors_io.write_tensors(folder / name, {"clip": tensor})
        refs[name] = TensorRef(file=folder / name, key="clip", shape=tuple(tensor.shape))
    sample = TrainingSample(
        sample_id="clip", show="show", style="cartoon", characters=("Pim", "Tam"), **refs
    )
    return BatchItem(sample, 0, 1.0, 0.5)


def step_of(model: Any, item: BatchItem, settings: LoraSettings) -> Callable[[], None]:
    """Return a step of one micro batch: load, forward and backward pass."""
    engine = cast(TrainingEngine, SimpleNamespace(deepspeed=model, transformer=model))
    context = cast(DistributedContext, SimpleNamespace(dtype=torch.float32))

    def step() -> None:
        batch = data_loader.load_micro_batch([item], settings)
        losses = objective.sample_losses(engine, batch, settings, context)
        (batch.weight_B * losses.objective_B).sum().backward()
        model.zero_grad()

    return step


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = WanTransformer3DModel(**Sizes().transformer_config()).requires_grad_(False)
    lora.attach_adapter(model, 32, 32, TARGETS, 0)
    seconds: dict[str, list[float]] = {name: [] for name in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        item = write_item(Path(folder), model.config.text_dim)
        steps = {name: step_of(model, item, settings) for name, settings in ARMS.items()}
        for number in range(rounds + 1):
            for name, step in steps.items():
                begin = time.process_time()
                step()
                if number:  # the first round warms up
                    seconds[name].append(time.process_time() - begin)
    plain = statistics.median(seconds["unweighted"])
    figures = {"unweighted_seconds": round(plain, 3)}
    for name in ("weighted", "preserved"):
        ratios = [a / b - 1 for a, b in zip(seconds[name], seconds["unweighted"], strict=True)]
        figures[f"{name}_extra_percent"] = round(100 * statistics.median(ratios), 1)
    units = {"unweighted_seconds": "s of CPU time per micro batch"}
    units |= {name: "% of a micro batch" for name in figures if name.endswith("percent")}
    record("region_loss", figures, units, "One thread; transformer of 20 M parameters, 800 tokens.")


if __name__ == "__main__":
    main()
