"""Export the dataset to a plain folder: per split the videos, and a metadata file beside them.

``FOLDER/<split>/metadata.jsonl`` has one line per video: ``file_name``, relative to it, the caption
as ``text``, and the columns of the manifest that mean something outside the store. Originals are in
``original/``, composites in ``composite/``. ``datasets.load_dataset("videofolder", data_dir=...)``
reads it as it is.
"""

from __future__ import annotations

import json
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
from mimix_core.errors import BadInput, StageFailed
from mimix_core.stages.dataset.dataset_card import CARD_FILE
from mimix_core.tables import DatasetRow, Row

METADATA_FILE = "metadata.jsonl"


class SampleKind(StrEnum):
    """What a sample is: a clip, or a composite of two."""

    ORIGINAL = "original"
    COMPOSITE = "composite"


_COLUMNS = (
    "sample_id",
    "kind",
    "split",
    "show",
    "style",
    "characters",
    "frames",
    "rate_num",
    "rate_den",
    "width",
    "height",
    "sha256",
    "episode_id",
    "source_episode_id",
    "pasted",
    "pasted_style",
    "rank",
    "caption_backend",
)
# Free space beyond the videos' own, for metadata and the file system.
_SPARE_BYTES = 100_000_000


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
    splits: Iterable[str] = tuple(Split),
    kinds: Iterable[str] = tuple(SampleKind),
) -> DatasetExport:
    """Copy the usable samples of these splits and kinds to ``folder``, which must not exist.

    The folder appears when it is complete; each video is compared with its digest. Raises BadInput
    when the folder exists, no sample is selected or the disk is too small, and StageFailed for a
    video that is missing from the store or has changed.
    """
    if folder.exists():
        raise BadInput("already exists", where=str(folder), fix="Give the path of a new folder.")
    splits, kinds = set(splits), set(kinds)
    rows = [
        row
        for row in tables.usable(tables.read(dataset.path, tables.DATASET))
        if row["split"] in splits and row["kind"] in kinds
    ]
    if not rows:
        raise BadInput(
            f"the dataset has no {' or '.join(sorted(kinds))} samples in "
            f"{' or '.join(sorted(splits))}",
            where=str(dataset.path),
            fix="Leave out --split or --kind, or see the reasons in the dataset's card.",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    size = _check_space(rows, store_root, folder)
    part = folder.with_name(f".{folder.name}.part")
    if part.exists():
        shutil.rmtree(part)
    try:
        for split in sorted({row["split"] for row in rows}):
            own = [row for row in rows if row["split"] == split]
            _write_split(own, store_root, part / split)
        card = dataset.folder / CARD_FILE
        if card.is_file():
            text = card.read_text(encoding="utf-8")
            (part / CARD_FILE).write_text(_export_card(text, rows), encoding="utf-8")
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    counts = Counter((row["split"], row["kind"]) for row in rows)
    return DatasetExport(folder, counts, size)


def _check_space(rows: Sequence[DatasetRow], store_root: Path, folder: Path) -> int:
    """Return the size of the videos. Raises BadInput when they do not fit on the disk."""
    size = 0
    for row in rows:
        try:
            size += (store_root / row["video"]).stat().st_size
        except OSError as error:
            raise _changed(store_root / row["video"], "is missing") from error
    free = shutil.disk_usage(folder.parent).free
    if free < size + _SPARE_BYTES:
        raise BadInput(
            f"{len(rows)} videos of {size / 1e9:.1f} GB do not fit: {free / 1e9:.1f} GB are free",
            where=str(folder.parent),
            fix="Choose a folder on a larger disk, or export fewer splits or kinds.",
        )
    return size


def _write_split(rows: Sequence[DatasetRow], store_root: Path, folder: Path) -> None:
    lines = []
    for row in sorted(rows, key=lambda row: (row["kind"] != SampleKind.ORIGINAL, row["sample_id"])):
        source = store_root / row["video"]
        name = f"{row['kind']}/{row['sample_id']}{source.suffix}"
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        if digest_file(target) != row["sha256"]:
            raise _changed(source, "has changed since it was made")
        columns: Row = {**row}
        line = {"file_name": name, "text": row["caption"]}
        lines.append(line | {column: columns[column] for column in _COLUMNS})
        progress.report_progress(len(lines), len(rows), folder.name)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / METADATA_FILE).write_text(text, encoding="utf-8")


def _changed(video: Path, what: str) -> StageFailed:
    return StageFailed(f"{video} {what}. Run `mimix augment` again, then export")


def _export_card(card: str, rows: Sequence[DatasetRow]) -> str:
    """Return the dataset's card with a header for this folder's files, and what is in it."""
    _, _, body = card.removeprefix("---\n").partition("\n---\n")
    present = {row["split"] for row in rows}
    found = [split for split in Split if split in present]
    names = {Split.TRAIN: "train", Split.VAL: "validation", Split.TEST: "test"}
    header = ["---", "configs:", "- config_name: default", "  data_files:"]
    for split in found:
        header += [f"  - split: {names[split]}", f"    path: {split}/**"]
    header += ["task_categories:", "- text-to-video", "---"]
    counts = Counter((row["split"], row["kind"]) for row in rows)
    content = ", ".join(
        f"{counts[split, kind]} {kind}s in {split}"
        for split in found
        for kind in SampleKind
        if counts[split, kind]
    )
    note = (
        f"This folder holds {content}. `<split>/{METADATA_FILE}` names each video and its caption. "
        "The text below describes the complete dataset, and the columns of its manifest."
    )
    return "\n".join(header) + f"\n\n{note}\n" + body
