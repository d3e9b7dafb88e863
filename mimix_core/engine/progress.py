"""Report the progress of a running stage to a listener that the stage does not know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[int, int, str], None]

_listener: ContextVar[Listener | None] = ContextVar("mimix_progress_listener", default=None)


def report_progress(done: int, total: int, note: str = "") -> None:
    """Report that ``done`` of ``total`` steps of the running stage are complete."""
    listener = _listener.get()
    if listener is not None:
        listener(done, total, note)


@contextmanager
def progress_listener(listener: Listener) -> Iterator[None]:
    """Send every ``advance`` call in this context to ``listener``."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
