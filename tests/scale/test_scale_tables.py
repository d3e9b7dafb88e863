"""What grows with a library: rows are read a fixed number of times, and few bytes a clip stay."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mimix_core import tables
from mimix_core.engine.stage import StageRun, run_stage
from mimix_core.engine.store import Store
from mimix_core.settings import CompositeSettings, DatasetSettings
from mimix_core.stages.composites import stored_rows
from mimix_core.stages.composites.composite_sources import CompositeSources, load_sources
from mimix_core.stages.dataset import caption_lookup
from mimix_core.stages.dataset.stage import STAGE
from mimix_core.stages.report.run_tables import open_tables
from mimix_core.tables import parquet_io, sorted_rows
from perf import synthetic_library
from perf.synthetic_library import (
    SyntheticLibrary,
    composite_inputs,
    dataset_inputs,
    write_library,
)

SIZES = (1_085, 4_340)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> list[SyntheticLibrary]:
    folder = tmp_path_factory.mktemp("libraries")
    with pytest.MonkeyPatch.context() as patch:
        # So that these few clips are in several row groups, as millions are.
        patch.setattr(synthetic_library, "GROUP_ROWS", 256)
        return [write_library(folder / str(clips), clips) for clips in SIZES]


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Rows read so far, by table."""
    counts: Counter[str] = Counter()
    read_groups = parquet_io.read_groups

    def counting(
        path: Path, table: tables.Table[Any], columns: Sequence[str] | None = None
    ) -> Iterator[pa.Table]:
        for group in read_groups(path, table, columns):
            counts[table.name] += len(group)
            yield group

    for module in (parquet_io, tables):
        monkeypatch.setattr(module, "read_groups", counting)
    return counts


def plan_composites(library: SyntheticLibrary, _out: Path) -> object:
    return load_sources(composite_inputs(library), CompositeSettings())


def write_dataset(library: SyntheticLibrary, out: Path) -> object:
    settings = DatasetSettings(ratio=Decimal("0.05"))
    return run_stage(Store(out), STAGE, dataset_inputs(library), settings)


PARTS = {"plan": plan_composites, "dataset": write_dataset}


@pytest.mark.parametrize("part", PARTS)
def test_each_row_is_read_at_most_twice(
    part: str, libraries: list[SyntheticLibrary], rows_read: Counter[str], tmp_path: Path
) -> None:
    for library in libraries:
        rows_read.clear()
        PARTS[part](library, tmp_path / library.root.name)
        rows = {
            "clips": sum(ref.counts.rows_in for ref in library.clips),
            "captions": sum(ref.counts.rows_in for ref in (*library.captions, library.recaptions)),
            "cutouts": sum(ref.counts.rows_in for ref in library.cutouts),
            "composites": library.composites.counts.rows_in,
        }
        assert rows_read
        assert all(rows_read[name] <= 2 * count for name, count in rows.items()), rows_read


def peak_bytes(run: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("part", "limit"), [("plan", 900), ("dataset", 500)])
def test_a_clip_more_costs_few_bytes(
    part: str,
    limit: int,
    libraries: list[SyntheticLibrary],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    # Smaller runs, so that these few clips are sorted on disk as millions are.
    monkeypatch.setattr(sorted_rows, "RUN_ROWS", 256)
    monkeypatch.setattr(sorted_rows, "_MERGE_ROWS", 32)

    def peak(library: SyntheticLibrary, repeat: int) -> int:
        out = tmp_path / f"{library.root.name}-{repeat}"
        return peak_bytes(lambda: PARTS[part](library, out))

    # Other threads of the process allocate now and then: the smaller of two peaks.
    peaks = [min(peak(library, repeat) for repeat in range(2)) for library in libraries]
    per_clip = (peaks[1] - peaks[0]) / (SIZES[1] - SIZES[0])
    # A row of the dataset takes 2 kB, one of the clips 8 kB.
    assert 50 < per_clip < limit


def test_the_report_holds_no_rows(libraries: list[SyntheticLibrary]) -> None:
    def select(library: SyntheticLibrary) -> object:
        clips = open_tables(library.clips, tables.CLIPS)
        return clips.select(8, "show", "episode_id"), clips.distinct("style")

    select(libraries[0])  # what is imported and cached once is not counted
    peaks = [peak_bytes(lambda library=library: select(library)) for library in libraries]
    # A clip's row takes 8 kB.
    assert (peaks[1] - peaks[0]) / (SIZES[1] - SIZES[0]) < 200


@pytest.mark.parametrize("part", PARTS)
def test_the_result_does_not_depend_on_how_many_tables_are_in_memory(
    part: str,
    libraries: list[SyntheticLibrary],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def result(library: SyntheticLibrary, out: Path) -> object:
        found = PARTS[part](library, out)
        if isinstance(found, StageRun):
            return found.ref.content
        assert isinstance(found, CompositeSources)
        cutouts = [(cutout.row, cutout.path) for cutout in found.cutouts.values()]
        return cutouts, [(clip.row, clip.path) for clip in found.train_clips.values()]

    library = libraries[0]
    mixed = replace(library, captions=library.captions[::-1], cutouts=library.cutouts[::-1])
    expected = result(mixed, tmp_path / "many")
    monkeypatch.setattr(stored_rows, "_TABLES_IN_MEMORY", 1)
    monkeypatch.setattr(caption_lookup, "_TABLES_IN_MEMORY", 1)
    assert result(mixed, tmp_path / "one") == expected
    assert expected
