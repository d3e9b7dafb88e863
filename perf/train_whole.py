"""Time complete training steps: DeepSpeed, optimizer, clipping, samples from files, 1 and 2 GPUs.

``python perf/train_whole.py OUT.json PROCESSES...``. The processes are launched as by stage
``lora``, with two micro batches per process and step, and ZeRO 2 (64 are usual, so the costs per
step weigh more here). Figures of other numbers of processes stay in OUT.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core.settings import LoraSettings
from mimix_core.training.launcher import run_job
from mimix_core.training.worker_messages import TrainingJob, TrainingSample
from mimix_core.wan import safetensors_io
from mimix_core.wan.adapter_metadata import AdapterMetadata
from mimix_core.wan.model_registry import FULL_RANGE, NoiseRange
from mimix_core.wan.tensor_shards import TensorRef
from perf.train_models import LATENTS, TEXT_WIDTH, WAN_14B, write

PROGRAM = (sys.executable, str(Path(__file__).resolve().with_name("train_rank.py")))
MICROS = 2
STEPS = 3
TOKENS = 226


def samples(
    folder: Path, count: int, latents: tuple[int, ...], width: int
) -> tuple[TrainingSample, ...]:
    """Write random samples in shards, like the stages ``latents`` and ``embeddings``."""
    numbers = torch.Generator().manual_seed(0)
    names = [f"s{index}" for index in range(count)]
    video = {name: torch.randn(latents, generator=numbers) for name in names}
    text = {name: torch.randn(TOKENS, width, generator=numbers).bfloat16() for name in names}
    safetensors_io.write_tensors(folder / "latents.safetensors", video)
    safetensors_io.write_tensors(folder / "text.safetensors", text)
    return tuple(
        TrainingSample(
            sample_id=name,
            show="show",
            style="cartoon",
            characters=(),
            latents=TensorRef(file=folder / "latents.safetensors", key=name, shape=latents),
            text=TensorRef(file=folder / "text.safetensors", key=name, shape=(TOKENS, width)),
        )
        for name in names
    )


def whole(
    processes: int,
    model: dict[str, Any],
    latents: tuple[int, ...],
    width: int,
    levels: NoiseRange = FULL_RANGE,
) -> dict[str, Any]:
    """Time training steps; ``levels``: the range of noise levels, for one of two experts."""
    batch = MICROS * processes
    settings = LoraSettings(
        global_batch_size=batch, epochs=STEPS, num_processes=processes, zero_stage=2, threads=4
    )
    with tempfile.TemporaryDirectory(prefix="mimix-perf-") as work:
        folder = Path(work)
        (folder / "model.json").write_text(json.dumps(model))
        job = TrainingJob(
            settings=settings,
            transformer=folder,
            train=samples(folder, batch, latents, width),
            val=(),
            out=folder,
            levels=levels,
            adapter_metadata=AdapterMetadata(
                base="random",
                base_sha256="",
                rank=settings.rank,
                alpha=settings.alpha,
                targets=settings.target_modules,
                characters=(),
                styles=(),
                dataset_sha256="",
                settings={},
            ),
        )
        run_job(job, folder / "train.log", lambda *_: None, command=PROGRAM)
        found: dict[str, Any] = json.loads((folder / "found.json").read_text())
        return found


def main(out: Path, counts: list[int]) -> None:
    found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    for count in counts:
        found[str(count)] = whole(count, WAN_14B, LATENTS, TEXT_WIDTH)
        if count > 1 and "1" in found:
            found[str(count)]["weak_scaling"] = found["1"]["seconds"] / found[str(count)]["seconds"]
        write(out, found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(word) for word in sys.argv[2:]])
