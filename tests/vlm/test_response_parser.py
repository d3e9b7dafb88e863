"""What models write around the one JSON object that was asked for, and what stays an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.vlm.response_parser import UnparsableResponse, parse_json_object

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "who": {"type": "string", "enum": ["Tom", "Jerry", "Mr. Bean"]},
        "what": {"type": "string"},
        "seen": {
            "type": "array",
            "items": {"type": "object", "properties": {"name": {"enum": ["Tom", "Jerry"]}}},
        },
        "box": {"anyOf": [{"type": "object", "properties": {"x": {}}}, {"type": "null"}]},
    },
}
WANTED = {"who": "Tom", "what": 'says "{no}", and runs,'}
PLAIN = json.dumps(WANTED)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "\ufeff" + PLAIN,
        f"\n\n{PLAIN}\n",
        f"```json\n{PLAIN}\n```",
        f"```\n{PLAIN}\n```\nI hope this helps!",
        f"~~~json\n{PLAIN}\n~~~",
        f"Here is the caption:\n{PLAIN}\nLet me know about {{more}}.",
        f'<think>It may be {{"who": "Jerry"}}, no.</think>{PLAIN}',
        f"<THINKING>\nwho?\n</THINKING>\n```json\n{PLAIN}\n```",
        f'It looks like {{"who": "Jerry", "what": "x"}}.</think>\n{PLAIN}',
        f"{PLAIN}\n{PLAIN}",
        f"{PLAIN}{json.dumps(WANTED, indent=2)}",
        json.dumps(WANTED, indent=2)[:-2] + ",\n}",
        PLAIN[:-1] + ", }",
        json.dumps({**WANTED, "confidence": 0.9}),
        json.dumps([WANTED]),
        json.dumps(PLAIN),
        json.dumps({**WANTED, "who": "tom"}),
        json.dumps({**WANTED, "who": " TOM "}),
        json.dumps({**WANTED, "who": "'Tom'"}),
    ],
)
def test_the_one_object_is_read(text: str) -> None:
    assert parse_json_object(text, SCHEMA) == WANTED


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON object"),
        ("I see a cat and a mouse.", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ("null", "no JSON object"),
        (PLAIN[:-1], "no JSON object"),
        (PLAIN + '{"who": "Jerry", "what": "hides"}', "2 different JSON objects"),
        ("<think>" + PLAIN + "</think>", "no JSON object"),
        ("{" * 50_000, "no JSON object"),
    ],
)
def test_what_is_not_one_object_is_an_error(text: str, why: str) -> None:
    with pytest.raises(UnparsableResponse, match=why):
        parse_json_object(text, SCHEMA)


def test_what_the_schema_does_not_allow_is_left_to_validation() -> None:
    given_ = {
        "who": "Spike",
        "what": 7,
        "seen": [{"name": "JERRY", "age": 3}, {"name": "Toms"}, 4],
        "box": {"x": 1, "y": 2},
    }
    assert parse_json_object(json.dumps(given_), SCHEMA) == {
        "who": "Spike",
        "what": 7,
        "seen": [{"name": "Jerry"}, {"name": "Toms"}, 4],
        "box": {"x": 1},
    }


def test_two_names_that_differ_in_case_alone_are_not_guessed() -> None:
    schema = {"properties": {"who": {"enum": ["Tom", "TOM"]}}}
    assert parse_json_object('{"who": "tom"}', schema) == {"who": "tom"}


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
            max_leaves=6,
        ),
        max_size=4,
    ),
    st.sampled_from(["{}", "```json\n{}\n```", "Sure: {} - done.", "<think>a</think>{}", "{}\n{}"]),
)
def test_any_object_survives_its_wrapping(value: dict[str, Any], wrapping: str) -> None:
    text = wrapping.replace("{}", json.dumps(value))
    assert parse_json_object(text, {}) == value
