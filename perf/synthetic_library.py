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
from mimix_core.domain.ids import clip_id, composite_id, episode_id
from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.engine.artifacts import Counts, TableRef, digest_file
from mimix_core.engine.store import Store
from mimix_core.media.fingerprint import THUMBNAIL_INTERVAL, THUMBNAIL_VALUES, VERSION
from mimix_core.settings import DatasetSettings
from mimix_core.stages.composites.composite_sources import CompositeInputs
from mimix_core.stages.dataset.stage import DatasetInputs
from mimix_core.tables import Table

CLIPS_PER_EPISODE = 217
"""Of the paper: 52,000 clips of 240 episodes."""

EPISODES_PER_SHOW = 60
FRAMES = 81
GROUP_ROWS = 65_536
COMPOSITE_SHARE = 0.1
UNCAPTIONED_SHARE = 0.02
REJECTED_SHARE = 0.1

_NAMES = ("Tom", "Jerry", "Spike", "Grizzly", "Panda", "Sheldon", "Missy", "Irma", "Teddy", "Mary")
_ACTIONS = (
    "runs to the door",
    "looks around the room",
    "opens a large wooden box and takes out a rope",
    "laughs at the picture on the wall",
    "falls over the chair, gets up again and walks away slowly",
    "waves",
)
_CONTEXTS = (
    "A kitchen in the afternoon.",
    "The street in front of the house, with two parked cars and a tree.",
    "A classroom.",
    "A forest at night; the moon is behind the clouds, and a fire burns between the trees.",
)


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


@dataclass(frozen=True)
class _Episode:
    id: str
    show: str
    style: str
    cast: tuple[str, ...]


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
    per_episode = {name: refs[name] for name in ("clips", "transcripts", "captions", "cutouts")}
    whole = {name: refs[name][0] for name in ("duplicates", "composites", "recaptions")}
    return SyntheticLibrary(root, **per_episode, **whole)


def _write_tables(
    store: Path, clips: int, random: np.random.Generator
) -> dict[str, list[TableRef]]:
    refs: dict[str, list[TableRef]] = {}
    sources: list[tuple[_Episode, list[str]]] = []
    duplicates: list[pa.Table] = []
    episodes = -(-clips // CLIPS_PER_EPISODE)
    for number in range(episodes):
        episode = _episode(number, shows=max(2, episodes // EPISODES_PER_SHOW))
        count = min(CLIPS_PER_EPISODE, clips - number * CLIPS_PER_EPISODE)
        ids = [clip_id(episode.id, 90_000 * position) for position in range(count)]
        for table, columns in (
            (tables.CLIPS, _clip_columns(episode, ids, random)),
            (tables.TRANSCRIPTS, _transcript_columns(ids, random)),
            (tables.CAPTIONS, _caption_columns(ids, episode, random)),
            (tables.CUTOUTS, _cutout_columns(ids, episode, random)),
        ):
            written = _write(store, table, episode.id, iter([_arrow(table, columns)]))
            refs.setdefault(table.name, []).append(written)
        duplicates.append(_arrow(tables.DUPLICATES, _duplicate_columns(episode, ids)))
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


def _episode(number: int, shows: int) -> _Episode:
    show = number % shows
    digest = hashlib.sha256(f"video {number}".encode()).hexdigest()
    first = show % len(_NAMES)
    cast = tuple(_NAMES[(first + step) % len(_NAMES)] for step in range(4))
    name = f"show{show:05d}"
    return _Episode(episode_id(name, digest), name, "realistic" if show % 2 else "cartoon", cast)


def _digests(count: int, random: np.random.Generator) -> list[str]:
    text = random.bytes(32 * count).hex()
    return [text[start : start + 64] for start in range(0, len(text), 64)]


def _lists(rows: int, width: int, values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(np.arange(0, width * rows + 1, width, dtype=np.int32), values)


def _outcome(count: int, rejected: np.ndarray[Any, Any], reason: str) -> dict[str, Any]:
    return {
        "status": ["rejected" if bad else "ok" for bad in rejected],
        "reason": [reason if bad else None for bad in rejected],
        "detail": ["measured too low" if bad else None for bad in rejected],
    }


def _clip_columns(
    episode: _Episode, ids: Sequence[str], random: np.random.Generator
) -> dict[str, Any]:
    count, thumbs = len(ids), -(-FRAMES // int(THUMBNAIL_INTERVAL * CLIP_RATE)) * THUMBNAIL_VALUES
    starts = 90_000 * np.arange(count)
    pts = (starts[:, None] + 1000 * np.arange(FRAMES)).reshape(-1)
    # Fingerprints of slowly changing images: the first thumbnail, and small steps from it.
    first = random.integers(30, 200, (count, 1, THUMBNAIL_VALUES))
    steps = random.integers(-9, 10, (count, thumbs // THUMBNAIL_VALUES, THUMBNAIL_VALUES))
    pixels = np.clip(first + steps.cumsum(axis=1), 0, 255).astype(np.uint8).reshape(count, -1)
    crops = pa.array(np.tile([0, 0, 1280, 720], count))
    constants = {
        "episode_id": episode.id,
        "show": episode.show,
        "style": episode.style,
        "origin_pts": 0,
        "time_base_num": 1,
        "time_base_den": 16_000,
        "start_den": 16_000,
        "source_width": 1280,
        "source_height": 720,
        "width": 832,
        "height": 480,
        "frames": FRAMES,
        "rate_num": 16,
        "rate_den": 1,
        "black_share": 0.0,
        "frozen_share": 0.0,
        "repeat_share": 0.0,
        "text_remains": "",
        "audio_file": "",
        "audio_sha256": "",
        "lost_audio_ms": 0,
        "inset_fingerprint": b"",
    }
    return {
        **{name: [value] * count for name, value in constants.items()},
        "clip_id": ids,
        "scene_id": [name.replace("-c", "-s") for name in ids],
        "start_num": starts,
        "source_pts": _lists(count, FRAMES, pa.array(pts)),
        "crop": _lists(count, 4, crops),
        "motion": random.gamma(2, 0.02, count),
        "sharpness": random.gamma(3, 60, count),
        "file": [f"clips/{name}.mp4" for name in ids],
        "sha256": _digests(count, random),
        "fingerprint": [bytes([VERSION]) + row.tobytes() for row in pixels],
        **_outcome(count, random.random(count) < REJECTED_SHARE, "clip_blurred"),
    }


def _transcript_columns(ids: Sequence[str], random: np.random.Generator) -> dict[str, Any]:
    words = ("hello", "there", "what", "are", "you", "doing", "come", "back", "wait", "again")
    lengths = random.integers(0, 20, len(ids))
    texts = [" ".join(random.choice(words, length)) for length in lengths]
    return {
        "clip_id": ids,
        "backend": ["subtitles/sidecar"] * len(ids),
        "language": ["en"] * len(ids),
        "text": texts,
        "lines": [[{"start_ms": 0, "end_ms": 2000, "text": text}] for text in texts],
        "words": [[]] * len(ids),
        **_outcome(len(ids), np.zeros(len(ids), bool), ""),
    }


def _caption_columns(
    ids: Sequence[str], episode: _Episode, random: np.random.Generator
) -> dict[str, Any]:
    count = len(ids)
    actors = random.integers(1, 4, count)
    first = random.integers(0, len(episode.cast), count)
    verbs = random.integers(0, len(_ACTIONS), (count, 3))
    contexts = random.integers(0, len(_CONTEXTS), count)
    actions = [
        [
            {
                "name": episode.cast[(first[row] + step) % len(episode.cast)],
                "action": _ACTIONS[verbs[row, step]],
            }
            for step in range(actors[row])
        ]
        for row in range(count)
    ]
    said = [
        " ".join(f"[Character: {one['name']}], {one['action']}." for one in row) for row in actions
    ]
    return {
        "clip_id": ids,
        "backend": ["vlm/openai"] * count,
        "model": ["gpt-4o"] * count,
        "caption": [
            f"{text} {_CONTEXTS[place]} [scene-style:{episode.style}]"
            for text, place in zip(said, contexts, strict=True)
        ],
        "actions": actions,
        "context": [_CONTEXTS[place] for place in contexts],
        "style": [episode.style] * count,
        "attempts": [1] * count,
        "input_tokens": random.integers(900, 3000, count),
        "cached_tokens": [0] * count,
        "output_tokens": random.integers(40, 200, count),
        "cost_usd": [0.004] * count,
        **_outcome(count, random.random(count) < UNCAPTIONED_SHARE, "caption_invalid"),
    }


def _cutout_columns(
    ids: Sequence[str], episode: _Episode, random: np.random.Generator
) -> dict[str, Any]:
    """One character of every second clip."""
    clips = ids[::2]
    count = len(clips)
    names = [episode.cast[number % len(episode.cast)] for number in range(count)]
    corner = random.integers(0, 300, (count, 1, 2))
    boxes = np.concatenate(
        [corner + np.zeros((1, FRAMES, 1), int), corner + 150 + np.zeros((1, FRAMES, 1), int)],
        axis=2,
    )
    per_frame = _lists(count, FRAMES, pa.array(np.full(count * FRAMES, 0.1)))
    return {
        "cutout_id": [f"{name}-x" for name in clips],
        "clip_id": clips,
        "show": [episode.show] * count,
        "style": [episode.style] * count,
        "character": names,
        "locator": ["sam3"] * count,
        "backend": ["sam2"] * count,
        "area": per_frame,
        "boxes": _lists(count, FRAMES, _lists(count * FRAMES, 4, pa.array(boxes.reshape(-1)))),
        "score": per_frame,
        "presence": [1.0] * count,
        "border": [[]] * count,
        "file": [f"masks/{name}.parquet" for name in clips],
        **_outcome(count, random.random(count) < REJECTED_SHARE, "mask_flickers"),
    }


def _duplicate_columns(episode: _Episode, ids: Sequence[str]) -> dict[str, Any]:
    return {
        "clip_id": ids,
        "episode_id": [episode.id] * len(ids),
        "twin_clip_id": [""] * len(ids),
        "similarity": [0.25] * len(ids),
        **_outcome(len(ids), np.zeros(len(ids), bool), ""),
    }


_Pair = tuple[_Episode, _Episode, str, str]


def _pairs(
    sources: Sequence[tuple[_Episode, list[str]]], count: int, random: np.random.Generator
) -> list[_Pair]:
    """Pair clips with backgrounds of another episode, sorted by the composite's id."""
    pairs: dict[tuple[str, str], _Pair] = {}
    while len(pairs) < count and len(sources) > 1:
        one, other = random.choice(len(sources), 2, replace=False)
        source, background = (
            sources[episode][1][2 * int(random.integers((len(sources[episode][1]) + 1) // 2))]
            for episode in (one, other)
        )
        pairs[source, background] = (sources[one][0], sources[other][0], source, background)
    return [pairs[key] for key in sorted(pairs)]


def _composite_groups(pairs: Sequence[_Pair], random: np.random.Generator) -> Iterator[pa.Table]:
    ranks = random.permutation(len(pairs))
    for start in range(0, len(pairs), GROUP_ROWS):
        group = pairs[start : start + GROUP_ROWS]
        count = len(group)
        ids = [composite_id(f"{source}-x", background) for _, _, source, background in group]
        constants = {
            "scale": 0.8,
            "x": 12.0,
            "y": 40.0,
            "source_camera": "static",
            "background_camera": "static",
            "covered": 0.02,
            "ground": 0.7,
            "width": 832,
            "height": 480,
            "frames": FRAMES,
        }
        yield _arrow(
            tables.COMPOSITES,
            {
                **{name: [value] * count for name, value in constants.items()},
                "composite_id": ids,
                "cutout_id": [f"{pair[2]}-x" for pair in group],
                "source_clip_id": [pair[2] for pair in group],
                "background_clip_id": [pair[3] for pair in group],
                "source_episode_id": [pair[0].id for pair in group],
                "background_episode_id": [pair[1].id for pair in group],
                "show": [pair[1].show for pair in group],
                "style": [pair[1].style for pair in group],
                "character": [pair[0].cast[0] for pair in group],
                "character_style": [pair[0].style for pair in group],
                "rank": ranks[start : start + count],
                "path": [[]] * count,
                "file": [f"videos/{name}.mp4" for name in ids],
                "sheet_file": [f"sheets/{name}.jpg" for name in ids],
                "sha256": _digests(count, random),
                **_outcome(count, np.zeros(count, bool), ""),
            },
        )


def _recaption_groups(names: Sequence[str], random: np.random.Generator) -> Iterator[pa.Table]:
    rows = iter(names)
    while group := list(islice(rows, GROUP_ROWS)):
        yield _arrow(tables.CAPTIONS, _caption_columns(group, _episode(0, 1), random))


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
