"""Weights files: all missing ones are reported at once, and none can run code."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from mimix_core.benchmark.vbench import torchscript_reader, vbench_weights
from mimix_core.benchmark.vbench.dimensions import DIMENSIONS
from mimix_core.benchmark.vbench.networks import dino
from mimix_core.errors import BadInput, MissingModel
from tests.benchmark.vbench import weights_factory

CPU = torch.device("cpu")


def test_all_missing_files_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / vbench_weights.LAION).parent.mkdir(parents=True)
    (tmp_path / vbench_weights.LAION).write_bytes(b"here")
    with pytest.raises(MissingModel) as error:
        vbench_weights.check_weights(
            tmp_path,
            [vbench_weights.CLIP_L, vbench_weights.LAION, vbench_weights.DINO, vbench_weights.DINO],
        )
    message = str(error.value)
    assert "2 weights files are missing" in message
    assert vbench_weights.SOURCES[vbench_weights.CLIP_L] in message
    assert vbench_weights.SOURCES[vbench_weights.DINO] in message
    assert vbench_weights.LAION not in message


def test_every_file_of_every_dimension_says_where_it_comes_from() -> None:
    assert {name for d in DIMENSIONS.values() for name in d.files} == set(vbench_weights.SOURCES)
    assert set(vbench_weights.PUBLISHED_SHA256) <= set(vbench_weights.SOURCES)


def test_a_published_file_is_recognized() -> None:
    assert vbench_weights.is_published(vbench_weights.MUSIQ, "358bb6af" + 56 * "0") is True
    assert vbench_weights.is_published(vbench_weights.CLIP_B, 64 * "0") is False
    assert vbench_weights.is_published(vbench_weights.DINO, 64 * "0") is None


def test_a_torchscript_archive_gives_the_tensors_that_torch_reads(tmp_path: Path) -> None:
    tensors = {
        "visual.conv1.weight": torch.randn(4, 3, 2, 2),
        "visual.proj": torch.randn(5).half(),
        "visual.blocks.0.turned": torch.randn(3, 2).t(),
        "logit_scale": torch.tensor(2.5),
    }
    path = tmp_path / "made.pt"
    weights_factory.save_torchscript(tensors, path)
    assert torchscript_reader.is_torchscript_archive(path)
    true = torch.jit.load(str(path)).state_dict()
    found = torchscript_reader.read_tensors(path)
    assert set(found) == set(true) == set(tensors)
    for name, tensor in true.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert set(vbench_weights.load_tensors(path, prefix="visual.")) == {
        "conv1.weight",
        "proj",
        "blocks.0.turned",
    }


class Evil:
    """Unpickling it would create a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_no_weights_file_can_run_code(tmp_path: Path) -> None:
    plain, archive = tmp_path / "plain.pth", tmp_path / "archive.pt"
    torch.save({"weight": Evil(tmp_path / "ran")}, plain)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/constants.pkl", b"")
        file.writestr("archive/data.pkl", pickle.dumps(Evil(tmp_path / "ran")))
    for path in (plain, archive):
        with pytest.raises(BadInput, match="not a readable weights file"):
            vbench_weights.load_tensors(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 torn"])
def test_another_kind_of_file_is_bad_input(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(BadInput, match=r"x\.pth"):
        vbench_weights.load_tensors(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("saved", "inside"),
    [({"a": 1}, ""), ([torch.zeros(1)], ""), ({"model": {}}, "model"), ({}, "")],
)
def test_a_file_without_tensors_is_bad_input(tmp_path: Path, saved: object, inside: str) -> None:
    torch.save(saved, tmp_path / "x.pth")
    with pytest.raises(BadInput):
        vbench_weights.load_tensors(tmp_path / "x.pth", key=inside)


def test_weights_of_another_network_are_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "dino.pth"
    torch.save(weights_factory.laion(), path)
    with pytest.raises(BadInput, match="weights of another network"):
        dino.load_dino(path, CPU)
    torch.save(
        {k: v for k, v in weights_factory.dino(weights_factory.TINY).items() if k != "norm.bias"},
        path,
    )
    with pytest.raises(BadInput, match=r"weights of another network.*norm\.bias"):
        dino.load_dino(path, CPU)


def test_clip_passes_through_half_precision_as_upstream_does(weights_dir: Path) -> None:
    from mimix_core.benchmark.vbench.networks import clip_image

    loaded = clip_image.load_image_encoder(weights_dir / vbench_weights.CLIP_B, CPU).state_dict()
    true = weights_factory.clip(
        weights_factory.TINY, weights_factory.TINY.base, 32, weights_factory.TINY.out
    )
    for name, tensor in loaded.items():
        exact = "ln_" in name or "embedding" in name
        wanted = true[f"visual.{name}"]
        assert torch.equal(tensor, wanted if exact else wanted.half().float()), name


def test_half_precision_excludes_norms_and_embeddings_and_is_close(weights_dir: Path) -> None:
    from mimix_core.benchmark.vbench.networks import clip_image

    loaded = clip_image.load_image_encoder(weights_dir / vbench_weights.CLIP_B, CPU)
    pixels_BCHW = torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    wanted = loaded(pixels_BCHW)
    network = clip_image.to_half_precision(loaded)
    for name, tensor in network.state_dict().items():
        full = "ln_" in name or name.endswith("_embedding")
        assert tensor.dtype == (torch.float32 if full else torch.float16), name
    found = network(pixels_BCHW)
    assert found.dtype == torch.float16
    assert not torch.equal(found.float(), wanted)
    assert torch.allclose(found.float(), wanted, atol=0.01 * float(wanted.abs().max()))
