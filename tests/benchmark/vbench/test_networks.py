"""The four embedding-based dimensions: upstream's values, and videos with known answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.benchmark.metric_errors import Unmeasurable
from mimix_core.benchmark.vbench import frame_features
from mimix_core.benchmark.vbench.dimensions import select_dimensions
from mimix_core.benchmark.vbench.video_reader import DecodedVideo
from tests.benchmark.vbench.videos import Frames, noisy, pan, still, switch, video

SUBJECT, BACKGROUND = "subject_consistency", "background_consistency"
AESTHETIC, OVERALL = "aesthetic_quality", "overall_consistency"
SHORT = "overall_consistency/viclip-short-prompt"

PROMPT = "The cat runs; the dog runs &amp; a naïve café."
VIDEOS: dict[str, Callable[[], Frames]] = {
    "pan": lambda: pan(3),
    "noisy": lambda: noisy(40.0),
    "switch": switch,
    "tall": lambda: pan(7, 81).transpose(0, 2, 1, 3),
}
# Computed with Vchitect/VBench at 45e79ec (with openai/CLIP and facebookresearch/dino): functions
# with these names, its networks in the sizes of ``weights_factory`` and loaded with its files, its
# video readers replaced by these arrays.
GOLDEN = {
    SUBJECT: {"pan": 0.9925420, "noisy": 0.9965756, "switch": 0.9481691, "tall": 0.9933953},
    BACKGROUND: {"pan": 0.9849312, "noisy": 0.9865428, "switch": 0.9837251, "tall": 0.9842857},
    AESTHETIC: {"pan": -0.3050368, "noisy": -0.3635714, "switch": -0.2497244, "tall": -0.3257327},
    OVERALL: {"pan": 0.0106986, "noisy": 0.0119994, "switch": 0.0249116, "tall": 0.0109439},
}

Score = Callable[[str, DecodedVideo], float]


@pytest.fixture(scope="module")
def score(weights_dir: Path) -> Score:
    names = (SUBJECT, BACKGROUND, AESTHETIC, OVERALL, SHORT)
    dimensions = {d.name: d for d in select_dimensions(names)}
    models = {d.model_key: d.load(weights_dir, torch.device("cpu")) for d in dimensions.values()}
    return lambda name, video: dimensions[name].scorer()(models[dimensions[name].model_key], video)


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("which", ["pan", "noisy", "switch"])
def test_values_are_upstreams(score: Score, name: str, which: str) -> None:
    assert score(name, video(VIDEOS[which](), PROMPT)) == pytest.approx(
        GOLDEN[name][which], abs=1e-5
    )


@pytest.mark.e2e
@pytest.mark.parametrize("name", GOLDEN)
def test_values_of_a_long_tall_video_are_upstreams(score: Score, name: str) -> None:
    assert score(name, video(VIDEOS["tall"](), PROMPT)) == pytest.approx(
        GOLDEN[name]["tall"], abs=1e-5
    )


@pytest.mark.parametrize("name", [SUBJECT, BACKGROUND])
def test_a_still_is_consistent_and_change_costs(score: Score, name: str) -> None:
    values = [score(name, video(v)) for v in (still(), noisy(8), noisy(40), noisy(120))]
    assert values[0] == pytest.approx(1, abs=1e-6)
    assert values == sorted(values, reverse=True)
    assert score(name, video(switch())) < score(name, video(still()))
    assert min(values) >= 0


@pytest.mark.parametrize("name", [SUBJECT, BACKGROUND])
def test_a_late_switch_costs_less_than_an_early_one(score: Score, name: str) -> None:
    both = switch()
    late, early = both[[0, 0, 0, 0, 4]], both[[0, 4, 4, 4, 4]]
    assert score(name, video(early)) < score(name, video(late)) < 1


def test_aesthetic_quality_does_not_depend_on_frame_order(score: Score) -> None:
    forward, back = pan(9), pan(9)[::-1]
    assert score(AESTHETIC, video(forward)) == pytest.approx(
        score(AESTHETIC, video(back)), abs=1e-6
    )
    one, other = still(3, 1), still(3, 2)
    mean = (score(AESTHETIC, video(one)) + score(AESTHETIC, video(other))) / 2
    both = np.concatenate([one, other])
    assert score(AESTHETIC, video(both)) == pytest.approx(mean, abs=1e-6)


def test_overall_consistency_depends_on_frame_order(score: Score) -> None:
    forward, back = video(switch(16), PROMPT), video(switch(16)[::-1], PROMPT)
    assert score(OVERALL, forward) != pytest.approx(score(OVERALL, back), abs=1e-5)


def test_only_the_middle_frames_of_eight_parts_are_used(score: Score) -> None:
    assert frame_features.middle_frame_indices(8, 81) == [4, 14, 24, 34, 44, 54, 64, 75]
    frames = pan(5, 81)
    others = np.setdiff1d(np.arange(81), frame_features.middle_frame_indices(8, 81))
    painted = frames.copy()
    painted[others] = 0
    assert score(OVERALL, video(painted, PROMPT)) == score(OVERALL, video(frames, PROMPT))


@given(st.integers(1, 20), st.integers(1, 200))
def test_sampled_frames_are_in_order_and_padded_with_the_last(count: int, total: int) -> None:
    indices = frame_features.middle_frame_indices(count, total)
    assert len(indices) == count
    assert indices == sorted(indices)
    assert 0 <= indices[0] <= indices[-1] < total
    assert len(set(indices)) == min(count, total)


def test_only_a_long_prompt_is_shortened(score: Score) -> None:
    frames = pan(3)
    assert score(SHORT, video(frames, PROMPT)) == score(OVERALL, video(frames, PROMPT))
    long = "The dog runs, " + "the cat, " * 20 + "a dog."
    assert score(SHORT, video(frames, long)) != score(OVERALL, video(frames, long))


def test_the_truncated_part_of_a_prompt_is_ignored(score: Score) -> None:
    head = "the cat runs the dog " * 10
    assert score(OVERALL, video(pan(3), head + "one end")) == score(
        OVERALL, video(pan(3), head + "quite another")
    )


@pytest.mark.parametrize("name", [SUBJECT, BACKGROUND])
def test_consistency_of_one_frame_is_undefined(score: Score, name: str) -> None:
    with pytest.raises(Unmeasurable):
        score(name, video(still(1)))


def test_overall_consistency_without_a_prompt_is_undefined(score: Score) -> None:
    with pytest.raises(Unmeasurable):
        score(OVERALL, video(still(), "  "))


@pytest.mark.parametrize("name", [SUBJECT, BACKGROUND, AESTHETIC])
def test_batch_size_does_not_change_the_score(
    score: Score, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = score(name, video(pan(9)))
    monkeypatch.setattr(frame_features, "BATCH_SIZE", 2)
    assert score(name, video(pan(9))) == pytest.approx(together, abs=1e-6)
