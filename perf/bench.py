"""VBench's dimensions on one GPU: videos a minute, peak memory, decoding, and upstream beside it.

Random weights of the real sizes; videos of 81 x 480 x 832 at 16 frames a second. Measure with

    python perf/bench.py OUT.json [--upstream CHECKOUT]

where CHECKOUT is Vchitect/VBench (perf/vbench_upstream*.py say what it needs), and write the
figures down with ``python perf/bench.py OUT.json --record``.
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
    asked = argparse.ArgumentParser()
    asked.add_argument("out", type=Path)
    asked.add_argument("--upstream", type=Path)
    asked.add_argument("--device", default="cuda")
    asked.add_argument("--record", action="store_true")
    options = asked.parse_args()
    if options.record:
        print(record(json.loads(options.out.read_text())))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(Path(scratch), options.device, options.upstream, options.out)
    print(json.dumps(found, indent=1))
    return 0


def measure(scratch: Path, device: str, upstream: Path | None, out: Path) -> dict[str, Any]:
    """All figures; written to ``out`` after each part, so that a part that fails costs no other."""
    import torch

    begun = time.perf_counter()
    weights_dir, videos = make_weights(scratch / "weights"), make_videos(scratch / "videos")
    found: dict[str, Any] = {"made_seconds": time.perf_counter() - begun}
    if device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()

    def keep(**more: Any) -> None:
        found.update(more)
        out.write_text(json.dumps(found, indent=1) + "\n")

    keep(ours=ours(weights_dir, videos, scratch, device))
    keep(peak=peaks(weights_dir, videos[0], device))
    if upstream is not None:
        reference: dict[str, Any] = {}
        for name, load in references(upstream, weights_dir, device).items():
            reference[name] = timed_upstream(load, videos)
            keep(reference=reference)
    return found


def make_weights(folder: Path) -> Path:
    """All files of VBench's cache, in real sizes."""
    from tests.benchmark.vbench import made

    made.cache_folder(folder, made.FULL)
    made.motion(folder)
    return folder


def make_videos(folder: Path) -> list[Path]:
    """Pans over detailed pictures, each at its own speed."""
    import av

    from tests.benchmark.vbench import drawn

    folder.mkdir(parents=True)
    paths = []
    for number in range(VIDEOS + 1):
        wide = drawn.picture(HEIGHT, WIDTH + (1 + number) * FRAMES, seed=number)
        paths.append(folder / f"{number}.mp4")
        with av.open(paths[-1], "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(RATE))
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for frame in range(FRAMES):
                left = frame * (1 + number)
                picture = np.ascontiguousarray(wide[:, left : left + WIDTH])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    return paths


def ours(weights_dir: Path, videos: list[Path], scratch: Path, device: str) -> dict[str, Any]:
    """The runner on all videos but the first, which warms up."""
    import torch

    from mimix_core import tables
    from mimix_core.benchmark.vbench import evaluate
    from mimix_core.benchmark.vbench.dimensions import select_dimensions
    from mimix_core.benchmark.vbench.video_jobs import VideoJob

    jobs = [VideoJob(path.name, path, PROMPT) for path in videos]
    spent = []
    for name, some in (("first", jobs[:1]), ("rest", jobs[1:])):
        begun = time.perf_counter()
        tally = evaluate.evaluate_videos(some, select_dimensions(()), weights_dir, scratch / name, torch.device(device))
        spent.append(time.perf_counter() - begun)
    if tally.failed:
        raise RuntimeError(f"{tally.failed} scores failed")
    scoring = sum(tally.seconds.values()) + tally.decode_wait_seconds
    return {
        "videos": len(jobs) - 1,
        "seconds_a_video": scoring / (len(jobs) - 1),
        "decode_seconds_a_video": tally.decode_seconds / (len(jobs) - 1),
        "waited_seconds_a_video": tally.decode_wait_seconds / (len(jobs) - 1),
        "seconds_with_loading": spent[1],
        "by_dimension": {k: v / (len(jobs) - 1) for k, v in tally.seconds.items()},
        "values": {
            d.metric: [
                row["score"]
                for row in tables.read(scratch / "rest", evaluate.VBENCH)
                if row["metric"] == d.metric
            ][:UPSTREAM_VIDEOS]
            for d in select_dimensions(())
        },
    }


def peaks(weights_dir: Path, path: Path, device: str) -> dict[str, float]:
    """GiB of GPU memory at most, dimension by dimension, weights included."""
    import torch

    from mimix_core.benchmark.vbench.dimensions import select_dimensions
    from mimix_core.benchmark.vbench.video_reader import read_video

    if device != "cuda":
        return {}
    video, found = read_video(path, PROMPT), {}
    for dimension in select_dimensions(()):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        model = dimension.load(weights_dir, torch.device(device))
        dimension.scorer()(model, video)
        found[dimension.metric] = torch.cuda.max_memory_allocated() / 2**30
        del model
    return found


def references(
    repo: Path, weights_dir: Path, device: str
) -> dict[str, Callable[[], Callable[[Path], float]]]:
    """VBench's own code by dimension. Those that import its real package come first."""
    from perf import vbench_upstream as motion
    from perf import vbench_upstream_clip as clip

    at = (repo, weights_dir, device)
    return {
        "subject_consistency/dino": lambda: clip.subject_consistency(*at),
        "background_consistency/clip": lambda: clip.background_consistency(*at),
        "aesthetic_quality/laion": lambda: clip.aesthetic_quality(*at),
        "overall_consistency/viclip": lambda: clip.overall_consistency(*at, PROMPT),
        "motion_smoothness/amt-s": lambda: motion.motion_smoothness(*at),
        "dynamic_degree/raft": lambda: motion.dynamic_degree(*at),
        "imaging_quality/musiq": lambda: motion.imaging_quality(*at),
    }


def timed_upstream(
    load: Callable[[], Callable[[Path], float]], videos: list[Path]
) -> dict[str, Any]:
    """Seconds a video, its own decoding included, and what it gave; or why it did not run."""
    try:
        score = load()
        score(videos[0])
        begun = time.perf_counter()
        values = [score(path) for path in videos[1 : 1 + UPSTREAM_VIDEOS]]
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"[:400]}
    return {"seconds": (time.perf_counter() - begun) / UPSTREAM_VIDEOS, "values": values}


def record(found: dict[str, Any]) -> Path:
    """The figures to perf/results/bench.json and docs/performance.md."""
    from perf import record as results

    ours_, reference = found["ours"], found.get("reference", {})
    figures = {"videos_per_minute": 60 / ours_["seconds_a_video"]}
    units = {"videos_per_minute": "videos, all seven dimensions"}
    done = {name: part["seconds"] for name, part in reference.items() if "seconds" in part}
    if done.keys() == ours_["by_dimension"].keys():
        figures["times_faster_than_reference"] = sum(done.values()) / ours_["seconds_a_video"]
        units["times_faster_than_reference"] = "x"
        figures["largest_difference_from_reference"] = max(
            abs(mine - theirs)
            for name, values in ours_["values"].items()
            for mine, theirs in zip(values, reference[name]["values"], strict=True)
        )
        units["largest_difference_from_reference"] = "of a score, any dimension and video"
    figures["decode_share"] = ours_["decode_seconds_a_video"] / ours_["seconds_a_video"]
    units["decode_share"] = "of the time; a thread decodes while the GPU scores"
    figures["decode_wait_share"] = ours_["waited_seconds_a_video"] / ours_["seconds_a_video"]
    units["decode_wait_share"] = "of the time that scoring waits for it"
    for metric, seconds in ours_["by_dimension"].items():
        name = metric.partition("/")[0]
        figures[f"{name}_videos_per_minute"] = 60 / seconds
        units[f"{name}_videos_per_minute"] = "videos"
        if metric in done:
            figures[f"{name}_times_faster"] = done[metric] / seconds
            units[f"{name}_times_faster"] = "x, upstream decodes each time"
        if metric in found["peak"]:
            figures[f"{name}_peak_memory"] = found["peak"][metric]
            units[f"{name}_peak_memory"] = "GiB"
    rounded = {name: float(f"{value:.4g}") for name, value in figures.items()}
    return results.record("bench", rounded, units, NOTE, f"one {found.get('gpu', 'CPU')}")


if __name__ == "__main__":
    sys.exit(main())
