"""Stages ``latents`` and ``embeddings`` match the inputs of WanPipeline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimix_core import tables
from mimix_core.domain.caption_grammar import CaptionVariant, parse_caption, render_caption
from mimix_core.engine.artifacts import TableRef, file_ref
from mimix_core.engine.cache_key import key_parts
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.media import ClipWriter
from mimix_core.media.decode import read_rgb
from mimix_core.settings import EmbeddingSettings, LatentSettings
from mimix_core.tables import CAPTIONS, CLIPS, EMBEDDINGS, LATENTS, Row
from mimix_core.wan import flow_matching, latents_stage, tensor_shards, text_embeddings
from mimix_core.wan.vae import encode_frames, load_vae
from tests.factories import caption, clip, table_ref
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


def made(folder: Path, sizes: dict[str, tuple[int, int, int]]) -> TableRef:
    """Clips of these frames, widths and heights."""
    for name, size in sizes.items():
        write(folder / "clips" / f"{name}.mp4", *size)
    return table_ref(folder, CLIPS, [clip(name) for name in sizes])


@pytest.fixture
def clips(tmp_path: Path) -> TableRef:
    folder = tmp_path / "clips"
    made(folder, {"good": (9, 64, 32), "short": (8, 64, 32)})
    (folder / "clips" / "broken.mp4").write_bytes(b"no video")
    return table_ref(folder, CLIPS, [clip(name) for name in ("good", "short", "broken")])


def latent_inputs(clips: TableRef, pipeline: Path, **more: object) -> latents_stage.LatentInputs:
    return latents_stage.LatentInputs.model_validate(
        {
            "unit": "one",
            "samples": clips,
            "backbone_name": NAME,
            "vae": file_ref(pipeline / "vae"),
            "partial_results": clips.folder.parent / "parts",
            **more,
        }
    )


def test_an_encoder_that_gives_nan_fails_the_stage(tmp_path: Path, pipeline_folder: Path) -> None:
    import shutil

    from mimix_core.wan import safetensors_io

    folder = Path(shutil.copytree(pipeline_folder / "text_encoder", tmp_path / "text_encoder"))
    path = folder / "model.safetensors"
    tensors = safetensors_io.read_tensors(path)
    tensors["encoder.final_layer_norm.weight"][3] = float("nan")
    safetensors_io.write_tensors(path, tensors, {"format": "pt"})
    inputs = text_embeddings.EmbeddingInputs(
        unit="one",
        captions=table_ref(tmp_path / "captions", CAPTIONS, [caption("a", TEXTS[0])]),
        backbone_name=NAME,
        text_encoder=file_ref(folder),
        tokenizer=file_ref(pipeline_folder / "tokenizer"),
        partial_results=tmp_path / "parts",
    )
    with pytest.raises(BadInput, match=r"non-finite values \(NaN or Inf\) for '\[Character: Bunny"):
        run_stage(Store(tmp_path / "s"), text_embeddings.STAGE, inputs, EmbeddingSettings())


def latent_rows(ref: TableRef) -> dict[str, Row]:
    return {row["sample_id"]: row for row in tables.read(ref.path, LATENTS)}


def test_a_latent_is_the_normalized_mean(
    store: Store, clips: TableRef, pipeline_folder: Path
) -> None:
    from diffusers import AutoencoderKLWan

    inputs = latent_inputs(clips, pipeline_folder)
    ref = run_stage(store, latents_stage.STAGE, inputs, LatentSettings()).ref
    rows = latent_rows(ref)
    assert {name: (row["status"], row["reason"]) for name, row in rows.items()} == {
        "good": ("ok", None),
        "short": ("failed", "size_does_not_fit"),
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
    found = tensor_shards.read_latents(tensor_shards.tensor_ref(ref, rows["good"]))
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected[0], atol=1e-5)


def test_an_image_is_the_latent_of_the_middle_frame_alone(
    store: Store, tmp_path: Path, pipeline_folder: Path
) -> None:
    clips = made(tmp_path / "clips", {"good": (9, 64, 32), "odd": (8, 64, 32)})
    inputs = latent_inputs(clips, pipeline_folder, frames="middle")
    ref = run_stage(store, latents_stage.STAGE, inputs, LatentSettings()).ref
    rows = {row["sample_id"]: row for row in tables.read(ref.path, LATENTS)}
    vae = load_vae(pipeline_folder / "vae", torch.device("cpu"))
    for name, middle in (("good", 4), ("odd", 4)):
        frames = read_rgb(clips.folder / "clips" / f"{name}.mp4")
        wanted = encode_frames(vae, frames[middle : middle + 1])
        found = tensor_shards.read_latents(tensor_shards.tensor_ref(ref, rows[name]))
        assert found.shape == (16, 1, 4, 8)
        assert torch.equal(found, wanted)
    # Results of before this input existed keep their keys.
    assert "frames" not in str(key_parts(latent_inputs(clips, pipeline_folder), LatentSettings()))


def test_latents_can_be_resized(store: Store, clips: TableRef, pipeline_folder: Path) -> None:
    settings = LatentSettings(width=32, height=16)
    ref = run_stage(store, latents_stage.STAGE, latent_inputs(clips, pipeline_folder), settings).ref
    assert latent_rows(ref)["good"]["shape"] == [16, 3, 2, 4]


def test_each_bucket_is_encoded_and_an_unsupported_size_is_a_failed_row(
    store: Store, tmp_path: Path, pipeline_folder: Path
) -> None:
    sizes = {"wide": (5, 96, 64), "tall": (5, 64, 96), "square": (5, 80, 80), "odd": (5, 64, 40)}
    inputs = latent_inputs(made(tmp_path / "clips", sizes), pipeline_folder)
    rows = latent_rows(run_stage(store, latents_stage.STAGE, inputs, LatentSettings()).ref)
    assert {name: row["shape"] for name, row in rows.items()} == {
        "wide": [16, 2, 8, 12],
        "tall": [16, 2, 12, 8],
        "square": [16, 2, 10, 10],
        "odd": [],
    }
    assert rows["odd"]["reason"] == "size_does_not_fit"
    assert "64x40: tiny-random-wan takes multiples of 16" in rows["odd"]["detail"]


def test_the_precision_of_the_vae_is_in_the_key_and_changes_little(
    store: Store, clips: TableRef, pipeline_folder: Path
) -> None:
    inputs = latent_inputs(clips, pipeline_folder)
    refs = [
        run_stage(store, latents_stage.STAGE, inputs, LatentSettings(precision=precision)).ref
        for precision in ("fp32", "bf16")
    ]
    assert refs[0].key != refs[1].key
    full, half = (
        tensor_shards.read_latents(tensor_shards.tensor_ref(r, latent_rows(r)["good"]))
        for r in refs
    )
    assert not torch.equal(full, half)
    assert half.dtype == torch.float32
    assert (half - full).abs().mean() < 0.02 * full.abs().mean()


def test_a_span_encodes_its_share_of_the_table(
    store: Store, tmp_path: Path, pipeline_folder: Path
) -> None:
    clips = made(tmp_path / "clips", dict.fromkeys("abcde", (5, 32, 16)))
    found = {}
    for span in ((0, 2), (2, 5), None):
        inputs = latent_inputs(clips, pipeline_folder, span=span)
        ref = run_stage(store, latents_stage.STAGE, inputs, LatentSettings()).ref
        found[span] = {name: row["sha256"] for name, row in latent_rows(ref).items()}
    assert list(found[0, 2]) == ["a", "b"]
    assert found[0, 2] | found[2, 5] == found[None]


def test_latents_of_another_table_are_rejected(tmp_path: Path, pipeline_folder: Path) -> None:
    captions = table_ref(tmp_path / "captions", CAPTIONS, [])
    with pytest.raises(BadInput, match="made of clips or composites, not of captions"):
        latents_stage.run(latent_inputs(captions, pipeline_folder), LatentSettings(), tmp_path)


def test_the_next_clips_are_prefetched() -> None:
    from threading import Event

    begun = {name: Event() for name in "abcde"}

    def load(name: str) -> np.ndarray:
        begun[name].set()
        return np.zeros(1, np.uint8)

    seen = []
    for name, _ in latents_stage.prefetch("abcde", load):
        seen.append(name)
        for following in "abcde"[len(seen) : len(seen) + 2]:
            assert begun[following].wait(10), "not loaded ahead"
        assert not any(begun[later].is_set() for later in "abcde"[len(seen) + 2 :])
    assert seen == list("abcde")


def caption_table(folder: Path, texts: dict[str, str]) -> TableRef:
    return table_ref(folder, CAPTIONS, [caption(name, text) for name, text in texts.items()])


def text_inputs(captions: TableRef, pipeline: Path) -> text_embeddings.EmbeddingInputs:
    return text_embeddings.EmbeddingInputs(
        unit="one",
        captions=captions,
        backbone_name=NAME,
        text_encoder=file_ref(pipeline / "text_encoder"),
        tokenizer=file_ref(pipeline / "tokenizer"),
        partial_results=captions.folder.parent / "parts",
    )


LONG = f"[Character: Bunny], {'word ' * 700}ends. [scene-style:cartoon]"


def test_an_embedding_matches_the_pipelines(
    store: Store, tmp_path: Path, pipeline_folder: Path
) -> None:
    from diffusers import WanPipeline

    texts = dict(zip("abcd", [*TEXTS, LONG, TEXTS[0]], strict=True))
    inputs = text_inputs(caption_table(tmp_path / "captions", texts), pipeline_folder)
    done = run_stage(store, text_embeddings.STAGE, inputs, EmbeddingSettings())
    pipeline = WanPipeline.from_pretrained(pipeline_folder)
    rows = {row["sample_id"]: row for row in tables.read(done.ref.path, EMBEDDINGS)}
    assert [row["status"] for row in rows.values()] == ["ok"] * 4
    for name, row in rows.items():
        found = tensor_shards.read_text(tensor_shards.tensor_ref(done.ref, row))
        assert row["caption"] == row["text"] == texts[name]
        assert found.shape == (row["tokens"], 32)
        with torch.no_grad():
            expected = pipeline._get_t5_prompt_embeds(texts[name], max_sequence_length=512)
        assert torch.allclose(flow_matching.pad_embeddings([found]), expected, atol=1e-4)
    assert (rows["a"]["file"], rows["a"]["key"]) == (rows["d"]["file"], rows["d"]["key"])
    assert rows["a"]["tokens"] < 100
    assert rows["a"]["tokens_cut"] == 0
    assert rows["c"]["tokens"] == 512
    assert rows["c"]["tokens_cut"] > 0
    assert store.record(done.ref).notes["captions_cut"] == 1


def embed(store: Store, inputs: text_embeddings.EmbeddingInputs, **settings: Any) -> TableRef:
    """Run the stage with what the store has of it."""
    folders = {
        "earlier_results": store.root / "embeddings",
        "partial_results": store.root / "parts",
    }
    inputs = inputs.model_copy(update=folders)
    return run_stage(store, text_embeddings.STAGE, inputs, EmbeddingSettings(**settings)).ref


def stats_of(store: Store, ref: TableRef) -> dict[str, Any]:
    return dict(store.record(ref).runtime_stats)


def shards(ref: TableRef) -> list[bytes]:
    return [path.read_bytes() for path in sorted((ref.folder / "embeddings").iterdir())]


def many_texts(count: int) -> dict[str, str]:
    text = "[Character: Bunny], jumps {} times. [scene-style:cartoon]"
    return {f"c{number}": text.format(number) for number in range(count)}


EDITED = "[Character: Clara], looks down and cries. [scene-style:realistic]"


def test_only_an_edited_caption_is_encoded_again(
    store: Store, tmp_path: Path, pipeline_folder: Path
) -> None:
    texts = many_texts(70)
    first = embed(store, text_inputs(caption_table(tmp_path / "one", texts), pipeline_folder))
    assert stats_of(store, first) == {"encoded": 70, "reused": 0, "found": 0}
    edited = {**texts, "c3": EDITED}
    inputs = text_inputs(caption_table(tmp_path / "two", edited), pipeline_folder)
    second = embed(store, inputs)
    assert stats_of(store, second) == {"encoded": 1, "reused": 69, "found": 0}
    alone = embed(Store(tmp_path / "elsewhere"), inputs)
    assert stats_of(Store(tmp_path / "elsewhere"), alone)["encoded"] == 70
    assert shards(second) == shards(alone), "wherever a text was encoded, it has the same bytes"
    assert second.content == alone.content
    before, after = (
        {row["sample_id"]: row["sha256"] for row in tables.read(ref.path, EMBEDDINGS)}
        for ref in (first, second)
    )
    assert [name for name in before if before[name] != after[name]] == ["c3"]


def test_a_text_that_was_encoded_otherwise_or_is_damaged_is_encoded_again(
    store: Store, tmp_path: Path, pipeline_folder: Path
) -> None:
    inputs = text_inputs(caption_table(tmp_path / "one", {"a": TEXTS[0]}), pipeline_folder)
    first = embed(store, inputs)
    assert stats_of(store, embed(store, inputs, max_tokens=8))["encoded"] == 1
    more = text_inputs(
        caption_table(tmp_path / "two", {"a": TEXTS[0], "b": TEXTS[1]}), pipeline_folder
    )
    shard = first.folder / "embeddings" / "00000.safetensors"
    content, times = shard.read_bytes(), shard.stat()
    shard.write_bytes(content[:-4] + b"\0\0\0\7")
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert stats_of(store, embed(store, more))["encoded"] == 2


def test_an_interrupted_unit_of_embeddings_resumes(
    store: Store, tmp_path: Path, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = many_texts(5)
    inputs = text_inputs(caption_table(tmp_path / "captions", texts), pipeline_folder)
    original, calls = text_embeddings.check_finite_embedding, 0

    def interrupt(text_LD: torch.Tensor, text: str) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return original(text_LD, text)

    with monkeypatch.context() as patch:
        patch.setattr(text_embeddings, "check_finite_embedding", interrupt)
        with pytest.raises(KeyboardInterrupt):
            embed(store, inputs)
    ref = embed(store, inputs)
    assert stats_of(store, ref) == {"encoded": 2, "reused": 0, "found": 3}
    assert shards(ref) == shards(embed(Store(tmp_path / "elsewhere"), inputs))


def test_a_variant_recomputes_embeddings_only(
    store: Store, tmp_path: Path, clips: TableRef, pipeline_folder: Path
) -> None:
    captions = caption_table(tmp_path / "captions", {"a": TEXTS[0]})
    inputs = text_inputs(captions, pipeline_folder)
    found = {}
    for variant in CaptionVariant:
        settings = EmbeddingSettings(variant=variant.value)
        ref = run_stage(store, text_embeddings.STAGE, inputs, settings).ref
        [row] = tables.read(ref.path, EMBEDDINGS)
        assert row["caption"] == TEXTS[0], "what the dataset knows it by"
        assert row["text"] == render_caption(parse_caption(TEXTS[0]), variant)
        found[ref.key] = row["sha256"]
    assert len(found) == len(set(found.values())) == len(CaptionVariant)
    # Captions and latents are given no setting of the embeddings, so their keys cannot change.
    assert "variant" not in LatentSettings.model_fields
    assert "variant" not in latents_stage.LatentInputs.model_fields


def test_a_batch_matches_its_captions_alone(pipeline_folder: Path) -> None:
    cpu = torch.device("cpu")
    tokenizer, encoder = text_embeddings.load_text_models(
        pipeline_folder / "tokenizer", pipeline_folder / "text_encoder", cpu
    )
    ids = text_embeddings.tokenize_captions(tokenizer, [*TEXTS, "A b."])
    for together, one in zip(text_embeddings.embed_tokens(encoder, ids), ids, strict=True):
        assert len(together) == len(one)
        assert torch.allclose(together, text_embeddings.embed_tokens(encoder, [one])[0], atol=1e-5)


@given(st.lists(st.integers(3, 99), max_size=20), st.integers(2, 12))
def test_truncation_keeps_the_beginning_and_the_end_token(ids, max_tokens) -> None:
    kept = text_embeddings.truncate_tokens([*ids, 1], max_tokens)
    assert len(kept) == min(len(ids) + 1, max_tokens)
    assert kept[-1] == 1
    assert list(kept[:-1]) == ids[: len(kept) - 1]
