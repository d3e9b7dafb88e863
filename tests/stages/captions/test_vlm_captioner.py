"""Captions by a vision-language model: the official client, real HTTP, a provider on loopback."""

from __future__ import annotations

import base64
from decimal import Decimal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mimix_core import tables
from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.stage import StageRun, run_stage
from mimix_core.engine.store import Store
from mimix_core.engine.worker import build_request
from mimix_core.errors import BadInput, Transient
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.caption_inputs import CaptionInputs
from mimix_core.stages.captions.stage import STAGE
from mimix_core.tables import Row
from tests.stages.captions.factories import clip, inputs, transcript
from tests.vlm.fake_provider import RESPONSE_COST, FakeProvider
from tests.vlm.killed_unit import run_and_kill

GOOD = {
    "seen": [{"character": "Tom", "evidence": "blue-grey fur"}],
    "actions": [{"character": "Tom", "action": " chases\n a fly. "}],
    "context": "a kitchen",
    "style": "cartoon",
}
NOBODY = {"seen": [], "actions": [], "context": "A wall", "style": "cartoon"}


def settings(
    server: FakeProvider, more: dict[str, Any] | None = None, **vlm: Any
) -> CaptionSettings:
    asked = server.settings(**{"max_attempts": 1, **vlm})
    return CaptionSettings.model_validate({"backend": "vlm", "vlm": asked, **(more or {})})


def named(folder: Path, *names: str, **more: Any) -> CaptionInputs:
    """Return clips whose dialogue contains their name, for the stand-in server."""
    clips = [clip(name, start=5000 * n) for n, name in enumerate(names)]
    spoken = [transcript(name, f"[[{name}]]") for name in names]
    return inputs(folder, clips, transcripts=spoken, **more)


def caption(folder: Path, given: CaptionInputs, how: CaptionSettings) -> StageRun:
    return run_stage(Store(folder / "store"), STAGE, given, how)


def rows(made: StageRun) -> dict[str, Row]:
    return {row["clip_id"]: row for row in tables.read(made.ref.path, tables.CAPTIONS)}


def texts(body: Any) -> str:
    found = []
    for message in body["messages"]:
        content = message["content"]
        if isinstance(content, str):
            found.append(content)
        else:
            found += [part["text"] for part in content if part["type"] == "text"]
    return "\n".join(found)


def pictures(body: Any) -> list[np.ndarray]:
    found = []
    for message in body["messages"]:
        for part in message["content"] if isinstance(message["content"], list) else ():
            if part["type"] == "image_url":
                data = base64.b64decode(part["image_url"]["url"].split(",", 1)[1])
                found.append(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    return found


def test_the_content_of_a_request(server: FakeProvider, tmp_path: Path) -> None:
    script = tmp_path / "script.yaml"
    script.write_text(
        'actions: [{start: "1", end: "3", character: Tom, action: "naps"},'
        ' {start: "30", end: "31", character: Jerry, action: "dances"}]\n'
    )
    given = named(tmp_path, "a", "b", script=file_ref(script), plot="A quiet day.")
    caption(tmp_path, given, settings(server))
    one, two = sorted(server.counts()["bodies"], key=lambda body: "[[b]]" in texts(body))
    said = texts(one)
    assert "The looks of Jerry" in said
    assert "the cat" in said
    assert "A quiet day." in said
    assert "1.0 to 3.0: Tom naps" in said
    assert "dances" not in said
    assert "0.5 to 1.5: [[" in said
    form = one["response_format"]["json_schema"]
    assert form["strict"] is True
    for field in ("seen", "actions"):
        name = form["schema"]["properties"][field]["items"]["properties"]["character"]
        assert name["enum"] == ["Tom", "Jerry"]
    assert form["schema"]["properties"]["style"]["enum"] == ["cartoon"]
    # Two references, then ten frames from the first to the last.
    shown = pictures(one)
    assert len(shown) == 12
    assert [tuple(image.shape[:2]) for image in shown] == [(30, 40)] * 2 + [(48, 64)] * 10
    wanted = [2 * (number * 80 // 9) for number in range(10)]
    assert [image[24, 32].mean() for image in shown[2:]] == pytest.approx(wanted, abs=4)
    # Byte for byte the start of another clip's request: cached input costs less.
    assert one["messages"][0] == two["messages"][0]
    first, second = (body["messages"][1]["content"] for body in (one, two))
    assert first[:5] == second[:5]
    assert [part["type"] for part in first[:5]] == [
        *("text", "text", "image_url"),
        *("text", "image_url"),
    ]
    assert first[5] != second[5]


def test_an_invented_name_is_corrected_with_the_reason(
    server: FakeProvider, tmp_path: Path
) -> None:
    script = {"a": ["invented", "right"], "b": ["invented"], "c": ["invented", "not_json", "right"]}
    server.control(script=script, answers={"a": GOOD})
    found = rows(caption(tmp_path, named(tmp_path, "a", "b", "c"), settings(server)))
    assert found["a"]["status"] == "ok"
    assert found["a"]["attempts"] == 2
    assert found["a"]["cost_usd"] == pytest.approx(2 * float(RESPONSE_COST))
    assert (found["b"]["status"], found["b"]["reason"]) == ("failed", "caption_check_failed")
    assert "no character here is named 'Nobody Known'" in found["b"]["detail"]
    assert found["b"]["attempts"] == 3
    bodies = server.counts()["bodies"]
    told = [body for body in bodies if "[[c]]" in texts(body)]
    assert [len(body["messages"]) for body in told] == [2, 4, 4]
    assert found["c"]["status"] == "ok"
    assert told[2]["messages"][:3] == told[1]["messages"][:3]
    assert [texts(body).count("cannot be used") for body in told] == [0, 1, 2]
    told = [body for body in bodies if "[[a]]" in texts(body)]
    assert [len(body["messages"]) for body in told] == [2, 4]
    assert told[1]["messages"][:2] == told[0]["messages"]
    assert "no character here is named 'Nobody Known'" in texts(told[1])


BAD_ANSWERS: dict[str, tuple[dict[str, Any], str]] = {
    "speech": (
        {"actions": [{"character": "Tom", "action": "shouts 'Murder'"}]},
        "not in the clip's dialogue",
    ),
    "german": ({"actions": [{"character": "Tom", "action": "rennt mit der Maus"}]}, "English"),
    "two": ({"actions": [{"character": "Tom", "action": "runs. He hides"}]}, "one sentence"),
    "tag": ({"actions": [{"character": "Tom", "action": "is [Tom]"}]}, "bracket"),
    "blank": ({"actions": [{"character": "Tom", "action": "  "}]}, "empty"),
    "idle": ({"actions": []}, "has no action"),
    "unseen": ({"seen": []}, "not in `seen`"),
    "unproven": ({"seen": [{"character": "Tom", "evidence": " "}]}, "no evidence"),
    "long": ({"context": "a very " + "long " * 120 + "story"}, "words"),
    "style": ({"style": "realistic"}, "style"),
}
# What the server does, and how often it is asked before the row fails.
FAILURES = {
    "refused": ("caption_refused", 1),
    "filtered": ("caption_refused", 1),
    "truncated": ("caption_truncated", 2),
    "not_json": ("caption_invalid", 2),
    "wrong_schema": ("caption_invalid", 2),
    "400": ("caption_rejected", 1),
    "500": ("caption_unavailable", 1),
}


def test_each_invalid_response_and_failure_has_its_reason(
    server: FakeProvider, tmp_path: Path
) -> None:
    server.control(
        answers={name: GOOD | change for name, (change, _) in BAD_ANSWERS.items()},
        script={how: [how] for how in FAILURES} | {"shorter": ["truncated", "right"]},
    )
    names = [*BAD_ANSWERS, *FAILURES, "shorter", "fine"]
    how = settings(server, {"max_reprompts": 1}, max_concurrency=2)
    found = rows(caption(tmp_path, named(tmp_path, *names), how))
    asked = server.counts()["asked"]
    for name, (_, reason) in BAD_ANSWERS.items():
        assert (found[name]["status"], found[name]["reason"]) == ("failed", "caption_check_failed")
        assert reason in found[name]["detail"]
        assert len(asked[name]) == 2
    for name, (reason, times) in FAILURES.items():
        assert (found[name]["status"], found[name]["reason"]) == ("failed", reason)
        assert found[name]["detail"]
        assert len(asked[name]) == times
    assert (found["shorter"]["status"], found["shorter"]["attempts"]) == ("ok", 2)
    assert (found["fine"]["status"], found["fine"]["attempts"]) == ("ok", 1)


@pytest.mark.e2e
def test_an_outage_fails_no_row(server: FakeProvider, tmp_path: Path) -> None:
    server.control(script={"a": ["right"], "b": ["right"], "c": ["500", "right"], "d": ["500"]})
    store = Store(tmp_path / "store")
    given, how = named(tmp_path, "a", "b", "c", "d"), settings(server)
    with pytest.raises(Transient, match="2 of 4 clips got no answer"):
        run_stage(store, STAGE, given, how)
    assert store.lookup(STAGE.name, STAGE.key(given, how)) is None
    # One clip of many may fail alone, but only while the server responds to others.
    made = rows(run_stage(store, STAGE, given, how))
    assert [made[name]["status"] for name in "abcd"] == ["ok", "ok", "ok", "failed"]
    assert made["d"]["reason"] == "caption_unavailable"
    with pytest.raises(Transient, match=r"1 of 4 clips got no answer, e\.g\. d"):
        run_stage(Store(tmp_path / "other"), STAGE, given, how)


def test_a_provider_that_rejects_every_request_is_an_error(
    server: FakeProvider, tmp_path: Path
) -> None:
    server.control(all="400")
    with pytest.raises(BadInput, match="rejected every request"):
        caption(tmp_path, named(tmp_path, *"abcdefghijkl"), settings(server))


def test_an_unreadable_clip_does_not_hide_that_every_request_is_rejected(
    server: FakeProvider, tmp_path: Path
) -> None:
    server.control(all="400")
    given = named(tmp_path, "a", "b", "broken")
    (given.clips.folder / "clips" / "broken.mp4").write_bytes(b"broken")
    with pytest.raises(BadInput, match="rejected every request"):
        caption(tmp_path, given, settings(server))


def test_a_spent_budget_preserves_paid_responses(server: FakeProvider, tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(6)]
    given = named(tmp_path, *names)
    short = settings(server, budget_usd=Decimal("0.025"), max_concurrency=1)
    with pytest.raises(BadInput, match=r"of 6 clips have a response") as caught:
        caption(tmp_path, given, short)
    assert "budget_usd" in str(caught.value)
    before = sum(server.counts()["right"].values())
    assert 0 < before < 6
    plenty = settings(server, budget_usd=Decimal("1"))
    assert STAGE.key(given, plenty) == STAGE.key(given, short)
    assert caption(tmp_path, given, plenty).ref.counts.ok == 6
    assert set(server.counts()["right"].values()) == {1}


def test_a_response_becomes_a_caption_and_is_paid_once(
    server: FakeProvider, tmp_path: Path
) -> None:
    server.control(answers={"a": GOOD, "b": NOBODY})
    given, how = named(tmp_path, "a", "b"), settings(server)
    made = caption(tmp_path, given, how)
    found = rows(made)
    a = found["a"]
    assert a["caption"] == "[Character: Tom], chases a fly. A kitchen. [scene-style:cartoon]"
    assert (a["status"], a["backend"], a["model"]) == ("ok", "vlm/openai", "seer-2026-01-01")
    tokens = [a[name] for name in ("attempts", "input_tokens", "cached_tokens", "output_tokens")]
    assert tokens == [1, 1000, 400, 50]
    assert a["cost_usd"] == float(RESPONSE_COST)
    assert (found["b"]["status"], found["b"]["reason"]) == ("rejected", "no_character")
    assert found["b"]["cost_usd"] == float(RESPONSE_COST)
    asked = server.counts()["asked"]
    # Another store with the same response cache: the same bytes, and no request.
    again = run_stage(Store(tmp_path / "other"), STAGE, given, how)
    assert again.ref.sha256 == made.ref.sha256
    assert server.counts()["asked"] == asked


def test_a_request_contains_the_previous_caption_of_its_scene(
    server: FakeProvider, tmp_path: Path
) -> None:
    names = ["a", "b", "c", "d", "e", "f"]
    scenes = dict(zip(names, ["s1", "s1", "s1", "s1", "s2", "s2"], strict=True))
    clips = [clip(name, start=5000 * n, scene_id=scenes[name]) for n, name in enumerate(names)]
    spoken = [transcript(name, f"[[{name}]]") for name in names]
    by_hand = "[Character: Jerry], waves. [scene-style:cartoon]"
    given = inputs(tmp_path, clips, transcripts=spoken, overrides={"e": by_hand})
    server.control(answers={"a": GOOD}, script={"b": ["refused"]})
    caption(tmp_path, given, settings(server, {"caption_context": "previous"}))
    bodies = [texts(body) for body in server.counts()["bodies"]]
    told = {name: said for said in bodies for name in names if f"[[{name}]]" in said}
    assert "just before" not in told["a"] + told["c"]
    assert "was captioned: <data>[Character: Tom], chases a fly. A kitchen." in told["b"]
    assert "was captioned: <data>[Character: Tom], does c." in told["d"]
    assert f"was captioned: <data>{by_hand}</data>" in told["f"]


def test_unreadable_clips_overrides_and_repeated_captions(
    server: FakeProvider, tmp_path: Path
) -> None:
    text = "[Character: Jerry], waves. [scene-style:cartoon]"
    hand = {"h": text, "out": "", "gone": text, "bad": text.replace("Jerry", "Spike")}
    names = ["a", "b", "c", "d", "broken", "h", "out", "bad"]
    given = named(tmp_path, *names, overrides=hand)
    (given.clips.folder / "clips" / "broken.mp4").write_bytes(b"broken")
    server.control(answers=dict.fromkeys(names[:3], GOOD), script={"d": ["429:1", "right"]})
    made = caption(tmp_path, given, settings(server, max_attempts=3))
    found = rows(made)
    assert found["broken"]["reason"] == "unreadable_video"
    assert (found["h"]["status"], found["h"]["backend"]) == ("ok", "hand")
    assert (found["h"]["caption"], found["h"]["attempts"], found["h"]["cost_usd"]) == (text, 0, 0.0)
    assert (found["out"]["status"], found["out"]["reason"]) == ("rejected", "left_out_by_hand")
    assert (found["bad"]["status"], found["bad"]["backend"]) == ("failed", "hand")
    assert (found["d"]["status"], found["d"]["attempts"]) == ("ok", 1)
    assert set(server.counts()["asked"]) == set(names[:4])
    notes = Store(tmp_path / "store").record(made.ref).notes
    assert notes["most_shared"] == 3
    assert notes["most_shared_caption"] == found["a"]["caption"]
    assert notes["hand_captions_of_no_clip"] == 1
    assert notes["length_checked_in"] == "words"


def test_a_missing_key_is_an_error_before_any_request(
    server: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = settings(server)
    monkeypatch.delenv(str(how.vlm.api_key_env))
    with pytest.raises(BadInput, match=str(how.vlm.api_key_env)):
        caption(tmp_path, named(tmp_path, "a"), how)
    assert server.counts()["calls"] == {}


def test_a_killed_unit_continues_and_pays_nothing_twice(
    server: FakeProvider, tmp_path: Path
) -> None:
    names = [f"c{n}" for n in range(8)]
    given, how = named(tmp_path, *names), settings(server, max_concurrency=2)
    server.control(all="slow:0.3", answers={"c3": GOOD})
    store = Store(tmp_path / "store")
    run_and_kill(build_request(STAGE, store, given, how, tmp_path / "log"), 3, server)
    answered = sum(server.counts()["right"].values())
    assert 3 <= answered < len(names)
    made = run_stage(store, STAGE, given, how)
    assert made.ref.counts.ok == len(names)
    assert server.counts()["right"] == dict.fromkeys(names, 1)


def test_a_model_with_video_input_is_sent_the_clip(server: FakeProvider, tmp_path: Path) -> None:
    how = settings(server, {"visual_input": "video", "video_fps": 4}, backend="gemini")
    found = rows(caption(tmp_path, named(tmp_path, "a"), how))["a"]
    assert (found["status"], found["backend"]) == ("ok", "vlm/gemini")
    counts = server.counts()
    (body,) = counts["bodies"]
    assert "The clip follows." in str(body["contents"])
    parts = [part for one in body["contents"] for part in one["parts"]]
    (film,) = [part for part in parts if "fileData" in part]
    assert film["videoMetadata"]["fps"] == 4
    assert counts["files"] == []
    with pytest.raises(ValueError, match="visual_input: video requires"):
        settings(server, {"visual_input": "video"})
