"""Export the dataset to a folder that another trainer, or ``datasets``, reads as it is.

The folder appears when it is complete: until then its files are in ``.FOLDER.part`` beside it,
where an interrupted export goes on. ``trainer_layouts`` says what each format's files hold.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mimix_core import tables
from mimix_core.domain.splits import Split
from mimix_core.engine import progress
from mimix_core.engine.artifacts import TableRef, digest_file
from mimix_core.engine.atomic_io import atomic_write_bytes, fsync_path
from mimix_core.engine.locks import try_exclusive_lock
from mimix_core.errors import BadInput, StageFailed
from mimix_core.stages.dataset.dataset_card import CARD_FILE
from mimix_core.stages.dataset.trainer_layouts import (
    ExportFormat,
    SampleKind,
    layout_files,
    order_samples,
    starting_note,
    video_path,
)
from mimix_core.tables import DatasetRow

EXPORT_RECORD = ".mimix-export.json"
"""Says what a complete folder holds, so that the same export need not be made again."""

# Free space beyond the videos' own, for metadata and the file system.
_SPARE_BYTES = 100_000_000
_LOCK_FILE = ".lock"
_UNFINISHED = ".unfinished"


class VideoTransfer(StrEnum):
    """How videos get from the store into an exported folder."""

    COPY = "copy"
    LINK = "link"


@dataclass(frozen=True)
class DatasetExport:
    """A written export: the number of videos by split and kind, and their size in bytes."""

    folder: Path
    counts: Mapping[tuple[str, str], int]
    size: int

    @property
    def videos(self) -> int:
        return sum(self.counts.values())


def export_dataset(
    dataset: TableRef,
    store_root: Path,
    folder: Path,
    *,
    export_format: ExportFormat = ExportFormat.HF,
    transfer: VideoTransfer = VideoTransfer.COPY,
    splits: Iterable[str] = tuple(Split),
    kinds: Iterable[str] = tuple(SampleKind),
) -> DatasetExport:
    """Export the usable samples of these splits and kinds to ``folder``: new, or an empty one.

    Each video is compared with its digest. A folder that holds just this export already is left as
    it is. Raises BadInput when the folder holds anything else, another process exports to it, no
    sample is selected, the disk is too small or hard links are not possible; StageFailed for a
    video that is missing from the store or has changed.
    """
    splits, kinds = set(splits), set(kinds)
    rows = order_samples(
        row
        for row in tables.usable(tables.read(dataset.path, tables.DATASET))
        if row["split"] in splits and row["kind"] in kinds
    )
    if not rows:
        raise BadInput(
            f"the dataset has no {' or '.join(sorted(kinds))} samples in "
            f"{' or '.join(sorted(splits))}",
            where=str(dataset.path),
            fix="Leave out --split or --kind, or see the reasons in the dataset's card.",
        )
    folder = folder.absolute()
    size = _total_size(rows, store_root)
    texts = layout_files(export_format, rows, folder)
    card = dataset.folder / CARD_FILE
    if card.is_file():
        body = card.read_text(encoding="utf-8")
        texts[CARD_FILE] = _export_card(body, rows, export_format, folder)
    digests = {video_path(row): row["sha256"] for row in rows}
    content = json.dumps([digests, texts], sort_keys=True).encode()
    record = json.dumps({"format": export_format, "content": hashlib.sha256(content).hexdigest()})
    result = DatasetExport(folder, Counter((row["split"], row["kind"]) for row in rows), size)
    if _holds_export(folder, record):
        return result
    part = folder.with_name(f".{folder.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    lock = try_exclusive_lock(part / _LOCK_FILE)
    if lock is None:
        raise BadInput("another export writes to it", where=str(folder), fix="Wait for its end.")
    with lock:
        missing = _missing_videos(rows, part)
        if transfer is VideoTransfer.COPY:
            _check_space(missing, store_root, folder)
        _remove_others(part, {*digests, *texts, _LOCK_FILE})
        for done, row in enumerate(missing, 1):
            _transfer_video(store_root / row["video"], part / video_path(row), row, transfer)
            progress.report_progress(len(rows) - len(missing) + done, len(rows), row["split"])
        for name, text in texts.items():
            atomic_write_bytes(part / name, text.encode(), durable=False)
        atomic_write_bytes(part / EXPORT_RECORD, record.encode())
        _flush(part, texts)
        part.rename(folder)
        (folder / _LOCK_FILE).unlink()
        fsync_path(folder.parent)
    return result


def _holds_export(folder: Path, record: str) -> bool:
    """Return whether the folder holds this export. Raises BadInput if it holds anything else."""
    if not folder.is_dir():
        if os.path.lexists(folder):
            raise BadInput("is not a folder", where=str(folder), fix="Give the path of a folder.")
        return False
    found = folder / EXPORT_RECORD
    if found.is_file() and found.read_text(encoding="utf-8") == record:
        return True
    if any(folder.iterdir()):
        held = "another export" if found.is_file() else "other files"
        raise BadInput(
            f"already exists and holds {held}",
            where=str(folder),
            fix="Give the path of a new or empty folder.",
        )
    return False


def _total_size(rows: Sequence[DatasetRow], store_root: Path) -> int:
    """Return the size of the videos in bytes. Raises StageFailed if one is missing."""
    size = 0
    for row in rows:
        try:
            size += (store_root / row["video"]).stat().st_size
        except OSError as error:
            raise _changed(store_root / row["video"], "is missing") from error
    return size


def _check_space(rows: Sequence[DatasetRow], store_root: Path, folder: Path) -> None:
    """Raise BadInput when the videos do not fit on the disk."""
    size = _total_size(rows, store_root)
    free = shutil.disk_usage(folder.parent).free
    if free < size + _SPARE_BYTES:
        raise BadInput(
            f"{len(rows)} videos of {size / 1e9:.1f} GB do not fit: {free / 1e9:.1f} GB are free",
            where=str(folder.parent),
            fix="Choose a folder on a larger disk, export fewer splits or kinds, or use "
            "--videos link on the store's own disk.",
        )


def _missing_videos(rows: Sequence[DatasetRow], part: Path) -> list[DatasetRow]:
    """Return the samples whose videos an interrupted export has not brought here yet."""
    return [
        row
        for row in rows
        if not (part / video_path(row)).is_file()
        or digest_file(part / video_path(row)) != row["sha256"]
    ]


def _remove_others(part: Path, names: set[str]) -> None:
    """Remove files of an interrupted export that this one does not have."""
    for path in part.rglob("*"):
        if not path.is_dir() and path.relative_to(part).as_posix() not in names:
            path.unlink()
    for path in sorted((p for p in part.rglob("*") if p.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()


def _transfer_video(source: Path, target: Path, row: DatasetRow, transfer: VideoTransfer) -> None:
    """Copy or link a video; its name appears when its bytes are complete and verified."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(target.name + _UNFINISHED)
    if transfer is VideoTransfer.LINK:
        _link(source, unfinished)
    else:
        shutil.copyfile(source, unfinished)
        fsync_path(unfinished)
    if digest_file(unfinished) != row["sha256"]:
        unfinished.unlink()
        raise _changed(source, "has changed since it was made")
    unfinished.replace(target)


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        raise BadInput(
            f"hard links to the store are not possible here ({os.strerror(error.errno)})",
            where=str(target.parent),
            fix="Export to the disk of the workspace, or use --videos copy.",
        ) from error


def _flush(part: Path, texts: Iterable[str]) -> None:
    """Flush the text files and all folders to disk; the videos are there already."""
    for name in texts:
        fsync_path(part / name)
    for path in (part, *(path for path in part.rglob("*") if path.is_dir())):
        fsync_path(path)


def _changed(video: Path, what: str) -> StageFailed:
    return StageFailed(f"{video} {what}. Run `mimix augment` again, then export")


def _export_card(
    card: str, rows: Sequence[DatasetRow], export_format: ExportFormat, folder: Path
) -> str:
    """Return the dataset's card with what is in this folder and how to use it."""
    _, _, body = card.removeprefix("---\n").partition("\n---\n")
    present = {row["split"] for row in rows}
    found = [split for split in Split if split in present]
    counts = Counter((row["split"], row["kind"]) for row in rows)
    content = ", ".join(
        f"{counts[split, kind]} {kind}s in {split}"
        for split in found
        for kind in SampleKind
        if counts[split, kind]
    )
    note = (
        f"This folder holds {content}, laid out for {export_format}. "
        f"{starting_note(export_format, rows, folder)}\n\n"
        "The text below describes the complete dataset, and the columns of its manifest."
    )
    head = _datasets_header(found) + "\n\n" if export_format is ExportFormat.HF else ""
    return f"{head}{note}\n{body}"


def _datasets_header(splits: Sequence[Split]) -> str:
    """Return the header of a card that tells ``datasets`` the splits."""
    names = {Split.TRAIN: "train", Split.VAL: "validation", Split.TEST: "test"}
    header = ["---", "configs:", "- config_name: default", "  data_files:"]
    for split in splits:
        header += [f"  - split: {names[split]}", f"    path: {split}/**"]
    return "\n".join([*header, "task_categories:", "- text-to-video", "---"])
