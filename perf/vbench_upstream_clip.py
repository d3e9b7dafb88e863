"""Run VBench's code for the four embedding-based dimensions from a checkout, as the baseline.

``repo`` is a checkout of Vchitect/VBench. It needs decord, torchvision, timm, einops, ftfy, regex,
openai's ``clip``, and a checkout of facebookresearch/dino in the same parent folder
(``repo.parent / "dino"``), which upstream loads through ``torch.hub``. As in ``vbench_upstream``,
only single modules of the package are imported.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import packaging.version
import torch

Score = Callable[[Path], float]


def subject_consistency(repo: Path, weights_dir: Path, device: str) -> Score:
    """Load DINO, run on one frame at a time."""
    upstream = _module(repo, weights_dir, "subject_consistency")
    sys.path.insert(0, str(repo.parent / "dino"))
    utils = ModuleType("utils")
    utils.__dict__["trunc_normal_"] = torch.nn.init.trunc_normal_
    sys.modules["utils"] = utils
    model = importlib.import_module("vision_transformer").vit_base(patch_size=16, num_classes=0)
    model.load_state_dict(torch.load(weights_dir / "dino_model/dino_vitbase16_pretrain.pth"))
    model.eval().to(device)
    return lambda path: _single_score(
        upstream.subject_consistency(model, [str(path)], device, False)
    )


def background_consistency(repo: Path, weights_dir: Path, device: str) -> Score:
    """Load CLIP ViT-B/32, run on all frames at once; half precision on a GPU."""
    upstream = _module(repo, weights_dir, "background_consistency")
    import clip

    model, preprocess = clip.load(str(weights_dir / "clip_model/ViT-B-32.pt"), device=device)

    def score(path: Path) -> float:
        with torch.no_grad():
            return _single_score(
                upstream.background_consistency(model, preprocess, [str(path)], device, False)
            )

    return score


def aesthetic_quality(repo: Path, weights_dir: Path, device: str) -> Score:
    """Load CLIP ViT-L/14, run on 32 frames at a time; half precision on a GPU."""
    upstream = _module(repo, weights_dir, "aesthetic_quality")
    import clip

    model, _ = clip.load(str(weights_dir / "clip_model/ViT-L-14.pt"), device=device)
    head = upstream.get_aesthetic_model(str(weights_dir / "aesthetic_model/emb_reader")).to(device)
    return lambda path: _single_score(upstream.laion_aesthetic(head, model, [str(path)], device))


def overall_consistency(repo: Path, weights_dir: Path, device: str, prompt: str) -> Score:
    """Load ViCLIP, run on eight frames."""
    upstream = _module(repo, weights_dir, "overall_consistency")
    path = weights_dir / "ViCLIP/ViClip-InternVid-10M-FLT.pth"
    model = upstream.ViCLIP(tokenizer=None, pretrain=str(path)).to(device)

    def score(video: Path) -> float:
        prompts = [{"prompt": prompt, "video_list": [str(video)]}]
        return _single_score(upstream.overall_consistency(model, prompts, None, device))

    return score


def _single_score(result: tuple[Any, list[dict[str, Any]]]) -> float:
    return float(result[1][0]["video_results"])


def _module(repo: Path, weights_dir: Path, name: str) -> Any:
    os.environ["VBENCH_CACHE_DIR"] = str(weights_dir)
    if str(repo) not in sys.path:
        sys.path.insert(0, str(repo))
    package = ModuleType("vbench")
    package.__path__ = [str(repo / "vbench")]
    sys.modules.setdefault("vbench", package)
    # Removed from setuptools; upstream compares one version with it.
    resources = ModuleType("pkg_resources")
    resources.__dict__["packaging"] = packaging
    sys.modules.setdefault("pkg_resources", resources)
    return importlib.import_module(f"vbench.{name}")
