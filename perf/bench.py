"""Benchmark VBench's dimensions on one GPU: videos per minute, peak memory, decoding time.

Random weights of the real sizes; videos of 81 x 480 x 832 at 16 frames per second. Measure with

    python perf/bench.py OUT.json [--upstream CHECKOUT]

where CHECKOUT is a clone of Vchitect/VBench to compare with (perf/vbench_upstream*.py list its
requirements), and record the figures with ``python perf/bench.py OUT.json --record``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

FRAMES, HEIGHT, WIDTH, RATE = 81, 480, 832, 16
PROMPT = "[Character: Tom], chases Jerry through the kitchen. [scene-style:cartoon]"
VIDEOS, UPSTREAM_VIDEOS = 8, 2

NOTE = (
    "VBench's seven dimensions of videos of 81 x 480 x 832, random weights of the real sizes. "
    "`times faster than reference`: VBench's own code on the same GPU, weights and videos, in the "
    "same run. vbench.md says what is batched."
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--upstream", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if options.record:
        print(record(json.loads(options.out.read_text())))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        results = measure(Path(scratch), options.device, options.upstream, options.out)
    print(json.dumps(results, indent=1))
    return 0


def measure(scratch: Path, device: str, upstream: Path | None, out: Path) -> dict[str, Any]:
    """Measure everything; write ``out`` after each part, to save results if a later part fails."""
    import torch

    begun = time.perf_counter()
    weights_dir, videos = make_weights(scratch / "weights"), make_videos(scratch / "videos")
    results: dict[str, Any] = {"made_seconds": time.perf_counter() - begun}
    if device == "cuda":
        results["gpu"] = torch.cuda.get_device_name()

    def save(**parts: Any) -> None:
        results.update(parts)
        out.write_text(json.dumps(results, indent=1) + "\n")

    save(ours=measure_ours(weights_dir, videos, scratch, device))
    save(peak=measure_peak_memory(weights_dir, videos[0], device))
    if upstream is not None:
        reference: dict[str, Any] = {}
        for name, load in upstream_loaders(upstream, weights_dir, device).items():
            reference[name] = measure_upstream(load, videos)
            save(reference=reference)
    return results


def make_weights(folder: Path) -> Path:
    """Write all files of VBench's cache, in real sizes."""
    from tests.benchmark.vbench import weights_factory

    weights_factory.write_weights_cache(folder, weights_factory.FULL)
    weights_factory.write_motion_weights(folder)
    return folder


def make_videos(folder: Path) -> list[Path]:
    """Write pans over detailed images, each at a different speed."""
    import av

    from tests.benchmark.vbench import random_inputs

    folder.mkdir(parents=True)
    paths = []
    for number in range(VIDEOS + 1):
        wide = random_inputs.textured_image(HEIGHT, WIDTH + (1 + number) * FRAMES, seed=number)
        paths.append(folder / f"{number}.mp4")
        with av.open(paths[-1], "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(RATE))
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for frame in range(FRAMES):
                left = frame * (1 + number)
                image = np.ascontiguousarray(wide[:, left : left + WIDTH])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
    return paths


def measure_ours(
    weights_dir: Path, videos: list[Path], scratch: Path, device: str
) -> dict[str, Any]:
    """Measure our evaluation on all videos but the first, which warms up."""
    import torch

    from mimix_core import tables
    from mimix_core.benchmark.vbench import evaluate
    from mimix_core.benchmark.vbench.dimensions import select_dimensions
    from mimix_core.benchmark.vbench.video_jobs import VideoJob

    jobs = [VideoJob(path.name, path, PROMPT) for path in videos]
    seconds = []
    for name, part in (("first", jobs[:1]), ("rest", jobs[1:])):
        begun = time.perf_counter()
        summary = evaluate.evaluate_videos(
            part, select_dimensions(()), weights_dir, scratch / name, torch.device(device)
        )
        seconds.append(time.perf_counter() - begun)
    if summary.failed:
        raise RuntimeError(f"{summary.failed} scores failed")
    scoring = sum(summary.seconds.values()) + summary.decode_wait_seconds
    return {
        "videos": len(jobs) - 1,
        "seconds_a_video": scoring / (len(jobs) - 1),
        "decode_seconds_a_video": summary.decode_seconds / (len(jobs) - 1),
        "waited_seconds_a_video": summary.decode_wait_seconds / (len(jobs) - 1),
        "seconds_with_loading": seconds[1],
        "by_dimension": {k: v / (len(jobs) - 1) for k, v in summary.seconds.items()},
        "values": {
            d.metric: [
                row["score"]
                for row in tables.read(scratch / "rest", evaluate.VBENCH)
                if row["metric"] == d.metric
            ][:UPSTREAM_VIDEOS]
            for d in select_dimensions(())
        },
    }


def measure_peak_memory(weights_dir: Path, path: Path, device: str) -> dict[str, float]:
    """Measure the peak GPU memory of each dimension in GiB, weights included."""
    import torch

    from mimix_core.benchmark.vbench.dimensions import select_dimensions
    from mimix_core.benchmark.vbench.video_reader import read_video

    if device != "cuda":
        return {}
    video, peaks = read_video(path, PROMPT), {}
    for dimension in select_dimensions(()):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        model = dimension.load(weights_dir, torch.device(device))
        dimension.scorer()(model, video)
        peaks[dimension.metric] = torch.cuda.max_memory_allocated() / 2**30
        del model
    return peaks


def upstream_loaders(
    repo: Path, weights_dir: Path, device: str
) -> dict[str, Callable[[], Callable[[Path], float]]]:
    """List loaders of VBench's own code; those that import its real ``vbench.utils`` come first."""
    from perf import vbench_upstream as motion
    from perf import vbench_upstream_clip as clip

    options = (repo, weights_dir, device)
    return {
        "subject_consistency/dino": lambda: clip.subject_consistency(*options),
        "background_consistency/clip": lambda: clip.background_consistency(*options),
        "aesthetic_quality/laion": lambda: clip.aesthetic_quality(*options),
        "overall_consistency/viclip": lambda: clip.overall_consistency(*options, PROMPT),
        "motion_smoothness/amt-s": lambda: motion.motion_smoothness(*options),
        "dynamic_degree/raft": lambda: motion.dynamic_degree(*options),
        "imaging_quality/musiq": lambda: motion.imaging_quality(*options),
    }


def measure_upstream(
    load: Callable[[], Callable[[Path], float]], videos: list[Path]
) -> dict[str, Any]:
    """Measure seconds per video, including decoding, and the scores; or return why it failed."""
    try:
        score = load()
        score(videos[0])
        begun = time.perf_counter()
        values = [score(path) for path in videos[1 : 1 + UPSTREAM_VIDEOS]]
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"[:400]}
    return {"seconds": (time.perf_counter() - begun) / UPSTREAM_VIDEOS, "values": values}


def record(results: dict[str, Any]) -> Path:
    """Write the figures to perf/results/bench.json and docs/performance.md."""
    from perf import record as recorder

    ours, reference = results["ours"], results.get("reference", {})
    figures = {"videos_per_minute": 60 / ours["seconds_a_video"]}
    units = {"videos_per_minute": "videos, all seven dimensions"}
    done = {name: part["seconds"] for name, part in reference.items() if "seconds" in part}
    if done.keys() == ours["by_dimension"].keys():
        figures["times_faster_than_reference"] = sum(done.values()) / ours["seconds_a_video"]
        units["times_faster_than_reference"] = "x"
        figures["largest_difference_from_reference"] = max(
            abs(mine - theirs)
            for name, values in ours["values"].items()
            for mine, theirs in zip(values, reference[name]["values"], strict=True)
        )
        units["largest_difference_from_reference"] = "of a score, any dimension and video"
    figures["decode_share"] = ours["decode_seconds_a_video"] / ours["seconds_a_video"]
    units["decode_share"] = "of the time; a thread decodes while the GPU scores"
    figures["decode_wait_share"] = ours["waited_seconds_a_video"] / ours["seconds_a_video"]
    units["decode_wait_share"] = "of the time that scoring waits for it"
    for metric, seconds in ours["by_dimension"].items():
        name = metric.partition("/")[0]
        figures[f"{name}_videos_per_minute"] = 60 / seconds
        units[f"{name}_videos_per_minute"] = "videos"
        if metric in done:
            figures[f"{name}_times_faster"] = done[metric] / seconds
            units[f"{name}_times_faster"] = "x, upstream decodes each time"
        if metric in results["peak"]:
            figures[f"{name}_peak_memory"] = results["peak"][metric]
            units[f"{name}_peak_memory"] = "GiB"
    rounded = {name: float(f"{value:.4g}") for name, value in figures.items()}
    return recorder.record("bench", rounded, units, NOTE, f"one {results.get('gpu', 'CPU')}")


if __name__ == "__main__":
    sys.exit(main())
