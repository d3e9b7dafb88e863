"""Track the batches at the provider in files, with which any process can continue them::

batches/<key>.json        the manifest: requests and batch id
batches/<key>.jsonl       the batch's input, until the batch is created
batches/<key>.done.json   the failures of a closed batch, in place of its manifest
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.atomic_io import atomic_write_bytes
from mimix_core.vlm.protocol import Unavailable, VlmError
from mimix_core.vlm.response_cache import BATCH_PREFIX
from mimix_core.vlm.serialized_errors import SerializedRequestError


class BatchManifest(FrozenModel):
    """A batch at the server ``base_url`` (None: OpenAI's).

    ``asked``: its creation was requested, so it may exist even without a known id. ``deferred``: to
    be created once no other batch is in progress.
    """

    key: str
    digests: tuple[str, ...]
    base_url: str | None = None
    deferred: bool = False
    input_file: str | None = None
    asked: bool = False
    batch: str | None = None


@dataclass(frozen=True)
class BatchStore:
    """The files of batches below the cache folder ``root``."""

    root: Path

    @property
    def folder(self) -> Path:
        """Return the folder of all batches."""
        return self.root / "batches"

    def path(self, key: str, suffix: str) -> Path:
        """Return a file of a batch."""
        return self.folder / f"{key}{suffix}"

    def create(self, manifest: BatchManifest, lines: Iterable[bytes], max_usd: Decimal) -> None:
        """Write the files of a new batch: its input, its maximum cost, and its manifest last."""
        with self.path(manifest.key, ".jsonl").open("wb") as input_file:
            input_file.writelines(lines)
        atomic_write_bytes(self._reservation_path(manifest.key), str(max_usd).encode())
        self.save(manifest)

    def save(self, manifest: BatchManifest) -> None:
        """Write a manifest."""
        atomic_write_bytes(self.path(manifest.key, ".json"), manifest.model_dump_json().encode())

    def read(self, key: str) -> BatchManifest | None:
        """Return the manifest of a batch; None if the batch is closed."""
        path = self.path(key, ".json")
        return BatchManifest.model_validate_json(path.read_bytes()) if path.exists() else None

    def manifests(self) -> Iterator[BatchManifest]:
        """Yield the manifests of all open batches."""
        for path in sorted(self.folder.glob("*.json")):
            if not path.name.startswith(".") and not path.name.endswith(".done.json"):
                try:
                    yield BatchManifest.model_validate_json(path.read_bytes())
                except FileNotFoundError:
                    continue  # it was just closed

    def close(
        self, manifest: BatchManifest, failures: Mapping[str, SerializedRequestError]
    ) -> None:
        """Write the failures of a finished batch and delete its other files."""
        text = json.dumps({digest: failure.model_dump() for digest, failure in failures.items()})
        atomic_write_bytes(self.path(manifest.key, ".done.json"), text.encode())
        self._reservation_path(manifest.key).unlink(missing_ok=True)
        self.path(manifest.key, ".jsonl").unlink(missing_ok=True)
        self.path(manifest.key, ".json").unlink(missing_ok=True)

    def failure_of(self, key: str, digest: str) -> VlmError:
        """Return why a closed batch has no response to a request."""
        failure = json.loads(self.path(key, ".done.json").read_bytes()).get(digest)
        if failure is None:
            return Unavailable("the batch ended before the request was processed")
        return SerializedRequestError.model_validate(failure).to_error()

    def _reservation_path(self, key: str) -> Path:
        return self.root / "asking" / f"{BATCH_PREFIX}{key}"
