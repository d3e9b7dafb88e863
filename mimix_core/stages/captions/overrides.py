"""Captions written by hand: the JSON lines file that ``captions.overrides`` names.

``{"clip_id": "...", "caption": "[Character: Tom], runs. [scene-style:cartoon]"}``; an empty caption
leaves the clip out. ``mimix captions import`` writes the file; it can also be edited directly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from mimix_core.domain.caption_grammar import BadCaption, parse_caption
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.atomic_io import atomic_write_bytes
from mimix_core.engine.input_files import read_utf8_text
from mimix_core.errors import BadInput


class CaptionOverride(FrozenModel):
    """A caption written by hand for one clip; if empty, the clip is left out."""

    clip_id: str
    caption: str


def read_overrides(path: Path) -> dict[str, str]:
    """Map each clip_id to its caption. Raises BadInput listing every invalid line."""
    captions: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(read_utf8_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            override = CaptionOverride.model_validate_json(line)
            if override.caption:
                parse_caption(override.caption)
        except (ValidationError, BadCaption) as error:
            problems.append(f"line {number}: {format_validation_error(error)}")
            continue
        if captions.setdefault(override.clip_id, override.caption) != override.caption:
            problems.append(f"line {number}: a second, different caption of {override.clip_id}")
    if problems:
        raise BadInput("; ".join(problems), where=str(path), fix="Correct the file and run again")
    return captions


def write_overrides(path: Path, captions: Mapping[str, str]) -> None:
    """Replace the file atomically, sorted by clip."""
    lines = [
        json.dumps({"clip_id": name, "caption": captions[name]}, ensure_ascii=False)
        for name in sorted(captions)
    ]
    atomic_write_bytes(path, "".join(f"{line}\n" for line in lines).encode())


def format_validation_error(error: ValidationError | BadCaption) -> str:
    """Format the problems of an error on one line, without pydantic's own wording."""
    if isinstance(error, BadCaption):
        return str(error)
    return ", ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'the line'}: "
        + problem["msg"].removeprefix("Value error, ")
        for problem in error.errors()
    )
