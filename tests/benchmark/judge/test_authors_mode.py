"""Mode authors, against a server that records what it is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mimix_core import tables
from mimix_core.benchmark.judge import stage
from mimix_core.benchmark.judge.authors_mode import AuthorsRating
from mimix_core.benchmark.judge.judge_cost import estimate_judge_cost
from mimix_core.benchmark.judge.judge_inputs import JudgeInputs
from mimix_core.benchmark.judge.judge_results import (
    AUTHORS_OVERALL,
    summarize_differences,
    summarize_ratings,
)
from mimix_core.benchmark.judge.rubric import ASPECTS, find_rubric, load_authors_rubric
from mimix_core.engine.artifacts import digest_file, file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.settings.judge_settings import JudgeSettings
from mimix_core.tables.judge_tables import JUDGEMENTS, JudgementRow
from tests.benchmark.judge import factories
from tests.vlm.fake_provider import KEY, KEY_NAME, FakeProvider, run_fake_provider

PROMPTS = (factories.prompt(0, "Tom"), factories.prompt(1, "Jerry", "Mr. Bean"))


@pytest.fixture
def gemini(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    monkeypatch.setenv(KEY_NAME, KEY)
    with run_fake_provider() as server:
        server.control(key=KEY, polls=0, keep_bodies=True)
        yield server


def authors_settings(server: FakeProvider, **vlm: Any) -> JudgeSettings:
    shared = server.settings(backend="gemini", model="gemini-1.5-flash", max_concurrency=1)
    given = shared.model_dump(mode="json", exclude_unset=True) | vlm
    return JudgeSettings.model_validate({"mode": "authors", "vlm": given})


def judge(folder: Path, settings: JudgeSettings) -> tuple[JudgeInputs, list[JudgementRow]]:
    inputs = factories.inputs(folder, PROMPTS, factories.system(folder, "ours", PROMPTS))
    inputs = inputs.model_copy(update={"rubric": file_ref(find_rubric(settings))})
    ref = run_stage(Store(folder / "store"), stage.STAGE, inputs, settings).ref
    return inputs, tables.read(ref.path, JUDGEMENTS)


def answer(score: object) -> str:
    given = {"score": score, "reasoning": "seen", "strengths": ["a"], "weaknesses": []}
    return f"text:```json\n{json.dumps(given)}\n```"


def test_the_request_is_the_authors_and_a_failure_is_no_score(
    gemini: FakeProvider, tmp_path: Path
) -> None:
    # Identity, motion, style and interaction of either video, in the order of the questions.
    asked = [answer(8), "refused", answer(6), "text:I see a cat.", *[answer(0)] * 4]
    gemini.control(script={"something": asked})
    inputs, rows = judge(tmp_path, authors_settings(gemini))
    counts = gemini.counts()
    bodies = counts["bodies"]
    assert len(bodies) == 8
    for body in bodies:
        assert body.keys() == {"contents", "generationConfig"}
        assert body["generationConfig"] == {
            "temperature": 0.3,
            "topP": 0.95,
            "topK": 40,
            "maxOutputTokens": 1024,
        }
        [content] = body["contents"]
        video, text = content["parts"]
        # The complete file, without a rate; no reference image, nothing of the prompt.
        assert video.keys() == {"fileData"}
        assert text.keys() == {"text"}
        assert "grey room" not in text["text"]
        assert "walks" not in text["text"]
        assert "The looks of" not in text["text"]
        assert '"score"' in text["text"]
    texts = [body["contents"][0]["parts"][1]["text"] for body in bodies]
    assert len(set(texts)) == 8
    assert all("Tom" in text and "a single character" in text for text in texts[:4])
    assert all("Jerry & Mr. Bean" in text and "several characters" in text for text in texts[4:])
    assert "surroundings" in texts[3]
    assert "between the characters" in texts[7]
    # One upload for the four questions about a video, and nothing left at the provider.
    assert counts["calls"]["DELETE /v1/files/*"] == 2
    assert counts["files"] == []

    found = {(row["prompt_id"], row["aspect"]): row for row in rows}
    assert [found["p000", aspect]["value"] for aspect in ASPECTS] == [8, None, 6, None]
    assert found["p000", "identity"]["analysis"] == "seen"
    assert found["p000", "identity"]["model"] == "gemini-1.5-flash"
    assert found["p000", "motion"]["reason"] == "answer_refused"
    assert found["p000", "interaction"]["reason"] == "answer_invalid"
    assert str(found["p000", "interaction"]["detail"]).endswith("the model wrote: I see a cat.")
    assert {row["mode"] for row in rows} == {"authors"}
    assert all(row["rubric_version"].startswith("authors-1-") for row in rows)
    assert {row["reason"] for row in rows if row["prompt_id"] == "p001"} == {"answer_invalid"}

    *_, overall = summarize_ratings(rows, "authors")
    assert overall.interval is not None
    assert overall.aspect == AUTHORS_OVERALL
    assert overall.interval.mean == pytest.approx((0.3 * 8 + 0.25 * 6) / 0.55)
    assert (overall.requested, overall.missing, overall.incomplete) == (2, 1, 1)
    assert summarize_ratings(rows, "paper") == []
    assert estimate_judge_cost(inputs, authors_settings(gemini)).ratings.requests == 8
    assert all(part.sha256 == digest_file(part.path) for part in inputs.systems[0].videos.values())


def rated(system: str, prompt_id: str, **scores: float | None) -> list[dict[str, Any]]:
    return [
        {
            "system": system,
            "prompt_id": prompt_id,
            "aspect": aspect,
            "control": "",
            "mode": "authors",
            "sample": 0,
            "value": scores.get(aspect),
        }
        for aspect in ASPECTS
    ]


def test_each_system_is_averaged_over_what_it_has_as_the_authors_did() -> None:
    rows = [
        *rated("a", "p", identity=10, motion=10, style=10, interaction=10),
        *rated("a", "q", identity=4, motion=2),
        *rated("b", "p", identity=5),
        *rated("b", "q"),
    ]
    found = {(line.system, line.aspect): line for line in summarize_ratings(rows, "authors")}
    means = {key: line.interval.mean for key, line in found.items() if line.interval}
    assert means["a", "identity"] == 7
    assert means["a", AUTHORS_OVERALL] == pytest.approx((10 + 3) / 2)
    assert means["b", AUTHORS_OVERALL] == 5
    assert (found["a", AUTHORS_OVERALL].incomplete, found["a", AUTHORS_OVERALL].missing) == (1, 0)
    assert (found["b", AUTHORS_OVERALL].incomplete, found["b", AUTHORS_OVERALL].missing) == (1, 1)
    differences = {one.aspect: one.interval for one in summarize_differences(rows, "authors", "a")}
    assert differences["motion"] is None
    identity = differences["identity"]
    assert identity is not None
    assert (identity.mean, identity.n) == (-5, 1)


@pytest.mark.parametrize(
    ("score", "valid"),
    [("8", True), ("7.5", True), ("0", False), ("11", False), ('"8"', False), ("true", False),
     ("null", False)],
)  # fmt: skip
def test_a_score_is_a_number_on_the_scale(score: str, valid: bool) -> None:
    text = f'{{"score": {score}, "weaknesses": "none"}}'
    if valid:
        assert AuthorsRating.model_validate_json(text).score == float(score)
        return
    with pytest.raises(ValidationError):
        AuthorsRating.model_validate_json(text)


def test_settings_with_which_the_request_would_be_another_one_are_refused() -> None:
    server = FakeProvider("http://127.0.0.1:9")
    settings = authors_settings(server)
    assert settings.vlm is not None
    assert (settings.vlm.max_output_tokens, settings.visual_input) == (1024, "video")
    assert JudgeSettings.model_validate(settings.model_dump(mode="json")) == settings
    for changed, said in (
        ({"backend": "openai"}, "mode authors requires vlm.backend: gemini"),
        ({"temperature": 0.0}, "mode authors requires vlm.temperature: 0.3"),
        ({"temperature": None}, "mode authors requires vlm.temperature: 0.3"),
        ({"max_output_tokens": 1500}, "mode authors requires vlm.max_output_tokens: 1024"),
        ({"response_format": "prompt"}, "mode authors requires vlm.response_format"),
        ({"seed": 3}, "mode authors requires vlm.seed: null"),
        ({"extra_body": {"generationConfig": {"topP": 1}}}, "mode authors requires vlm.extra_body"),
    ):
        with pytest.raises(ValueError, match=said):
            authors_settings(server, **changed)
    with pytest.raises(ValueError, match=r"requires vlm\.model: the authors' gemini-1\.5-flash is"):
        JudgeSettings.model_validate({"mode": "authors", "vlm": {}})
    with pytest.raises(ValueError, match="mode authors requires visual_input: video"):
        JudgeSettings.model_validate(settings.model_dump(mode="json") | {"visual_input": "frames"})


def test_other_words_for_the_authors_request(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    text = find_rubric(JudgeSettings(mode="authors")).read_text()
    own.write_text(text.replace("version: authors-1", "version: own-1"))
    assert load_authors_rubric(find_rubric(JudgeSettings(mode="authors", rubric=own))).version == (
        "own-1"
    )
    own.write_text(text.replace("{characters}", "somebody"))
    with pytest.raises(BadInput, match="key introduction"):
        find_rubric(JudgeSettings(mode="authors", rubric=own))
