"""AMT-S: upstream's numbers on drawn weights, and videos whose answer is known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mimix_core.benchmark.vbench import motion_smoothness as smoothness
from mimix_core.benchmark.vbench.motion_smoothness import Interpolator
from mimix_core.benchmark.vbench.networks.amt import AmtS
from mimix_core.benchmark.vbench.video_reader import Unmeasurable
from mimix_core.errors import BadInput
from tests.benchmark.vbench import drawn

CPU = torch.device("cpu")
HEIGHT, WIDTH = 134, 150
"""No multiples of 16, and large enough for four levels of correlation."""


@pytest.fixture(scope="module")
def weights_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vbench")
    (folder / "amt_model").mkdir()
    tensors = drawn.weights(drawn.upstream_shapes("amt"), seed=1)
    torch.save({"epoch": 3, "state_dict": tensors}, folder / "amt_model/amt-s.pth")
    return folder


@pytest.fixture(scope="module")
def averager() -> Interpolator:
    """AMT-S with weights 0: no flow, nothing to correct, so the mean of the two neighbours."""
    network = AmtS().eval()
    for parameter in network.parameters():
        parameter.data.zero_()
    return Interpolator(network, smoothness.scale_on_cpu)


def test_its_weights_are_named_as_upstreams() -> None:
    ours = {name: tuple(value.shape) for name, value in AmtS().state_dict().items()}
    assert ours == drawn.upstream_shapes("amt")


def test_values_are_upstreams(weights_dir: Path) -> None:
    """The figures are VBench's own MotionSmoothness's on these weights and frames."""
    model = smoothness.load(weights_dir, CPU)
    pan = drawn.video(drawn.pan(HEIGHT, WIDTH, 6, speed=3))
    assert smoothness.score(model, pan) == pytest.approx(0.7917387246772672, abs=1e-5)
    noise = drawn.video(drawn.noise(HEIGHT, WIDTH, 5))
    assert smoothness.score(model, noise) == pytest.approx(0.6812131499365915, abs=1e-5)


def test_pairs_in_a_batch_do_not_see_each_other(weights_dir: Path) -> None:
    network = smoothness.load(weights_dir, CPU).network
    frames = torch.from_numpy(drawn.pan(128, 128, 3, speed=5)).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        together = network(frames[:-1], frames[1:], 1.0)
        alone = [network(frames[n : n + 1], frames[n + 1 : n + 2], 1.0) for n in range(2)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_a_flow_may_be_searched_at_a_smaller_size(weights_dir: Path) -> None:
    """At scale 16/23, frames are enlarged to multiples of 23; what comes out has their own size."""
    model = smoothness.load(weights_dir, CPU)
    small = Interpolator(model.network, lambda height, width: 16 / 23)
    video = drawn.video(drawn.pan(184, 186, 3, speed=3))
    assert 0.5 < smoothness.score(small, video) < 1
    assert smoothness.score(small, video) != smoothness.score(model, video)


def test_what_is_smooth_scores_higher(averager: Interpolator) -> None:
    def value(frames: NDArray[np.uint8]) -> float:
        return smoothness.score(averager, drawn.video(frames))

    still = value(np.repeat(drawn.picture(128, 128)[None], 3, axis=0))
    pans = [value(drawn.pan(128, 128, 3, speed)) for speed in (1, 3, 9)]
    noise = value(drawn.noise(128, 128, 3))
    # Cut-off fractions may cost a still one level of 255.
    assert 1 - 1 / 255 <= still <= 1
    assert still > pans[0] > pans[1] > pans[2] > noise


def test_a_reversed_video_is_as_smooth(averager: Interpolator) -> None:
    frames = drawn.pan(128, 140, 5, speed=4)
    forth = smoothness.score(averager, drawn.video(frames))
    back = smoothness.score(averager, drawn.video(frames[::-1].copy()))
    # Rounding may cut a level off one and not off the other.
    assert forth == pytest.approx(back, abs=1e-3)


@pytest.mark.parametrize("levels", [(10, 20, 50), (10, 20, 50, 200), (0, 255, 30, 7, 90, 1)])
def test_every_second_frame_is_compared(averager: Interpolator, levels: tuple[int, ...]) -> None:
    """Grey frames: the value follows from their levels alone; an even last one is not looked at."""
    frames = np.stack([np.full((128, 128, 3), level, np.uint8) for level in levels])
    between = range(1, len(levels) - 1, 2)
    differences = [abs((levels[n - 1] + levels[n + 1]) / 2 - levels[n]) for n in between]
    expected = 1 - np.mean(differences) / 255
    assert smoothness.score(averager, drawn.video(frames)) == pytest.approx(expected, abs=1 / 255)


def test_two_frames_have_none_between(averager: Interpolator) -> None:
    with pytest.raises(Unmeasurable, match="2 frame"):
        smoothness.score(averager, drawn.video(drawn.pan(128, 128, 2, 1)))


def test_frames_can_be_too_small(averager: Interpolator) -> None:
    with pytest.raises(Unmeasurable, match="48 x 200"):
        smoothness.score(averager, drawn.video(drawn.pan(48, 200, 3, 1)))


@pytest.mark.e2e
@pytest.mark.parametrize("scale", [1.0, 16 / 22])
def test_it_stays_on_the_device_of_its_input(scale: float) -> None:
    """On PyTorch's device without memory: mixing devices fails there as it does on a GPU."""
    with torch.device("meta"):
        network, frames = AmtS().eval(), torch.empty(3, 3, 22 * 16, 22 * 32)
    made = network(frames[:-1], frames[1:], scale)
    assert (made.shape, made.device) == (frames[1:].shape, frames.device)


def test_other_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "amt_model").mkdir()
    torch.save({"state_dict": {"conv.weight": torch.ones(2)}}, tmp_path / "amt_model/amt-s.pth")
    with pytest.raises(BadInput, match=r"amt-s\.pth"):
        smoothness.load(tmp_path, CPU)


sides = st.integers(64, 5000)


@given(sides, sides)
def test_scales_are_sixteenths_of_a_whole_number(height: int, width: int) -> None:
    for scale in (
        smoothness.scale_on_cpu(height, width),
        smoothness.fixed_scale(height, width),
        smoothness.scale_on_card(height, width, 8 * 1024 * smoothness.MIB),
    ):
        assert 0 < scale <= 1
        assert math.isclose(16 / scale, round(16 / scale))


@given(sides, sides)
def test_upstreams_scale_grows_with_the_card(height: int, width: int) -> None:
    cards = [gib * 1024 * smoothness.MIB for gib in (4, 8, 24, 80, 192)]
    scales = [smoothness.scale_on_card(height, width, card) for card in cards]
    assert scales == sorted(scales)
    assert smoothness.fixed_scale(height, width) == scales[2]


def test_upstreams_scale_on_cards() -> None:
    """By hand from VBench's motion_smoothness.py: 1080p on 8 GiB is searched at 16/22."""
    assert smoothness.scale_on_card(1080, 1920, 8 * 1024 * smoothness.MIB) == 16 / 22
    assert smoothness.scale_on_card(1080, 1920, smoothness.BIG_CARD) == 1
    assert smoothness.scale_on_cpu(4320, 7680) == 1


@given(sides, sides, st.sampled_from([16, 22, 23]))
def test_borders_are_even_and_enough(height: int, width: int, divisor: int) -> None:
    left, right, above, below = smoothness.border_of(height, width, divisor)
    assert (width + left + right) % divisor == (height + above + below) % divisor == 0
    assert 0 <= right - left <= 1
    assert 0 <= below - above <= 1
    assert max(left + right, above + below) < divisor
