"""Compare two finished workspaces: are all tables equal row by row, and all files byte by byte?

``python perf/compare_runs.py OLD NEW`` reads the Parquet tables and the records of both stores and
needs the code of neither version. It is meant for changes that must not change results: run ``make
demo`` with the commit before and the commit after on one machine, then compare. Stage keys may
differ.

Columns and values that were renamed on purpose are listed in ``RENAMED_COLUMNS`` and
``RENAMED_VALUES``. The text of ``detail`` is prose for people: a changed text is printed and
counted, and is not a difference. Files are compared by content; of safetensors files whose bytes
differ, tensors and metadata are compared apart, since the metadata names stage keys.

Exits with 1 when anything differs.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import pyarrow.parquet as pq

RENAMED_COLUMNS: dict[str, dict[str, str]] = {}
"""By table: the old name of a column and its new one."""

RENAMED_VALUES: dict[tuple[str, str], dict[Any, Any]] = {}
"""By table and (new) column: an old value and its new one."""

RENAMED_UNITS: dict[str, str] = {}
"""Units whose display name changed."""

PAGES = ("report",)
"""Stages whose files are pages for people: their text may change, so only rows are compared."""

GENERATED = ("videos", "samples")
"""Stages whose videos carry their recipe as metadata, with digests that follow stage keys: their
``sha256`` is not compared, and the videos are compared by their compressed frames."""

TEXTS = (".md", ".log")
"""Files for people, whose text may change: a changed one is counted, and is not a difference."""

KEY = re.compile(r"\b[0-9a-f]{64}\b")


@dataclass
class Result:
    """One committed result: its record, its rows and the digests of its files."""

    folder: Path
    record: dict[str, Any]
    units: dict[str, str]
    """Stage and unit of each stage key in the store: what a key in a path stands for."""

    def without_keys(self, text: str) -> str:
        """Replace stage keys by the stage and unit they belong to."""
        return KEY.sub(lambda match: self.units.get(match[0], match[0]), text)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Read the rows, with the old names of columns and values replaced."""
        columns = RENAMED_COLUMNS.get(table, {})
        rows = []
        for row in pq.read_table(self.folder / "table.parquet").to_pylist():
            renamed = {columns.get(name, name): value for name, value in row.items()}
            for name, value in renamed.items():
                values = RENAMED_VALUES.get((table, name), {})
                if isinstance(value, str | int) and value in values:
                    renamed[name] = values[value]
                elif isinstance(value, str) and name != "sha256":
                    renamed[name] = self.without_keys(value)
            rows.append(renamed)
        return rows

    def plain_rows(self, path: Path) -> list[dict[str, Any]]:
        """Read the rows of another Parquet file, without keys in paths and without ``detail``."""
        return [
            {
                name: self.without_keys(value) if isinstance(value, str) else value
                for name, value in row.items()
                if name != "detail"
            }
            for row in pq.read_table(path).to_pylist()
        ]

    def files(self) -> dict[str, Path]:
        """Map each file of the result, except its table and record, by its name without keys."""
        return {
            self.without_keys(str(path.relative_to(self.folder))): path
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.name not in ("table.parquet", "stage.json")
        }


@dataclass
class Tally:
    """Count what was compared, and collect differences."""

    counts: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    details: Counter[tuple[str, str]] = field(default_factory=Counter)


def results(workspace: Path) -> dict[tuple[str, str], Result]:
    """Find the newest result of each stage and unit in a workspace's store."""
    found: dict[tuple[str, str], tuple[float, Result]] = {}
    units: dict[str, str] = {}
    for path in sorted((workspace / "store").glob("[!.]*/*/stage.json")):
        record = json.loads(path.read_text())
        unit = RENAMED_UNITS.get(record["unit"], record["unit"])
        units[record["key"]] = f"<{record['stage']} {unit}>"
        written = path.stat().st_mtime
        if (record["stage"], unit) not in found or found[record["stage"], unit][0] < written:
            result = Result(path.parent, record, units)
            found[record["stage"], unit] = (written, result)
    return {key: result for key, (_, result) in found.items()}


def compare_rows(name: str, old: Result, new: Result, stage: str, tally: Tally) -> None:
    """Compare two tables row by row; ``detail`` apart from the rest."""
    before, after = old.rows(stage), new.rows(stage)
    if len(before) != len(after):
        tally.differences.append(f"{name}: {len(before)} rows before, {len(after)} after")
        return
    for index, (row, other) in enumerate(zip(before, after, strict=True)):
        tally.counts["rows"] += 1
        if stage in GENERATED:
            row.pop("sha256"), other.pop("sha256")
        pair = (str(row.pop("detail")), str(other.pop("detail")))
        if pair[0] != pair[1]:
            tally.details[pair] += 1
        if row != other:
            columns = {c for c in row.keys() | other.keys() if row.get(c) != other.get(c)}
            said = "; ".join(f"{c}: {row.get(c)!r} -> {other.get(c)!r}" for c in sorted(columns))
            tally.differences.append(f"{name}, row {index}: {said[:400]}")


def compare_files(name: str, old: Result, new: Result, tally: Tally) -> None:
    """Compare the files of two results: bytes, or rows where a file's metadata names stage keys."""
    before, after = old.files(), new.files()
    if before.keys() != after.keys():
        tally.differences.append(f"{name}: files {sorted(before.keys() ^ after.keys())[:8]}")
    for path in sorted(before.keys() & after.keys()):
        was, now = before[path], after[path]
        tally.counts["files"] += 1
        if was.read_bytes() == now.read_bytes():
            tally.counts[f"equal {was.suffix}"] += 1
        elif was.suffix == ".safetensors":
            compare_tensors(f"{name}/{path}", was, now, tally)
        elif was.suffix == ".mp4" and packets(was) == packets(now):
            tally.counts["equal frames, other metadata"] += 1
        elif was.suffix == ".parquet" and old.plain_rows(was) == new.plain_rows(now):
            tally.counts["equal rows, other metadata"] += 1
        elif was.suffix in TEXTS:
            tally.counts[f"reworded {was.suffix}"] += 1
        else:
            tally.differences.append(f"{name}/{path}: other bytes")


def packets(path: Path) -> list[tuple[int | None, bytes]]:
    """Read the compressed frames of a video with their timestamps."""
    with av.open(str(path)) as container:
        return [(packet.pts, bytes(packet)) for packet in container.demux(video=0)]


def compare_tensors(name: str, old: Path, new: Path, tally: Tally) -> None:
    """Compare two safetensors files whose bytes differ: tensors as bytes, metadata by key."""
    (head, body), (other_head, other_body) = _safetensors(old), _safetensors(new)
    meta, other_meta = head.pop("__metadata__", {}), other_head.pop("__metadata__", {})
    if head != other_head or body != other_body:
        tally.differences.append(f"{name}: other tensors")
        return
    changed = sorted(k for k in meta.keys() | other_meta.keys() if meta.get(k) != other_meta.get(k))
    tally.counts["equal tensors, other metadata"] += 1
    print(f"{name}: equal tensors; metadata differs in {', '.join(changed)}")


def _safetensors(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="Workspace of the commit before the change.")
    parser.add_argument("new", type=Path, help="Workspace of the commit after it.")
    given = parser.parse_args()
    old, new = results(given.old), results(given.new)
    tally = Tally()
    for stage, unit in sorted(old.keys() | new.keys()):
        name = f"{stage} ({unit})"
        before, after = old.get((stage, unit)), new.get((stage, unit))
        if before is None or after is None:
            tally.differences.append(f"{name}: only {'after' if before is None else 'before'}")
            continue
        tally.counts["results"] += 1
        compare_rows(name, before, after, stage, tally)
        if stage not in PAGES:
            compare_files(name, before, after, tally)
    for (was, now), count in sorted(tally.details.items()):
        print(f"detail, {count} rows: {was!r} -> {now!r}")
    print(", ".join(f"{count} {what}" for what, count in sorted(tally.counts.items())))
    print(f"{len(tally.differences)} differences, {sum(tally.details.values())} reworded details")
    for difference in tally.differences:
        print(f"  {difference}")
    sys.exit(1 if tally.differences else 0)


if __name__ == "__main__":
    main()
