"""Tables of a library of any size, as the stages would write them, without footage behind them.

One table per episode for clips, transcripts, captions and cutouts; one over everything for
duplicates, composites (10 % of the clips) and recaptions, written row group by row group, so that
millions of rows need no memory. Equal sizes and seeds give equal tables.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mimix_core import tables
from mimix_core.domain.ids import clip_id, composite_id
from mimix_core.engine.artifacts import Counts, TableRef, digest_file
from mimix_core.engine.store import Store
from mimix_core.settings import DatasetSettings
from mimix_core.stages.composites.composite_sources import CompositeInputs
from mimix_core.stages.dataset.stage import DatasetInputs
from mimix_core.tables import Table
from perf.synthetic_columns import (
    CompositePair,
    Episode,
    caption_columns,
    clip_columns,
    composite_columns,
    cutout_columns,
    duplicate_columns,
    make_episode,
    transcript_columns,
)

CLIPS_PER_EPISODE = 217
"""Of the paper: 52,000 clips of 240 episodes."""

EPISODES_PER_SHOW = 60
GROUP_ROWS = 65_536
COMPOSITE_SHARE = 0.1


@dataclass(frozen=True)
class SyntheticLibrary:
    """References to the tables of a library, by stage."""

    root: Path
    clips: tuple[TableRef, ...]
    transcripts: tuple[TableRef, ...]
    captions: tuple[TableRef, ...]
    cutouts: tuple[TableRef, ...]
    duplicates: TableRef
    composites: TableRef
    recaptions: TableRef

    @property
    def store(self) -> Store:
        return Store(self.root / "store")


def composite_inputs(library: SyntheticLibrary) -> CompositeInputs:
    """Return the inputs of the stage composites."""
    return CompositeInputs(
        unit="all",
        clips=library.clips,
        captions=library.captions,
        cutouts=library.cutouts,
        split=DatasetSettings(),
    )


def dataset_inputs(library: SyntheticLibrary) -> DatasetInputs:
    """Return the inputs of the stage dataset."""
    return DatasetInputs(
        unit="all",
        clips=library.clips,
        captions=library.captions,
        composites=library.composites,
        recaptions=library.recaptions,
    )


def studio_refs(library: SyntheticLibrary) -> dict[str, tuple[TableRef, ...]]:
    """Return the tables that the studio shows, but for cutouts: their records are not synthetic."""
    return {
        "clips": library.clips,
        "duplicates": (library.duplicates,),
        "transcripts": library.transcripts,
        "captions": library.captions,
        "composites": (library.composites,),
        "recaptions": (library.recaptions,),
    }


def write_library(root: Path, clips: int, *, seed: int = 0) -> SyntheticLibrary:
    """Write the tables below ``root`` unless they are there, and return references to them."""
    index = root / "library.json"
    if not index.exists():
        found = _write_tables(root / "store", clips, np.random.default_rng(seed))
        names = {
            stage: [ref.model_dump(mode="json") for ref in refs] for stage, refs in found.items()
        }
        index.write_text(json.dumps(names))
    refs = {
        stage: tuple(TableRef.model_validate(ref) for ref in values)
        for stage, values in json.loads(index.read_text()).items()
    }
    return SyntheticLibrary(
        root,
        clips=refs["clips"],
        transcripts=refs["transcripts"],
        captions=refs["captions"],
        cutouts=refs["cutouts"],
        duplicates=refs["duplicates"][0],
        composites=refs["composites"][0],
        recaptions=refs["recaptions"][0],
    )


def _write_tables(
    store: Path, clips: int, random: np.random.Generator
) -> dict[str, list[TableRef]]:
    refs: dict[str, list[TableRef]] = {}
    sources: list[tuple[Episode, list[str]]] = []
    duplicates: list[pa.Table] = []
    episodes = -(-clips // CLIPS_PER_EPISODE)
    for number in range(episodes):
        episode = make_episode(number, shows=max(2, episodes // EPISODES_PER_SHOW))
        count = min(CLIPS_PER_EPISODE, clips - number * CLIPS_PER_EPISODE)
        ids = [clip_id(episode.id, 90_000 * position) for position in range(count)]
        for table, columns in (
            (tables.CLIPS, clip_columns(episode, ids, random)),
            (tables.TRANSCRIPTS, transcript_columns(ids, random)),
            (tables.CAPTIONS, caption_columns(ids, episode, random)),
            (tables.CUTOUTS, cutout_columns(ids, episode, random)),
        ):
            written = _write(store, table, episode.id, iter([_arrow(table, columns)]))
            refs.setdefault(table.name, []).append(written)
        duplicates.append(_arrow(tables.DUPLICATES, duplicate_columns(episode, ids)))
        sources.append((episode, ids))
    whole = pa.concat_tables(duplicates)
    whole = whole.take(pc.sort_indices(whole["clip_id"]))
    groups = (whole.slice(start, GROUP_ROWS) for start in range(0, len(whole), GROUP_ROWS))
    refs["duplicates"] = [_write(store, tables.DUPLICATES, "all", groups)]
    del whole, duplicates
    pairs = _pairs(sources, int(clips * COMPOSITE_SHARE), random)
    refs["composites"] = [_write(store, tables.COMPOSITES, "all", _composite_groups(pairs, random))]
    names = [composite_id(f"{source}-x", background) for _, _, source, background in pairs]
    refs["recaptions"] = [
        _write(store, tables.CAPTIONS, "all", _recaption_groups(names, random), stage="recaptions")
    ]
    return refs


def _pairs(
    sources: Sequence[tuple[Episode, list[str]]], count: int, random: np.random.Generator
) -> list[CompositePair]:
    """Pair clips with backgrounds of another episode, sorted by the composite's id."""
    pairs: dict[tuple[str, str], CompositePair] = {}
    while len(pairs) < count and len(sources) > 1:
        one, other = random.choice(len(sources), 2, replace=False)
        source, background = (
            sources[episode][1][2 * int(random.integers((len(sources[episode][1]) + 1) // 2))]
            for episode in (one, other)
        )
        pairs[source, background] = (sources[one][0], sources[other][0], source, background)
    return [pairs[key] for key in sorted(pairs)]


def _composite_groups(
    pairs: Sequence[CompositePair], random: np.random.Generator
) -> Iterator[pa.Table]:
    ranks = random.permutation(len(pairs))
    for start in range(0, len(pairs), GROUP_ROWS):
        group = slice(start, start + GROUP_ROWS)
        yield _arrow(tables.COMPOSITES, composite_columns(pairs[group], ranks[group], random))


def _recaption_groups(names: Sequence[str], random: np.random.Generator) -> Iterator[pa.Table]:
    rows = iter(names)
    while group := list(islice(rows, GROUP_ROWS)):
        yield _arrow(tables.CAPTIONS, caption_columns(group, make_episode(0, 1), random))


def _arrow(table: Table[Any], columns: dict[str, Any]) -> pa.Table:
    arrays = [
        pa.array(columns[field.name], field.type)
        if isinstance(columns[field.name], list)
        else pa.array(columns[field.name])
        for field in table.schema
    ]
    return pa.Table.from_arrays(
        [array.cast(field.type) for array, field in zip(arrays, table.schema, strict=True)],
        schema=table.schema,
    )


def _write(
    store: Path, table: Table[Any], unit: str, groups: Iterator[pa.Table], stage: str = ""
) -> TableRef:
    stage = stage or table.name
    key = hashlib.sha256(f"{stage} {unit}".encode()).hexdigest()
    path = store / stage / key / Store.TABLE
    path.parent.mkdir(parents=True)
    metadata = {
        "mimix.table": table.name,
        "mimix.schema_version": str(table.version),
        "mimix.stage_key": key,
    }
    schema, rows, ok = table.schema.with_metadata(metadata), 0, 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in groups:
            writer.write_table(group.replace_schema_metadata(metadata), row_group_size=GROUP_ROWS)
            rows += len(group)
            ok += group["status"].to_pylist().count("ok")
    sha256 = digest_file(path)
    counts = Counts(rows_in=rows, ok=ok, rejected=rows - ok, failed=0)
    return TableRef(
        stage=stage, unit=unit, key=key, sha256=sha256, path=path, counts=counts, content=sha256
    )
