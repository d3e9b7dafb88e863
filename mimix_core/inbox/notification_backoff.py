"""When to say that a file waits in the inbox: once it does, and again while it stays.

Saying it may be in vain (nobody listened, the run that it started failed), so it is said again,
each time after twice as long. A file is known by its content: put there again, it is no news.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mimix_core.inbox.pending import Waiting

FIRST_SECONDS = 120.0
"""Longer than a run takes to begin, and than the trigger in deployments/prefect.yaml rests."""

LAST_SECONDS = 3600.0


@dataclass
class _Told:
    at: float
    again_after: float


@dataclass
class Announcer:
    """What has been said so far, by the digest of the file."""

    _told: dict[str, _Told] = field(default_factory=dict)

    def due(self, found: Iterable[Waiting], now: float) -> list[Waiting]:
        """Those to be told of at ``now`` (seconds of a clock). What is gone is forgotten."""
        found = list(found)
        self._told = {one.sha256: t for one in found if (t := self._told.get(one.sha256))}
        return [
            one
            for one in found
            if (told := self._told.get(one.sha256)) is None or now >= told.at + told.again_after
        ]

    def told(self, which: Iterable[Waiting], now: float) -> None:
        """They have been told of at ``now``."""
        for one in which:
            before = self._told.get(one.sha256)
            wait = FIRST_SECONDS if before is None else min(2 * before.again_after, LAST_SECONDS)
            self._told[one.sha256] = _Told(now, wait)
