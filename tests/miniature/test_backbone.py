"""Hold miniature-wan to the interface that MiMix uses, and its checkpoints to their digests."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from mimix_core.wan import text_embeddings
from mimix_core.wan.flow_matching import pad_embeddings
from miniature import backbone, captions, checkpoints, feed, scenes
from miniature.sizes import TINY
from miniature.text_encoder import MiniatureTextEncoder, MiniatureTokenizer, build_vocabulary


@pytest.fixture(scope="module")
def tokenizer() -> MiniatureTokenizer:
    return MiniatureTokenizer(build_vocabulary())


def test_mimix_embeds_captions_with_this_encoder(tokenizer: MiniatureTokenizer) -> None:
    texts = ["[Character: Pim], waves. A meadow. [scene-style:cartoon]", "[Character: Tam], jumps."]
    ids = text_embeddings.tokenize_captions(tokenizer, texts)
    encoder = MiniatureTextEncoder(len(tokenizer.vocabulary), width=16)
    embedded = text_embeddings.embed_tokens(encoder, ids)
    assert [len(text_LD) for text_LD in embedded] == [len(tokens) for tokens in ids]
    base = backbone.Base(transformer=None, text_encoder=encoder, tokenizer=tokenizer)
    padded = backbone.embed(base, *backbone.tokenize(base, texts, torch.device("cpu")))
    torch.testing.assert_close(padded, pad_embeddings(embedded))


def test_captions_have_no_unknown_piece_and_fit_the_feed(tokenizer: MiniatureTokenizer) -> None:
    rng = random.Random(2)
    drawn = [scenes.draw_generic_scene(rng) for _ in range(500)]
    texts = [captions.caption(scene, [True] * len(scene.cast)) for scene in drawn]
    ids = tokenizer(texts).input_ids
    assert all(2 not in tokens for tokens in ids)
    assert max(map(len, ids)) <= feed.TOKENS
    name = drawn[0].cast[0].name
    assert tokenizer([name]).input_ids[0][:-1] == [tokenizer.vocabulary.index(name)]


def test_a_word_has_another_embedding_in_another_sentence(tokenizer: MiniatureTokenizer) -> None:
    encoder = MiniatureTextEncoder(len(tokenizer.vocabulary), width=16)
    ids = torch.tensor(tokenizer(["Pim. Pim."]).input_ids)
    hidden = encoder(ids, torch.ones_like(ids)).last_hidden_state[0]
    assert not torch.allclose(hidden[0], hidden[2])


def test_tokenizer_and_encoder_are_read_as_written(
    tokenizer: MiniatureTokenizer, tmp_path: Path
) -> None:
    encoder = MiniatureTextEncoder(len(tokenizer.vocabulary), width=16)
    encoder.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = MiniatureTextEncoder.from_pretrained(tmp_path)
    ids = torch.tensor(MiniatureTokenizer.from_pretrained(tmp_path)(["Tam waves."]).input_ids)
    mask = torch.ones_like(ids)
    assert torch.equal(encoder(ids, mask).last_hidden_state, again(ids, mask).last_hidden_state)


def test_the_vae_has_the_strides_of_wan_and_one_pass_computes_the_same() -> None:
    torch.manual_seed(0)
    vae = backbone.build_vae(TINY, torch.device("cpu"))
    frames = torch.rand(2, 3, 9, 32, 48)
    with torch.no_grad():
        latents = backbone.encode(vae, frames)
        torch.testing.assert_close(
            latents, vae.encode(frames * 2 - 1).latent_dist.mode(), atol=1e-5, rtol=1e-4
        )
        assert latents.shape == (2, 16, 3, 4, 6)
        decoded = backbone.decode(vae, latents)
        chunked = vae.decode(latents, return_dict=False)[0] * 0.5 + 0.5
        torch.testing.assert_close(decoded, chunked, atol=1e-5, rtol=1e-4)
    assert decoded.shape == frames.shape


def test_checkpoints_come_in_small_parts_and_notice_damage(tmp_path: Path) -> None:
    content = {"model": {"a": torch.randn(100, 10)}, "steps": 3}
    checkpoints.save(tmp_path, "base", content, part_bytes=1000)
    parts = sorted(tmp_path.glob("base.0*"))
    assert len(parts) > 3
    assert all(part.stat().st_size <= 1000 for part in parts)
    loaded = checkpoints.load(tmp_path, "base")
    assert torch.equal(loaded["model"]["a"], content["model"]["a"])
    parts[1].write_bytes(parts[1].read_bytes()[::-1])
    with pytest.raises(checkpoints.DamagedCheckpoint, match="digest"):
        checkpoints.load(tmp_path, "base")
    parts[1].unlink()
    with pytest.raises(checkpoints.DamagedCheckpoint, match="missing"):
        checkpoints.load(tmp_path, "base")
