"""The ledger: totals over processes and torn lines, and a budget that is never exceeded."""

from __future__ import annotations

import json
import multiprocessing
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.errors import BadInput
from mimix_core.vlm import BudgetExceeded, TokenUsage
from mimix_core.vlm.cost_ledger import MAX_LINE_BYTES, CostLedger
from mimix_core.vlm.response_cache import RawResponse, ResponseCache, create_cached_response

AMOUNTS = st.decimals(0, 10, allow_nan=False, allow_infinity=False, places=6)


def ledger(folder: Path, budget: str | None = None) -> CostLedger:
    return CostLedger(ResponseCache(folder), None if budget is None else Decimal(budget))


def entries(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]


@given(amounts=st.lists(st.none() | AMOUNTS, max_size=12))
def test_the_total_is_the_sum_of_all_known_costs(
    tmp_path_factory: pytest.TempPathFactory, amounts: list[Decimal | None]
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    known = Decimal(0)
    for number, usd in enumerate(amounts):
        known += usd or 0
        total = ledger(folder).record(f"d{number}", "answered", "m", TokenUsage(3, 2, 1), usd)
        assert total == known == ledger(folder).spent_usd()
    assert ledger(folder).digests() == {f"d{number}" for number in range(len(amounts))}


def test_a_line_says_what_was_paid(tmp_path: Path) -> None:
    ledger(tmp_path).record("d", "truncated", "m" * 300, TokenUsage(30, 20, 10), Decimal("0.5"))
    [entry] = entries(tmp_path)
    assert str(entry.pop("at")).endswith("Z")
    assert entry == {
        "digest": "d",
        "kind": "truncated",
        "model": "m" * 200,
        "input_tokens": 30,
        "cached_tokens": 20,
        "output_tokens": 10,
        "usd": "0.5",
        "total_usd": "0.5",
    }


def test_lines_follow_each_other_without_blank_ones(tmp_path: Path) -> None:
    for name in "abc":
        ledger(tmp_path).record(name, "answered", "m", TokenUsage(1, 0, 1), Decimal(1))
    text = (tmp_path / "ledger.jsonl").read_text()
    assert text.endswith("\n")
    assert [json.loads(line)["digest"] for line in text[:-1].split("\n")] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "torn", [b"{", b'{"digest": "x", "total_usd": "99"', b'{"digest":"x"}'[:9]]
)
def test_a_torn_line_is_passed_over_and_ended(tmp_path: Path, torn: bytes) -> None:
    one = ledger(tmp_path)
    one.record("a", "answered", "m", TokenUsage(1), Decimal(1))
    with (tmp_path / "ledger.jsonl").open("ab") as file:
        file.write(torn)
    assert one.spent_usd() == 1
    assert one.record("b", "answered", "m", TokenUsage(1), Decimal(2)) == 3
    lines = (tmp_path / "ledger.jsonl").read_bytes().splitlines()
    assert len(lines) == 3
    assert lines[1] == torn
    assert one.spent_usd() == 3
    assert one.digests() == {"a", "b"}


def test_the_total_is_found_behind_a_long_torn_line(tmp_path: Path) -> None:
    one = ledger(tmp_path)
    for number in range(50):
        one.record(f"{number}", "answered", "m" * 200, TokenUsage(1), Decimal(1))
    assert (tmp_path / "ledger.jsonl").stat().st_size > MAX_LINE_BYTES
    assert one.spent_usd() == 50


def test_a_file_without_a_readable_line_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_bytes(b"something else\n")
    with pytest.raises(BadInput, match=r"ledger\.jsonl: the cost ledger is not readable"):
        ledger(tmp_path).spent_usd()


def test_a_reservation_counts_until_it_is_released(tmp_path: Path) -> None:
    one = ledger(tmp_path, "1.00")
    cache = ResponseCache(tmp_path)
    with cache.lock_request("a" * 64) as first, cache.lock_request("b" * 64) as second:
        assert first is not None
        assert second is not None
        assert one.reserve(first, Decimal("0.60"))
        assert cache.total_reserved_usd() == Decimal("0.60")
        assert not one.reserve(second, Decimal("0.41"))
        assert second.reserved_usd == 0
        assert one.reserve(second, Decimal("0.40")), "a budget can be spent to its end"
        first.reserve_cost(Decimal(0))
        second.reserve_cost(Decimal(0))
        one.record("a" * 64, "answered", "m", TokenUsage(1), Decimal("0.60"))
        with pytest.raises(BudgetExceeded, match=r"0\.6000 of the budget of 1\.00 US") as caught:
            one.reserve(second, Decimal("0.41"))
        assert (caught.value.spent_usd, caught.value.budget_usd) == (Decimal("0.60"), 1)


def test_without_a_budget_or_a_price_nothing_is_refused(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path)
    with cache.lock_request("a" * 64) as lock:
        assert lock is not None
        assert ledger(tmp_path).reserve(lock, Decimal(1000))
        assert lock.reserved_usd == 1000
        lock.reserve_cost(Decimal(0))
        assert ledger(tmp_path, "0.01").reserve(lock, None)
        assert lock.reserved_usd == 0


def test_lost_requests_are_recorded_once_unless_their_response_is_there(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path)
    (tmp_path / "asking").mkdir()
    (tmp_path / "asking" / ("a" * 64)).write_text("0.25")
    (tmp_path / "asking" / ("b" * 64)).write_text("0.50")
    (tmp_path / "asking" / ("c" * 64)).write_text("0")
    (tmp_path / "asking" / ("d" * 64)).write_bytes(bytes(4))  # as a power failure may leave it
    (tmp_path / "asking" / "batch-x").write_text("3")
    raw = RawResponse("{}", TokenUsage(1), "m")
    stored = create_cached_response(raw, TokenUsage(1), None, 1, None)
    cache.write("b" * 64, stored)
    for _ in range(2):
        ledger(tmp_path).record_lost_requests()
    assert [(one["digest"], one["kind"], one["usd"]) for one in entries(tmp_path)] == [
        ("a" * 64, "lost", "0.25")
    ]
    assert [path.name for path in (tmp_path / "asking").iterdir()] == ["batch-x"]


def _record_many(folder: Path, name: str) -> None:
    for number in range(50):
        ledger(folder).record(f"{name}{number}", "answered", "m", TokenUsage(1), Decimal("0.01"))


def test_processes_add_up(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_record_many, args=(tmp_path, name)) for name in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert ledger(tmp_path).spent_usd() == Decimal("1.50")
    assert len(entries(tmp_path)) == 150
