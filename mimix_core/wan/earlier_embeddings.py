"""Find the embeddings of equal texts in earlier results, so that an edited caption costs its own.

A text is encoded by itself, so its embedding depends on the text, the tokenizer, the encoder and
the settings alone: wherever it was computed with these, it has the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from mimix_core import tables
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.store import StageRecord, Store
from mimix_core.errors import BadInput
from mimix_core.tables import EMBEDDINGS, EmbeddingRow
from mimix_core.wan.tensor_shards import PartialResult

_PER_TEXT = ("inputs.captions", "settings.variant")
"""Parts of the stage key that decide which texts are embedded, not how."""


def find_earlier_embeddings(
    results: Path, version: int, parts: Mapping[str, str], texts: Mapping[str, str]
) -> dict[str, PartialResult]:
    """Return the embeddings of ``texts`` (by the key of their tensor) that results have.

    ``results``: the store's folder of the stage. ``parts``: what the key of the new result covers
    (``cache_key.key_parts``). A result that was encoded in another way, and a damaged tensor, are
    passed over.
    """
    found: dict[str, PartialResult] = {}
    for ref in _comparable_results(results, version, parts):
        if len(found) == len(texts):
            break
        for row in tables.usable(tables.read(ref.path, EMBEDDINGS)):
            key = row["key"]
            if key in found or texts.get(key) != row["text"]:
                continue
            result = _verified(ref.folder, row)
            if result is not None:
                found[key] = result
    return found


def _comparable_results(
    results: Path, version: int, parts: Mapping[str, str]
) -> Iterator[TableRef]:
    """Yield the results that encode a text in the same way, the newest first."""
    store = Store(results.parent)
    records = sorted(
        results.glob(f"[!.]*/{Store.RECORD}"), key=lambda path: -path.stat().st_mtime_ns
    )
    for path in records:
        try:
            record = StageRecord.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue  # damaged: `mimix store verify` lists it, and its texts are encoded again
        if record.version != version or _way(record.key_parts) != _way(parts):
            continue
        ref = store.lookup(record.stage, record.key)
        if ref is not None:
            yield ref


def _way(parts: Mapping[str, str]) -> dict[str, str]:
    return {name: part for name, part in parts.items() if name not in _PER_TEXT}


def _verified(folder: Path, row: EmbeddingRow) -> PartialResult | None:
    """Return a row's tensor where it is; None if its bytes are not those that were committed."""
    from mimix_core.wan import safetensors_io

    path = folder / row["file"]
    try:
        tensor = safetensors_io.read_tensor(path, row["key"])
    except BadInput:
        return None
    if safetensors_io.digest_tensor(tensor) != row["sha256"]:
        return None
    return PartialResult(path, tuple(row["shape"]), row["sha256"])
