from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch

from mimix_core.engine.artifacts import digest_file
from mimix_core.errors import MissingModel
from mimix_core.settings import CutoutSettings
from mimix_core.settings.segmenter_settings import Sam2Settings
from mimix_core.stages.cutouts.sam2 import model_zoo
from mimix_core.stages.cutouts.sam2.model_zoo import PUBLISHED_CHECKPOINTS
from mimix_core.stages.cutouts.segmenter_factory import create_segmenter
from tests.stages.cutouts.tiny_sam2 import build_tiny_sam2


class Command:
    """A pickle that would run a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def load(checkpoint: Path, sha256: str | None) -> object:
    return model_zoo.load_predictor("tiny", checkpoint, sha256, image_size=128, device="cpu")


def test_each_size_has_its_own_published_checkpoint() -> None:
    assert set(PUBLISHED_CHECKPOINTS) == {"tiny", "small", "base-plus", "large"}
    digests = {each.sha256 for each in PUBLISHED_CHECKPOINTS.values()}
    assert len(digests) == 4
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)


def test_without_a_checkpoint_it_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match=r"092824/sam2\.1_hiera_tiny\.pt"):
        load(tmp_path / "none.pt", None)
    with pytest.raises(MissingModel, match="a checkpoint of SAM2"):
        create_segmenter(CutoutSettings(backend="sam2"), None)


def test_another_file_than_the_published_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"model": {}}, path)
    with pytest.raises(MissingModel, match="7402e0d8"):
        load(path, None)
    with pytest.raises(MissingModel, match=r"cutouts\.sam2\.sha256"):
        load(path, "0" * 64)


@pytest.mark.parametrize("content", [b"no zip", {"model": {}}, {"other": 1}, [1]])
def test_what_is_no_checkpoint_of_that_size_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "odd.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(MissingModel, match="not a checkpoint of SAM2"):
        load(path, digest_file(path))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"model": Command(tmp_path / "ran")}, path)
    with pytest.raises(MissingModel):
        load(path, digest_file(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.e2e
def test_a_checkpoint_of_ones_own_is_loaded_and_named_by_its_digest(tmp_path: Path) -> None:
    torch.manual_seed(3)
    made = model_zoo.build_predictor("tiny", image_size=128)
    path = tmp_path / "own.pt"
    torch.save({"model": made.state_dict()}, path)
    digest = digest_file(path)
    settings = Sam2Settings(model="tiny", sha256=digest, image_size=128, device="cpu")
    segmenter = create_segmenter(CutoutSettings(backend="sam2", sam2=settings), path)
    assert segmenter.name == f"sam2.1-tiny/{digest[:8]}"
    loaded = segmenter.model.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(value, loaded[name]) for name, value in made.state_dict().items())


def test_a_smaller_net_is_the_packages_own_predictor() -> None:
    from sam2.sam2_video_predictor import SAM2VideoPredictor

    assert isinstance(build_tiny_sam2(0), SAM2VideoPredictor)
