"""The stage key: changes when, and only when, something changes that the result depends on."""

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

from mimix_core.engine.artifacts import FileRef, TableRef


class Immaterial:
    """Marks a settings field that changes how a stage runs but not what it makes.

    ``workers: Annotated[int, Immaterial()] = 2`` stays out of the stage key.
    """


def identity(value: Any) -> Any:
    """What of ``value`` a result depends on, as plain JSON.

    Files and tables count by content digest and never by path; fields marked ``Immaterial`` do
    not count. Raises TypeError for a bare path (wrap it as a FileRef: a path says nothing about
    content) and for anything that has no canonical JSON.
    """
    if isinstance(value, FileRef):
        return {"file": value.sha256}
    if isinstance(value, TableRef):
        return {"table": value.sha256}
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            name: identity(getattr(value, name))
            for name in sorted(fields)
            if not any(isinstance(mark, Immaterial) for mark in fields[name].metadata)
        }
    if isinstance(value, Enum):
        return identity(value.value)
    if isinstance(value, Fraction):
        return {"fraction": [value.numerator, value.denominator]}
    if isinstance(value, Decimal):
        return identity(Fraction(value))
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise TypeError("only text keys can be part of a stage key")
        return {name: identity(value[name]) for name in sorted(value)}
    if isinstance(value, list | tuple):
        return [identity(item) for item in value]
    if isinstance(value, float):
        # repr round-trips; json would write 1.0 and 1 alike in some readers.
        return {"float": repr(value)}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, PurePath):
        raise TypeError(f"{value}: a bare path cannot be part of a stage key; use a FileRef")
    raise TypeError(f"{type(value).__name__} cannot be part of a stage key")


def stage_key(stage: str, version: int, inputs: BaseModel, settings: BaseModel) -> str:
    """sha256 over stage name and version, the inputs' content and the settings that matter."""
    preimage = {
        "stage": stage,
        "version": version,
        "inputs": identity(inputs),
        "settings": identity(settings),
    }
    text = json.dumps(preimage, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
