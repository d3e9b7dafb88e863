"""SAM2's speed on an NVIDIA GPU: ``python perf/sam2.py OUT.json``, then ``... OUT.json record``.

One clip of 81 frames of 480 x 832 in memory, uint8: made ready, encoded and followed both ways from
its middle frame at SAM2's own 1024 x 1024, random weights. Frames per second are the clip's frames,
so that three characters in them count once. ``predictor``: the package's own SAM2VideoPredictor on
the same pictures, made ready before the clock starts, as its published figures are: 91 (tiny) and
39.5 (large) on an A100, compiled. ``record`` writes what OUT.json holds to perf/results/sam2.json,
on this machine or another.
"""

from __future__ import annotations

import gc
import json
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
# The script's own folder holds a file named as the package.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]

FRAMES, HEIGHT, WIDTH = 81, 480, 832
PUBLISHED = {"tiny": 91.0, "large": 39.5}
NOTE = (
    "One clip of 81 x 480 x 832 at 1024 x 1024, random weights; published: 91 (tiny) and 39.5 "
    "(large) frames per second, one object, compiled, on an A100. cutouts.md says what each is."
)


def main(out: Path, words: list[str]) -> None:
    if words == ["record"]:
        print(record(out))
        return
    found: dict[str, Any] = {}
    for size in ("large", "tiny"):
        model = made(size)
        cases: dict[str, Callable[[], dict[str, float]]] = {
            "bf16": partial(ours, model, "bf16"),
            "bf16_predictor": partial(predictors, model),
            "bf16_3": partial(ours, model, "bf16", characters=3, rounds=2),
            "bf16_clips_2": partial(ours, model, "bf16", clips=2, rounds=1),
            "bf16_clips_4": partial(ours, model, "bf16", clips=4, rounds=1),
            "fp32": partial(ours, model, "fp32", rounds=1),
        }
        for name, case in cases.items():
            attempt(out, found, f"{size}_{name}", case)
        del model, cases
    attempt(out, found, "soften", soften_seconds)
    for size in ("large", "tiny"):
        attempt(out, found, f"{size}_bf16_compiled", partial(compiled, size))


def attempt(
    out: Path, found: dict[str, Any], name: str, case: Callable[[], dict[str, float]]
) -> None:
    """Run a case and write all that was found so far; one that fails is written as failed."""
    try:
        found[name] = case()
    except RuntimeError as error:
        traceback.print_exc()
        found[name] = {"failed": f"{type(error).__name__}: {error}"[:300]}
    print(name, found[name], flush=True)
    out.write_text(json.dumps(found, indent=1) + "\n")
    gc.collect()


def made(size: Any) -> Any:
    import torch

    from mimix_core.stages.cutouts.sam2 import model_zoo

    torch.manual_seed(0)
    model = model_zoo.build_predictor(size, device="cuda")
    # Present in every frame: an absent character would be no less work, but half of it untypical.
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(5.0)
    return model


def ours(
    model: Any, precision: Any, *, characters: int = 1, clips: int = 1, rounds: int = 3
) -> dict[str, float]:
    """Frames per second over all clips together, and the memory that following them takes."""
    import torch

    from mimix_core.stages.cutouts.sam2.preprocess import plan_padded_resize
    from mimix_core.stages.cutouts.sam2.propagate import (
        autocast_context,
        encode_frames,
        track_characters,
    )
    from mimix_core.stages.cutouts.sam2.visual_prompts import VisualPrompt

    frames = torch.from_numpy(pictures())
    fit = plan_padded_resize(HEIGHT, WIDTH, 0.05, model.image_size)
    asked = [
        VisualPrompt(FRAMES // 2, (100.0 + 220 * n, 90.0, 280.0 + 220 * n, 430.0))
        for n in range(characters)
    ]
    sizes: dict[str, float] = {}

    def run() -> None:
        with torch.inference_mode(), autocast_context(model.device, precision):
            encoded = [encode_frames(model, frames, fit, 9) for _ in range(clips)]
            sizes["features_gb"] = sum(each.nbytes for each in encoded) / 1e9
            track_characters(model, encoded, [asked] * clips, [fit] * clips)

    seconds, peak = timed(run, rounds)
    return {"frames_per_second": FRAMES * clips / seconds, "memory_gb": peak} | sizes


def predictors(model: Any) -> dict[str, float]:
    """The package's own way, forwards and back from the middle frame; its frames lie on the GPU."""
    import torch

    from mimix_core.stages.cutouts.sam2.preprocess import plan_padded_resize

    fit = plan_padded_resize(HEIGHT, WIDTH, 0.0, model.image_size)
    ready = torch.cat(
        [
            fit.preprocess(torch.from_numpy(pictures()[n : n + 9]).cuda())
            for n in range(0, FRAMES, 9)
        ]
    )
    names = (
        "point_inputs_per_obj mask_inputs_per_obj cached_features constants output_dict_per_obj "
        "temp_output_dict_per_obj frames_tracked_per_obj"
    )

    def run() -> None:
        state: dict[str, Any] = {name: {} for name in names.split()}
        state |= {
            "images": ready,
            "num_frames": FRAMES,
            "offload_video_to_cpu": False,
            "offload_state_to_cpu": False,
            "video_height": HEIGHT,
            "video_width": WIDTH,
            "device": model.device,
            "storage_device": model.device,
            "obj_id_to_idx": OrderedDict(),
            "obj_idx_to_id": OrderedDict(),
            "obj_ids": [],
        }
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            model.add_new_points_or_box(state, FRAMES // 2, 1, box=[100.0, 90.0, 280.0, 430.0])
            for reverse in (False, True):
                for _ in model.propagate_in_video(state, reverse=reverse):
                    pass

    seconds, peak = timed(run, 2)
    return {"frames_per_second": FRAMES / seconds, "memory_gb": peak}


def compiled(size: str) -> dict[str, float]:
    from mimix_core.stages.cutouts.sam2 import model_zoo

    model = model_zoo.compile_predictor(made(size))
    begun = time.perf_counter()
    ours(model, "bf16", rounds=0)
    first = time.perf_counter() - begun
    return ours(model, "bf16") | {"first_clip_seconds": first}


def soften_seconds() -> dict[str, float]:
    """CPU: soft edges of one character in one clip, by one thread and by eight."""
    import numpy as np

    from mimix_core.stages.cutouts.sam2.sam2_segmenter import compute_soft_alphas

    y, x = np.mgrid[:HEIGHT, :WIDTH]
    figure = ((x - 400) / 110) ** 2 + ((y - 260) / 190) ** 2 < 1
    masks = np.broadcast_to(figure, (1, FRAMES, HEIGHT, WIDTH)).copy()
    frames = pictures()
    found = {}
    for threads in (1, 8):
        begun = time.perf_counter()
        compute_soft_alphas(frames, masks, threads)
        found[f"seconds_{threads}"] = time.perf_counter() - begun
    return found


def pictures() -> Any:
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3)).astype(np.uint8)


def timed(run: Callable[[], None], rounds: int) -> tuple[float, float]:
    """Median seconds after one run to warm up (of that one, for no rounds), and peak gigabytes
    beyond what lay on the GPU before."""
    import torch

    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    seconds: list[float] = []
    for _ in range(rounds + 1):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        run()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    peak = (torch.cuda.max_memory_allocated() - before) / 1e9
    return median(seconds[1:] or seconds), peak


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def record(out: Path) -> Path:
    """Figures of what ``out`` holds, to perf/results/sam2.json and docs/performance.md."""
    from perf import record as results

    found = json.loads(out.read_text())
    figures: dict[str, float] = {}
    units: dict[str, str] = {}

    def put(name: str, value: float, unit: str) -> None:
        figures[name], units[name] = round(value, 4), unit

    measured = {case: values for case, values in found.items() if "failed" not in values}
    for case, values in measured.items():
        for name, value in values.items():
            if name == "frames_per_second":
                put(f"fps_{case}", value, "frames/s")
            elif name.endswith("_gb"):
                put(f"{name.removesuffix('_gb')}_{case}", value, "GB")
            else:
                put(f"{case}_{name}", value, "s")
    for size, published in PUBLISHED.items():
        mine = measured.get(f"{size}_bf16", {}).get("frames_per_second")
        theirs = measured.get(f"{size}_bf16_predictor", {}).get("frames_per_second")
        if mine is not None:
            put(f"ratio_to_published_{size}", mine / published, "x (an A100's)")
        if mine is not None and theirs is not None:
            put(f"ratio_to_predictor_{size}", mine / theirs, "x")
    return results.record("sam2", figures, units, NOTE, "one NVIDIA H200")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
