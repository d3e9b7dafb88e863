"""Compute stage keys: a key changes if and only if something the result depends on changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mimix_core.engine.artifacts import FileRef, TableRef


class ExcludeFromKey:
    """Mark a settings field that changes how a stage runs but not its result.

    ``workers: Annotated[int, ExcludeFromKey()] = 2`` is not part of the stage key.
    """


class OmitDefault:
    """Mark an input or a setting that is in the stage key only while it is not its default.

    For one that was added to a stage later: results from before it existed remain valid.
    """


def canonical_json(value: Any) -> Any:
    """Reduce a value to the plain JSON that a stage key covers.

    Files and tables enter by content digest, never by path, and a table that was computed again
    with the same rows and files is the same table; fields marked ``ExcludeFromKey`` are
    left out. Raises TypeError for a bare path (wrap it in a FileRef, since a path does not identify
    content) and for anything without a canonical JSON form.
    """
    if isinstance(value, FileRef):
        return {"file": value.sha256}
    if isinstance(value, TableRef):
        return {"table": value.content or value.sha256}
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            name: canonical_json(getattr(value, name))
            for name in sorted(fields)
            if not is_excluded(fields[name], getattr(value, name))
        }
    if isinstance(value, Enum):
        return canonical_json(value.value)
    if isinstance(value, Fraction):
        return {"fraction": [value.numerator, value.denominator]}
    if isinstance(value, Decimal):
        return canonical_json(Fraction(value))
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise TypeError("only text keys can be part of a stage key")
        return {name: canonical_json(value[name]) for name in sorted(value)}
    if isinstance(value, list | tuple):
        return [canonical_json(item) for item in value]
    if isinstance(value, float):
        # repr round-trips; json would write 1.0 and 1 alike in some readers.
        return {"float": repr(value)}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, PurePath):
        raise TypeError(f"{value}: a bare path cannot be part of a stage key; use a FileRef")
    raise TypeError(f"{type(value).__name__} cannot be part of a stage key")


def is_excluded(field: FieldInfo, value: object) -> bool:
    """Return whether a field of a model with this value is not part of the stage key."""
    if any(isinstance(marker, ExcludeFromKey) for marker in field.metadata):
        return True
    omits_default = any(isinstance(marker, OmitDefault) for marker in field.metadata)
    return omits_default and value == field.get_default(call_default_factory=True)


def stage_key(stage: str, version: int, inputs: BaseModel, settings: BaseModel) -> str:
    """Hash stage name and version, the inputs' content and the settings that affect the result."""
    preimage = {
        "stage": stage,
        "version": version,
        "inputs": canonical_json(inputs),
        "settings": canonical_json(settings),
    }
    text = json.dumps(preimage, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def key_parts(inputs: BaseModel, settings: BaseModel) -> dict[str, str]:
    """Split what a stage key covers into named parts, to say later which of them changed.

    Numbers and truth values are parts as they are, everything else as a short digest: texts may be
    long, and nobody expects them in a record.
    """
    parts: dict[str, str] = {}

    def collect(name: str, value: Any) -> None:
        leaf = not isinstance(value, dict) or set(value) <= {"file", "table", "fraction", "float"}
        if not leaf:
            for key in value:
                collect(f"{name}.{key}", value[key])
        elif isinstance(value, dict) and "float" in value:
            parts[name] = value["float"]
        elif value is None or isinstance(value, bool | int):
            parts[name] = json.dumps(value)
        else:
            text = json.dumps(value, sort_keys=True, ensure_ascii=True)
            parts[name] = f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    collect("inputs", canonical_json(inputs))
    collect("settings", canonical_json(settings))
    return parts


def changed_parts(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Describe the parts that differ, e.g. ``settings.width 832 -> 640``."""
    changes = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if old is None or new is None:
            changes.append(f"{name} {'added' if old is None else 'removed'}")
        elif old.startswith("sha256:") or new.startswith("sha256:"):
            changes.append(f"{name} changed")
        else:
            changes.append(f"{name} {old} -> {new}")
    return changes
