"""CLIP's tokenizer, and prompts shortened to fit."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mimix_core.benchmark.vbench import overall_consistency, vbench_weights
from mimix_core.benchmark.vbench.networks.clip_text import Tokenizer
from mimix_core.benchmark.vbench.networks.viclip import ViClip
from mimix_core.errors import BadInput
from tests.benchmark.vbench import weights_factory


@pytest.fixture(scope="module")
def tokenizer(weights_dir: Path) -> Tokenizer:
    return Tokenizer(weights_dir / vbench_weights.VOCABULARY)


@pytest.fixture(scope="module")
def model(weights_dir: Path) -> ViClip:
    return overall_consistency.load_model(weights_dir, torch.device("cpu"))


def test_known_words(tokenizer: Tokenizer) -> None:
    # 512 single letters come first, then the merges in the file's order.
    the, cat, dog = 513, 515, 517
    assert tokenizer.encode("The CAT the dog") == [the, cat, the, dog]
    assert tokenizer.encode("cats") == [514, ord("t") - 33, ord("s") - 33 + 256]
    assert tokenizer.encode("&amp;amp;") == tokenizer.encode("&") == [ord("&") - 33 + 256]
    assert tokenizer.encode("  ") == []
    assert tokenizer.encode("<|endoftext|>") == [tokenizer.end] == [weights_factory.VOCABULARY - 1]


@settings(max_examples=50)
@given(text=st.text(max_size=60))
def test_any_text_has_tokens_of_the_vocabulary(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text)
    assert all(0 <= token < weights_factory.VOCABULARY for token in tokens)
    row = tokenizer.encode_padded(text, 32).tolist()
    assert len(row) == 32
    assert row[0] == tokenizer.start
    assert row[min(len(tokens) + 1, 31)] == tokenizer.end
    assert row[1 : min(len(tokens) + 1, 31)] == tokens[:30]


def test_another_kind_of_file_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "v.gz"
    for content in (b"text", gzip.compress(b"header\na b\n"), gzip.compress(b"h\na b c\n")):
        path.write_bytes(content)
        with pytest.raises(BadInput, match=r"v\.gz"):
            Tokenizer(path)


def test_a_prompt_that_fits_is_unchanged(model: ViClip) -> None:
    assert (
        overall_consistency.shorten_prompt("[Character: Tom], runs.", model)
        == "[Character: Tom], runs."
    )


def test_a_long_prompt_is_reduced_to_first_clauses(model: ViClip) -> None:
    prompt = (
        "[Character: cat], runs the dog, the cat the dog the cat the dog the cat the dog. "
        "[Character: dog], runs, the dog the cat the dog the cat the dog the cat. "
        "the cat the dog the cat the dog the cat the dog [scene-style:cat]"
    )
    short = overall_consistency.shorten_prompt(prompt, model)
    assert short == (
        "cat runs the dog, dog runs, the cat the dog the cat the dog the cat the dog cat"
    )
    assert len(model.tokenizer.encode(short)) <= 30 < len(model.tokenizer.encode(prompt))


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["the cat", "a dog,", "runs.", "[Character: cat],", "why?"])))
def test_a_shortened_prompt_fits(model: ViClip, words: list[str]) -> None:
    prompt = " ".join(words * 3)
    short = overall_consistency.shorten_prompt(prompt, model)
    assert len(model.tokenizer.encode(short)) <= 30
    assert short or not prompt
