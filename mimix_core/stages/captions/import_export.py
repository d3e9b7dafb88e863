"""Captions to and from files that people edit and trainers read.

``jsonl``: one line a clip, rejected and failed ones too, in ``captions.jsonl``; ``video_path`` and
``caption`` are what musubi-tuner reads. ``txt``: the clip's video and its caption in two files of
one name, as kohya's scripts and musubi-tuner want them, and a ``metadata.csv`` with the columns
``video`` and ``prompt`` for DiffSynth-Studio, which is never read back.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from mimix_core.domain.caption_grammar import (
    BadCaption,
    Caption,
    CharacterAction,
    Variant,
    parse,
    render,
)
from mimix_core.engine.artifacts import Frozen
from mimix_core.engine.atomic_io import write_whole
from mimix_core.errors import BadInput
from mimix_core.stages.captions.caption_rows import caption_of
from mimix_core.stages.captions.overrides import plainly
from mimix_core.tables import Row, Status

Format = Literal["jsonl", "txt"]

JSONL = "captions.jsonl"
METADATA = "metadata.csv"


class Line(Frozen):
    """A clip's caption in the editable file. ``caption``: ``actions`` and the rest as ``variant``.

    Edit either the caption or its parts: whichever changed counts.
    """

    clip_id: str
    video_path: str
    caption: str
    actions: tuple[CharacterAction, ...]
    context: str
    style: str
    variant: Variant = Variant.BOTH
    status: str = Status.OK.value
    reason: str = ""
    detail: str = ""
    backend: str = ""


def line_of(row: Row, video: Path, variant: Variant) -> Line:
    """A row of the captions table as a line."""
    caption = caption_of(row)
    return Line(
        clip_id=row["clip_id"],
        video_path=str(video),
        caption=render(caption, variant) if caption is not None else "",
        actions=caption.actions if caption is not None else (),
        context=row["context"],
        style=row["style"],
        variant=variant,
        status=row["status"],
        reason=row["reason"] or "",
        detail=row["detail"] or "",
        backend=row["backend"],
    )


def write_jsonl(folder: Path, lines: Iterable[Line]) -> Path:
    """``captions.jsonl`` in ``folder``, sorted by clip."""
    ordered = sorted(lines, key=lambda line: line.clip_id)
    write_whole(folder / JSONL, "".join(f"{line.model_dump_json()}\n" for line in ordered).encode())
    return folder / JSONL


def read_jsonl(path: Path) -> list[Line]:
    """Lines of an edited file. Raises BadInput naming each that is none."""
    lines, wrong = [], []
    # Only a line feed ends a line: a caption may hold other characters that Python splits at.
    for number, text in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if text.strip():
            try:
                lines.append(Line.model_validate_json(text))
            except ValidationError as error:
                wrong.append(f"line {number}: {plainly(error)}")
    if wrong:
        raise BadInput("; ".join(wrong), where=str(path), fix="Correct the file")
    return lines


def write_sidecars(folder: Path, lines: Iterable[Line], *, copy: bool) -> int:
    """Each usable clip's video, as a link or a copy, and its caption beside it; gives how many.

    Clips without a caption have no files: a trainer would take them for captioned with nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    usable = sorted(
        (line for line in lines if line.status == Status.OK), key=lambda line: line.clip_id
    )
    for line in usable:
        source = Path(line.video_path)
        video = folder / f"{line.clip_id}{source.suffix}"
        video.unlink(missing_ok=True)
        if copy:
            shutil.copyfile(source, video)
        else:
            video.symlink_to(source)
        write_whole(folder / f"{line.clip_id}.txt", line.caption.encode())
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["video", "prompt"])
    writer.writerows(
        [f"{line.clip_id}{Path(line.video_path).suffix}", line.caption] for line in usable
    )
    write_whole(folder / METADATA, table.getvalue().encode())
    return len(usable)


def read_sidecars(folder: Path) -> dict[str, str]:
    """clip_id -> caption of each ``.txt`` in a folder; what editors add at the end is taken off."""
    return {
        path.stem: path.read_text(encoding="utf-8-sig").strip()
        for path in sorted(folder.glob("*.txt"))
    }


def edited_lines(current: Mapping[str, Row], lines: Sequence[Line]) -> dict[str, str]:
    """clip_id -> the caption of each line that says something else than its row in ``current``.

    An emptied caption is ``""``: the clip is to be left out. Raises BadInput naming each line of an
    unknown clip or without a valid caption.
    """
    found: dict[str, str] = {}
    wrong: list[str] = []
    for line in lines:
        row = current.get(line.clip_id)
        if row is None:
            wrong.append(f"{line.clip_id}: no such clip")
            continue
        try:
            caption = _edited(line, line_of(row, Path(line.video_path), line.variant))
        except (ValidationError, BadCaption) as error:
            wrong.append(f"{line.clip_id}: {plainly(error)}")
        except ValueError as error:
            wrong.append(f"{line.clip_id}: {error}")
        else:
            if caption is not None:
                found[line.clip_id] = caption
    if wrong:
        raise BadInput("\n".join(wrong), fix="Correct the captions; nothing was imported")
    return found


def _edited(line: Line, was: Line) -> str | None:
    """The new caption, or None when nothing was edited."""
    text_changed = line.caption.strip() != was.caption
    parts = (line.actions, line.context, line.style)
    parts_changed = parts != (was.actions, was.context, was.style)
    if not text_changed and not parts_changed:
        return None
    if text_changed and not line.caption.strip() and not parts_changed:
        return ""
    from_parts = None
    if parts_changed:
        from_parts = Caption.model_validate(
            {
                "actions": [action.model_dump() for action in line.actions],
                "context": line.context,
                "style": line.style,
            }
        )
    if not text_changed:
        assert from_parts is not None
        return render(from_parts)
    if from_parts is not None and render(from_parts, line.variant) == line.caption.strip():
        return render(from_parts)
    if from_parts is not None:
        raise ValueError("caption and actions were both edited, and say different things")
    if line.variant is not Variant.BOTH:
        raise ValueError(f"variant {line.variant.value} has no tags to read: edit the actions")
    return render(parse(line.caption.strip()))


def edited_sidecars(current: Mapping[str, Row], texts: Mapping[str, str]) -> dict[str, str]:
    """As ``edited_lines``, for sidecars; a text in any variant of the row's caption is unedited."""
    found: dict[str, str] = {}
    wrong: list[str] = []
    for name, text in texts.items():
        row = current.get(name)
        if row is None:
            wrong.append(f"{name}.txt: no such clip")
            continue
        caption = caption_of(row)
        if caption is not None and text in {render(caption, variant) for variant in Variant}:
            continue
        try:
            found[name] = render(parse(text)) if text else ""
        except BadCaption as error:
            wrong.append(f"{name}.txt: {error}")
    if wrong:
        raise BadInput("\n".join(wrong), fix="Correct the captions; nothing was imported")
    return found
