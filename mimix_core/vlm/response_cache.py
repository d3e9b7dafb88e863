"""Answers on disk: what was paid for once is never asked again.

Layout below the folder::

    <2 hex>/<digest>.json     an answer as it came, its tokens and its cost
    asking/<digest>           locked by who asks it now; holds what it may cost at most
    asking/batch-<key>        what a batch that is under way may cost at most
    ledger.jsonl              every request that cost something (``ledger.py``)
    limits-*.json             when the next request may start (``limits.py``)
    batches/                  what is with the provider's batch service (``batch.py``)

No file holds a key.
"""

from __future__ import annotations

import datetime
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from pydantic import ValidationError

from mimix_core.engine.artifacts import Frozen
from mimix_core.engine.atomic_io import write_whole
from mimix_core.vlm.protocol import RawReply, Usage

BATCH = "batch-"


class Kept(Frozen):
    """An answer as it is kept. ``attempts`` and ``spent_usd`` count what led to it, too."""

    text: str
    model: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: Decimal | None
    attempts: int
    spent_usd: Decimal | None
    date: datetime.date

    @property
    def usage(self) -> Usage:
        return Usage(self.input_tokens, self.cached_tokens, self.output_tokens)


def keep(raw: RawReply, cost_usd: Decimal | None, attempts: int, spent_usd: Decimal | None) -> Kept:
    """An answer that came today."""
    return Kept(
        text=raw.text,
        model=raw.model,
        input_tokens=raw.usage.input_tokens,
        cached_tokens=raw.usage.cached_tokens,
        output_tokens=raw.usage.output_tokens,
        cost_usd=cost_usd,
        attempts=attempts,
        spent_usd=spent_usd,
        date=datetime.datetime.now(datetime.UTC).date(),
    )


@dataclass(frozen=True)
class Answers:
    """The folder of all answers."""

    root: Path

    def path(self, digest: str) -> Path:
        return self.root / digest[:2] / f"{digest}.json"

    def read(self, digest: str) -> Kept | None:
        """The answer kept, if there is a whole one."""
        try:
            return Kept.model_validate_json(self.path(digest).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write(self, digest: str, kept: Kept) -> None:
        """Put an answer on disk, whole or not at all; it is there when this returns."""
        write_whole(self.path(digest), kept.model_dump_json().encode())

    def discard(self, digest: str) -> None:
        """Take away an answer that turned out to be none."""
        self.path(digest).unlink(missing_ok=True)

    @contextmanager
    def asking(self, digest: str) -> Iterator[Turn | None]:
        """The right to ask this question. None: somebody else, of any process, has it."""
        folder = self.root / "asking"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / digest
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock_now(descriptor) or not _is_at(descriptor, path):
                yield None
                return
            try:
                yield Turn(descriptor)
            finally:
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def at_risk_usd(self) -> Decimal:
        """The most that all requests under way now may cost, in all processes."""
        return sum((_risk(path) for path in (self.root / "asking").glob("*")), Decimal(0))

    def lost(self) -> Iterator[tuple[str, Decimal]]:
        """Requests whose process died: digest, and what each may have cost at most.

        Each is given once, over all processes. One whose answer got to disk is none.
        """
        for path in sorted((self.root / "asking").glob("*")):
            digest = path.name
            if digest.startswith(BATCH):
                continue  # no process needs to live for it
            with self.asking(digest) as turn:
                if turn is None:
                    continue
                risk = turn.risk_usd
                if risk and self.read(digest) is None:
                    yield digest, risk


@dataclass(frozen=True)
class Turn:
    """The held right to ask one question."""

    descriptor: int

    @property
    def risk_usd(self) -> Decimal:
        return Decimal(os.pread(self.descriptor, 64, 0).decode() or "0")

    def risk(self, most_usd: Decimal) -> None:
        """Note what the request that starts now may cost at most."""
        content = str(most_usd).encode()
        os.pwrite(self.descriptor, content, 0)
        os.ftruncate(self.descriptor, len(content))


def _risk(path: Path) -> Decimal:
    try:
        return Decimal(path.read_text() or "0")
    except (FileNotFoundError, InvalidOperation):
        return Decimal(0)  # done a moment ago, or just being written


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Wait for, and hold, a lock that all processes share; gives the descriptor of its file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock_now(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the locked file is still the one with this name: its last holder unlinks it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
