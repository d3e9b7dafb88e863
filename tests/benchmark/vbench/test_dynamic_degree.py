"""RAFT: upstream's values on random weights, and videos with known answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.benchmark.metric_errors import Unmeasurable
from mimix_core.benchmark.vbench import dynamic_degree as dynamic
from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.networks.raft import Raft
from mimix_core.benchmark.vbench.networks.raft_correlation import (
    build_pyramid,
    coordinate_grid,
    correlate_all_pairs,
    lookup_correlations,
)
from tests.benchmark.vbench import random_inputs

CPU = torch.device("cpu")
HEIGHT, WIDTH = 134, 150
GOLDEN_MAGNITUDES = [44.01129150390625, 44.106807708740234]
"""VBench's own DynamicDegree on ``golden_frames``; ``make_goldens`` recomputes them."""


def golden_frames() -> torch.Tensor:
    """Return frames_TCHW, uint8."""
    return random_inputs.as_video(random_inputs.pan(HEIGHT, WIDTH, 6, speed=3)).to_tensor(CPU)[::2]


def save_random_weights(path: Path) -> None:
    tensors = random_inputs.random_weights(random_inputs.upstream_shapes("raft"), seed=2)
    torch.save({f"module.{name}": value for name, value in tensors.items()}, path)


@pytest.fixture(scope="module")
def weights_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vbench")
    path = folder / vbench_weights.RAFT
    path.parent.mkdir(parents=True)
    save_random_weights(path)
    return folder


def constant_flow(x: float, y: float) -> Raft:
    """Build a RAFT with zero weights that estimates a flow of (x, y) pixels everywhere."""
    network = Raft().eval()
    for parameter in network.parameters():
        parameter.data.zero_()
    step = torch.tensor([x, y]) / (8 * dynamic.ITERATIONS)
    network.update_block.flow_head.conv2.bias.data.copy_(step)
    return network


def test_tensors_are_named_as_upstreams() -> None:
    ours = {name: tuple(value.shape) for name, value in Raft().state_dict().items()}
    assert ours == random_inputs.upstream_shapes("raft")


def test_magnitudes_are_upstreams(weights_dir: Path) -> None:
    model = dynamic.load_model(weights_dir, CPU)
    magnitudes = list(dynamic.top_flow_magnitudes(model, golden_frames()))
    assert magnitudes == pytest.approx(GOLDEN_MAGNITUDES, rel=1e-5)


def test_pairs_in_a_batch_are_independent(
    weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = dynamic.load_model(weights_dir, CPU)
    frames = random_inputs.as_video(random_inputs.pan(128, 128, 3, speed=5)).to_tensor(CPU)
    monkeypatch.setattr(dynamic, "ITERATIONS", 4)
    together = list(dynamic.top_flow_magnitudes(model, frames))
    monkeypatch.setattr(dynamic, "correlation_batch_size", lambda *sizes: 1)
    assert list(dynamic.top_flow_magnitudes(model, frames)) == pytest.approx(together, rel=1e-5)


def test_the_length_of_the_flow_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic, "ITERATIONS", 4)
    frames = torch.from_numpy(random_inputs.noise(136, 160, 2)).permute(0, 3, 1, 2)
    (length,) = dynamic.top_flow_magnitudes(constant_flow(-9, 12), frames)
    assert length == pytest.approx(15, abs=1e-4)


@pytest.mark.parametrize(("speed", "expected"), [(2.9, 0.0), (3.1, 1.0)])
def test_a_video_moves_from_a_share_of_its_short_side_on(
    speed: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """6 / 256 of 128 pixels are 3; of frames 0, 2 and 4, one must move by more."""
    monkeypatch.setattr(dynamic, "ITERATIONS", 4)
    video = random_inputs.as_video(random_inputs.noise(128, 136, 5), fps=16)
    assert dynamic.score_video(constant_flow(speed, 0), video) == expected


@pytest.mark.parametrize(
    ("fps", "frames"),
    [(8, 1), (16, 2), (24, 3), (29.97, 4), (60, 8), (5, 1), (20, 2), (28, 4), (0, 1)],
)
def test_frames_are_an_eighth_of_a_second_apart(fps: float, frames: int) -> None:
    assert dynamic.frame_interval(fps) == frames


@pytest.mark.e2e
def test_output_is_on_the_device_of_the_input() -> None:
    """On PyTorch's meta device, where mixing devices fails as it does on a GPU."""
    with torch.device("meta"):
        network, frames = Raft().eval(), torch.empty(2, 3, 480, 832)
    features = network.fnet(frames)
    flow = network(frames[:1], features[:1], features[1:], 2)
    assert (flow.shape, flow.device) == ((1, 2, 480, 832), frames.device)


def test_one_frame_does_not_move() -> None:
    assert (
        dynamic.score_video(
            constant_flow(50, 0), random_inputs.as_video(random_inputs.noise(128, 128, 1))
        )
        == 0
    )


def test_frames_can_be_too_small() -> None:
    with pytest.raises(Unmeasurable, match="40 x 200"):
        dynamic.score_video(
            constant_flow(0, 0), random_inputs.as_video(random_inputs.noise(40, 200, 3))
        )


@given(st.lists(st.floats(0, 30), max_size=60), st.integers(64, 1080))
def test_a_quarter_of_the_frames_must_move(lengths: list[float], short_side: int) -> None:
    frames = len(lengths) + 1
    moving = sum(length > 6.0 * (short_side / 256.0) for length in lengths)
    expected = bool(lengths) and moving >= round(4 * (frames / 16.0))
    assert dynamic.is_dynamic(lengths, frames, short_side) == expected


@given(st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_faster_never_moves_less(lengths: list[float]) -> None:
    slow, fast = (
        dynamic.is_dynamic([length * speed for length in lengths], len(lengths) + 1, 256)
        for speed in (1.0, 2.0)
    )
    assert fast >= slow


def test_flow_is_not_computed_beyond_the_decision() -> None:
    """4 of 16 frames: four long magnitudes are consumed, and not a fifth."""
    lengths = iter([9.0] * 15)
    assert dynamic.is_dynamic(lengths, 16, 256)
    assert len(list(lengths)) == 11


def test_lookup_samples_the_correlation_at_the_coordinates() -> None:
    """At whole coordinates the middle of the finest window is the product of the two vectors."""
    numbers = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 1, 4, 16, 24, generator=numbers)
    levels = build_pyramid(correlate_all_pairs(first, second), 16, 24)
    correlations = lookup_correlations(levels, coordinate_grid(1, 16, 24, CPU), radius=2)
    assert correlations.shape == (1, 4 * 25, 16, 24)
    assert torch.allclose(correlations[:, 12], (first * second).sum(1) / 2, atol=1e-5)
    # One step along the window's first axis is one pixel to the right.
    right = (first[..., :-1] * second[..., 1:]).sum(1) / 2
    assert torch.allclose(correlations[:, 17, :, :-1], right, atol=1e-5)


def test_maps_below_eight_have_no_levels() -> None:
    with pytest.raises(ValueError, match="7 x 9"):
        build_pyramid(torch.zeros(1, 63, 63), 7, 9)
