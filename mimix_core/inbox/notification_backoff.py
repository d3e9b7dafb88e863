"""Decide when to send a notification for a file in the inbox: at once, and again while it stays.

A notification may have no effect (it is lost, or the run that it starts fails), so it is repeated
with doubling intervals. Files are identified by content: replacing one by a copy has no effect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mimix_core.inbox.pending import PendingFile

INITIAL_INTERVAL_SECONDS = 120.0
"""Longer than the start of a run, and than the trigger in deployments/prefect.yaml pauses."""

MAX_INTERVAL_SECONDS = 3600.0


@dataclass
class _Sent:
    time: float
    interval: float


@dataclass
class NotificationBackoff:
    """The last notification of each file, by digest. Times are seconds of a monotonic clock."""

    _sent: dict[str, _Sent] = field(default_factory=dict)

    def due(self, files: Iterable[PendingFile], now: float) -> list[PendingFile]:
        """Return the files to notify of at ``now``, and forget those that are not in ``files``."""
        files = list(files)
        self._sent = {file.sha256: sent for file in files if (sent := self._sent.get(file.sha256))}
        return [
            file
            for file in files
            if (sent := self._sent.get(file.sha256)) is None or now >= sent.time + sent.interval
        ]

    def mark_sent(self, files: Iterable[PendingFile], now: float) -> None:
        """Record that notifications of the files were sent at ``now``."""
        for file in files:
            last = self._sent.get(file.sha256)
            interval = (
                INITIAL_INTERVAL_SECONDS
                if last is None
                else min(2 * last.interval, MAX_INTERVAL_SECONDS)
            )
            self._sent[file.sha256] = _Sent(now, interval)
