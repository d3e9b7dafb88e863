"""The training samples behind a video: nearest frames, composites and clips by captions."""

from __future__ import annotations

import pytest

from mimix_core.benchmark.report_card.pair_scores import PairVideo
from mimix_core.benchmark.report_card.training_trace import TrainingIndex, caption_words
from mimix_core.domain.library import Style
from tests.benchmark.report_card.factories import DATASET, PROMPTS, SCORES, prompt, sample, score

INDEX = TrainingIndex(DATASET)


def test_a_trace_has_nearest_frames_then_composites_then_clips() -> None:
    found = INDEX.trace(PairVideo(PROMPTS[0], (SCORES[0], SCORES[1])))
    assert [(one.kind, one.characters, one.sample_id) for one in found] == [
        ("nearest-frame", ("Tom",), "running"),
        ("composite", ("Tom", "Mary"), "pasted"),
        ("clip", ("Tom",), "waving"),
        ("clip", ("Mary",), "reading"),
    ]
    assert (found[0].frame, found[0].similarity, found[0].copied) == (4, 0.9, True)


def test_a_clip_that_the_dataset_does_not_have_is_named() -> None:
    [found, *_] = INDEX.trace(PairVideo(PROMPTS[1], (SCORES[2], SCORES[3])))
    assert (found.sample_id, found.sample, found.trained_on) == ("gone", None, False)


def test_a_nearest_frame_of_a_held_out_clip_says_so() -> None:
    row = score("p1", "Mary", nearest_clip="held-out", nearest_frame=1, copy_similarity=0.5)
    found = INDEX.trace(PairVideo(PROMPTS[0], (score("p1", "Tom"), row)))
    assert found[0].sample is not None
    assert not found[0].trained_on
    assert all(one.trained_on for one in found[1:])


def test_of_several_samples_those_with_the_most_similar_captions_are_shown() -> None:
    texts = {
        "a": "[Character: Tom], sleeps. [Character: Mary], sleeps. A forest.",
        "b": "[Character: Tom], waves. [Character: Mary], waves. A kitchen.",
        "c": "[Character: Tom], waves. [Character: Mary], sleeps. A forest.",
        "d": "[Character: Mary], waves. A kitchen.",
    }
    rows = [
        sample(name, ["Mary"] if name == "d" else ["Tom", "Mary"], text, "composite")
        for name, text in texts.items()
    ]
    asked = prompt("p", ["Tom", "Mary"])
    found = TrainingIndex(rows).trace(PairVideo(asked, (score("p", "Tom"), score("p", "Mary"))))
    assert [one.sample_id for one in found] == ["b", "c"]
    assert found[0].similarity == pytest.approx(1.0)
    assert found[1].similarity < 0.6


def test_a_prompt_of_unknown_words_still_has_samples() -> None:
    rows = [sample("z", ["Tom"], "[Character: Tom], runs.")]
    asked = prompt("p", ["Tom", "Mary"])
    found = TrainingIndex(rows).trace(PairVideo(asked, (score("p", "Tom"), score("p", "Mary"))))
    assert [(one.sample_id, one.similarity) for one in found] == [("z", 0.0)]


def test_only_samples_in_training_are_counted() -> None:
    assert INDEX.composites_of(("Tom", "Mary")) == 1
    assert INDEX.composites_of(("Tom", "Mary"), Style.REALISTIC) == 0
    assert INDEX.composites_of(("Jerry", "Mary")) == 0
    assert (INDEX.clips_of("Tom"), INDEX.clips_of("Mary"), INDEX.clips_of("Jerry")) == (2, 1, 0)
    assert TrainingIndex(()).composites_of(()) == 0


def test_tags_are_not_words_of_a_caption() -> None:
    text = "[Character: Tom], chases Jerry. [scene-style:cartoon]"
    assert caption_words(text) == ["chases", "jerry"]
