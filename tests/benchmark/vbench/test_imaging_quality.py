"""MUSIQ: upstream's value on random weights, and the parts of its input."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mimix_core.benchmark.vbench import imaging_quality as quality
from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.networks import musiq
from mimix_core.benchmark.vbench.networks.musiq import Musiq
from tests.benchmark.vbench import random_inputs

CPU = torch.device("cpu")
GOLDEN_QUALITY = -0.19408614933490753
"""pyiqa's MUSIQ on ``golden_frame``, shrunk as VBench does; ``make_goldens`` recomputes it."""


def golden_frame() -> NDArray[np.uint8]:
    return random_inputs.textured_image(330, 602)


def save_random_weights(path: Path) -> None:
    torch.save(random_inputs.random_weights(random_inputs.upstream_shapes("musiq"), seed=3), path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Musiq:
    folder = tmp_path_factory.mktemp("vbench")
    path = folder / vbench_weights.MUSIQ
    path.parent.mkdir()
    save_random_weights(path)
    return quality.load_model(folder, CPU)


def test_tensors_are_named_as_upstreams() -> None:
    with torch.device("meta"):
        network = Musiq()
    ours = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert ours == random_inputs.upstream_shapes("musiq")


def test_quality_is_upstreams(model: Musiq) -> None:
    score = quality.score_video(model, random_inputs.as_video(golden_frame()[None]))
    assert score == pytest.approx(GOLDEN_QUALITY / 100, abs=1e-7)


def test_frames_in_a_batch_are_independent(model: Musiq) -> None:
    frames = np.stack([random_inputs.textured_image(40, 60, seed) for seed in (0, 1)])
    together = quality.score_video(model, random_inputs.as_video(frames))
    alone = [quality.score_video(model, random_inputs.as_video(frame[None])) for frame in frames]
    assert together == pytest.approx(np.mean(alone), abs=1e-7)


@pytest.mark.e2e
def test_output_is_on_the_device_of_the_input() -> None:
    """On PyTorch's meta device, where mixing devices fails as it does on a GPU."""
    with torch.device("meta"):
        network, images = Musiq().eval(), torch.empty(2, 3, 295, 512)
    assert network(images).device == images.device


def test_small_frames_keep_their_size_and_large_ones_are_rounded_down() -> None:
    def size(height: int, width: int) -> tuple[int, ...]:
        frames = torch.zeros(1, 3, height, width, dtype=torch.uint8)
        return tuple(quality.resize_frames(frames).shape[-2:])

    assert size(300, 512) == (300, 512)
    assert size(480, 832) == (295, 512)
    assert size(1280, 719) == (512, 287)


@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 32), st.integers(1, 32))
def test_windows_cover_the_padded_image(height: int, width: int, kernel: int, step: int) -> None:
    """As many windows as steps begin in the image, the border's odd line below and right."""
    image = torch.ones(1, 1, height, width)
    padded = musiq.pad_same(image, kernel, step)
    for side, old in ((2, height), (3, width)):
        new = padded.shape[side]
        assert new == max(old, (math.ceil(old / step) - 1) * step + kernel)
        filled = padded.amax(dim=5 - side).flatten()
        before = int(filled.argmax())
        assert before == (new - old) // 2


@given(st.integers(1, 17), st.integers(1, 17))
def test_positions_follow_the_grid(down: int, across: int) -> None:
    """Patch i of n lies in the hash's row or column floor(10 i / n)."""
    positions = musiq.hashed_positions(down, across).reshape(down, across)
    for row in range(down):
        for column in range(across):
            assert positions[row, column] == 10 * (10 * row // down) + 10 * column // across


@given(st.integers(1, 90), st.integers(1, 90))
def test_patches_are_the_padded_image_row_by_row(height: int, width: int) -> None:
    numbers = torch.Generator().manual_seed(height * 100 + width)
    image = torch.rand(2, 3, height, width, generator=numbers)
    patches, (down, across) = musiq.extract_patches(image)
    assert patches.shape == (2, down * across, 3, 32, 32)
    rows = [torch.cat(list(row), dim=-1) for row in patches[0].split(across)]
    assert torch.equal(torch.cat(rows, dim=-2), musiq.pad_same(image, 32, 32)[0])


@given(st.integers(20, 512), st.integers(20, 512), st.sampled_from(musiq.LONGER_SIDES))
def test_the_longer_side_is_as_requested(height: int, width: int, longer: int) -> None:
    small = musiq.resize_longer_side(torch.zeros(1, 1, height, width), longer)
    assert max(small.shape[-2:]) == longer
    assert abs(min(small.shape[-2:]) - min(height, width) * longer / max(height, width)) <= 0.5
