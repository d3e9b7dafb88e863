"""Recompute the golden values of RAFT, AMT-S and MUSIQ with upstream's own code.

The tests compare our networks with values that upstream's code computes from the same random
weights and frames (``random_inputs``). This script computes them again, prints them as JSON beside
those in the tests, and exits with 1 if any differs by more than the tests tolerate::

    python tests/benchmark/vbench/make_goldens.py --vbench CHECKOUT [--musiq]

``CHECKOUT`` is a clone of https://github.com/Vchitect/VBench (the values in the tests were computed
at commit 45e79ec). These of its files are run:

- ``vbench/dynamic_degree.py`` and ``vbench/third_party/RAFT`` (princeton-vl/RAFT, BSD-3-Clause);
- ``vbench/motion_smoothness.py`` and ``vbench/third_party/amt`` (MCG-NKU/AMT, CC BY-NC 4.0).

They need the packages easydict, omegaconf, imageio, opencv-python, scipy and tqdm.

``--musiq`` also computes MUSIQ. VBench takes it from the package pyiqa (chaofengc/IQA-PyTorch,
``pyiqa/archs/musiq_arch.py``; noncommercial license), which must be installed for that, in an
environment of its own: it is not a dependency of MiMix, and without it the value cannot be
recomputed. Google's implementation (google-research/musiq) computes other values, because VBench's
conversion deviates from it in three places (docs/vbench-networks.md).

Nothing of the upstream code may be copied into this repository.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from mimix_core.benchmark.vbench import vbench_weights
from perf import vbench_upstream
from tests.benchmark.vbench import (
    test_dynamic_degree,
    test_imaging_quality,
    test_motion_smoothness,
)

GOLDEN = {
    "raft": test_dynamic_degree.GOLDEN_MAGNITUDES,
    "amt": test_motion_smoothness.GOLDEN_SCORES,
    "musiq": test_imaging_quality.GOLDEN_QUALITY,
}
TOLERANCE = {"raft": 1e-5 * 44, "amt": 1e-5, "musiq": 1e-5}
"""Largest absolute difference that the tests accept; RAFT's is relative, of about 44 pixels."""


def raft_magnitudes(checkout: Path, folder: Path) -> list[float]:
    """Return upstream's mean lengths of the longest flow vectors, in pixels, of two frame pairs."""
    path = folder / vbench_weights.RAFT
    path.parent.mkdir(parents=True)
    test_dynamic_degree.save_random_weights(path)
    upstream = vbench_upstream.load_upstream_module(checkout, "dynamic_degree")
    options = Namespace(model=path, small=False, mixed_precision=False, alternate_corr=False)
    model = upstream.DynamicDegree(options, "cpu")
    frames_TCHW = test_dynamic_degree.golden_frames().float()
    model.get_frames = lambda _: list(frames_TCHW.split(1))
    model.check_move = lambda magnitudes: magnitudes
    magnitudes: list[float] = model.infer("frames.mp4")
    return magnitudes


def amt_scores(checkout: Path, folder: Path) -> dict[str, float]:
    """Return upstream's motion smoothness of each test video."""
    path = folder / vbench_weights.AMT
    path.parent.mkdir(parents=True)
    test_motion_smoothness.save_random_weights(path)
    upstream = vbench_upstream.load_upstream_module(checkout, "motion_smoothness")
    config = vbench_upstream.amt_config(checkout)
    model = upstream.MotionSmoothness(str(config), str(path), "cpu")
    scores = {}
    for name, frames_THWC in test_motion_smoothness.golden_videos().items():
        model.fp.get_frames = lambda _, frames_THWC=frames_THWC: list(frames_THWC)
        scores[name] = float(model.motion_score("frames.mp4"))
    return scores


def musiq_quality(folder: Path) -> float:
    """Return pyiqa's quality, 0 to 100 on SPAQ's scale, of one frame resized as VBench does."""
    path = folder / vbench_weights.MUSIQ
    path.parent.mkdir(parents=True)
    test_imaging_quality.save_random_weights(path)
    score = vbench_upstream.musiq_scorer(folder, "cpu")
    return 100 * score(test_imaging_quality.golden_frame()[None])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vbench", type=Path, required=True, help="Clone of Vchitect/VBench.")
    parser.add_argument("--musiq", action="store_true", help="Also MUSIQ; needs pyiqa.")
    options = parser.parse_args()
    computed: dict[str, float | list[float] | dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        computed["raft"] = raft_magnitudes(options.vbench, Path(scratch))
        computed["amt"] = amt_scores(options.vbench, Path(scratch))
        if options.musiq:
            computed["musiq"] = musiq_quality(Path(scratch))
    report = {}
    for name, values in computed.items():
        difference = np.abs(_flatten(values) - _flatten(GOLDEN[name])).max()
        report[name] = {
            "upstream": values,
            "in the tests": GOLDEN[name],
            "largest difference": difference,
            "within tolerance": bool(difference <= TOLERANCE[name]),
        }
    print(json.dumps(report, indent=1))
    return 0 if all(entry["within tolerance"] for entry in report.values()) else 1


def _flatten(values: float | list[float] | dict[str, float]) -> np.ndarray:
    return np.array(list(values.values()) if isinstance(values, dict) else values, dtype=float)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
