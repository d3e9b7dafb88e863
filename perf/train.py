"""Measure training speed on NVIDIA GPUs: ``python perf/train.py OUT [PART...]``, ``OUT record``.

Each part is a script that writes OUT/PART.json: ``kernels``; ``steps``, forward and backward of
Wan2.1-T2V-14B (random weights, created on the GPU; one sample of 81 x 480 x 832; rank 32 on q, k,
v, o and both layers of the feed-forward) by diffusers + PEFT and by this project's variants;
``routed``, such a step with half of the tokens skipping the middle blocks, beside those with all
tokens (in four minutes); ``agreement``, whether the variants compute and learn the same; ``whole``,
complete training steps, on one GPU and on two; ``vae``; ``cards``, a step on cards of 24, 48 and 80
GB (in seven minutes); ``validation``, the share of a training that validations take. Without
arguments all parts run, in twenty-five minutes.

``record`` writes the figures in OUT to perf/results/train.json, on any machine; parts that were not
run keep the figures that they had. A card that holds diffusers' step whole is compared with that of
``steps`` in OUT if its own is missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

PARTS: dict[str, tuple[str, ...]] = {
    "kernels": ("train_kernels.py",),
    "steps": (
        *("train_steps.py", "diffusers", "mimix", "mimix_recomputing"),
        *("mimix_cudnn", "mimix_fp8"),
    ),
    "routed": ("train_steps.py", "diffusers", "mimix", "mimix_routed"),
    "agreement": ("train_agreement.py",),
    "whole": ("train_whole.py",),
    "vae": ("train_vae.py",),
    "cards": ("train_cards.py",),
    "validation": ("train_validation.py",),
}

# As in mimix_core.training.launcher: avoids fragmentation of the nearly full memory.
ENVIRONMENT = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", **os.environ}

# Figure: its part, the keys of its value in the part, a divisor, its unit.
FIGURES: dict[str, tuple[str, tuple[str, ...], float, str]] = {
    "seconds_per_step": ("steps", ("mimix", "seconds"), 1, "s"),
    "seconds_per_step_cudnn": ("steps", ("mimix_cudnn", "seconds"), 1, "s"),
    "seconds_per_step_fp8": ("steps", ("mimix_fp8", "seconds"), 1, "s"),
    "seconds_per_step_diffusers": ("steps", ("diffusers", "seconds"), 1, "s"),
    "seconds_per_step_recomputing": ("steps", ("mimix_recomputing", "seconds"), 1, "s"),
    "ratio_to_diffusers": ("steps", ("mimix", "ratio"), 1, "x"),
    "ratio_to_diffusers_recomputing": ("steps", ("mimix_recomputing", "ratio"), 1, "x"),
    "ratio_to_diffusers_cudnn": ("steps", ("mimix_cudnn", "ratio"), 1, "x"),
    "ratio_to_diffusers_fp8": ("steps", ("mimix_fp8", "ratio"), 1, "x"),
    "seconds_per_step_routed": ("routed", ("mimix_routed", "seconds"), 1, "s"),
    "ratio_to_diffusers_routed": ("routed", ("mimix_routed", "ratio"), 1, "x"),
    "ratio_to_mimix_routed": ("routed", ("mimix_routed", "ratio_to_mimix"), 1, "x"),
    "mfu_routed": ("routed", ("mimix_routed", "mfu"), 1, "of 989 TFLOP/s"),
    "peak_gb_routed": ("routed", ("mimix_routed", "peak_gb"), 1, "GB"),
    "tokens_per_second": ("steps", ("mimix", "tokens_per_second"), 1, "1/s"),
    "mfu": ("steps", ("mimix", "mfu"), 1, "of 989 TFLOP/s"),
    "mfu_diffusers": ("steps", ("diffusers", "mfu"), 1, "of 989 TFLOP/s"),
    "mfu_fp8": ("steps", ("mimix_fp8", "mfu"), 1, "of 989 TFLOP/s"),
    "peak_gb": ("steps", ("mimix", "peak_gb"), 1, "GB"),
    "peak_gb_diffusers": ("steps", ("diffusers", "peak_gb"), 1, "GB"),
    "loss_difference": ("steps", ("mimix", "loss_difference"), 1, "of diffusers' loss"),
    "loss_difference_fp8": ("steps", ("mimix_fp8", "loss_difference"), 1, "of diffusers' loss"),
    "loss_error": ("agreement", ("one_step", "auto", "loss_error"), 1, "of fp32's loss"),
    "loss_error_diffusers": (
        "agreement",
        ("one_step", "diffusers", "loss_error"),
        1,
        "of fp32's loss",
    ),
    "gradient_error": ("agreement", ("one_step", "auto", "gradient_error"), 1, "of fp32's"),
    "gradient_error_diffusers": (
        "agreement",
        ("one_step", "diffusers", "gradient_error"),
        1,
        "of fp32's",
    ),
    "gradient_error_fp8": ("agreement", ("one_step", "fp8", "gradient_error"), 1, "of fp32's"),
    "curve_apart_fp8": ("agreement", ("curves_apart", "fp8"), 1, "of bf16's held-out loss"),
    "curve_apart_other_samples": (
        "agreement",
        ("curves_apart", "bf16_other_noise"),
        1,
        "of bf16's held-out loss",
    ),
    "whole_step_seconds": ("whole", ("1", "seconds"), 1, "s a sample"),
    "engine_overhead": ("whole", ("1", "engine_overhead"), 1, "x"),
    "weak_scaling_2": ("whole", ("2", "weak_scaling"), 1, "x"),
    **{
        f"{name}_{size}gb": ("cards", (size, *keys), 1, unit)
        for size in ("24", "48", "80")
        for name, keys, unit in (
            ("seconds", ("mimix", "seconds"), "s"),
            ("ratio_to_diffusers", ("ratio",), "x, diffusers' own way to fit"),
            ("peak", ("mimix", "peak_gb"), "GB"),
        )
    },
    "validation_share": ("validation", ("share",), 1, "of a training's time"),
    "vae_seconds_per_clip": ("vae", ("mimix_fp32", "ms"), 1000, "s"),
    "vae_seconds_per_clip_bf16": ("vae", ("mimix_bf16", "ms"), 1000, "s"),
    "vae_seconds_per_clip_diffusers": ("vae", ("diffusers_fp32", "ms"), 1000, "s"),
    "vae_seconds_per_clip_diffusers_bf16": ("vae", ("diffusers_bf16", "ms"), 1000, "s"),
    "vae_error": ("vae", ("mimix_fp32", "error"), 1, "of fp32 without TF32"),
    "vae_error_bf16": ("vae", ("mimix_bf16", "error"), 1, "of fp32 without TF32"),
    "attention_tflops_flash4": ("kernels", ("attention_flash4", "both_tflops"), 1, "TFLOP/s"),
    "attention_tflops_cudnn": ("kernels", ("attention_cudnn", "both_tflops"), 1, "TFLOP/s"),
}

NOTE = (
    "Wan2.1-T2V-14B, random weights, batch 1, 81 x 480 x 832, LoRA of rank 32: forward and "
    "backward; `diffusers` is diffusers + PEFT with its own checkpointing, in the same run. "
    "`ratio_to_diffusers_24gb` and so on are to diffusers' own way to fit such a card. "
    "training-speed.md explains the figures."
)


def main(out: Path, names: list[str]) -> int:
    out.mkdir(parents=True, exist_ok=True)
    if names == ["record"]:
        print(record(out))
        return 0
    failed = []
    for name in names or PARTS:
        script, *arguments = PARTS[name]
        if name == "whole":
            arguments = ["1", "2"] if _gpus() > 1 else ["1"]
        command = [sys.executable, str(HERE / script), str(out / f"{name}.json"), *arguments]
        if subprocess.run(command, env=ENVIRONMENT, check=False).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else f"all parts are in {out}")
    return int(bool(failed))


def record(out: Path) -> Path:
    """Write the figures of the parts in ``out`` to perf/results/train.json and the page.

    Figures of parts that were not run keep what was recorded before, with its date and commit.
    """
    from perf import record as results

    found = {
        path.stem: json.loads(path.read_text())
        for path in sorted(out.glob("*.json"))
        if path.stem in PARTS
    }
    _complete_cards(found)
    values = {
        name: results.value_at(found, (part, *keys)) for name, (part, keys, _, _) in FIGURES.items()
    }
    return results.update(
        "train",
        {n: value / FIGURES[n][2] for n, value in values.items() if value is not None},
        {name: unit for name, (*_, unit) in FIGURES.items()},
        NOTE,
        "one NVIDIA H200 (two for weak_scaling_2)",
    )


def _complete_cards(found: Mapping[str, Any]) -> None:
    """Compare cards that hold diffusers' step whole with ``steps``, unless they have their own."""
    plain = found.get("steps", {}).get("diffusers")
    for card in found.get("cards", {}).values():
        own = card.get("mimix", {})
        fits = plain is not None and plain["peak_gb"] <= own.get("limit_gb", 0)
        if "ratio" not in card and "seconds" in own and fits:
            card["ratio"] = own["seconds"] / plain["seconds"]


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
