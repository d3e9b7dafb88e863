"""Record what was spent, over all processes and restarts: one line per paid request."""

from __future__ import annotations

import datetime
import json
import os
from dataclasses import dataclass
from decimal import Decimal

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.atomic_io import fsync_path
from mimix_core.engine.locks import exclusive_lock
from mimix_core.errors import BadInput
from mimix_core.vlm.protocol import BudgetExceeded, TokenUsage
from mimix_core.vlm.response_cache import RequestLock, ResponseCache


class LedgerEntry(FrozenModel):
    """A paid request; ``total_usd`` is the running total including it."""

    digest: str
    kind: str
    model: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    usd: Decimal | None
    total_usd: Decimal
    at: datetime.datetime


MAX_LINE_BYTES = 4096


@dataclass(frozen=True)
class CostLedger:
    """The append-only file ``ledger.jsonl`` in the cache folder."""

    cache: ResponseCache
    budget_usd: Decimal | None

    def spent_usd(self) -> Decimal:
        """Return what was ever spent on responses of this folder, for all models."""
        with exclusive_lock(self.cache.root / "ledger.jsonl") as file:
            descriptor = file.fileno()
            return _read_total(descriptor)

    def record(
        self, digest: str, kind: str, model: str, usage: TokenUsage, usd: Decimal | None
    ) -> Decimal:
        """Append a paid request; return the new total."""
        with exclusive_lock(self.cache.root / "ledger.jsonl") as file:
            descriptor = file.fileno()
            total = _read_total(descriptor) + (usd or 0)
            entry = LedgerEntry(
                digest=digest,
                kind=kind,
                model=model[:200],
                input_tokens=usage.input_tokens,
                cached_tokens=usage.cached_tokens,
                output_tokens=usage.output_tokens,
                usd=usd,
                total_usd=total,
                at=datetime.datetime.now(datetime.UTC),
            )
            # Terminate the incomplete line of a process that died while writing it.
            size = os.fstat(descriptor).st_size
            incomplete = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            separator = b"\n" if incomplete else b""
            os.pwrite(descriptor, separator + entry.model_dump_json().encode() + b"\n", size)
            os.fsync(descriptor)
            if size == 0:
                fsync_path(self.cache.root)  # the file may be new
        return total

    def digests(self) -> set[str]:
        """Return the digests of all requests in the ledger; torn lines are left out."""
        with exclusive_lock(self.cache.root / "ledger.jsonl") as file:
            descriptor = file.fileno()
            content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        found = set()
        for line in content.splitlines():
            try:
                found.add(json.loads(line)["digest"])
            except (ValueError, LookupError, TypeError):
                continue
        return found

    def reserve(self, lock: RequestLock, max_usd: Decimal | None) -> bool:
        """Reserve the maximum cost of a request; return False while requests in flight block it.

        Raises BudgetExceeded when the rest of the budget is too small and no request is in flight.
        """
        if max_usd is None:
            return True
        if self.budget_usd is None:
            lock.reserve_cost(max_usd)
            return True
        with exclusive_lock(self.cache.root / "budget.lock"):
            reserved = self.cache.total_reserved_usd()
            if self.spent_usd() + reserved + max_usd <= self.budget_usd:
                lock.reserve_cost(max_usd)
                return True
        if not reserved:
            raise self.budget_exceeded()
        return False

    def record_lost_requests(self) -> None:
        """Record requests whose process died as paid, because they may have been billed."""
        for digest, usd in self.cache.find_lost_requests():
            self.record(digest, "lost", "", TokenUsage(), usd)

    def budget_exceeded(self) -> BudgetExceeded:
        """Return the error for a budget that does not cover the next request."""
        assert self.budget_usd is not None
        spent = self.spent_usd()
        return BudgetExceeded(
            f"{spent:.4f} of the budget of {self.budget_usd} US dollars are spent, and the next "
            "request may cost more than the rest",
            fix="raise budget_usd: all responses so far are stored and will not be paid again",
            spent_usd=spent,
            budget_usd=self.budget_usd,
        )


def _read_total(descriptor: int) -> Decimal:
    """Read the total of the last complete line. Raises BadInput when no line is readable."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - MAX_LINE_BYTES)
    lines = os.pread(descriptor, size - start, start).split(b"\n")
    complete = [line for line in lines[:-1] if line]
    for line in reversed(complete):
        if line.startswith(b'{"digest"') and line.endswith(b"}"):
            return LedgerEntry.model_validate_json(line).total_usd
    if complete:
        raise BadInput("the cost ledger is not readable", where="ledger.jsonl", fix="repair it")
    return Decimal(0)
