"""The random backbone has Wan's structure, is reproducible, and its components are independent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mimix_core.engine.artifacts import file_ref
from mimix_core.wan import model_registry, random_backbone
from mimix_core.wan.model_registry import TINY

pytestmark = pytest.mark.slow


def digests(folder: Path) -> dict[str, str]:
    return {name: file_ref(folder / name).sha256 for name in TINY.components}


def test_the_seed_changes_the_weights_and_nothing_else(
    pipeline_folder: Path, tmp_path: Path
) -> None:
    torch.manual_seed(123)  # the process's own generator must not matter
    random_backbone.build_random_backbone(0, tmp_path / "again")
    assert digests(tmp_path / "again") == digests(pipeline_folder)
    random_backbone.build_random_backbone(1, tmp_path / "other")
    before, after = digests(pipeline_folder), digests(tmp_path / "other")
    changed = {name for name in TINY.components if before[name] != after[name]}
    assert changed == {"text_encoder", "transformer", "vae"}


def test_no_file_names_the_machine(pipeline_folder: Path) -> None:
    place = str(pipeline_folder.parent).encode()
    assert not [p for p in pipeline_folder.rglob("*") if p.is_file() and place in p.read_bytes()]


def test_diffusers_loads_the_folder_as_a_whole(pipeline_folder: Path) -> None:
    from diffusers import WanPipeline

    pipeline = WanPipeline.from_pretrained(pipeline_folder)
    assert pipeline.tokenizer.model_max_length == 512
    assert pipeline.scheduler.config.use_flow_sigmas
    with torch.no_grad():
        latents = pipeline.vae.encode(torch.zeros(1, 3, 81, 16, 32)).latent_dist.mode()
    assert latents.shape == (1, 16, 21, 2, 4)


def test_no_prompt_has_an_unknown_token(pipeline_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pipeline_folder / "tokenizer")
    ids = tokenizer("[Character: Zoë-free], juggles 7 xylophones? [scene-style:cartoon]").input_ids
    known = tokenizer("[Character: Bunny], juggles 7 xylophones? [scene-style:cartoon]").input_ids
    assert tokenizer.unk_token_id in ids
    assert tokenizer.unk_token_id not in known
    assert known[-1] == tokenizer.eos_token_id
    config = json.loads((pipeline_folder / "text_encoder" / "config.json").read_text())
    assert max(ids + known) < config["vocab_size"]


def test_the_vocabulary_has_every_piece_once_and_fits_the_encoder() -> None:
    names = [piece for piece, _ in random_backbone.build_vocabulary()]
    assert len(names) == len(set(names)) <= model_registry.TINY.text_encoder.config["vocab_size"]
    assert names[:3] == ["<pad>", "</s>", "<unk>"]
