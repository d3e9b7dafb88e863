"""VBench's own code for three of its dimensions, run from a checkout of it, as the baseline.

``repo`` is a checkout of Vchitect/VBench. Its package imports the needs of all its dimensions, so
the two modules wanted are loaded beside empty ones for what they only name. They need opencv,
omegaconf, easydict, imageio and scipy, and ``imaging_quality`` needs pyiqa.
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
    """Upstream's ``MotionSmoothness`` (AMT-S), a pair of frames at a time."""
    upstream = _module(repo, "motion_smoothness")
    folder = repo / "vbench/third_party/amt"
    sys.path.append(str(folder))  # its configuration names its network by a path within
    model = upstream.MotionSmoothness(
        str(folder / "cfgs/AMT-S.yaml"), str(weights_dir / "amt_model/amt-s.pth"), device
    )
    return lambda path: float(model.motion_score(str(path)))


def dynamic_degree(repo: Path, weights_dir: Path, device: str) -> Score:
    """Upstream's ``DynamicDegree`` (RAFT), a pair of frames at a time."""
    upstream = _module(repo, "dynamic_degree")
    from easydict import EasyDict

    checkpoint = str(weights_dir / "raft_model/models/raft-things.pth")
    options = {"small": False, "mixed_precision": False, "alternate_corr": False}
    model = upstream.DynamicDegree(EasyDict({"model": checkpoint, **options}), device)
    return lambda path: float(model.infer(str(path)))


def imaging_quality(repo: Path, weights_dir: Path, device: str) -> Score:
    """pyiqa's MUSIQ as upstream's ``technical_quality`` runs it, a frame at a time.

    ``repo`` is not needed: upstream's loop and resizing are a few lines, written out here.
    """
    from pyiqa.archs.musiq_arch import MUSIQ

    from mimix_core.benchmark.vbench.video_reader import read_video

    path = weights_dir / "pyiqa_model/musiq_spaq_ckpt-358bb6af.pth"
    model = MUSIQ(pretrained_model_path=str(path)).to(device)
    model.training = False

    def score(video: Path) -> float:
        frames_TCHW = torch.Tensor(read_video(video).frames_THWC).permute(0, 3, 1, 2)
        height, width = frames_TCHW.shape[-2:]
        share = 512.0 / max(height, width)
        if share < 1:
            size = [int(share * height), int(share * width)]
            frames_TCHW = torch.nn.functional.interpolate(frames_TCHW, size=size, mode="bilinear")
        with torch.no_grad():
            values = [float(model(frame[None].to(device))) for frame in frames_TCHW / 255.0]
        return sum(values) / len(values) / 100

    return score


def _module(repo: Path, name: str) -> Any:
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
