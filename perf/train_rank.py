"""One process of perf/train_whole.py: the project's engine and steps on a randomly created Wan.

``python perf/train_rank.py JOB MESSAGES_FD``, started by ``mimix_core.training.launcher``.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core.training import deepspeed_engine, distributed, sample_schedule, trainer
from mimix_core.training.data_loader import PrefetchLoader, load_micro_batch, micro_batch_schedule
from mimix_core.training.learning_rate import learning_rate_at
from mimix_core.training.worker_messages import FinishedMessage, TrainingJob
from mimix_core.wan import fast, flow_matching, lora
from perf.train_models import attach, wan


def main(job_file: Path, messages: int) -> None:
    job = TrainingJob.model_validate_json(job_file.read_bytes())
    settings = job.settings
    os.environ["DS_ACCELERATOR"] = "cuda" if torch.cuda.is_available() else "cpu"
    here = distributed.init_distributed(job)
    gpu = here.device.type == "cuda"
    model = wan(json.loads((job.out / "model.json").read_text()), here.dtype, str(here.device))
    attach(model, torch.float32, settings.rank)
    fast.accelerate_training(model, settings)

    def synchronised() -> float:
        if gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    steps = sample_schedule.count_optimizer_steps(
        len(job.train), settings.epochs, settings.global_batch_size
    )
    micros = settings.global_batch_size // settings.num_processes
    # Forward and backward alone, on a micro batch that is already loaded.
    first = next(micro_batch_schedule(job.train, range(1), settings, here.rank))
    given = load_micro_batch(first, settings, job.levels).to(here.device)
    bare = []
    for _ in range(3):
        begin = synchronised()
        flow_matching.velocity_losses(
            model, given.latents_BCTHW, given.text_BLD, given.sigma_B, given.noise_BCTHW, here.dtype
        ).mean().backward()
        for _, weight in lora.adapter_parameters(model):
            weight.grad = None
        bare.append(synchronised() - begin)
    gc.collect()
    running = deepspeed_engine.init_engine(model, settings, here)
    loader = PrefetchLoader(
        micro_batch_schedule(job.train, range(steps), settings, here.rank),
        settings,
        here.device,
        job.levels,
    )
    whole = []
    results: list[Any] = []
    for step in range(steps):
        items = sample_schedule.plan_global_batch(
            job.train,
            step,
            epochs=settings.epochs,
            batch_size=settings.global_batch_size,
            seed=settings.seed,
        )
        distributed.any_rank(False, here)
        begin = synchronised()
        rate = learning_rate_at(step, steps, settings)
        results.append(trainer.optimizer_step(running, items, step, rate, settings, here, loader))
        whole.append((synchronised() - begin) / micros)
    loader.close()
    if here.rank == 0:
        found = {
            "bare_seconds": min(bare[1:]),
            "bare_all": bare,
            "seconds": median(whole[1:]),
            "all_seconds": whole,
            "engine_overhead": median(whole[1:]) / min(bare[1:]),
            "losses": [result.train_loss for result in results],
            "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if gpu else 0.0,
        }
        (job.out / "found.json").write_text(json.dumps(found))
        os.write(
            messages, (FinishedMessage(notes={"steps": steps}).model_dump_json() + "\n").encode()
        )
    distributed.any_rank(False, here)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
