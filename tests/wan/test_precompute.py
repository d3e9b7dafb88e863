"""Stages ``latents`` and ``embeddings`` give what WanPipeline itself would work with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mimix_core import tables
from mimix_core.errors import BadInput
from mimix_core.media import ClipWriter
from mimix_core.media.decode import read_rgb
from mimix_core.refs import file_ref
from mimix_core.settings import EmbeddingSettings, LatentSettings
from mimix_core.stage import run_stage
from mimix_core.store import Store
from mimix_core.tables import CAPTIONS, CLIPS, EMBEDDINGS, LATENTS, ok
from mimix_core.wan import latents, objective, tensors, text
from tests.made import UNASKED, clip, table_ref
from tests.wan.conftest import CAPTIONS as TEXTS

pytestmark = pytest.mark.slow

NAME = "tiny-random-wan"


def write(path: Path, frames: int, width: int, height: int) -> None:
    numbers = np.random.default_rng(frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    with ClipWriter(path, width, height, crf=16, preset="ultrafast") as writer:
        for _ in range(frames):
            small = numbers.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            writer.write_rgb(small.repeat(height // 4, axis=0).repeat(width // 4, axis=1))


@pytest.fixture
def clips(tmp_path: Path):
    folder = tmp_path / "clips"
    write(folder / "clips" / "good.mp4", 9, 64, 32)
    write(folder / "clips" / "short.mp4", 8, 64, 32)
    (folder / "clips" / "broken.mp4").write_bytes(b"no video")
    return table_ref(folder, CLIPS, [clip(name) for name in ("good", "short", "broken")])


def latent_inputs(clips, pipeline_folder: Path) -> latents.LatentInputs:
    vae = file_ref(pipeline_folder / "vae")
    return latents.LatentInputs(unit="one", samples=clips, backbone_name=NAME, vae=vae)


def test_a_latent_is_the_normalised_mean(store: Store, clips, pipeline_folder: Path) -> None:
    from diffusers import AutoencoderKLWan

    ref = run_stage(
        store, latents.STAGE, latent_inputs(clips, pipeline_folder), LatentSettings()
    ).ref
    rows = {row["sample_id"]: row for row in tables.read(ref.path, LATENTS)}
    assert {name: (row["status"], row["reason"]) for name, row in rows.items()} == {
        "good": ("ok", None),
        "short": ("failed", "no_latent"),
        "broken": ("failed", "no_latent"),
    }
    assert rows["good"]["shape"] == [16, 3, 4, 8]
    assert "8 frames" in rows["short"]["detail"]

    vae = AutoencoderKLWan.from_pretrained(pipeline_folder / "vae")
    frames = torch.from_numpy(read_rgb(clips.folder / "clips" / "good.mp4"))
    video = frames.permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        mean = vae.encode(video).latent_dist.mean
    expected = mean - torch.tensor(vae.config.latents_mean).view(1, 16, 1, 1, 1)
    expected = expected / torch.tensor(vae.config.latents_std).view(1, 16, 1, 1, 1)
    found = tensors.read(ref.folder / rows["good"]["file"])["latents_CTHW"]
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected[0], atol=1e-5)


def test_latents_can_be_made_smaller(store: Store, clips, pipeline_folder: Path) -> None:
    settings = LatentSettings(width=32, height=16)
    ref = run_stage(store, latents.STAGE, latent_inputs(clips, pipeline_folder), settings).ref
    row = next(tables.usable(tables.read(ref.path, LATENTS)))
    assert row["shape"] == [16, 3, 2, 4]


def test_latents_of_another_table_are_refused(tmp_path: Path, pipeline_folder: Path) -> None:
    captions = table_ref(tmp_path / "captions", CAPTIONS, [])
    with pytest.raises(BadInput, match="made of clips or composites, not of captions"):
        latents.run(latent_inputs(captions, pipeline_folder), LatentSettings(), tmp_path)


def test_an_embedding_is_what_the_pipeline_reads(
    store: Store, tmp_path: Path, pipeline_folder: Path
) -> None:
    from diffusers import WanPipeline

    empty = {"backend": "script", "actions": [], "context": "", "style": "cartoon", **UNASKED}
    long = "word " * 700
    texts = dict(zip("abc", [*TEXTS, long], strict=True))
    captions = table_ref(
        tmp_path / "captions",
        CAPTIONS,
        [ok(clip_id=name, caption=caption, **empty) for name, caption in texts.items()],
    )
    inputs = text.EmbeddingInputs(
        unit="one",
        captions=captions,
        backbone_name=NAME,
        text_encoder=file_ref(pipeline_folder / "text_encoder"),
        tokenizer=file_ref(pipeline_folder / "tokenizer"),
    )
    ref = run_stage(store, text.STAGE, inputs, EmbeddingSettings()).ref
    pipeline = WanPipeline.from_pretrained(pipeline_folder)
    rows = tables.read(ref.path, EMBEDDINGS)
    assert [row["status"] for row in rows] == ["ok"] * 3
    for row in rows:
        found = tensors.read(ref.folder / row["file"])["text_LD"]
        assert len(found) == row["tokens"]
        with torch.no_grad():
            expected = pipeline._get_t5_prompt_embeds(
                texts[row["sample_id"]], max_sequence_length=512
            )
        assert torch.allclose(objective.pad_text([found]), expected, atol=1e-4)
    assert rows[2]["tokens"] == 512
    assert rows[0]["tokens"] < 100
