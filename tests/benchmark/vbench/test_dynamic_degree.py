"""RAFT: upstream's numbers on drawn weights, and videos whose answer is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.benchmark.vbench import dynamic_degree as dynamic
from mimix_core.benchmark.vbench.networks.raft import Raft
from mimix_core.benchmark.vbench.networks.raft_correlation import (
    all_pairs,
    coordinate_grid,
    look_up,
    pyramid,
)
from mimix_core.benchmark.vbench.video_reader import Unmeasurable
from tests.benchmark.vbench import drawn

CPU = torch.device("cpu")
HEIGHT, WIDTH = 134, 150


@pytest.fixture(scope="module")
def weights_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vbench")
    (folder / "raft_model/models").mkdir(parents=True)
    tensors = drawn.weights(drawn.upstream_shapes("raft"), seed=2)
    path = folder / "raft_model/models/raft-things.pth"
    torch.save({f"module.{name}": value for name, value in tensors.items()}, path)
    return folder


def steady(x: float, y: float) -> Raft:
    """RAFT with weights 0 that takes the flow to be (x, y) pixels everywhere."""
    network = Raft().eval()
    for parameter in network.parameters():
        parameter.data.zero_()
    step = torch.tensor([x, y]) / (8 * dynamic.ITERATIONS)
    network.update_block.flow_head.conv2.bias.data.copy_(step)
    return network


def test_its_weights_are_named_as_upstreams() -> None:
    ours = {name: tuple(value.shape) for name, value in Raft().state_dict().items()}
    assert ours == drawn.upstream_shapes("raft")


def test_lengths_are_upstreams(weights_dir: Path) -> None:
    """The figures are VBench's own DynamicDegree's on these weights and frames."""
    frames = drawn.video(drawn.pan(HEIGHT, WIDTH, 6, speed=3)).pixels(CPU)[::2]
    lengths = list(dynamic.longest(dynamic.load(weights_dir, CPU), frames))
    assert lengths == pytest.approx([44.01129150390625, 44.106807708740234], rel=1e-5)


def test_pairs_in_a_batch_do_not_see_each_other(
    weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = dynamic.load(weights_dir, CPU)
    frames = drawn.video(drawn.pan(128, 128, 3, speed=5)).pixels(CPU)
    monkeypatch.setattr(dynamic, "ITERATIONS", 4)
    together = list(dynamic.longest(model, frames))
    monkeypatch.setattr(dynamic, "correlated_at_once", lambda *sizes: 1)
    assert list(dynamic.longest(model, frames)) == pytest.approx(together, rel=1e-5)


def test_the_longest_vectors_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic, "ITERATIONS", 4)
    frames = torch.from_numpy(drawn.noise(136, 160, 2)).permute(0, 3, 1, 2)
    (length,) = dynamic.longest(steady(-9, 12), frames)
    assert length == pytest.approx(15, abs=1e-4)


@pytest.mark.parametrize(("speed", "expected"), [(2.9, 0.0), (3.1, 1.0)])
def test_a_video_moves_from_a_share_of_its_short_side_on(
    speed: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """6 / 256 of 128 pixels are 3; of frames 0, 2 and 4, one must move by more."""
    monkeypatch.setattr(dynamic, "ITERATIONS", 4)
    video = drawn.video(drawn.noise(128, 136, 5), fps=16)
    assert dynamic.score(steady(speed, 0), video) == expected


@pytest.mark.parametrize(
    ("fps", "frames"),
    [(8, 1), (16, 2), (24, 3), (29.97, 4), (60, 8), (5, 1), (20, 2), (28, 4), (0, 1)],
)
def test_frames_are_an_eighth_of_a_second_apart(fps: float, frames: int) -> None:
    assert dynamic.interval(fps) == frames


@pytest.mark.e2e
def test_it_stays_on_the_device_of_its_input() -> None:
    """On PyTorch's device without memory: mixing devices fails there as it does on a GPU."""
    with torch.device("meta"):
        network, frames = Raft().eval(), torch.empty(2, 3, 480, 832)
    features = network.fnet(frames)
    flow = network(frames[:1], features[:1], features[1:], 2)
    assert (flow.shape, flow.device) == ((1, 2, 480, 832), frames.device)


def test_one_frame_does_not_move() -> None:
    assert dynamic.score(steady(50, 0), drawn.video(drawn.noise(128, 128, 1))) == 0


def test_frames_can_be_too_small() -> None:
    with pytest.raises(Unmeasurable, match="40 x 200"):
        dynamic.score(steady(0, 0), drawn.video(drawn.noise(40, 200, 3)))


@given(st.lists(st.floats(0, 30), max_size=60), st.integers(64, 1080))
def test_a_quarter_of_the_frames_must_move(lengths: list[float], short_side: int) -> None:
    frames = len(lengths) + 1
    moving = sum(length > 6.0 * (short_side / 256.0) for length in lengths)
    expected = bool(lengths) and moving >= round(4 * (frames / 16.0))
    assert dynamic.moves(lengths, frames, short_side) == expected


@given(st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_faster_never_moves_less(lengths: list[float]) -> None:
    slow, fast = (
        dynamic.moves([length * speed for length in lengths], len(lengths) + 1, 256)
        for speed in (1.0, 2.0)
    )
    assert fast >= slow


def test_no_more_is_computed_than_decides() -> None:
    """4 of 16 frames: four lengths that are long are asked for, and no fifth."""
    lengths = iter([9.0] * 15)
    assert dynamic.moves(lengths, 16, 256)
    assert len(list(lengths)) == 11


def test_what_is_looked_up_is_the_correlation_there() -> None:
    """At whole coordinates the middle of the finest window is the product of the two vectors."""
    numbers = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 1, 4, 16, 24, generator=numbers)
    levels = pyramid(all_pairs(first, second), 16, 24)
    found = look_up(levels, coordinate_grid(1, 16, 24, CPU), radius=2)
    assert found.shape == (1, 4 * 25, 16, 24)
    assert torch.allclose(found[:, 12], (first * second).sum(1) / 2, atol=1e-5)
    # One step along the window's first axis is one pixel to the right.
    right = (first[..., :-1] * second[..., 1:]).sum(1) / 2
    assert torch.allclose(found[:, 17, :, :-1], right, atol=1e-5)


def test_maps_below_eight_have_no_levels() -> None:
    with pytest.raises(ValueError, match="7 x 9"):
        pyramid(torch.zeros(1, 63, 63), 7, 9)
