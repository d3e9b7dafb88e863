"""SAM 3's speed beside SAM 2's on one GPU: ``python perf/sam3.py OUT``, then ``... OUT record``.

One clip of 81 frames of 480 x 832 in memory, uint8, to boxes (``locator``) or mask logits
(``segmenter``), without naming and soft edges, which are work of the CPU. Both models at full size
with random weights in bf16: SAM 3 at 1008 x 1008, SAM 2 (``large``) at 1024 x 1024. Random weights
find nobody, so the detector runs, and the figures that it would find in the first frame are planted
in place of what it found; the model's own association and tracker follow them. SAM 2 and the
segmenter are prompted at the middle frame and follow both ways.

It takes about a minute on an H200 and needs 20 GB of GPU memory. A case that has not begun after
``LAST_START`` seconds is left out, and OUT/sam3.json is written after each. ``record`` writes the
figures in OUT to perf/results/sam3.json, on any machine.
"""

from __future__ import annotations

import gc
import json
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
# The script's own folder holds a file named as the package sam2.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]

FRAMES, HEIGHT, WIDTH = 81, 480, 832
WARM_UP_FRAMES = 6
LAST_START = 60.0
NOTE = (
    "One clip of 81 x 480 x 832, random weights, bf16, one GPU: SAM 3 at 1008 x 1008 through "
    "transformers, SAM 2.1 large at 1024 x 1024 through MiMix's own loop, in the same run."
)
NOUNS = ("rabbit", "gray cat", "old man")


def main(out: Path, arguments: list[str]) -> int:
    if arguments == ["record"]:
        print(record(out))
        return 0
    import torch

    begun = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}

    def attempt(name: str, case: Callable[[], dict[str, float]]) -> None:
        """Run a case and write all that was found so far; one that fails is written as failed."""
        if time.perf_counter() - begun > LAST_START:
            found[name] = {"failed": f"not begun after {LAST_START:.0f} s"}
        else:
            try:
                found[name] = case()
            except (RuntimeError, ImportError, ValueError, TypeError) as error:
                traceback.print_exc()
                found[name] = {"failed": f"{type(error).__name__}: {error}"[:300]}
        print(f"{time.perf_counter() - begun:6.1f} s", name, json.dumps(found[name]), flush=True)
        (out / "sam3.json").write_text(json.dumps(found, indent=1) + "\n")

    device = torch.device("cuda")
    for name, build, cases in (
        ("sam2_large", build_sam2, (("segmenter_1", sam2_case, 1), ("segmenter_3", sam2_case, 3))),
        (
            "sam3",
            build_detector,
            (("locator_1", locator_case, 1), ("locator_3", locator_case, 3)),
        ),
        (
            "sam3",
            build_tracker,
            (("segmenter_1", tracker_case, 1), ("segmenter_3", tracker_case, 3)),
        ),
    ):
        models: list[Any] = []
        attempt(f"{name}_{build.__name__}", partial(timed_build, build, device, models))
        for case, measure, count in cases:
            if models:
                attempt(f"{name}_{case}", partial(measure, models[0], count))
        models.clear()
        gc.collect()
        torch.cuda.empty_cache()
    return 0


def timed_build(build: Callable[[Any], Any], device: Any, models: list[Any]) -> dict[str, float]:
    """Build a model with random weights; say how long it took, and its parameters in billions."""
    begun = time.perf_counter()
    models.append(build(device))
    count = sum(parameter.numel() for parameter in models[0].parameters())
    return {"build_seconds": time.perf_counter() - begun, "billion_parameters": count / 1e9}


def build_sam2(device: Any) -> Any:
    import torch

    from mimix_core.stages.cutouts.sam2 import model_zoo

    torch.manual_seed(0)
    model = model_zoo.build_predictor("large", device=str(device))
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(5.0)
    return model


def build_detector(device: Any, config: Any = None) -> Any:
    """Build the detector with its tracker; ``config``: of another size, to try this script."""
    from transformers import Sam3VideoConfig

    from mimix_core.stages.cutouts.sam3.sam3_weights import Sam3ConceptModel

    model = on_device(Sam3ConceptModel, config or Sam3VideoConfig(), device)
    # A planted figure is confirmed by no detection: it must stay nevertheless.
    model.hotstart_delay = 0
    see_everywhere(model.tracker_model)
    return model


def build_tracker(device: Any, config: Any = None) -> Any:
    from transformers import Sam3TrackerVideoModel, Sam3VideoConfig

    config = (config or Sam3VideoConfig()).tracker_config
    model = on_device(Sam3TrackerVideoModel, config, device)
    see_everywhere(model)
    return model


def on_device(model_class: Any, config: Any, device: Any) -> Any:
    """Create a model with random bf16 weights on the device, where that takes seconds."""
    import torch

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            model = model_class(config)
    finally:
        torch.set_default_dtype(torch.float32)
    return model.to(device, torch.bfloat16).eval().requires_grad_(False)


def see_everywhere(tracker: Any) -> None:
    """Let random weights take every character for present: half of the work is left out else."""
    import torch

    with torch.no_grad():
        tracker.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(20.0)


class FewTokens:
    """Stand in for the tokenizer, whose vocabulary comes with the weights: any tokens will do."""

    def __call__(self, text: str, **_: Any) -> FewTokens:
        import torch

        words = [49406, *(300 + ord(letter) for letter in text[:20]), 49407]
        self.input_ids = torch.tensor([words + [49407] * (32 - len(words))])
        self.attention_mask = (torch.arange(32) < len(words)).long()[None]
        return self

    def to(self, device: Any) -> FewTokens:
        self.input_ids = self.input_ids.to(device)
        self.attention_mask = self.attention_mask.to(device)
        return self


def locator_case(model: Any, count: int, tokenizer: Any = None) -> dict[str, float]:
    """``count`` nouns, each with one figure that is found in the first frame and followed."""
    from mimix_core.stages.cutouts.sam3.concept_tracks import ConceptTracker

    detect = type(model).run_detection
    side = model.low_res_mask_size

    def planted(inference_session: Any, vision_embeds: Any) -> dict[int, Any]:
        found = detect(model, inference_session, vision_embeds)
        first = not inference_session.obj_ids
        return {
            prompt: plant(detections, side, prompt if first else None)
            for prompt, detections in found.items()
        }

    model.run_detection = planted
    tracker = ConceptTracker(model, tokenizer or FewTokens())

    def run(frames: Any) -> None:
        tracks = tracker.track(frames, NOUNS[:count])
        assert len(tracks) == count, len(tracks)

    try:
        return timed(run)
    finally:
        del model.run_detection


def plant(detections: dict[str, Any], side: int, number: int | None) -> dict[str, Any]:
    """Return one upright rectangle as the only detection, or none."""
    import torch

    like = detections["mask"]
    masks = torch.full((0 if number is None else 1, side, side), -8.0).to(like)
    if number is not None:
        left = side * (1 + 3 * number) // 12
        masks[0, side // 5 : side * 9 // 10, left : left + side // 5] = 8.0
    scores = torch.full((len(masks),), 0.9).to(like)
    return {"mask": masks, "scores": scores, "bbox": torch.zeros(len(masks), 4).to(like)}


def prompts(frames: int, count: int) -> list[Any]:
    from mimix_core.stages.cutouts.sam2.visual_prompts import VisualPrompt

    return [
        VisualPrompt(frames // 2, (100.0 + 220 * n, 90.0, 280.0 + 220 * n, 430.0))
        for n in range(count)
    ]


def tracker_case(model: Any, count: int) -> dict[str, float]:
    from mimix_core.stages.cutouts.sam2.preprocess import plan_padded_resize
    from mimix_core.stages.cutouts.sam3.sam3_segmenter import track_boxes

    resize = plan_padded_resize(HEIGHT, WIDTH, 0.05, model.config.image_size)

    def run(frames: Any) -> None:
        assert len(track_boxes(model, frames, prompts(len(frames), count), resize)) == count

    return timed(run)


def sam2_case(model: Any, count: int) -> dict[str, float]:
    import torch

    from mimix_core.stages.cutouts.sam2.preprocess import plan_padded_resize
    from mimix_core.stages.cutouts.sam2.propagate import (
        autocast_context,
        encode_frames,
        track_characters,
    )

    resize = plan_padded_resize(HEIGHT, WIDTH, 0.05, model.image_size)

    def run(frames: Any) -> None:
        with torch.inference_mode(), autocast_context(model.device, "bf16"):
            features = encode_frames(model, torch.from_numpy(frames), resize, 9)
            track_characters(model, [features], [prompts(len(frames), count)], [resize])

    return timed(run)


def timed(run: Callable[[Any], None]) -> dict[str, float]:
    """Time a clip after a few frames to warm up; the peak is beyond what lay there before."""
    import numpy as np
    import torch

    numbers = np.random.default_rng(0)
    frames = numbers.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3)).astype(np.uint8)
    run(frames[:WARM_UP_FRAMES])
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    run(frames)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - begun
    peak = (torch.cuda.max_memory_allocated() - before) / 1e9
    return {"clip_seconds": seconds, "frame_seconds": seconds / FRAMES, "memory_gb": peak}


def record(out: Path) -> Path:
    """Write the figures in ``out`` to perf/results/sam3.json and the page."""
    from perf import record as results

    found = json.loads((out / "sam3.json").read_text())
    kinds = {
        "clip_seconds": "s a clip",
        "frame_seconds": "s a frame",
        "memory_gb": "GB beside the weights",
        "billion_parameters": "billion",
    }
    figures: dict[str, float] = {}
    units: dict[str, str] = {}
    for case, values in found.items():
        for kind, unit in kinds.items():
            if kind in values:
                figures[f"{case}_{kind}"], units[f"{case}_{kind}"] = round(values[kind], 4), unit
    for count in (1, 3):
        both = [f"{name}_segmenter_{count}_clip_seconds" for name in ("sam3", "sam2_large")]
        if all(name in figures for name in both):
            name = f"segmenter_{count}_ratio"
            figures[name] = round(figures[both[0]] / figures[both[1]], 3)
            units[name] = "x the time of SAM 2"
    return results.record("sam3", figures, units, NOTE, "one NVIDIA H200")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
