"""The four dimensions on embeddings: upstream's own values, and videos whose answer is known."""

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
# Made by Vchitect/VBench at 45e79ec (with openai/CLIP and facebookresearch/dino): its functions of
# these names, its networks built as small as ``made`` has them and loaded with ``made``'s files,
# its readers of videos replaced by these arrays.
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
    return lambda name, seen: dimensions[name].scorer()(models[dimensions[name].model_key], seen)


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


def test_looks_do_not_depend_on_the_order_of_frames(score: Score) -> None:
    forward, back = pan(9), pan(9)[::-1]
    assert score(AESTHETIC, video(forward)) == pytest.approx(
        score(AESTHETIC, video(back)), abs=1e-6
    )
    one, other = still(3, 1), still(3, 2)
    mean = (score(AESTHETIC, video(one)) + score(AESTHETIC, video(other))) / 2
    both = np.concatenate([one, other])
    assert score(AESTHETIC, video(both)) == pytest.approx(mean, abs=1e-6)


def test_the_order_of_frames_counts_for_what_the_video_shows(score: Score) -> None:
    forward, back = video(switch(16), PROMPT), video(switch(16)[::-1], PROMPT)
    assert score(OVERALL, forward) != pytest.approx(score(OVERALL, back), abs=1e-5)


def test_only_the_middles_of_eight_parts_are_looked_at(score: Score) -> None:
    assert frame_features.middle_frame_indices(8, 81) == [4, 14, 24, 34, 44, 54, 64, 75]
    seen = pan(5, 81)
    others = np.setdiff1d(np.arange(81), frame_features.middle_frame_indices(8, 81))
    painted = seen.copy()
    painted[others] = 0
    assert score(OVERALL, video(painted, PROMPT)) == score(OVERALL, video(seen, PROMPT))


@given(st.integers(1, 20), st.integers(1, 200))
def test_frames_are_spread_in_order_and_the_last_one_fills_up(count: int, total: int) -> None:
    found = frame_features.middle_frame_indices(count, total)
    assert len(found) == count
    assert found == sorted(found)
    assert 0 <= found[0] <= found[-1] < total
    assert len(set(found)) == min(count, total)


def test_a_short_prompt_is_read_alike_and_a_long_one_is_not(score: Score) -> None:
    seen = pan(3)
    assert score(SHORT, video(seen, PROMPT)) == score(OVERALL, video(seen, PROMPT))
    long = "The dog runs, " + "the cat, " * 20 + "a dog."
    assert score(SHORT, video(seen, long)) != score(OVERALL, video(seen, long))


def test_what_is_cut_off_of_a_long_prompt_has_no_say(score: Score) -> None:
    head = "the cat runs the dog " * 10
    assert score(OVERALL, video(pan(3), head + "one end")) == score(
        OVERALL, video(pan(3), head + "quite another")
    )


@pytest.mark.parametrize("name", [SUBJECT, BACKGROUND])
def test_one_frame_cannot_change(score: Score, name: str) -> None:
    with pytest.raises(Unmeasurable):
        score(name, video(still(1)))


def test_a_video_without_a_prompt_is_not_measured_against_one(score: Score) -> None:
    with pytest.raises(Unmeasurable):
        score(OVERALL, video(still(), "  "))


@pytest.mark.parametrize("name", [SUBJECT, BACKGROUND, AESTHETIC])
def test_the_size_of_a_batch_changes_nothing(
    score: Score, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = score(name, video(pan(9)))
    monkeypatch.setattr(frame_features, "BATCH_SIZE", 2)
    assert score(name, video(pan(9))) == pytest.approx(together, abs=1e-6)
