from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from mimix_core.engine.artifacts import file_ref
from mimix_core.errors import BadInput, Transient
from mimix_core.media.images import evenly_spaced_indices
from mimix_core.settings.locator_settings import VlmLocatorSettings
from mimix_core.stages.cutouts.locate import CharacterReference, VlmLocatorInputs
from mimix_core.stages.cutouts.locate.vlm_locator import (
    PredictedBox,
    PredictedBoxes,
    VlmLocator,
    box_response_schema,
    build_tracks,
)
from tests.factories import clip, video
from tests.vlm.fake_provider import KEY, KEY_NAME, FakeProvider, run_fake_provider

SETTINGS = VlmLocatorSettings(num_frames=5, min_confidence=70, max_gap=24)


def predicted(
    frame: int, name: str = "Tom", left: float = 0.25, certainty: int = 90
) -> dict[str, Any]:
    return {
        "frame": frame,
        "character": name,
        "left": left,
        "top": 0.5,
        "right": left + 0.5,
        "bottom": 1.0,
        "certainty": certainty,
    }


def answer(*boxes: dict[str, Any]) -> PredictedBoxes:
    return PredictedBoxes.model_validate({"boxes": boxes})


def test_boxes_apply_to_the_sent_frames_and_those_between() -> None:
    found = build_tracks(
        answer(predicted(1), predicted(2, left=0.5)), clip("a"), ["Tom"], SETTINGS
    )["Tom"]
    assert evenly_spaced_indices(81, 5) == [0, 20, 40, 60, 80]
    assert found.boxes[0] == (16, 24, 48, 48)
    assert found.boxes[10] == (24, 24, 56, 48)
    assert found.boxes[20] == (32, 24, 64, 48)
    assert found.boxes[21:] == [None] * 60
    assert set(found.scores[:21]) == {0.9}


def test_uncertain_and_unrequested_boxes_are_ignored() -> None:
    response = answer(predicted(1, certainty=69), predicted(2, name="Spike"), predicted(9))
    assert build_tracks(response, clip("a"), ["Tom"], SETTINGS)["Tom"].boxes == [None] * 81


@pytest.mark.parametrize(
    "boxes",
    [[predicted(1), predicted(1)], [predicted(1, left=0.75)], [{**predicted(1), "right": 0.2}]],
)
def test_an_inconsistent_response_is_rejected(boxes: list[dict[str, Any]]) -> None:
    with pytest.raises(ValidationError):
        answer(*boxes)


def test_the_schema_allows_only_the_requested_names() -> None:
    schema = box_response_schema(["Tom", "Jerry"], 5)
    box = schema["properties"]["boxes"]["items"]["properties"]
    assert box["character"]["enum"] == ["Tom", "Jerry"]
    assert (box["frame"]["minimum"], box["frame"]["maximum"]) == (1, 5)
    assert set(box) == set(PredictedBox.model_fields)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeProvider]:
    with run_fake_provider() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(KEY_NAME, KEY)
    for name in ("a", "b"):
        video(tmp_path / "clips" / f"{name}.mp4", np.zeros((81, 48, 64, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "tom.png"), np.full((64, 64, 3), 200, np.uint8))
    return tmp_path


def locator(folder: Path, server: FakeProvider, mark: str, *clips: str) -> VlmLocator:
    """Create a locator; ``mark`` in every request selects the fake server's behavior."""
    known = CharacterReference(
        name="Tom", description=f"A cat [[{mark}]]", references=(file_ref(folder / "tom.png"),)
    )
    settings = VlmLocatorSettings(
        vlm=server.settings(max_attempts=1, temperature=None), num_frames=5, min_confidence=70
    )
    inputs = VlmLocatorInputs(
        characters=(known,), settings=settings, response_cache=folder / "answers"
    )
    return VlmLocator(inputs, folder, [(clip(name), ["Tom"]) for name in clips])


def test_a_response_is_paid_once_and_its_boxes_are_used(folder: Path, server: FakeProvider) -> None:
    boxes = [predicted(n) for n in range(1, 6)]
    server.control(answers={"cat": {"boxes": boxes}})
    for _ in range(2):
        found = locator(folder, server, "cat", "a", "b").locate(clip("a"), ["Tom"])
        assert found["Tom"].boxes[40] == (16, 24, 48, 48)
        assert found["Tom"].error == ""
    # Both clips are identical: one request, one response, paid once.
    assert server.counts()["asked"]["cat"] == ["right"]
    assert len((folder / "answers" / "ledger.jsonl").read_text().splitlines()) == 1


def test_an_unavailable_server_stops_the_episode(folder: Path, server: FakeProvider) -> None:
    server.control(script={"gone": ["500"]})
    with pytest.raises(Transient, match="run it again"):
        locator(folder, server, "gone", "a").locate(clip("a"), ["Tom"])


@pytest.mark.e2e
def test_a_provider_that_rejects_every_request_is_bad_input(
    folder: Path, server: FakeProvider
) -> None:
    server.control(script={"wrong": ["400"]})
    with pytest.raises(BadInput, match="rejected every request"):
        locator(folder, server, "wrong", "a").locate(clip("a"), ["Tom"])


def test_an_unreadable_clip_gives_an_error(folder: Path, server: FakeProvider) -> None:
    (folder / "clips" / "a.mp4").write_bytes(b"no video")
    found = locator(folder, server, "odd", "a").locate(clip("a"), ["Tom"])
    assert "a.mp4" in found["Tom"].error


def test_a_request_starts_with_the_cast(folder: Path, server: FakeProvider) -> None:
    server.control(answers={"cast": {"boxes": []}})
    question = locator(folder, server, "cast", "a")._build_request(clip("a"), ["Tom"])
    system, user = question.messages
    texts = [part.text for part in user.parts if hasattr(part, "text")]
    assert texts[0].startswith("Character Tom")
    assert texts[1] == "Locate: Tom. The frames follow."
    assert texts[2:] == [f"Frame {n}" for n in range(1, 6)]
    assert len(user.parts) == len(texts) + 1 + 5
    assert json.dumps(dict(question.schema))
    assert system.role == "system"
