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

from mimix_core.engine.artifacts import FileRef, TableRef


class ExcludeFromKey:
    """Mark a settings field that changes how a stage runs but not its result.

    ``workers: Annotated[int, ExcludeFromKey()] = 2`` is not part of the stage key.
    """


def canonical_json(value: Any) -> Any:
    """Reduce a value to the plain JSON that a stage key covers.

    Files and tables enter by content digest, never by path; fields marked ``ExcludeFromKey`` are
    left out. Raises TypeError for a bare path (wrap it in a FileRef, since a path does not identify
    content) and for anything without a canonical JSON form.
    """
    if isinstance(value, FileRef):
        return {"file": value.sha256}
    if isinstance(value, TableRef):
        return {"table": value.sha256}
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            name: canonical_json(getattr(value, name))
            for name in sorted(fields)
            if not any(isinstance(marker, ExcludeFromKey) for marker in fields[name].metadata)
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
