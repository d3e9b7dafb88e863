"""Judging over the wire, by a judge whose scores are known functions of what it is sent."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mimix_core import tables
from mimix_core.benchmark.judge import evaluation_plan, judge_prompts, pairwise, stage
from mimix_core.benchmark.judge.judge_client import judge_vlm
from mimix_core.benchmark.judge.judge_cost import costs
from mimix_core.benchmark.judge.judge_inputs import JudgeInputs
from mimix_core.benchmark.judge.judge_results import lines, pair_lines, score_card, strengths
from mimix_core.engine.artifacts import digest_file, file_ref
from mimix_core.engine.stage import Stage, run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput, Transient
from mimix_core.settings.judge_settings import JudgeSettings
from mimix_core.tables import Row
from mimix_core.tables.judge_tables import JUDGEMENTS
from mimix_core.vlm import Video
from tests.benchmark.judge import world
from tests.vlm.standin import StandIn

PROMPTS = (world.prompt(0, "Tom"), world.prompt(1, "Jerry", "Mr. Bean"))

NOWHERE = StandIn("http://127.0.0.1:9")
"""Nobody answers there: what asks it fails."""


def rows(folder: Path, given: JudgeInputs, how: JudgeSettings, of: Stage[Any, Any]) -> list[Row]:
    ref = run_stage(Store(folder / "store"), of, given, how).ref
    return tables.read(ref.path, of.table)


def ours(folder: Path) -> JudgeInputs:
    return world.inputs(folder, PROMPTS, world.system(folder, "ours", PROMPTS))


def means(judged: list[Row], how: str) -> dict[tuple[str, str], float | None]:
    return {
        (one.system, one.aspect): one.interval.mean if one.interval else None
        for one in lines(judged, how)
    }


def test_paper_mode_asks_once_an_aspect_and_never_again(server: StandIn, tmp_path: Path) -> None:
    server.control(keep_bodies=True)
    how = world.settings(server, vlm={"concurrency": 1})
    given = ours(tmp_path)
    first = run_stage(Store(tmp_path / "one"), stage.STAGE, given, how).ref
    judged = tables.read(first.path, JUDGEMENTS)
    assert len(judged) == 8
    assert means(judged, "paper") == {
        ("ours", "identity"): 10,
        ("ours", "motion"): 10,
        ("ours", "style"): 10,
        ("ours", "interaction"): 5,
        ("ours", "overall"): pytest.approx(0.85 * 10 + 0.15 * 5),
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
    # Two sheets, each after its character; the prompt and 9 frames; the question, the seer's mark.
    sheets, frames = ["text", "image_url"] * 2, ["text", "text", *["image_url"] * 9]
    assert kinds == [*sheets, *frames, "text", "text"]
    shown = "Reference sheet of Jerry, from Tom and Jerry (a cartoon).\nLooks: The looks of Jerry"
    assert of_two[0][0]["text"] == shown
    assert PROMPTS[1].text() in of_two[0][4]["text"]
    # What the questions about a video share comes first: providers bill it less.
    assert all(one[:15] == of_two[0][:15] for one in of_two)
    # A rerun pays nothing and gives the same bytes.
    again = run_stage(Store(tmp_path / "two"), stage.STAGE, given, how).ref
    assert first.sha256 == again.sha256
    # The date is that of the answer, wherever and whenever the table is made.
    for path in (tmp_path / "answers").glob("??/*.json"):
        kept = json.loads(path.read_text())
        path.write_text(json.dumps(kept | {"date": "2026-01-31"}))
    old = run_stage(Store(tmp_path / "three"), stage.STAGE, given, how).ref
    assert {row["asked_on"] for row in tables.read(old.path, JUDGEMENTS)} == {"2026-01-31"}
    assert list(server.counts()["right"].values()) == [1] * 8


@pytest.mark.e2e
def test_strict_mode_ranks_spoilt_versions_below_and_compares_in_both_orders(
    server: StandIn, tmp_path: Path
) -> None:
    systems = (
        world.system(tmp_path, "stiff", PROMPTS, moves=False),
        world.system(tmp_path, "ours", PROMPTS),
    )
    given = world.inputs(tmp_path, PROMPTS, *systems)
    how = world.settings(server, mode="strict", control_videos=2)
    judged = rows(tmp_path, given, how, stage.STAGE)
    # 4 videos in 4 aspects; the first and the last in 4 controls; 2 samples each.
    assert len(judged) == 4 * 4 * 2 + 2 * 4 * 2
    found = means(judged, "strict")
    assert found[("ours", "motion")] == 10
    assert found[("stiff", "motion")] == 1
    card = {line.control: line for line in score_card(judged)}
    assert {(line.below, line.tied, line.above) for line in card.values()} == {(1, 0, 0), (2, 0, 0)}
    # What does not move already is not made worse by freezing it.
    assert card["frozen-frame"].no_room == card["reversed-time"].no_room == 1
    assert card["swapped-identities"].below == card["restyled-frames"].below == 2
    estimated = costs(given, how)
    assert estimated.ratings.questions == len(judged)
    written = list(tmp_path.glob("store/judgements/*/controls/*/*.mp4"))
    assert len(written) == 2 * 3
    compared = rows(tmp_path, given, how, pairwise.STAGE)
    assert estimated.duels is not None
    assert estimated.duels.questions == len(compared) == 2 * 4 * 2
    assert {(row["sample"], row["first"]) for row in compared} == {(0, "left"), (1, "right")}
    rates = {line.aspect: line.rate.mean for line in pair_lines(compared) if line.rate}
    assert rates == {"identity": 0.5, "motion": 1, "style": 0.5, "interaction": 0.5}
    assert {row["left_system"] for row in compared} == {"ours"}
    motion = [one for one in strengths(compared) if one.aspect == "motion"]
    assert motion[0].system == "ours"
    assert motion[0].strength > 0 > motion[1].strength


@pytest.mark.e2e
def test_a_judge_who_prefers_the_first_place_is_found_out(server: StandIn, tmp_path: Path) -> None:
    server.control(favours="first")
    systems = (
        world.system(tmp_path, "stiff", PROMPTS, moves=False),
        world.system(tmp_path, "ours", PROMPTS),
    )
    given = world.inputs(tmp_path, PROMPTS, *systems)
    compared = rows(tmp_path, given, world.settings(server, mode="strict"), pairwise.STAGE)
    for line in pair_lines(compared):
        assert line.rate is not None
        assert (line.rate.mean, line.consistent, line.first_share) == (0.5, 0, 1.0)


def test_what_has_no_answer_is_a_failed_row_with_a_reason_and_no_value(
    server: StandIn, tmp_path: Path
) -> None:
    prompts = tuple(world.prompt(n) for n in range(6))
    given = world.inputs(
        tmp_path, prompts, world.system(tmp_path, "ours", prompts, p001="never made")
    )
    broken = tmp_path / "ours" / "p002.mp4"
    broken.write_bytes(broken.read_bytes()[:700])
    videos = given.systems[0].videos | {"p002": file_ref(broken)}
    system = given.systems[0].model_copy(update={"videos": videos})
    given = given.model_copy(update={"systems": (system,)})
    faults = {"number 3 ": ["refused"], "number 4 ": ["wrong_schema"], "number 5 ": ["truncated"]}
    server.control(faults=faults)
    judged = rows(tmp_path, given, world.settings(server), stage.STAGE)
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
    assert {row["detail"] for row in judged if row["prompt_id"] == "p001"} == {"never made"}
    identity = lines(judged, "paper")[0]
    assert identity.interval is not None
    assert (identity.interval.mean, identity.interval.n, identity.missing) == (10, 1, 5)


@pytest.mark.e2e
def test_the_budget_stops_the_run_and_more_of_it_goes_on(server: StandIn, tmp_path: Path) -> None:
    given = ours(tmp_path)
    # An answer costs 0.002 here, and a request is let through for what it may cost at most.
    tight = {"budget_usd": Decimal("0.013"), "concurrency": 1, "max_output_tokens": 100}
    with pytest.raises(BadInput, match=r"of 8 questions are answered.*budget_usd"):
        rows(tmp_path, given, world.settings(server, vlm=tight), stage.STAGE)
    paid = len(server.counts()["right"])
    assert 0 < paid < 8
    more = tight | {"budget_usd": Decimal(1)}
    judged = rows(tmp_path, given, world.settings(server, vlm=more), stage.STAGE)
    assert all(row["status"] == "ok" for row in judged)
    assert set(server.counts()["right"].values()) == {1}


@pytest.mark.e2e
def test_an_outage_commits_nothing(server: StandIn, tmp_path: Path) -> None:
    server.control(all="500")
    with pytest.raises(Transient):
        rows(tmp_path, ours(tmp_path), world.settings(server), stage.STAGE)
    assert not list(tmp_path.glob("store/judgements/*"))


@pytest.mark.e2e
def test_a_provider_that_takes_no_request_is_bad_input(server: StandIn, tmp_path: Path) -> None:
    server.control(all="400")
    with pytest.raises(BadInput, match="takes no request"):
        rows(tmp_path, ours(tmp_path), world.settings(server), stage.STAGE)


def test_the_estimate_counts_what_can_be_asked(tmp_path: Path) -> None:
    systems = (
        world.system(tmp_path, "ours", PROMPTS),
        world.system(tmp_path, "other", PROMPTS, p001="never made"),
    )
    given = world.inputs(tmp_path, PROMPTS, *systems)
    paper = costs(given, world.settings(NOWHERE))
    assert paper.ratings.questions == 3 * 4
    assert paper.duels is None
    strict = costs(given, world.settings(NOWHERE, mode="strict", control_videos=1))
    assert strict.duels is not None
    # 3 videos in 4 aspects and 4 controls, 2 samples each; one prompt's duels in both orders.
    assert (strict.ratings.questions, strict.duels.questions) == ((3 * 4 + 4) * 2, 4 * 2)
    assert strict.duels.input_tokens / 8 > strict.ratings.input_tokens / 32
    assert strict.ratings.cost_usd is not None


def test_a_backend_that_takes_videos_is_sent_the_file(tmp_path: Path) -> None:
    gemini = {"backend": "gemini", "base_url": NOWHERE.url}
    how = world.settings(NOWHERE, mode="strict", send="video", fps=12, vlm=gemini)
    given = ours(tmp_path)
    desk = evaluation_plan.desk(given, how, judge_vlm(how))
    screen = evaluation_plan.Screen(desk, tmp_path / "controls")
    original = given.systems[0].videos["p000"]
    for one in (evaluation_plan.subjects(given)[0], *evaluation_plan.controls(given, how)[:4]):
        [part] = screen.shown(one)
        assert isinstance(part, Video)
        assert part.sha256 == digest_file(part.path)
        assert part.fps == 12
        spoilt = one.control not in (None, "swapped-identities")
        assert (part.sha256 != original.sha256) == spoilt
    question = judge_prompts.rating("q", desk, PROMPTS[0], (part,), "style", 1)
    assert part in question.messages[1].parts


def test_settings_that_contradict_themselves() -> None:
    for changed, said in (
        ({"vlm": {"temperature": 0.7}}, "mode paper asks at temperature 0.3"),
        ({"send": "video"}, "needs vlm.backend gemini"),
        ({"samples": 3}, "multiple of 2"),
        ({"mode": "strict", "vlm": {"temperature": 0.0}}, "all answers are one"),
        ({"fps": 1.0}, "greater than or equal to 8"),
    ):
        with pytest.raises(ValueError, match=said):
            world.settings(NOWHERE, **changed)


def test_inputs_that_cannot_be_judged(tmp_path: Path) -> None:
    given, how = ours(tmp_path), world.settings(NOWHERE)
    with pytest.raises(BadInput, match="no model judges"):
        rows(tmp_path, given, JudgeSettings(), stage.STAGE)
    with pytest.raises(BadInput, match="mode paper compares no systems"):
        rows(tmp_path, given, how, pairwise.STAGE)
    with pytest.raises(BadInput, match="one system alone"):
        rows(tmp_path, given, world.settings(NOWHERE, mode="strict"), pairwise.STAGE)
    twice = given.model_copy(update={"systems": given.systems * 2})
    with pytest.raises(BadInput, match="two systems have one name"):
        rows(tmp_path, twice, how, stage.STAGE)
    nobody = given.model_copy(update={"cast": given.cast[2:]})
    with pytest.raises(BadInput, match="no character Jerry, Tom"):
        rows(tmp_path, nobody, how, stage.STAGE)
