"""Pacing of requests, and the providers' headers about waiting."""

from __future__ import annotations

import time
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.rate_limiter import RateLimiter, parse_duration, reset_after, retry_after
from mimix_core.vlm.response_cache import ResponseCache


def limits(folder: Path, **chosen: int) -> RateLimiter:
    return RateLimiter(ResponseCache(folder), VlmSettings.model_validate(chosen))


@settings(max_examples=20)
@given(st.integers(1, 700), st.integers(1, 3))
def test_no_minute_holds_more_requests_than_allowed_and_few_less(
    tmp_path_factory: pytest.TempPathFactory, limit: int, processes: int
) -> None:
    folder = tmp_path_factory.mktemp("answers")
    sharing = [limits(folder, requests_per_minute=limit) for _ in range(processes)]
    turns = [sharing[n % processes].acquire(1)[0] for n in range(limit + 1)]
    assert turns == sorted(turns)
    assert turns[limit] - turns[0] > 60
    assert turns[limit] - turns[0] <= 61.01


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 1000), min_size=2, max_size=60),
    st.integers(1000, 5000),
)
def test_no_minute_holds_more_tokens_than_allowed(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limit: int
) -> None:
    shared = limits(tmp_path_factory.mktemp("answers"), tokens_per_minute=limit)
    turns = [shared.acquire(size)[0] for size in sizes]
    for first, start in enumerate(turns):
        inside = [size for at, size in zip(turns, sizes, strict=True) if start <= at <= start + 60]
        assert sum(inside) <= limit, (first, turns)


def test_most_of_the_tokens_are_used(tmp_path: Path) -> None:
    shared = limits(tmp_path, tokens_per_minute=200_000)
    turns = [shared.acquire(3000)[0] for _ in range(200)]
    assert 199 * 3000 / (turns[-1] - turns[0]) * 60 >= 0.95 * 200_000


def test_one_request_that_takes_a_whole_minute_does_not_slow_the_rest_down(
    tmp_path: Path,
) -> None:
    shared = limits(tmp_path, tokens_per_minute=10_000)
    turns = [shared.acquire(tokens)[0] for tokens in [100, 20_000, *[100] * 50]]
    assert turns[1] - turns[0] > 60
    assert turns[2] - turns[1] > 60
    assert 49 * 100 / (turns[-1] - turns[2]) * 60 >= 0.95 * 10_000


def test_tokens_that_were_not_used_are_given_back(tmp_path: Path) -> None:
    shared = limits(tmp_path, tokens_per_minute=10_000)
    shared.acquire(4000)
    shared.adjust_tokens(4000, 100)
    assert shared.acquire(100)[0] - time.time() < 2


def test_a_rest_stops_all_and_a_shorter_one_does_not_end_it(tmp_path: Path) -> None:
    one, other = limits(tmp_path), limits(tmp_path)
    one.pause(30)
    other.pause(1)
    assert other.acquire(1)[0] - time.time() == pytest.approx(30, abs=1)


def test_accounts_do_not_wait_for_each_other(tmp_path: Path) -> None:
    limits(tmp_path).pause(30)
    other = RateLimiter(ResponseCache(tmp_path), VlmSettings(base_url="http://localhost:1/v1"))
    assert other.acquire(1)[0] <= time.time()


def test_a_state_from_a_clock_that_was_wrong_is_not_waited_for(tmp_path: Path) -> None:
    shared = limits(tmp_path)
    (tmp_path / shared.file_name).write_text('{"rest_until": 99999999999}')
    assert shared.acquire(1)[0] <= time.time()


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": formatdate(NOW + 90, usegmt=True)}, 90.0),
        ({"retry-after": formatdate(NOW - 90, usegmt=True)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
        (
            {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"},
            360.0,
        ),
        (
            {"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "1s"},
            None,
        ),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20ms", 0.02), ("1m30.5s", 90.5), ("1h", 3600.0), ("2", 2.0), ("-3s", 0.0), ("x", 0.0)],
)
def test_spans(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": text}
    assert reset_after(headers) == pytest.approx(seconds)
