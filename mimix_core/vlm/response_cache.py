"""Store responses on disk, because a response that was paid for must not be requested again.

Layout of the folder::

    <2 hex>/<digest>.json     a response as received, with its tokens and its cost
    asking/<digest>           lock file of a request in flight; contains its maximum cost
    asking/batch-<key>        maximum cost of a batch in progress
    ledger.jsonl              every request that cost something (``cost_ledger.py``)
    limits-*.json             when the next request may start (``rate_limiter.py``)
    batches/                  state of batches at the provider (``batch_manifest.py``)

No file contains an API key.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from pydantic import ValidationError

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.atomic_io import atomic_write_bytes, fsync_path, make_folder
from mimix_core.engine.locks import try_exclusive_lock
from mimix_core.vlm.protocol import RawResponse, TokenUsage, UnusableResponse
from mimix_core.vlm.serialized_errors import SerializedRequestError

BATCH_PREFIX = "batch-"


class CachedResponse(FrozenModel):
    """A response on disk. ``attempts`` and ``spent_usd`` include failed attempts before it.

    ``error``: why the response is of no use, if it was refused, truncated or empty.
    """

    text: str
    model: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: Decimal | None
    attempts: int
    spent_usd: Decimal | None
    date: datetime.date
    error: SerializedRequestError | None = None

    @property
    def usage(self) -> TokenUsage:
        """Return the tokens of the attempt that returned the response."""
        return TokenUsage(self.input_tokens, self.cached_tokens, self.output_tokens)


def create_cached_response(
    raw: RawResponse,
    usage: TokenUsage,
    cost_usd: Decimal | None,
    attempts: int,
    spent_usd: Decimal | None,
    error: UnusableResponse | None = None,
) -> CachedResponse:
    """Create the stored form of a response that was received today."""
    return CachedResponse(
        text=raw.text,
        model=raw.model,
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=cost_usd,
        attempts=attempts,
        spent_usd=spent_usd,
        date=datetime.datetime.now(datetime.UTC).date(),
        error=None if error is None else SerializedRequestError.from_error(error),
    )


@dataclass(frozen=True)
class ResponseCache:
    """The folder of all responses."""

    root: Path

    def path(self, digest: str) -> Path:
        """Return the file of a request's response."""
        return self.root / digest[:2] / f"{digest}.json"

    def read(self, digest: str) -> CachedResponse | None:
        """Return the stored response of a request, if there is a complete one."""
        try:
            return CachedResponse.model_validate_json(self.path(digest).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write(self, digest: str, response: CachedResponse) -> None:
        """Write a response atomically; it is on disk when this returns."""
        atomic_write_bytes(self.path(digest), response.model_dump_json().encode())

    def delete(self, digest: str) -> None:
        """Delete a response, so that its request is sent again."""
        self.path(digest).unlink(missing_ok=True)

    @contextmanager
    def lock_request(self, digest: str) -> Iterator[RequestLock | None]:
        """Hold the exclusive right to send a request; None while another process holds it."""
        folder = self.root / "asking"
        make_folder(folder)
        path = folder / digest
        file = try_exclusive_lock(path)
        if file is None:
            yield None
            return
        with file:
            fsync_path(folder)  # so that a reservation outlives a crash of the machine
            try:
                yield RequestLock(file.fileno())
            finally:
                path.unlink(missing_ok=True)

    def total_reserved_usd(self) -> Decimal:
        """Return the maximum cost of all requests in flight, over all processes."""
        reservations = (_read_reserved_usd(path) for path in (self.root / "asking").glob("*"))
        return sum(reservations, Decimal(0))

    def find_lost_requests(self) -> Iterator[tuple[str, Decimal]]:
        """Yield digest and maximum cost of each request whose process died.

        Each is yielded once, over all processes. A request with a stored response is not lost.
        """
        for path in sorted((self.root / "asking").glob("*")):
            digest = path.name
            if digest.startswith(BATCH_PREFIX):
                continue  # batches do not depend on a process
            with self.lock_request(digest) as lock:
                if lock is None:
                    continue
                reserved_usd = lock.reserved_usd
                if reserved_usd and self.read(digest) is None:
                    yield digest, reserved_usd


@dataclass(frozen=True)
class RequestLock:
    """The exclusive right to send a request; its file contains the reserved cost."""

    descriptor: int

    @property
    def reserved_usd(self) -> Decimal:
        """Return the cost that is reserved for the request in flight."""
        return _parse_reserved_usd(os.pread(self.descriptor, 64, 0))

    def reserve_cost(self, max_usd: Decimal) -> None:
        """Reserve the maximum cost of the next attempt; 0 releases it."""
        content = str(max_usd).encode()
        os.pwrite(self.descriptor, content, 0)
        os.ftruncate(self.descriptor, len(content))
        os.fsync(self.descriptor)


def _read_reserved_usd(path: Path) -> Decimal:
    try:
        return _parse_reserved_usd(path.read_bytes())
    except FileNotFoundError:
        return Decimal(0)  # just finished


def _parse_reserved_usd(content: bytes) -> Decimal:
    """Read a reservation; an unreadable one was never complete, so its request was not sent."""
    try:
        return Decimal(content.decode() or "0")
    except (InvalidOperation, UnicodeDecodeError):
        return Decimal(0)
