"""Time video generation: ``python perf/generate.py OUT [PART...]`` on a GPU, ``... OUT record``.

Wan2.1-T2V-14B with random weights created on the GPU and an adapter of rank 32, 81 x 480 x 832:
denoising steps of each variant (two passes of the transformer per step), prompts through UMT5, the
VAE's decoding with its error and memory, the accuracy of merged adapters, and one complete video of
few steps, which validates the arithmetic. OUT/generate.json is written after each measurement, so
an interrupted run has its results so far. Not included: loading weights, and writing the MP4. The
part ``two_gpus`` runs only when it is named, and needs two GPUs.

``record`` writes the figures in OUT to perf/results/generate.json, on any machine.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from perf.generate_steps import (
    GUIDANCE,
    Passes,
    compiled_passes,
    measure_adapter,
    measure_batched,
    measure_steps,
    measure_unmerged,
)
from perf.generate_timing import Measurements, clear, seconds_of
from perf.generate_two_gpus import measure_two_gpus

STEPS = 50
PASS_FLOPS = 1.68e15
"""One pass of the 14B over one video: 168e15 for 50 steps with guidance."""
MATMUL = 790e12
"""FLOP/s of large bf16 products on an H200, measured for 8192 x 8192 on random data."""
FLOOR = 2 * STEPS * PASS_FLOPS / MATMUL

SIZE = {"width": 832, "height": 480, "num_frames": 81}
WHOLE_STEPS = 8
FEW_STEPS = 4
"""Steps of an adapter distilled to few steps, without guidance (docs/generation.md)."""

# Figure: the keys of its value in OUT/generate.json, its unit.
FIGURES: dict[str, tuple[tuple[str, ...], str]] = {
    "seconds_per_video": (("video", "mimix"), "s, 50 steps with guidance"),
    "seconds_per_video_diffusers": (("video", "diffusers"), "s, 50 steps with guidance"),
    "times_the_floor": (("video", "times_the_floor"), f"x {FLOOR:.0f} s"),
    "seconds_per_step_diffusers": (("steps", "diffusers", "seconds"), "s"),
    "seconds_per_step_eager": (("steps", "eager", "seconds"), "s"),
    "seconds_per_step_compiled": (("steps", "compiled", "seconds"), "s"),
    "seconds_per_step_batched": (("steps", "batched", "seconds"), "s"),
    "seconds_per_step_beside": (("steps", "beside", "seconds"), "s"),
    "seconds_to_compile": (("steps", "compiled", "first_seconds"), "s, the first step"),
    "peak_gb_compiled": (("steps", "compiled", "peak_gb"), "GB"),
    "peak_gb_eager": (("steps", "eager", "peak_gb"), "GB"),
    "peak_gb_batched": (("steps", "batched", "peak_gb"), "GB"),
    "whole_seconds": (("whole", "seconds"), f"s, {WHOLE_STEPS} steps and decoding"),
    "whole_seconds_by_arithmetic": (("whole", "by_arithmetic"), "s"),
    "few_step_seconds": (("few", "seconds"), f"s, {FEW_STEPS} Euler steps, no guidance, decoding"),
    "prompt_seconds": (("text", "seconds"), "s"),
    "decoding_seconds": (("decoding", "mimix_fp32", "seconds"), "s"),
    "decoding_seconds_bf16": (("decoding", "mimix_bf16", "seconds"), "s"),
    "decoding_seconds_diffusers": (("decoding", "diffusers_fp32", "seconds"), "s"),
    "decoding_seconds_tiled": (("decoding", "tiled_fp32", "seconds"), "s"),
    "decoding_error": (("decoding", "mimix_fp32", "levels"), "of 255, mean, against no TF32"),
    "decoding_error_bf16": (("decoding", "mimix_bf16", "levels"), "of 255, mean"),
    "decoding_peak_gb": (("decoding", "mimix_fp32", "peak_gb"), "GB, with the weights"),
    "decoding_peak_gb_tiled": (("decoding", "tiled_fp32", "peak_gb"), "GB, with the weights"),
    "two_gpu_efficiency": (
        ("two_gpus", "guidance_efficiency"),
        "of twice one GPU, two GPUs, a pass of guidance each, a video",
    ),
    "two_gpu_efficiency_tokens": (
        ("two_gpus", "tokens_efficiency"),
        "of twice one GPU, two GPUs, half of the tokens each, a video",
    ),
    "two_gpu_seconds_per_step": (("two_gpus", "guidance", "seconds"), "s, two GPUs"),
    "two_gpu_seconds_per_step_tokens": (("two_gpus", "tokens", "seconds"), "s, two GPUs"),
    "one_gpu_seconds_per_step": (("two_gpus", "one", "seconds"), "s, in the run of two GPUs"),
    "two_gpu_difference": (("two_gpus", "guidance_difference"), "of one GPU's velocity"),
    "two_gpu_difference_tokens": (("two_gpus", "tokens_difference"), "of one GPU's velocity"),
    "adapter_error_beside": (("adapter", "beside"), "of the velocity in fp32"),
    "adapter_error_merged": (("adapter", "merged"), "of the velocity in fp32"),
    "adapter_left_merged_from_fp32": (("adapter", "weak_left_from_fp32"), "of a weak one"),
    "adapter_left_merged_from_bf16": (("adapter", "weak_left_from_bf16"), "of a weak one"),
}

NOTE = (
    "Wan2.1-T2V-14B, random weights, rank 32, 81 x 480 x 832, UniPC, guidance 5. A video's seconds "
    f"are {STEPS} steps, decoding and the prompt; the floor is {FLOOR:.0f} s of matrix products. "
    "generation.md explains the figures."
)


def measure_whole(measurements: Measurements, passes: Passes) -> None:
    """Time one video of few steps by the pipeline, and predict the time from the parts."""
    import diffusers
    import torch

    from mimix_core.wan.generation import sampling

    clear()
    numbers = torch.Generator("cuda").manual_seed(1)
    words = torch.randn(2, 1, 512, 4096, generator=numbers, device="cuda", dtype=torch.bfloat16)
    pipeline = diffusers.WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=random_vae(),
        scheduler=diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0
        ),
        transformer=passes.model,
    )
    pipeline.set_progress_bar_config(disable=True)
    torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    latents = sampling.denoise(
        pipeline,
        0,
        prompt_embeds=words[0],
        negative_prompt_embeds=words[1],
        num_inference_steps=WHOLE_STEPS,
        guidance_scale=GUIDANCE,
        **SIZE,
    )
    torch.cuda.synchronize()
    denoised = time.perf_counter() - begin
    frames = sampling.decode_latents(pipeline.vae, latents)
    whole = time.perf_counter() - begin
    parts = measurements.parts
    arithmetic = WHOLE_STEPS * parts["steps"]["compiled"]["seconds"]
    arithmetic += parts["decoding"]["mimix_fp32"]["seconds"]
    measurements.record("whole", "seconds", whole)
    measurements.record("whole", "denoising_seconds", denoised)
    measurements.record("whole", "by_arithmetic", arithmetic)
    measurements.record("whole", "frames", list(frames.shape))
    measurements.record("whole", "peak_gb", torch.cuda.max_memory_allocated() / 1e9)


def measure_few(measurements: Measurements, passes: Passes) -> None:
    """Time whole videos of few steps without guidance, by the scheduler of distilled adapters."""
    import diffusers
    import torch

    from mimix_core.wan.generation import sampling
    from mimix_core.wan.generation.euler_scheduler import EqualStepsEulerScheduler

    clear()
    numbers = torch.Generator("cuda").manual_seed(1)
    words = torch.randn(1, 512, 4096, generator=numbers, device="cuda", dtype=torch.bfloat16)
    pipeline = diffusers.WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=random_vae(),
        scheduler=EqualStepsEulerScheduler(shift=5.0),
        transformer=passes.model,
    )
    pipeline.set_progress_bar_config(disable=True)

    def generate() -> None:
        latents = sampling.denoise(
            pipeline,
            0,
            prompt_embeds=words,
            num_inference_steps=FEW_STEPS,
            guidance_scale=1.0,
            **SIZE,
        )
        sampling.decode_latents(pipeline.vae, latents)

    for name, value in seconds_of(generate, 2).items():
        measurements.record("few", name, value)


def random_vae() -> Any:
    """Create Wan2.1's VAE with random weights and this project's convolutions."""
    from diffusers import AutoencoderKLWan

    from mimix_core.wan import random_backbone
    from mimix_core.wan.vae_layers import replace_convolutions

    vae = AutoencoderKLWan()
    random_backbone.randomize_weights(vae, 0, "vae")
    return replace_convolutions(vae.eval().requires_grad_(False).to("cuda"))


def measure_decoding(measurements: Measurements) -> None:
    """Measure decoding of one video: seconds, memory, and error against no TF32 (of 255 levels)."""
    import torch
    from diffusers import AutoencoderKLWan

    from mimix_core.wan import random_backbone
    from mimix_core.wan.generation import sampling
    from perf.train_models import LATENTS

    numbers = torch.Generator("cuda").manual_seed(0)
    coarse = torch.randn(1, 16, 6, 8, 13, generator=numbers, device="cuda")
    latents = torch.nn.functional.interpolate(coarse, LATENTS[1:], mode="trilinear")
    plain = AutoencoderKLWan()
    random_backbone.randomize_weights(plain, 0, "vae")
    plain.eval().requires_grad_(False).to("cuda")
    torch.backends.cudnn.allow_tf32 = False
    exact = sampling.decode_latents(plain, latents).astype("int16")
    torch.backends.cudnn.allow_tf32 = True
    for name, dtype, own, tiled in (
        ("diffusers_fp32", torch.float32, False, False),
        ("mimix_fp32", torch.float32, True, False),
        ("mimix_bf16", torch.bfloat16, True, False),
        ("tiled_fp32", torch.float32, True, True),
    ):
        vae = random_vae().to(dtype) if own else copy.deepcopy(plain)
        if tiled:
            vae.enable_tiling()
        clear()
        base = torch.cuda.memory_allocated()
        pictures: list[Any] = []

        def decode(vae: Any = vae, pictures: list[Any] = pictures) -> None:
            pictures[:] = [sampling.decode_latents(vae, latents)]

        timed = seconds_of(decode, 1)
        off = abs(pictures[0].astype("int16") - exact)
        held = (base - sum(p.numel() * p.element_size() for p in vae.parameters())) / 1e9
        measurements.record(
            "decoding",
            name,
            {
                **timed,
                "peak_gb": timed["peak_gb"] - held,
                "levels": float(off.mean()),
                "largest": int(off.max()),
            },
        )
        del vae
    del plain
    clear()


def measure_text(measurements: Measurements) -> None:
    """Time one prompt of 120 tokens through UMT5-XXL's encoder in bf16."""
    import torch
    from transformers import UMT5Config, UMT5EncoderModel

    from mimix_core.wan import model_registry, text_embeddings

    config = model_registry.get_backbone("wan2.1-t2v-14b").text_encoder.config
    with torch.device("meta"):
        encoder = UMT5EncoderModel(UMT5Config(dropout_rate=0.0, **config))
    encoder = encoder.bfloat16().to_empty(device="cuda").eval()
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.normal_(0, 0.02)
    ids = [list(range(3, 123))]

    def embed(encoder: Any = encoder) -> None:
        text_embeddings.embed_tokens(encoder, ids)

    measurements.record("text", "seconds", seconds_of(embed, 3)["seconds"])


PARTS = ("decoding", "text", "steps", "whole", "few", "batched", "adapter", "beside")
"""Parts in the order they run; ``whole`` also needs the results of ``decoding`` and ``steps``."""
TWO_GPUS = "two_gpus"


def main(out: Path, arguments: list[str]) -> int:
    if arguments == ["record"]:
        print(record(out))
        return 0
    asked = arguments or list(PARTS)
    out.mkdir(parents=True, exist_ok=True)
    measurements = Measurements(out)
    alone = {
        "decoding": measure_decoding,
        "text": measure_text,
        "adapter": measure_adapter,
        TWO_GPUS: measure_two_gpus,
    }
    with_model = {
        "whole": measure_whole,
        "few": measure_few,
        "batched": measure_batched,
        "beside": measure_unmerged,
    }
    passes: Passes | None = None
    for part in [name for name in (*PARTS, TWO_GPUS) if name in asked]:
        if part in alone:
            alone[part](measurements)
        elif part == "steps":
            passes = measure_steps(measurements)
        else:
            passes = passes or compiled_passes()
            with_model[part](measurements, passes)
        clear()
    return 0


def video_seconds(found: dict[str, Any]) -> dict[str, float]:
    """Compute the seconds per video: 50 steps, decoding and the prompt."""
    steps, decoding, text = found["steps"], found["decoding"], found["text"]["seconds"]
    own = STEPS * steps["compiled"]["seconds"] + decoding["mimix_fp32"]["seconds"] + text
    theirs = STEPS * steps["diffusers"]["seconds"] + decoding["diffusers_fp32"]["seconds"] + text
    return {"mimix": own, "diffusers": theirs, "times_the_floor": own / FLOOR}


def record(out: Path) -> Path:
    """Write the figures in ``out`` to perf/results/generate.json and the page.

    Figures of parts that were not run keep what was recorded before, with its date and commit.
    """
    from perf import record as results

    found = json.loads((out / "generate.json").read_text())
    if {"steps", "decoding", "text"} <= found.keys():
        found["video"] = video_seconds(found)
    values = {name: results.value_at(found, keys) for name, (keys, _) in FIGURES.items()}
    dates = {"video": found["dates"].get("steps"), **found["dates"]}
    return results.update(
        "generate",
        {name: value for name, value in values.items() if value is not None},
        {name: unit for name, (_, unit) in FIGURES.items()},
        NOTE,
        "NVIDIA H200",
        {name: dates[keys[0]] for name, (keys, _) in FIGURES.items() if keys[0] in dates},
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
