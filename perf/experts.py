"""Run Wan2.2-T2V-A14B at full size on one GPU: ``python perf/experts.py OUT``, ``... OUT record``.

Two transformers of 14B with random weights, created on the GPU, and adapters of rank 32; 81 x 480 x
832. ``training``: complete steps of either expert at its own noise levels, one after the other.
``generation``: eight denoising steps with guidance over the boundary, with both experts on the GPU
and with experts that take turns. It takes about eleven minutes on an H200, of which five are for
training, and needs 70 GB of GPU and 80 GB of main memory. OUT/experts.json is written after each
measurement.

``record`` writes the figures in OUT to perf/results/experts.json, on any machine; figures that were
not measured keep what was recorded before, with its date and commit.
"""

from __future__ import annotations

import gc
import json
import math
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

A14B = "wan2.2-t2v-a14b"
STEPS = 8
SIZE = {"width": 832, "height": 480, "num_frames": 81}
GUIDANCE = {"guidance_scale": 4.0, "guidance_scale_2": 3.0}

# Figure: the keys of its value in OUT/experts.json, its unit.
FIGURES: dict[str, tuple[tuple[str, ...], str]] = {
    "training_seconds_high_noise": (("training", "high-noise", "seconds"), "s a sample"),
    "training_seconds_low_noise": (("training", "low-noise", "seconds"), "s a sample"),
    "training_peak_gb": (("training", "low-noise", "peak_gb"), "GB, one expert"),
    "step_seconds": (("generation", "resident", "step_seconds"), "s, two passes"),
    "peak_gb": (("generation", "resident", "peak_gb"), "GB, both experts"),
    "peak_gb_turns": (("generation", "turns", "peak_gb"), "GB, one expert at a time"),
    "turn_seconds": (("generation", "turns", "turn_seconds"), "s more in the step of the turn"),
    "turns_difference": (("generation", "turns", "difference"), "largest, of the latents"),
}
NOTE = (
    "Two transformers of 14B, random weights, rank 32, 81 x 480 x 832, guidance 4 and 3, shift 12."
)


def measure_training(config: dict[str, Any], latents: tuple[int, ...], width: int) -> Any:
    """Time complete training steps of each expert; the loss of every step must be finite."""
    from mimix_core.wan.model_registry import get_backbone
    from perf.train_whole import whole

    found = {}
    for expert in get_backbone(A14B).experts:
        steps = whole(1, config, latents, width, expert.levels)
        assert all(map(math.isfinite, steps["losses"])), steps["losses"]
        found[expert.name] = steps
        print(expert.name, json.dumps(steps), flush=True)
    return found


def measure_generation(
    config: dict[str, Any],
    vae: Any,
    width: int,
    size: dict[str, int],
    device: str,
    save: Callable[[str, dict[str, Any]], None],
) -> None:
    """Time denoising steps over the boundary with both experts on the GPU, then in turns.

    ``save``: called with the name and the figures of either.
    """
    import torch
    from diffusers import UniPCMultistepScheduler, WanPipeline

    from mimix_core.settings import SampleSettings
    from mimix_core.wan.generation import sampling
    from mimix_core.wan.generation.expert_swap import ExpertSwap
    from mimix_core.wan.generation.video_generator import accelerate_inference
    from mimix_core.wan.model_registry import get_backbone
    from perf.train_models import attach, wan

    backbone = get_backbone(A14B)
    experts = []
    for seed in range(2):
        expert = wan(config, torch.bfloat16, device, seed).eval()
        attach(expert, torch.float32, seed=seed)
        expert.requires_grad_(False)
        accelerate_inference(expert, SampleSettings(), torch.device(device), streamed=False)
        experts.append(expert)
    pipeline = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=backbone.flow_shift,
        ),
        transformer=experts[0],
        transformer_2=experts[1],
        boundary_ratio=backbone.boundary,
    )
    pipeline.set_progress_bar_config(disable=True)
    numbers = torch.Generator(device).manual_seed(1)
    words = torch.randn(2, 1, 512, width, generator=numbers, device=device, dtype=torch.bfloat16)
    calls = [0, 0]
    for index, expert in enumerate(experts):

        def count(*_: object, index: int = index) -> None:
            calls[index] += 1

        expert.register_forward_pre_hook(count)

    def denoise() -> tuple[torch.Tensor, list[float]]:
        ends = [time.perf_counter()]

        def note(_pipeline: Any, _index: int, _timestep: Any, tensors: dict[str, Any]) -> Any:
            if device == "cuda":
                torch.cuda.synchronize()
            ends.append(time.perf_counter())
            return tensors

        latents_BCTHW = sampling.denoise(
            pipeline,
            0,
            prompt_embeds=words[0],
            negative_prompt_embeds=words[1],
            num_inference_steps=STEPS,
            callback_on_step_end=note,
            **GUIDANCE,
            **size,
        )
        assert bool(latents_BCTHW.isfinite().all())
        return latents_BCTHW, [after - before for before, after in pairwise(ends)]

    def measured() -> tuple[torch.Tensor, dict[str, Any]]:
        denoise()  # compiles the blocks of both experts
        calls[:] = [0, 0]
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        latents_BCTHW, seconds = denoise()
        peak = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0
        assert min(calls) >= 2, calls
        return latents_BCTHW, {
            "step_seconds": median(seconds),
            "all_seconds": seconds,
            "calls": list(calls),
            "peak_gb": peak,
        }

    resident, found = measured()
    save("resident", found)
    ExpertSwap(experts, torch.device(device))
    turns, again = measured()
    first_low = again["calls"][0] // 2
    again["turn_seconds"] = again["all_seconds"][first_low] - again["step_seconds"]
    again["difference"] = float((turns - resident).abs().max() / resident.abs().max())
    save("turns", again)


def main(out: Path, arguments: list[str]) -> int:
    if arguments == ["record"]:
        print(record(out))
        return 0
    from perf.generate import random_vae
    from perf.train_models import LATENTS, TEXT_WIDTH, WAN_14B

    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"generation": {}}

    def save(name: str, figures: dict[str, Any]) -> None:
        found["generation"][name] = figures
        print(name, json.dumps(figures), flush=True)
        (out / "experts.json").write_text(json.dumps(found, indent=1) + "\n")

    found["training"] = measure_training(WAN_14B, LATENTS, TEXT_WIDTH)
    (out / "experts.json").write_text(json.dumps(found, indent=1) + "\n")
    measure_generation(WAN_14B, random_vae(), TEXT_WIDTH, SIZE, "cuda", save)
    return 0


def record(out: Path) -> Path:
    """Write the figures in ``out`` to perf/results/experts.json and the page."""
    from perf import record as results

    found = json.loads((out / "experts.json").read_text())
    values = {name: results.value_at(found, keys) for name, (keys, _) in FIGURES.items()}
    return results.update(
        "experts",
        {name: value for name, value in values.items() if value is not None},
        {name: unit for name, (_, unit) in FIGURES.items()},
        NOTE,
        "one NVIDIA H200",
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
