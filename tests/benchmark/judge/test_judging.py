"""Judging over HTTP, by a judge whose scores are known functions of the images it is sent."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mimix_core import tables
from mimix_core.benchmark.judge import evaluation_plan, judge_prompts, pairwise, stage
from mimix_core.benchmark.judge.judge_client import require_judge_vlm
from mimix_core.benchmark.judge.judge_cost import estimate_judge_cost
from mimix_core.benchmark.judge.judge_inputs import JudgeInputs
from mimix_core.benchmark.judge.judge_results import (
    summarize_controls,
    summarize_pairs,
    summarize_ratings,
)
from mimix_core.benchmark.judge.strengths import estimate_strengths
from mimix_core.engine.artifacts import digest_file, file_ref
from mimix_core.engine.stage import Stage, run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput, Transient
from mimix_core.settings.judge_settings import JudgeSettings
from mimix_core.tables import Row
from mimix_core.tables.judge_tables import JUDGEMENTS
from mimix_core.vlm import VideoPart
from tests.benchmark.judge import factories
from tests.vlm.fake_provider import FakeProvider

PROMPTS = (factories.prompt(0, "Tom"), factories.prompt(1, "Jerry", "Mr. Bean"))

UNREACHABLE = FakeProvider("http://127.0.0.1:9")
"""No server listens there: every request fails."""


def run_rows(
    folder: Path, inputs: JudgeInputs, settings: JudgeSettings, of: Stage[Any, Any]
) -> list[Row]:
    ref = run_stage(Store(folder / "store"), of, inputs, settings).ref
    return tables.read(ref.path, of.table)


def single_system(folder: Path) -> JudgeInputs:
    return factories.inputs(folder, PROMPTS, factories.system(folder, "ours", PROMPTS))


def means(judged: list[Row], mode: str) -> dict[tuple[str, str], float | None]:
    return {
        (one.system, one.aspect): one.interval.mean if one.interval else None
        for one in summarize_ratings(judged, mode)
    }


def test_paper_mode_sends_one_request_per_aspect_and_never_repeats_it(
    server: FakeProvider, tmp_path: Path
) -> None:
    server.control(keep_bodies=True)
    settings = factories.settings(server, vlm={"max_concurrency": 1})
    inputs = single_system(tmp_path)
    first = run_stage(Store(tmp_path / "one"), stage.STAGE, inputs, settings).ref
    judged = tables.read(first.path, JUDGEMENTS)
    assert len(judged) == 8
    assert means(judged, "paper") == {
        ("ours", "identity"): 10,
        ("ours", "motion"): 10,
        ("ours", "style"): 10,
        ("ours", "interaction"): 10,
        ("ours", "overall"): pytest.approx(10),
    }
    assert {row["sample"] for row in judged} == {0}
    assert {row["control"] for row in judged} == {""}
    assert all(row["analysis"].startswith("seen") for row in judged)
    bodies = server.counts()["bodies"]
    assert {body["temperature"] for body in bodies} == {0.3}
    properties = bodies[0]["response_format"]["json_schema"]["schema"]["properties"]
    assert list(properties) == ["analysis", "score"]
    texts = [json.dumps(body) for body in bodies]
    assert sum("Interaction-P (environment)" in text for text in texts) == 1
    assert sum("Interaction-P." in text for text in texts) == 1
    parts = [body["messages"][-1]["content"] for body in bodies]
    of_two = [one for one in parts if one[0]["text"].startswith("Reference sheet of Jerry")]
    kinds = [part["type"] for part in of_two[0]]
    # Two sheets, each after its character; the prompt, 9 frames, the question, a mark.
    sheets, frames = ["text", "image_url"] * 2, ["text", "text", *["image_url"] * 9]
    assert kinds == [*sheets, *frames, "text", "text"]
    shown = "Reference sheet of Jerry, from <data>Tom and Jerry</data> (a cartoon).\n"
    assert of_two[0][0]["text"] == f"{shown}Looks: <data>The looks of Jerry</data>"
    assert PROMPTS[1].render() in of_two[0][4]["text"]
    # The shared parts of all questions about a video come first: providers cache them.
    assert all(one[:15] == of_two[0][:15] for one in of_two)
    # A rerun pays nothing and gives the same bytes.
    again = run_stage(Store(tmp_path / "two"), stage.STAGE, inputs, settings).ref
    assert first.sha256 == again.sha256
    # The date is that of the answer, not of the run that writes the table.
    for path in (tmp_path / "answers").glob("??/*.json"):
        cached = json.loads(path.read_text())
        path.write_text(json.dumps(cached | {"date": "2026-01-31"}))
    old = run_stage(Store(tmp_path / "three"), stage.STAGE, inputs, settings).ref
    assert {row["asked_on"] for row in tables.read(old.path, JUDGEMENTS)} == {"2026-01-31"}
    assert list(server.counts()["right"].values()) == [1] * 8


@pytest.mark.e2e
def test_strict_mode_rates_controls_lower_and_compares_in_both_orders(
    server: FakeProvider, tmp_path: Path
) -> None:
    systems = (
        factories.system(tmp_path, "stiff", PROMPTS, moves=False),
        factories.system(tmp_path, "ours", PROMPTS),
    )
    inputs = factories.inputs(tmp_path, PROMPTS, *systems)
    settings = factories.settings(server, mode="strict", negative_control_videos=2)
    judged = run_rows(tmp_path, inputs, settings, stage.STAGE)
    # 4 videos in 4 aspects; the first and the last in 5 controls; 2 samples each.
    assert len(judged) == 4 * 4 * 2 + 2 * 5 * 2
    found = means(judged, "strict")
    assert found[("ours", "motion")] == 10
    assert found[("stiff", "motion")] == 1
    card = {line.control: line for line in summarize_controls(judged)}
    shifted = card.pop("shifted-half")
    # Of a video without motion every half is the same.
    assert (shifted.below, shifted.tied, shifted.above) == (1, 1, 0)
    assert {(line.below, line.tied, line.above) for line in card.values()} == {(1, 0, 0), (2, 0, 0)}
    # Freezing a video without motion does not lower its rating.
    assert card["frozen-frame"].at_floor == card["reversed-time"].at_floor == 1
    assert card["swapped-identities"].below == card["restyled-frames"].below == 2
    estimated = estimate_judge_cost(inputs, settings)
    assert estimated.ratings.requests == len(judged)
    written = list(tmp_path.glob("store/judgements/*/controls/*/*.mp4"))
    assert len(written) == 2 * 4
    compared = run_rows(tmp_path, inputs, settings, pairwise.STAGE)
    assert estimated.comparisons is not None
    assert estimated.comparisons.requests == len(compared) == 2 * 4 * 2
    assert {(row["sample"], row["first"]) for row in compared} == {(0, "left"), (1, "right")}
    rates = {line.aspect: line.win_rate.mean for line in summarize_pairs(compared) if line.win_rate}
    assert rates == {"identity": 0.5, "motion": 1, "style": 0.5, "interaction": 0.5}
    assert {row["left_system"] for row in compared} == {"ours"}
    motion = [one for one in estimate_strengths(compared) if one.aspect == "motion"]
    assert motion[0].system == "ours"
    assert motion[0].strength > 0 > motion[1].strength


@pytest.mark.e2e
def test_position_bias_is_measured_and_cancels_out(server: FakeProvider, tmp_path: Path) -> None:
    server.control(favors="first")
    systems = (
        factories.system(tmp_path, "stiff", PROMPTS, moves=False),
        factories.system(tmp_path, "ours", PROMPTS),
    )
    inputs = factories.inputs(tmp_path, PROMPTS, *systems)
    compared = run_rows(tmp_path, inputs, factories.settings(server, mode="strict"), pairwise.STAGE)
    for line in summarize_pairs(compared):
        assert line.win_rate is not None
        assert (line.win_rate.mean, line.consistent, line.first_position_share) == (0.5, 0, 1.0)


def test_a_missing_answer_is_a_failed_row_with_a_reason_and_without_a_value(
    server: FakeProvider, tmp_path: Path
) -> None:
    prompts = tuple(factories.prompt(n) for n in range(6))
    inputs = factories.inputs(
        tmp_path, prompts, factories.system(tmp_path, "ours", prompts, p001="not generated")
    )
    broken = tmp_path / "ours" / "p002.mp4"
    broken.write_bytes(broken.read_bytes()[:700])
    videos = inputs.systems[0].videos | {"p002": file_ref(broken)}
    system = inputs.systems[0].model_copy(update={"videos": videos})
    inputs = inputs.model_copy(update={"systems": (system,)})
    faults = {"number 3 ": ["refused"], "number 4 ": ["wrong_schema"], "number 5 ": ["truncated"]}
    server.control(faults=faults)
    judged = run_rows(tmp_path, inputs, factories.settings(server), stage.STAGE)
    reasons: dict[str, set[Any]] = {}
    for row in judged:
        reasons.setdefault(row["prompt_id"], set()).add(row["reason"])
        assert (row["value"] is None) == (row["status"] == "failed")
        assert bool(row["asked_on"]) == (row["status"] == "ok")
    assert reasons == {
        "p000": {None},
        "p001": {"no_video"},
        "p002": {"unreadable_video"},
        "p003": {"answer_refused"},
        "p004": {"answer_invalid"},
        "p005": {"answer_truncated"},
    }
    assert {row["detail"] for row in judged if row["prompt_id"] == "p001"} == {"not generated"}
    # What the judge wrote instead is there to be read.
    assert all("the model wrote: " in row["detail"] for row in judged if row["prompt_id"] == "p004")
    identity = summarize_ratings(judged, "paper")[0]
    assert identity.interval is not None
    assert (identity.interval.mean, identity.interval.n, identity.missing) == (10, 1, 5)


@pytest.mark.e2e
def test_an_exhausted_budget_stops_the_run_and_a_larger_one_continues_it(
    server: FakeProvider, tmp_path: Path
) -> None:
    inputs = single_system(tmp_path)
    # An answer costs 0.002 here, and a request is let through for what it may cost at most.
    tight = {"budget_usd": Decimal("0.013"), "max_concurrency": 1, "max_output_tokens": 100}
    with pytest.raises(BadInput, match=r"of 8 questions are answered.*budget_usd"):
        run_rows(tmp_path, inputs, factories.settings(server, vlm=tight), stage.STAGE)
    paid = len(server.counts()["right"])
    assert 0 < paid < 8
    more = tight | {"budget_usd": Decimal(1)}
    judged = run_rows(tmp_path, inputs, factories.settings(server, vlm=more), stage.STAGE)
    assert all(row["status"] == "ok" for row in judged)
    assert set(server.counts()["right"].values()) == {1}


@pytest.mark.e2e
def test_an_outage_commits_nothing(server: FakeProvider, tmp_path: Path) -> None:
    server.control(all="500")
    with pytest.raises(Transient):
        run_rows(tmp_path, single_system(tmp_path), factories.settings(server), stage.STAGE)
    assert not list(tmp_path.glob("store/judgements/*"))


@pytest.mark.e2e
def test_a_provider_that_rejects_every_request_is_bad_input(
    server: FakeProvider, tmp_path: Path
) -> None:
    server.control(all="400")
    with pytest.raises(BadInput, match="rejected every request"):
        run_rows(tmp_path, single_system(tmp_path), factories.settings(server), stage.STAGE)


def test_the_estimate_counts_the_questions_that_can_be_sent(tmp_path: Path) -> None:
    systems = (
        factories.system(tmp_path, "ours", PROMPTS),
        factories.system(tmp_path, "other", PROMPTS, p001="not generated"),
    )
    inputs = factories.inputs(tmp_path, PROMPTS, *systems)
    paper = estimate_judge_cost(inputs, factories.settings(UNREACHABLE))
    assert paper.ratings.requests == 3 * 4
    assert paper.comparisons is None
    strict = estimate_judge_cost(
        inputs, factories.settings(UNREACHABLE, mode="strict", negative_control_videos=1)
    )
    assert strict.comparisons is not None
    # 3 videos in 4 aspects and 4 controls, 2 samples each; one prompt's comparisons in both orders.
    assert (strict.ratings.requests, strict.comparisons.requests) == ((3 * 4 + 5) * 2, 4 * 2)
    assert strict.comparisons.input_tokens / 8 > strict.ratings.input_tokens / 32
    assert strict.ratings.cost_usd is not None


def test_a_backend_that_accepts_videos_is_sent_the_file(tmp_path: Path) -> None:
    gemini = {"backend": "gemini", "base_url": UNREACHABLE.url}
    settings = factories.settings(
        UNREACHABLE, mode="strict", visual_input="video", fps=12, vlm=gemini
    )
    inputs = single_system(tmp_path)
    context = evaluation_plan.load_prompt_context(inputs, settings, require_judge_vlm(settings))
    loader = evaluation_plan.JudgeVideoLoader(context, tmp_path / "controls")
    original = inputs.systems[0].videos["p000"]
    for one in (
        evaluation_plan.list_evaluation_items(inputs)[0],
        *evaluation_plan.list_control_items(inputs, settings)[:4],
    ):
        [part] = loader.load_parts(one)
        assert isinstance(part, VideoPart)
        assert part.sha256 == digest_file(part.path)
        assert part.fps == 12
        corrupted = one.control not in (None, "swapped-identities")
        assert (part.sha256 != original.sha256) == corrupted
    question = judge_prompts.build_rating_question("q", context, PROMPTS[0], (part,), "style", 1)
    assert part in question.messages[1].parts


def test_settings_that_contradict_themselves() -> None:
    for changed, said in (
        ({"vlm": {"temperature": 0.7}}, "mode paper requires temperature 0.3"),
        ({"visual_input": "video"}, "requires vlm.backend gemini"),
        ({"samples_per_question": 3}, "multiple of 2"),
        ({"mode": "strict", "vlm": {"temperature": 0.0}}, "identical at temperature 0"),
        ({"fps": 1.0}, "greater than or equal to 8"),
    ):
        with pytest.raises(ValueError, match=said):
            factories.settings(UNREACHABLE, **changed)


def test_inputs_that_cannot_be_judged(tmp_path: Path) -> None:
    inputs, settings = single_system(tmp_path), factories.settings(UNREACHABLE)
    with pytest.raises(BadInput, match="no judge model is configured"):
        run_rows(tmp_path, inputs, JudgeSettings(), stage.STAGE)
    with pytest.raises(BadInput, match="mode paper does not compare systems"):
        run_rows(tmp_path, inputs, settings, pairwise.STAGE)
    with pytest.raises(BadInput, match="needs two systems or more"):
        run_rows(tmp_path, inputs, factories.settings(UNREACHABLE, mode="strict"), pairwise.STAGE)
    twice = inputs.model_copy(update={"systems": inputs.systems * 2})
    with pytest.raises(BadInput, match="two systems have the same name"):
        run_rows(tmp_path, twice, settings, stage.STAGE)
    unknown = inputs.model_copy(update={"cast": inputs.cast[2:]})
    with pytest.raises(BadInput, match="no character Jerry, Tom"):
        run_rows(tmp_path, unknown, settings, stage.STAGE)
