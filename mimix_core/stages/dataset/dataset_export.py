"""Export the dataset to a folder that another trainer, or ``datasets``, reads as it is.

``trainer_layouts`` says what each format's files hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimix_core import tables
from mimix_core.domain.splits import Split
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.folder_export import ExportedFile, FileTransfer, export_folder
from mimix_core.errors import BadInput
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
    transfer: FileTransfer = FileTransfer.COPY,
    splits: Iterable[str] = tuple(Split),
    kinds: Iterable[str] = tuple(SampleKind),
) -> DatasetExport:
    """Export the usable samples of these splits and kinds to ``folder``: new, or an empty one.

    Raises BadInput when no sample is selected, and what ``export_folder`` raises.
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
    texts = layout_files(export_format, rows, folder)
    card = dataset.folder / CARD_FILE
    if card.is_file():
        body = card.read_text(encoding="utf-8")
        texts[CARD_FILE] = _export_card(body, rows, export_format, folder)
    files = {
        video_path(row): ExportedFile(store_root / row["video"], row["sha256"]) for row in rows
    }
    size = export_folder(folder, export_format, files, texts, transfer)
    return DatasetExport(folder, Counter((row["split"], row["kind"]) for row in rows), size)


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
