"""Requests and their digests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from mimix_core.engine.cache_key import canonical_json
from mimix_core.errors import BadInput
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm import ChatMessage, ImagePart, TextPart, VideoPart, VlmRequest, strict_schema
from mimix_core.vlm.backends.openai import request_body
from tests.vlm.fake_provider import Seen, question

A = "a" * 64
PARTS = st.one_of(
    st.text(max_size=5).map(TextPart),
    st.builds(ImagePart, st.binary(max_size=5), st.sampled_from(["auto", "low"])),
    st.builds(
        VideoPart, st.just(Path("x")), st.sampled_from([1.0, 2.0]), st.sampled_from([A, A[1:]])
    ),
)
MESSAGES = st.lists(PARTS, max_size=3).map(lambda parts: ChatMessage("user", tuple(parts)))
QUESTIONS = st.builds(
    lambda messages, tokens, temperature, effort: question(
        "x",
        messages=tuple(messages),
        max_output_tokens=tokens,
        temperature=temperature,
        reasoning_effort=effort,
    ),
    st.lists(MESSAGES, max_size=3),
    st.integers(1, 3),
    st.sampled_from([None, 0.0, 0.5]),
    st.sampled_from([None, "low"]),
)


def sent(asked: VlmRequest[Seen]) -> tuple[object, ...]:
    return (asked.messages, asked.max_output_tokens, asked.temperature, asked.reasoning_effort)


@given(QUESTIONS, QUESTIONS)
def test_digests_are_equal_when_and_only_when_all_that_is_sent_is(
    one: VlmRequest[Seen], other: VlmRequest[Seen]
) -> None:
    equal = one.digest(VlmSettings(backend="openai", model="m")) == other.digest(
        VlmSettings(backend="openai", model="m")
    )
    assert equal == (sent(one) == sent(other))


def test_who_asks_and_where_a_video_lies_are_no_part_of_the_digest() -> None:
    def asked(name: str, path: str) -> VlmRequest[Seen]:
        video = ChatMessage("user", (VideoPart(Path(path), 2.0, A),))
        return replace(question("x"), id=name, messages=(video,))

    assert asked("a", "/x").digest(VlmSettings(backend="gemini", model="m")) == asked(
        "b", "/y"
    ).digest(VlmSettings(backend="gemini", model="m"))


def test_responses_that_were_paid_for_before_more_could_be_set_are_found() -> None:
    digest = question("x").digest(VlmSettings(model="m"))
    assert digest == "18d79f87a09b3f46ac4eb80a002b2c28cd4cc3c6f3decf1e0c3c4f92794dc118"
    for changed in ({"seed": 1}, {"response_format": "prompt"}, {"extra_body": {"top_p": 1}}):
        settings = VlmSettings.model_validate({"model": "m", **changed})
        assert question("x").digest(settings) != digest
    sampled = [replace(question("x"), top_p=0.9), replace(question("x"), top_k=4)]
    assert len({digest, *(one.digest(VlmSettings(model="m")) for one in sampled)}) == 3

    gemini = VlmSettings(backend="gemini", model="m")
    video = ChatMessage("user", (VideoPart(Path("v"), 2.0, A), TextPart("t")))
    about_video = replace(question("x"), messages=(video,)).digest(gemini)
    assert about_video == "af187a3f4bf2f9c5979d35427887b5f3a42a9bb57a7eb739b0d7ab23daa03e33"
    unsampled = ChatMessage("user", (VideoPart(Path("v"), None, A), TextPart("t")))
    assert replace(question("x"), messages=(unsampled,)).digest(gemini) != about_video


@pytest.mark.parametrize("form", ["json_schema", "json_object", "prompt"])
def test_a_request_without_a_schema_sends_none_and_its_sampling_parameters(form: str) -> None:
    settings = VlmSettings.model_validate({"model": "m", "response_format": form})
    body = request_body(replace(question("x"), schema={}, top_p=0.9, top_k=4), settings)
    assert "response_format" not in body
    assert "schema" not in str(body["messages"])
    assert (body["top_p"], body["top_k"]) == (0.9, 4)
    assert not {"top_p", "top_k"} & request_body(question("x"), settings).keys()


def test_model_backend_and_schema_are_part_of_the_digest() -> None:
    asked = question("x")
    narrowed = replace(asked, schema={**asked.schema, "description": "one more word"})
    digests = {
        asked.digest(VlmSettings(backend="openai", model="m")),
        asked.digest(VlmSettings(backend="gemini", model="m")),
        asked.digest(VlmSettings(backend="openai", model="n")),
        narrowed.digest(VlmSettings(backend="openai", model="m")),
    }
    assert len(digests) == 4


def test_a_system_message_holds_text_only() -> None:
    with pytest.raises(ValueError, match="put images into a user message"):
        ChatMessage("system", (ImagePart(b"x"),))


class Inner(BaseModel):
    """An inner one."""

    name: Literal["Tom"] = Field("Tom", description="who")
    age: int | None = None


class Outer(BaseModel):
    title: str = Field(max_length=5, description="a title")
    inner: list[Inner]


def test_a_strict_schema_is_closed_and_requires_everything() -> None:
    schema = strict_schema(Outer)
    inner = schema["properties"]["inner"]["items"]
    assert schema["required"] == ["title", "inner"]
    assert schema["additionalProperties"] is inner["additionalProperties"] is False
    assert inner["required"] == ["name", "age"]
    assert inner["properties"]["name"]["enum"] == ["Tom"]
    assert schema["properties"]["title"] == {"type": "string", "description": "a title"}
    assert "$" not in str(schema)


class Mapped(BaseModel):
    names: dict[str, int]


class Endless(BaseModel):
    more: list[Endless]


@pytest.mark.parametrize("model", [Mapped, Endless])
def test_what_has_no_strict_form_is_an_error(model: type[BaseModel]) -> None:
    with pytest.raises(BadInput):
        strict_schema(model)


def test_only_what_changes_an_answer_is_in_a_stage_key() -> None:
    names = set(canonical_json(VlmSettings()))
    assert names == {
        "backend",
        "model",
        "temperature",
        "max_output_tokens",
        "reasoning_effort",
        "image_detail",
        "seed",
        "response_format",
        "extra_body",
    }


@pytest.mark.parametrize("url", ["http://me:secret@host/v1", "http://host/v1?key=x", "host:80"])
def test_an_address_may_hold_no_key(url: str) -> None:
    with pytest.raises(ValueError, match=r"address|key or password"):
        VlmSettings(base_url=url)
