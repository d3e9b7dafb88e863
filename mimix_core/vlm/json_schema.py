"""A pydantic model's JSON schema in the strict form that providers' structured outputs take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from mimix_core.errors import BadInput

# Keywords that OpenAI's strict mode or Gemini do not take. What they would check, reading the
# answer with the model checks.
_DROPPED = {
    "default",
    "title",
    "minLength",
    "maxLength",
    "uniqueItems",
    "minProperties",
    "maxProperties",
}


def strict_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Every object closed and all its fields required; references resolved.

    Raises BadInput for a model that refers to itself or holds a mapping: it has no strict form.
    """
    schema = model.model_json_schema()
    strict: dict[str, Any] = _strict(schema, schema.get("$defs", {}), ())
    return strict


def _strict(node: Any, known: Mapping[str, Any], within: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_strict(item, known, within) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        if name in within:
            raise BadInput(f"the answer model {name} refers to itself")
        said = {key: value for key, value in node.items() if key != "$ref"}
        return _strict({**known[name], **said}, known, (*within, name))
    found: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            found[key] = {name: _strict(item, known, within) for name, item in value.items()}
        elif key == "const":
            found["enum"] = [value]
        elif key not in _DROPPED and key != "$defs":
            found[key] = value if key in ("enum", "required") else _strict(value, known, within)
    if found.get("type") == "object":
        if "properties" not in found:
            raise BadInput("an answer model may hold no mapping: its schema has no strict form")
        found["required"] = list(found["properties"])
        found["additionalProperties"] = False
    return found
