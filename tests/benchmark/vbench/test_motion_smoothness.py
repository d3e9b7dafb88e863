"""AMT-S: upstream's values on random weights, and videos with known answers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mimix_core.benchmark.metric_errors import Unmeasurable
from mimix_core.benchmark.vbench import motion_smoothness as smoothness
from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.motion_smoothness import FrameInterpolator
from mimix_core.benchmark.vbench.networks.amt import AmtS
from mimix_core.errors import BadInput
from tests.benchmark.vbench import random_inputs

CPU = torch.device("cpu")
HEIGHT, WIDTH = 134, 150
"""Not multiples of 16, and large enough for four correlation levels."""
GOLDEN_SCORES = {"pan": 0.7917387246772672, "noise": 0.6812131499365915}
"""VBench's own MotionSmoothness on ``golden_videos``; ``make_goldens`` recomputes them."""


def golden_videos() -> dict[str, NDArray[np.uint8]]:
    return {
        "pan": random_inputs.pan(HEIGHT, WIDTH, 6, speed=3),
        "noise": random_inputs.noise(HEIGHT, WIDTH, 5),
    }


def save_random_weights(path: Path) -> None:
    tensors = random_inputs.random_weights(random_inputs.upstream_shapes("amt"), seed=1)
    torch.save({"epoch": 3, "state_dict": tensors}, path)


@pytest.fixture(scope="module")
def weights_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vbench")
    path = folder / vbench_weights.AMT
    path.parent.mkdir()
    save_random_weights(path)
    return folder


@pytest.fixture(scope="module")
def averager() -> FrameInterpolator:
    """AMT-S with zero weights: no flow and no correction, so it averages the two neighbors."""
    network = AmtS().eval()
    for parameter in network.parameters():
        parameter.data.zero_()
    return FrameInterpolator(network, smoothness.cpu_scale)


def test_tensors_are_named_as_upstreams() -> None:
    ours = {name: tuple(value.shape) for name, value in AmtS().state_dict().items()}
    assert ours == random_inputs.upstream_shapes("amt")


@pytest.mark.parametrize("name", GOLDEN_SCORES)
def test_scores_are_upstreams(weights_dir: Path, name: str) -> None:
    video = random_inputs.as_video(golden_videos()[name])
    score = smoothness.score_video(smoothness.load_model(weights_dir, CPU), video)
    assert score == pytest.approx(GOLDEN_SCORES[name], abs=1e-5)


def test_pairs_in_a_batch_are_independent(weights_dir: Path) -> None:
    network = smoothness.load_model(weights_dir, CPU).network
    frames = torch.from_numpy(random_inputs.pan(128, 128, 3, speed=5)).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        together = network(frames[:-1], frames[1:], 1.0)
        alone = [network(frames[n : n + 1], frames[n + 1 : n + 2], 1.0) for n in range(2)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_flow_can_be_computed_at_a_smaller_scale(weights_dir: Path) -> None:
    """At scale 16/23, frames are padded to multiples of 23; the output has their own size."""
    model = smoothness.load_model(weights_dir, CPU)
    small = FrameInterpolator(model.network, lambda height, width: 16 / 23)
    video = random_inputs.as_video(random_inputs.pan(184, 186, 3, speed=3))
    assert 0.5 < smoothness.score_video(small, video) < 1
    assert smoothness.score_video(small, video) != smoothness.score_video(model, video)


def test_smoother_videos_score_higher(averager: FrameInterpolator) -> None:
    def value(frames: NDArray[np.uint8]) -> float:
        return smoothness.score_video(averager, random_inputs.as_video(frames))

    still = value(np.repeat(random_inputs.textured_image(128, 128)[None], 3, axis=0))
    pans = [value(random_inputs.pan(128, 128, 3, speed)) for speed in (1, 3, 9)]
    noise = value(random_inputs.noise(128, 128, 3))
    # Truncation may cost a still one level of 255.
    assert 1 - 1 / 255 <= still <= 1
    assert still > pans[0] > pans[1] > pans[2] > noise


def test_a_reversed_video_is_as_smooth(averager: FrameInterpolator) -> None:
    frames = random_inputs.pan(128, 140, 5, speed=4)
    forth = smoothness.score_video(averager, random_inputs.as_video(frames))
    back = smoothness.score_video(averager, random_inputs.as_video(frames[::-1].copy()))
    # Truncation may affect one and not the other.
    assert forth == pytest.approx(back, abs=1e-3)


@pytest.mark.parametrize("levels", [(10, 20, 50), (10, 20, 50, 200), (0, 255, 30, 7, 90, 1)])
def test_every_second_frame_is_compared(
    averager: FrameInterpolator, levels: tuple[int, ...]
) -> None:
    """Gray frames: the score depends on their levels alone; an even last frame is ignored."""
    frames = np.stack([np.full((128, 128, 3), level, np.uint8) for level in levels])
    between = range(1, len(levels) - 1, 2)
    differences = [abs((levels[n - 1] + levels[n + 1]) / 2 - levels[n]) for n in between]
    expected = 1 - np.mean(differences) / 255
    assert smoothness.score_video(averager, random_inputs.as_video(frames)) == pytest.approx(
        expected, abs=1 / 255
    )


def test_two_frames_have_none_between(averager: FrameInterpolator) -> None:
    with pytest.raises(Unmeasurable, match="2 frame"):
        smoothness.score_video(averager, random_inputs.as_video(random_inputs.pan(128, 128, 2, 1)))


def test_frames_can_be_too_small(averager: FrameInterpolator) -> None:
    with pytest.raises(Unmeasurable, match="48 x 200"):
        smoothness.score_video(averager, random_inputs.as_video(random_inputs.pan(48, 200, 3, 1)))


@pytest.mark.e2e
@pytest.mark.parametrize("scale", [1.0, 16 / 22])
def test_output_is_on_the_device_of_the_input(scale: float) -> None:
    """On PyTorch's meta device, where mixing devices fails as it does on a GPU."""
    with torch.device("meta"):
        network, frames = AmtS().eval(), torch.empty(3, 3, 22 * 16, 22 * 32)
    made = network(frames[:-1], frames[1:], scale)
    assert (made.shape, made.device) == (frames[1:].shape, frames.device)


def test_weights_of_another_network_are_bad_input(tmp_path: Path) -> None:
    (tmp_path / "amt_model").mkdir()
    torch.save({"state_dict": {"conv.weight": torch.ones(2)}}, tmp_path / "amt_model/amt-s.pth")
    with pytest.raises(BadInput, match=r"amt-s\.pth"):
        smoothness.load_model(tmp_path, CPU)


sides = st.integers(64, 5000)


@given(sides, sides)
def test_scales_are_sixteenths_of_a_whole_number(height: int, width: int) -> None:
    for scale in (
        smoothness.cpu_scale(height, width),
        smoothness.fixed_scale(height, width),
        smoothness.gpu_scale(height, width, 8 * 1024 * smoothness.MIB),
    ):
        assert 0 < scale <= 1
        assert math.isclose(16 / scale, round(16 / scale))


@given(sides, sides)
def test_upstreams_scale_grows_with_gpu_memory(height: int, width: int) -> None:
    cards = [gib * 1024 * smoothness.MIB for gib in (4, 8, 24, 80, 192)]
    scales = [smoothness.gpu_scale(height, width, card) for card in cards]
    assert scales == sorted(scales)
    assert smoothness.fixed_scale(height, width) == scales[2]


def test_upstreams_scale_on_gpus() -> None:
    """By hand from VBench's motion_smoothness.py: 1080p on 8 GiB is scaled by 16/22."""
    assert smoothness.gpu_scale(1080, 1920, 8 * 1024 * smoothness.MIB) == 16 / 22
    assert smoothness.gpu_scale(1080, 1920, smoothness.LARGE_GPU_BYTES) == 1
    assert smoothness.cpu_scale(4320, 7680) == 1


@given(sides, sides, st.sampled_from([16, 22, 23]))
def test_padding_is_even_and_minimal(height: int, width: int, divisor: int) -> None:
    left, right, above, below = smoothness.padding_to_multiple(height, width, divisor)
    assert (width + left + right) % divisor == (height + above + below) % divisor == 0
    assert 0 <= right - left <= 1
    assert 0 <= below - above <= 1
    assert max(left + right, above + below) < divisor
