"""The text encoder: one token table under two names, and only finite embeddings."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from mimix_core.errors import BadInput
from mimix_core.wan import safetensors_io, text_embeddings
from tests.paths import ROOT

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")


@pytest.fixture
def folder(pipeline_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pipeline_folder / "text_encoder", tmp_path / "text_encoder"))


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_transformers_that_untie_the_table_are_not_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entries = {
        Requirement(e).name: Requirement(e) for e in project["optional-dependencies"]["train"]
    }
    allowed = entries["transformers"].specifier
    assert [v for v in ("5.0.0", "5.1.0", "5.2.0", "5.2.9") if allowed.contains(v)] == []
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    [pinned] = [line.split("==")[1] for line in pins if line.startswith("transformers==")]
    assert allowed.contains("5.3.0")
    assert allowed.contains(pinned)


@pytest.mark.parametrize("tie", [True, False])
def test_either_name_of_the_table_in_the_file_gives_the_same_embeddings(
    folder: Path, tie: bool
) -> None:
    """The published config says tie_word_embeddings: false, which is about the decoder's output."""
    change_config(folder, tie_word_embeddings=tie)
    encoder = text_embeddings.load_text_encoder(folder, CPU)
    [stored] = [
        tensor
        for name, tensor in safetensors_io.read_tensors(folder / "model.safetensors").items()
        if name in ("shared.weight", "encoder.embed_tokens.weight")
    ]
    assert torch.equal(encoder.encoder.embed_tokens.weight, stored)
    assert torch.equal(encoder.shared.weight, stored)


def test_an_encoder_with_two_tables_is_refused(folder: Path) -> None:
    """As transformers 5.0 to 5.2 load it: the table that is used has random values."""
    encoder = text_embeddings.load_text_encoder(folder, CPU)
    random = torch.nn.Embedding(*encoder.shared.weight.shape)
    encoder.encoder.embed_tokens = random
    with pytest.raises(BadInput, match=r"two different token tables .* transformers 5") as caught:
        text_embeddings.check_tied_tables(encoder, str(folder))
    assert "Install transformers 5.3 or newer" in str(caught.value)
    with torch.no_grad():
        random.weight.copy_(encoder.shared.weight)
    text_embeddings.check_tied_tables(encoder, str(folder))


def test_a_file_with_two_different_tables_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = safetensors_io.read_tensors(path)
    table = tensors.pop("shared.weight", None)
    table = tensors.pop("encoder.embed_tokens.weight", table)
    tensors |= {"shared.weight": table, "encoder.embed_tokens.weight": torch.randn_like(table)}
    safetensors_io.write_tensors(path, tensors, {"format": "pt"})
    change_config(folder, tie_word_embeddings=False)
    try:
        encoder = text_embeddings.load_text_encoder(folder, CPU)
    except BadInput as error:
        assert "two different token tables" in str(error)
    else:  # transformers ties them whatever the file says
        assert torch.equal(encoder.shared.weight, encoder.encoder.embed_tokens.weight)


def test_an_embedding_with_nan_names_its_text() -> None:
    good = torch.zeros(3, 4)
    assert text_embeddings.check_finite_embedding(good, "x") is good
    bad = good.clone()
    bad[2, 3] = float("inf")
    with pytest.raises(BadInput, match=r"non-finite values \(NaN or Inf\) for 'Tom runs x+\.\.\.'"):
        text_embeddings.check_finite_embedding(bad, "Tom runs " + "x" * 5000)


def test_truncated_texts_are_named_with_their_lengths() -> None:
    lengths = [("short", 512), ("long", 513), *((f"t{n}", 600 + n) for n in range(12))]
    told = text_embeddings.describe_truncated(lengths, 512)
    assert told.startswith("long (513 tokens), t0 (600 tokens), t1 (601 tokens), ")
    assert told.endswith("t8 (608 tokens) and 3 more")
    assert text_embeddings.describe_truncated(lengths[:1], 512) == ""
