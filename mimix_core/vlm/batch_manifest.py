"""What is with a batch provider, known from files, so that any process can go on with it::

batches/<key>.json        a manifest: which questions, which batch
batches/<key>.jsonl       the batch's input, until the batch is there
batches/<key>.done.json   what it gave besides answers; the manifest is gone then
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from mimix_core.engine.artifacts import Frozen
from mimix_core.engine.atomic_io import write_whole
from mimix_core.vlm.protocol import (
    InvalidReply,
    Refused,
    RejectedRequest,
    TruncatedReply,
    Unavailable,
    Usage,
    VlmError,
)
from mimix_core.vlm.response_cache import BATCH

_KINDS: dict[str, type[VlmError]] = {
    one.kind: one for one in (Refused, TruncatedReply, InvalidReply, RejectedRequest, Unavailable)
}


class Manifest(Frozen):
    """A batch. ``asked``: its creation was begun, so it may be there without our knowing its id."""

    key: str
    digests: tuple[str, ...]
    input_file: str | None = None
    asked: bool = False
    batch: str | None = None


class Miss(Frozen):
    """A question of a batch that got no answer. ``usage``: tokens in, of them cached, and out."""

    kind: str
    message: str
    usage: tuple[int, int, int] = (0, 0, 0)

    @classmethod
    def of(cls, error: VlmError) -> Miss:
        """An error of a kind that no batch gives counts as a provider that was not there."""
        kind = error.kind if error.kind in _KINDS else Unavailable.kind
        used = error.usage
        counts = (used.input_tokens, used.cached_tokens, used.output_tokens)
        return cls(kind=kind, message=str(error), usage=counts)

    def error(self) -> VlmError:
        return _KINDS[self.kind](self.message, Usage(*self.usage))


@dataclass(frozen=True)
class BatchFiles:
    """The batches below the folder of the answers, ``root``."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "batches"

    def path(self, key: str, suffix: str) -> Path:
        return self.folder / f"{key}{suffix}"

    def begin(self, manifest: Manifest, lines: Iterable[bytes], most_usd: Decimal) -> None:
        """A new batch: its input, what it may cost at most, and last its manifest."""
        with self.path(manifest.key, ".jsonl").open("wb") as input_file:
            input_file.writelines(lines)
        write_whole(self._risk_path(manifest.key), str(most_usd).encode())
        self.save(manifest)

    def save(self, manifest: Manifest) -> None:
        write_whole(self.path(manifest.key, ".json"), manifest.model_dump_json().encode())

    def read(self, key: str) -> Manifest | None:
        """None: it is closed."""
        path = self.path(key, ".json")
        return Manifest.model_validate_json(path.read_bytes()) if path.exists() else None

    def manifests(self) -> Iterator[Manifest]:
        """Of all batches that are not closed."""
        for path in sorted(self.folder.glob("*.json")):
            if not path.name.startswith(".") and not path.name.endswith(".done.json"):
                try:
                    yield Manifest.model_validate_json(path.read_bytes())
                except FileNotFoundError:
                    continue  # closed a moment ago

    def close(self, manifest: Manifest, misses: Mapping[str, Miss]) -> None:
        """From now on the answers and the list of misses are all that there is of the batch."""
        text = json.dumps({digest: miss.model_dump() for digest, miss in misses.items()})
        write_whole(self.path(manifest.key, ".done.json"), text.encode())
        self._risk_path(manifest.key).unlink(missing_ok=True)
        self.path(manifest.key, ".jsonl").unlink(missing_ok=True)
        self.path(manifest.key, ".json").unlink(missing_ok=True)

    def missed(self, key: str, digest: str) -> VlmError:
        """Why a closed batch brought no answer to a question."""
        found = json.loads(self.path(key, ".done.json").read_bytes()).get(digest)
        if found is None:
            return Unavailable("the batch ended before the question was answered")
        return Miss.model_validate(found).error()

    def _risk_path(self, key: str) -> Path:
        return self.root / "asking" / f"{BATCH}{key}"
