"""Writers of caches of what is expensive: paid responses with their ledger, scores of videos."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from mimix_core.vlm.cost_ledger import CostLedger
from mimix_core.vlm.protocol import TokenUsage
from mimix_core.vlm.response_cache import CachedResponse, ResponseCache
from tests.faults.scenario import Scenario, keys, mark, prepare_nothing


def _response(number: int) -> CachedResponse:
    return CachedResponse(
        text=f"Antwort {number} für Zoë",
        model="m",
        input_tokens=1,
        cached_tokens=0,
        output_tokens=1,
        cost_usd=Decimal("0.25"),
        attempts=1,
        spent_usd=Decimal("0.25"),
        date=datetime(2026, 1, 1, tzinfo=UTC).date(),
    )


def _pay(root: Path) -> None:
    cache = ResponseCache(root / "vlm")
    ledger = CostLedger(cache, Decimal(10))
    for number, digest in enumerate(keys(), 1):
        with cache.lock_request(digest) as lock:
            assert lock is not None
            assert ledger.reserve(lock, Decimal("0.50"))
            os.write(1, b"the request is sent here\n")
            cache.write(digest, _response(number))
            ledger.record(digest, "captions", "m", TokenUsage(1, 0, 1), Decimal("0.25"))
            lock.reserve_cost(Decimal(0))
        mark(number)


def _check_paid(root: Path, promised: int) -> None:
    cache = ResponseCache(root / "vlm")
    for number, digest in enumerate(keys(), 1):
        response = cache.read(digest)
        assert response is None or response == _response(number), "a response is damaged"
        assert response is not None or number > promised, f"response {number} would be paid again"
    ledger = CostLedger(cache, Decimal(10))
    ledger.record_lost_requests()
    spent = ledger.spent_usd()
    assert spent >= Decimal("0.25") * promised, f"{spent} in the ledger, {promised} were paid"
    ledger.record("f" * 64, "captions", "m", TokenUsage(1, 0, 1), Decimal("0.25"))
    assert ledger.spent_usd() == spent + Decimal("0.25")


def _write_scores(root: Path) -> None:
    from mimix_core.benchmark.vbench.score_cache import open_score_cache

    with open_score_cache(root / "scores" / "scores.jsonl") as cache:
        for number, key in enumerate(keys(), 1):
            cache.put(key, number / 8)
            mark(number)


def _check_scores(root: Path, promised: int) -> None:
    from mimix_core.benchmark.vbench.score_cache import open_score_cache

    with open_score_cache(root / "scores" / "scores.jsonl") as cache:
        found = [cache.get(key) for key in keys()]
        cache.put("0" * 64, 1.0)
    count = len([score for score in found if score is not None])
    assert found[:count] == [number / 8 for number in range(1, count + 1)]
    assert count >= promised, f"{count} scores, {promised} were promised"


SCENARIOS = (
    Scenario("paid-requests", prepare_nothing, _pay, _check_paid),
    Scenario("scores", prepare_nothing, _write_scores, _check_scores),
)
