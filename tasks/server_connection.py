"""Outlast outages of Prefect's server: it shows what a run does, and never decides whether it may.

What is only shown there (progress, artifacts, lineage) is tried and given up. What must be reported
(the end of a run) waits until the server answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.logging import get_logger
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_CLIENT_MAX_RETRIES,
    get_current_settings,
    temporary_settings,
)

REQUEST_SECONDS = 10.0
"""Time limit of a request that may fail. Prefect's own clients wait and retry for minutes."""

POLL_SECONDS = 2.0
"""Interval of checks whether the server answers again."""


@contextmanager
def best_effort(what: str, retries: int = 0) -> Iterator[None]:
    """Send something to the server that a run can do without; log it if that fails.

    ``retries``: how often each request is repeated, after 2, 4, 8, ... seconds.
    """
    try:
        with few_retries(retries):
            yield
    except (httpx.HTTPError, PrefectException) as error:
        get_logger("mimix").warning("Prefect's server did not receive %s: %s", what, error)


@contextmanager
def few_retries(retries: int = 0) -> Iterator[None]:
    """Let requests to the server in this context fail soon."""
    limits = {PREFECT_CLIENT_MAX_RETRIES: retries, PREFECT_API_REQUEST_TIMEOUT: REQUEST_SECONDS}
    with temporary_settings(limits):
        yield


def is_outage(error: BaseException | None) -> bool:
    """Return whether an error of a request means that the server is down or overloaded."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR
    return isinstance(error, httpx.TransportError)


def wait_for_server(announce: Callable[[str], None]) -> None:
    """Wait, however long it takes, until the server answers; ``announce`` says so once.

    Returns at once if the run has a temporary server of its own, which ends with the run.
    """
    url = get_current_settings().api.url
    if url is None:
        return
    announced = False
    while is_outage(_healthcheck()):
        if not announced:
            announce(f"Prefect's server at {url} does not answer; waiting until it does")
            announced = True
        time.sleep(POLL_SECONDS)


def _healthcheck() -> Exception | None:
    with few_retries(), get_client(sync_client=True) as client:
        return client.api_healthcheck()
