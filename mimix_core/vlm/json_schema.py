"""Convert a pydantic model to the strict JSON schema of providers' structured outputs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from mimix_core.errors import BadInput

# Keywords that OpenAI's strict mode or Gemini reject. Validation of the response checks them.
_UNSUPPORTED = {
    "default",
    "title",
    "minLength",
    "maxLength",
    "uniqueItems",
    "minProperties",
    "maxProperties",
}


def strict_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema with closed objects, all fields required and references resolved.

    The schema is the caller's own and may be changed. Raises BadInput for a recursive model or one
    with a mapping, which have no strict form.
    """
    return copy.deepcopy(_generate(model))


@cache
def _generate(model: type[BaseModel]) -> dict[str, Any]:
    """Generate the schema once a model: it takes a millisecond, and each clip is a request."""
    schema = model.model_json_schema()
    strict: dict[str, Any] = _strict(schema, schema.get("$defs", {}), ())
    return strict


def _strict(node: Any, definitions: Mapping[str, Any], parents: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_strict(item, definitions, parents) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        if name in parents:
            raise BadInput(f"the response model {name} is recursive")
        overrides = {key: value for key, value in node.items() if key != "$ref"}
        return _strict({**definitions[name], **overrides}, definitions, (*parents, name))
    strict: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            strict[key] = {
                name: _strict(item, definitions, parents) for name, item in value.items()
            }
        elif key == "const":
            strict["enum"] = [value]
        elif key not in _UNSUPPORTED and key != "$defs":
            strict[key] = (
                value if key in ("enum", "required") else _strict(value, definitions, parents)
            )
    if strict.get("type") == "object":
        if "properties" not in strict:
            raise BadInput(
                "a response model must not contain a mapping, which has no strict schema"
            )
        strict["required"] = list(strict["properties"])
        strict["additionalProperties"] = False
    return strict
