"""Export captions to files that people edit and trainers read, and find what was edited.

``jsonl``: one line per clip, including rejected and failed ones, in ``captions.jsonl``;
musubi-tuner reads its ``video_path`` and ``caption``. ``txt``: each clip's video and its caption in
two files of one name, as kohya's scripts and musubi-tuner require, and a ``metadata.csv`` with the
columns ``video`` and ``prompt`` for DiffSynth-Studio, which is never imported.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from mimix_core.domain.caption_grammar import (
    BadCaption,
    Caption,
    CaptionVariant,
    CharacterAction,
    caption_from_row,
    parse_caption,
    render_caption,
)
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.atomic_io import atomic_write_bytes
from mimix_core.engine.input_files import read_utf8_text
from mimix_core.errors import BadInput
from mimix_core.stages.captions.overrides import format_validation_error
from mimix_core.tables import CaptionRow, Status

JSONL_NAME = "captions.jsonl"
METADATA_NAME = "metadata.csv"


class ExportedCaption(FrozenModel):
    """A clip's caption in ``captions.jsonl``. ``caption``: the parts rendered as ``variant``.

    Either the caption or its parts can be edited.
    """

    clip_id: str
    video_path: str
    caption: str
    actions: tuple[CharacterAction, ...]
    context: str
    style: str
    variant: CaptionVariant = CaptionVariant.BOTH
    status: str = Status.OK.value
    reason: str = ""
    detail: str = ""
    backend: str = ""


def export_row(row: CaptionRow, video: Path, variant: CaptionVariant) -> ExportedCaption:
    """Convert a row of the captions table to its exported form."""
    caption = caption_from_row(row)
    return ExportedCaption(
        clip_id=row["clip_id"],
        video_path=str(video),
        caption=render_caption(caption, variant) if caption is not None else "",
        actions=caption.actions if caption is not None else (),
        context=row["context"],
        style=row["style"],
        variant=variant,
        status=row["status"],
        reason=row["reason"] or "",
        detail=row["detail"] or "",
        backend=row["backend"],
    )


def write_captions_jsonl(folder: Path, captions: Iterable[ExportedCaption]) -> Path:
    """Write ``captions.jsonl`` to ``folder``, sorted by clip, and return its path."""
    ordered = sorted(captions, key=lambda caption: caption.clip_id)
    lines = "".join(f"{caption.model_dump_json()}\n" for caption in ordered)
    atomic_write_bytes(folder / JSONL_NAME, lines.encode())
    return folder / JSONL_NAME


def read_captions_jsonl(path: Path) -> list[ExportedCaption]:
    """Read an edited ``captions.jsonl``. Raises BadInput listing every invalid line."""
    captions, problems = [], []
    # Only a line feed ends a line: captions may contain other characters that splitlines splits at.
    for number, text in enumerate(read_utf8_text(path).split("\n"), start=1):
        if text.strip():
            try:
                captions.append(ExportedCaption.model_validate_json(text))
            except ValidationError as error:
                problems.append(f"line {number}: {format_validation_error(error)}")
    if problems:
        raise BadInput("; ".join(problems), where=str(path), fix="Correct the file")
    return captions


def write_caption_sidecars(folder: Path, captions: Iterable[ExportedCaption], *, copy: bool) -> int:
    """Write each usable clip's video, as a link or a copy, and its caption; return their number.

    Clips without a caption are left out: a trainer would train them with an empty caption.
    """
    folder.mkdir(parents=True, exist_ok=True)
    usable = sorted(
        (caption for caption in captions if caption.status == Status.OK),
        key=lambda caption: caption.clip_id,
    )
    for caption in usable:
        source = Path(caption.video_path)
        video = folder / f"{caption.clip_id}{source.suffix}"
        video.unlink(missing_ok=True)
        if copy:
            shutil.copyfile(source, video)
        else:
            video.symlink_to(source)
        atomic_write_bytes(folder / f"{caption.clip_id}.txt", caption.caption.encode())
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["video", "prompt"])
    writer.writerows(
        [f"{caption.clip_id}{Path(caption.video_path).suffix}", caption.caption]
        for caption in usable
    )
    atomic_write_bytes(folder / METADATA_NAME, table.getvalue().encode())
    return len(usable)


def read_caption_sidecars(folder: Path) -> dict[str, str]:
    """Map clip_id to the caption of each ``.txt`` in a folder, without surrounding whitespace."""
    return {path.stem: read_utf8_text(path).strip() for path in sorted(folder.glob("*.txt"))}


def find_edited_captions(
    current: Mapping[str, CaptionRow], captions: Sequence[ExportedCaption]
) -> dict[str, str]:
    """Map clip_id to the new caption, for each exported caption that differs from ``current``.

    An emptied caption is ``""``: the clip is to be left out. Raises BadInput listing every unknown
    clip, every invalid caption and every clip with two lines that differ.
    """
    edited: dict[str, str] = {}
    problems: list[str] = []
    earlier: dict[str, ExportedCaption] = {}
    for caption in captions:
        if earlier.setdefault(caption.clip_id, caption) != caption:
            problems.append(f"{caption.clip_id}: two lines that differ")
            continue
        row = current.get(caption.clip_id)
        if row is None:
            problems.append(f"{caption.clip_id}: no such clip")
            continue
        try:
            original = export_row(row, Path(caption.video_path), caption.variant)
            text = _edited_text(caption, original)
        except (ValidationError, BadCaption) as error:
            problems.append(f"{caption.clip_id}: {format_validation_error(error)}")
        except ValueError as error:
            problems.append(f"{caption.clip_id}: {error}")
        else:
            if text is not None:
                edited[caption.clip_id] = text
    if problems:
        raise BadInput("\n".join(problems), fix="Correct the captions; nothing was imported")
    return edited


def _edited_text(edited: ExportedCaption, original: ExportedCaption) -> str | None:
    """Return the new caption, or None if nothing was edited. Raises ValueError, BadCaption."""
    text = edited.caption.strip()
    text_changed = text != original.caption
    parts_changed = (edited.actions, edited.context, edited.style) != (
        original.actions,
        original.context,
        original.style,
    )
    if not text_changed and not parts_changed:
        return None
    if text_changed and not text and not parts_changed:
        return ""
    from_parts = None
    if parts_changed:
        from_parts = Caption.model_validate(
            {
                "actions": [action.model_dump() for action in edited.actions],
                "context": edited.context,
                "style": edited.style,
            }
        )
    if not text_changed:
        assert from_parts is not None
        return render_caption(from_parts)
    if from_parts is not None and render_caption(from_parts, edited.variant) == text:
        return render_caption(from_parts)
    if from_parts is not None:
        raise ValueError("caption and actions were both edited, and differ")
    if edited.variant is not CaptionVariant.BOTH:
        raise ValueError(f"variant {edited.variant.value} has no tags to read: edit the actions")
    return render_caption(parse_caption(text))


def find_edited_sidecars(
    current: Mapping[str, CaptionRow], texts: Mapping[str, str]
) -> dict[str, str]:
    """Do the same for sidecars; a text equal to any variant of the row's caption is unedited."""
    edited: dict[str, str] = {}
    problems: list[str] = []
    for name, text in texts.items():
        row = current.get(name)
        if row is None:
            problems.append(f"{name}.txt: no such clip")
            continue
        caption = caption_from_row(row)
        if caption is not None and text in {
            render_caption(caption, variant) for variant in CaptionVariant
        }:
            continue
        try:
            edited[name] = render_caption(parse_caption(text)) if text else ""
        except BadCaption as error:
            problems.append(f"{name}.txt: {error}")
    if problems:
        raise BadInput("\n".join(problems), fix="Correct the captions; nothing was imported")
    return edited
