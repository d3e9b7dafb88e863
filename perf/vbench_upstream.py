"""Run VBench's own code for RAFT, AMT-S and MUSIQ from a checkout, as the baseline.

``repo`` is a checkout of Vchitect/VBench. Importing its package would need the dependencies of all
its dimensions, so the two modules are loaded with stubs for the modules that they only import names
from. They need opencv, omegaconf, easydict, imageio and scipy; ``imaging_quality`` needs pyiqa.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

Score = Callable[[Path], float]

_DISTRIBUTED = (
    "get_world_size",
    "get_rank",
    "all_gather",
    "barrier",
    "distribute_list_to_rank",
    "gather_list_of_dict",
)


def motion_smoothness(repo: Path, weights_dir: Path, device: str) -> Score:
    """Load upstream's ``MotionSmoothness`` (AMT-S), which processes one frame pair at a time."""
    upstream = load_upstream_module(repo, "motion_smoothness")
    weights = weights_dir / "amt_model/amt-s.pth"
    model = upstream.MotionSmoothness(str(amt_config(repo)), str(weights), device)
    return lambda path: float(model.motion_score(str(path)))


def amt_config(repo: Path) -> Path:
    """Return AMT-S's configuration file, and make the network that it names importable."""
    folder = repo / "vbench/third_party/amt"
    sys.path.append(str(folder))
    return folder / "cfgs/AMT-S.yaml"


def dynamic_degree(repo: Path, weights_dir: Path, device: str) -> Score:
    """Load upstream's ``DynamicDegree`` (RAFT), which processes one frame pair at a time."""
    upstream = load_upstream_module(repo, "dynamic_degree")
    from easydict import EasyDict

    checkpoint = str(weights_dir / "raft_model/models/raft-things.pth")
    options = {"small": False, "mixed_precision": False, "alternate_corr": False}
    model = upstream.DynamicDegree(EasyDict({"model": checkpoint, **options}), device)
    return lambda path: float(model.infer(str(path)))


def imaging_quality(repo: Path, weights_dir: Path, device: str) -> Score:
    """Load pyiqa's MUSIQ, run on one frame at a time like upstream's ``technical_quality``.

    ``repo`` is not used: upstream's loop and resizing are a few lines, repeated in
    ``musiq_scorer``.
    """
    from mimix_core.benchmark.vbench.video_reader import read_video

    score_frames = musiq_scorer(weights_dir, device)
    return lambda path: score_frames(read_video(path).frames_THWC)


def musiq_scorer(weights_dir: Path, device: str) -> Callable[[Any], float]:
    """Load pyiqa's MUSIQ and return the function from frames_THWC, uint8, to the score, 0..1."""
    from pyiqa.archs.musiq_arch import MUSIQ

    path = weights_dir / "pyiqa_model/musiq_spaq_ckpt-358bb6af.pth"
    model = MUSIQ(pretrained_model_path=str(path)).to(device)
    model.training = False

    def score(frames_THWC: Any) -> float:
        frames_TCHW = torch.Tensor(frames_THWC).permute(0, 3, 1, 2)
        height, width = frames_TCHW.shape[-2:]
        ratio = 512.0 / max(height, width)
        if ratio < 1:
            size = [int(ratio * height), int(ratio * width)]
            frames_TCHW = torch.nn.functional.interpolate(frames_TCHW, size=size, mode="bilinear")
        with torch.no_grad():
            values = [float(model(frame[None].to(device))) for frame in frames_TCHW / 255.0]
        return sum(values) / len(values) / 100

    return score


def load_upstream_module(repo: Path, name: str) -> Any:
    """Import ``vbench.<name>`` from the checkout without importing the rest of the package."""
    if str(repo) not in sys.path:
        sys.path.insert(0, str(repo))
    package = ModuleType("vbench")
    package.__path__ = [str(repo / "vbench")]
    sys.modules.setdefault("vbench", package)
    utils = ModuleType("vbench.utils")
    utils.__dict__["load_dimension_info"] = None
    sys.modules.setdefault("vbench.utils", utils)
    distributed = ModuleType("vbench.distributed")
    distributed.__dict__.update(dict.fromkeys(_DISTRIBUTED))
    sys.modules.setdefault("vbench.distributed", distributed)
    return importlib.import_module(f"vbench.{name}")
