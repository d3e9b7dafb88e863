"""Videos with Gemini: uploaded, processed, sampled at the given rate, and always deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mimix_core.engine.artifacts import digest_file
from mimix_core.vlm import (
    ChatMessage,
    ImagePart,
    TextPart,
    VideoPart,
    VlmOutcome,
    VlmRequest,
    run_requests,
)
from tests.media_factory import Shot, write_video
from tests.vlm.fake_provider import FakeProvider, Seen, question
from tests.vlm.test_prices import jpeg


@pytest.fixture
def video(tmp_path: Path) -> VideoPart:
    path = tmp_path / "clip.mp4"
    write_video(path, [Shot(24)])
    return VideoPart(path, 4.0, digest_file(path))


def ask(
    server: FakeProvider, folder: Path, video: VideoPart, **settings: object
) -> VlmOutcome[Seen]:
    messages = (
        ChatMessage("system", (TextPart("rules"),)),
        ChatMessage("user", (ImagePart(jpeg(8, 8)), video, TextPart("[[a]]"))),
    )
    chosen = server.settings(backend="gemini", max_attempts=2, **settings)
    [one] = run_requests([question("a", messages=messages)], chosen, folder / "answers")
    return one


def test_a_video_is_uploaded_waited_for_looked_at_and_deleted(
    server: FakeProvider, tmp_path: Path, video: VideoPart
) -> None:
    server.control(polls=2, keep_bodies=True)
    one = ask(server, tmp_path, video)
    assert one.response is not None, one.error
    counts = server.counts()
    [body] = counts["bodies"]
    picture, moving, text = body["contents"][0]["parts"]
    assert picture["inlineData"]["mime_type"] == "image/jpeg"
    assert moving["videoMetadata"] == {"fps": 4.0}
    assert moving["fileData"]["mime_type"] == "video/mp4"
    assert text == {"text": "[[a]]"}
    assert body["systemInstruction"]["parts"] == [{"text": "rules"}]
    assert body["generationConfig"]["responseJsonSchema"] == dict(question("a").schema)
    assert counts["calls"]["GET /v1/files/*"] == 2
    assert counts["files"] == []


def test_a_video_is_uploaded_once_for_all_questions_about_it(
    server: FakeProvider, tmp_path: Path, video: VideoPart
) -> None:
    def requests() -> Iterator[VlmRequest[Seen]]:
        for name in "abcd":
            yield question(name, messages=(ChatMessage("user", (video, TextPart(f"[[{name}]]"))),))

    settings = server.settings(backend="gemini", max_concurrency=2)
    outcomes = list(run_requests(requests(), settings, tmp_path / "answers"))
    assert all(one.response is not None for one in outcomes)
    counts = server.counts()
    assert counts["calls"]["DELETE /v1/files/*"] == 1
    assert counts["files"] == []


@pytest.mark.parametrize(
    ("how", "ends", "kind"),
    [("500", "ACTIVE", "unavailable"), ("refused", "ACTIVE", "refused"),
     ("right", "FAILED", "rejected")],
)  # fmt: skip
def test_it_is_deleted_when_the_answer_fails(
    server: FakeProvider, tmp_path: Path, video: VideoPart, how: str, ends: str, kind: str
) -> None:
    server.control(all=how, file_ends=ends)
    one = ask(server, tmp_path, video)
    assert one.error is not None
    assert one.error.kind == kind
    counts = server.counts()
    assert counts["calls"]["DELETE /v1/files/*"] == 1
    assert counts["files"] == []
