"""Captions that a person wrote: one JSON line a clip, in the file ``captions.overrides`` names.

``{"clip_id": "...", "caption": "[Character: Tom], runs. [scene-style:cartoon]"}``; an empty caption
leaves the clip out. ``mimix captions import`` writes the file; it may be edited as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from mimix_core.domain.caption_grammar import BadCaption, parse
from mimix_core.engine.artifacts import Frozen
from mimix_core.engine.atomic_io import write_whole
from mimix_core.errors import BadInput


class HandCaption(Frozen):
    clip_id: str
    caption: str


def read_overrides(path: Path) -> dict[str, str]:
    """clip_id -> caption. Raises BadInput naming each line that is none."""
    found: dict[str, str] = {}
    wrong: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            one = HandCaption.model_validate_json(line)
            if one.caption:
                parse(one.caption)
        except (ValidationError, BadCaption) as error:
            wrong.append(f"line {number}: {plainly(error)}")
            continue
        if found.setdefault(one.clip_id, one.caption) != one.caption:
            wrong.append(f"line {number}: {one.clip_id} stands there twice, with two captions")
    if wrong:
        raise BadInput("; ".join(wrong), where=str(path), fix="Correct the file and run again")
    return found


def write_overrides(path: Path, captions: Mapping[str, str]) -> None:
    """Write the whole file anew, sorted by clip, in one step."""
    lines = [
        json.dumps({"clip_id": name, "caption": captions[name]}, ensure_ascii=False)
        for name in sorted(captions)
    ]
    write_whole(path, "".join(f"{line}\n" for line in lines).encode())


def plainly(error: ValidationError | BadCaption) -> str:
    """What is wrong, without the words of the library that found it."""
    if isinstance(error, BadCaption):
        return str(error)
    return ", ".join(
        f"{'.'.join(map(str, one['loc'])) or 'the line'}: "
        + one["msg"].removeprefix("Value error, ")
        for one in error.errors()
    )
