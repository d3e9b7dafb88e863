"""Fixtures: one tiny random Wan and one LTX-Video for all tests of this package."""

from __future__ import annotations

from pathlib import Path

import pytest

CAPTIONS = [
    "[Character: Bunny], smiles at a butterfly. A meadow. [scene-style:cartoon]",
    "[Character: Clara], looks up and laughs. [scene-style:realistic]",
]


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mimix_core.wan import random_backbone

    folder = tmp_path_factory.mktemp("wan") / "pipeline"
    random_backbone.build_random_backbone(0, folder)
    return folder


@pytest.fixture(scope="session")
def ltx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As diffusers saves it, with statistics of latents that are not those of a new VAE."""
    import torch
    from diffusers import LTXConditionPipeline

    from mimix_core.wan import random_backbone
    from mimix_core.wan.ltx_backbones import TINY_LTX

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("ltx") / "model"
    random_backbone.build_random_backbone(0, folder, TINY_LTX)
    pipeline = LTXConditionPipeline.from_pretrained(folder)
    pipeline.vae.latents_mean.copy_(torch.linspace(-1, 1, 16))
    pipeline.vae.latents_std.copy_(torch.linspace(0.5, 2, 16))
    pipeline.save_pretrained(folder)
    return folder
