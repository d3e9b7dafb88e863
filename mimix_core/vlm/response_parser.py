"""Read the JSON object of a response, tolerating what models write around it.

Only the form is tolerated. What the object says is validated by the caller, as strictly as if the
model had written nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_REASONING = r"think|thinking|thought|reasoning"
_REASONING_START = re.compile(rf"<({_REASONING})>", re.IGNORECASE)
# Servers that prefill the opening tag return only the closing one.
_REASONING_END = re.compile(rf"^.*</(?:{_REASONING})>", re.DOTALL | re.IGNORECASE)
# An escaped character outside of strings is skipped: to begin a string at each escaped quotation
# mark would take quadratic time.
_STRING_OR_TRAILING_COMMA = re.compile(r'"(?:[^"\\]|\\.)*+"|\\.|,(?=\s*[}\]])', re.DOTALL)
_MAX_BRACES = 10_000
"""Number of braces that begin no object: each costs time in proportion to the text before it."""

_decoder = json.JSONDecoder()


class UnparsableResponse(ValueError):
    """The text contains no JSON object, or several different ones."""


def parse_json_object(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON object of a response, fitted to the schema that was sent with the request.

    Accepts a byte order mark, reasoning blocks, code fences, prose around the object, the same
    object more than once, an object within a list or a string, and trailing commas. Raises
    UnparsableResponse.
    """
    found = fit_to_schema(_find_object(text), schema)
    assert isinstance(found, dict)
    return found


def _find_object(text: str) -> dict[str, Any]:
    text = text.lstrip("\ufeff")
    try:
        return _unwrap(json.loads(text))
    except (ValueError, RecursionError):
        pass  # it is not JSON as a whole
    text = _REASONING_END.sub("", _without_reasoning(text))
    text = _STRING_OR_TRAILING_COMMA.sub(lambda found: found[0].removeprefix(","), text)
    try:
        distinct = {json.dumps(value, sort_keys=True): value for value in _top_level_objects(text)}
    except RecursionError:
        raise UnparsableResponse("the response's JSON object is nested too deeply") from None
    if not distinct:
        raise UnparsableResponse("the response contains no JSON object")
    if len(distinct) > 1:
        raise UnparsableResponse(f"the response contains {len(distinct)} different JSON objects")
    return next(iter(distinct.values()))


def _unwrap(value: Any) -> dict[str, Any]:
    """Return an object, also from a list of one object or a string with its JSON."""
    match value:
        case dict():
            return value
        case [dict() as only]:
            return only
        case str():
            return _find_object(value)
        case _:
            raise UnparsableResponse("the response contains no JSON object")


def _without_reasoning(text: str) -> str:
    """Remove the blocks of reasoning; a tag that is not closed stays."""
    parts: list[str] = []
    position, unclosed = 0, set[str]()
    for start in _REASONING_START.finditer(text):
        tag = start[1].casefold()
        if start.start() < position or tag in unclosed:
            continue
        end = re.compile(f"</{tag}>", re.IGNORECASE).search(text, start.end())
        if end is None:
            unclosed.add(tag)
        else:
            parts.append(text[position : start.start()])
            position = end.end()
    return "".join((*parts, text[position:]))


def _top_level_objects(text: str) -> Iterator[dict[str, Any]]:
    position, braces = text.find("{"), 0
    while position >= 0:
        try:
            value, end = _decoder.raw_decode(text, position)
        except RecursionError:
            raise UnparsableResponse("the response is nested too deeply") from None
        except ValueError:
            end = position + 1  # a brace of the prose
            braces += 1
            if braces > _MAX_BRACES:
                raise UnparsableResponse(
                    f"{_MAX_BRACES:,} braces of the response begin no JSON object"
                ) from None
        else:
            yield value
        position = text.find("{", end)


def fit_to_schema(value: Any, schema: Mapping[str, Any]) -> Any:
    """Drop keys that the schema does not have, and spell the values of enums as it does.

    A string is spelled differently if only case, surrounding space or quotation marks differ.
    Everything else is left for validation to reject.
    """
    properties = schema.get("properties")
    if isinstance(value, dict) and properties is not None:
        return {
            key: fit_to_schema(one, properties[key])
            for key, one in value.items()
            if key in properties
        }
    if isinstance(value, list) and "items" in schema:
        return [fit_to_schema(one, schema["items"]) for one in value]
    if isinstance(value, str) and "enum" in schema and value not in schema["enum"]:
        matching = [one for one in schema["enum"] if isinstance(one, str) and _same(one, value)]
        return matching[0] if len(matching) == 1 else value
    for option in schema.get("anyOf", ()):
        if option.get("type") == _json_type(value):
            return fit_to_schema(value, option)
    return value


def _same(name: str, other: str) -> bool:
    return name.casefold() == other.strip().strip("\"'").strip().casefold()


def _json_type(value: Any) -> str:
    match value:
        case dict():
            return "object"
        case list():
            return "array"
        case str():
            return "string"
        case _:
            return ""
