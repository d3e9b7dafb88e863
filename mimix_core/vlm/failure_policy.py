"""Decide when failed requests stop a stage instead of failing single rows.

One request that a provider cannot answer costs one row. A provider that rejects every request
means wrong settings, and one that stops answering means an outage: both stop the stage, because a
table full of failed rows would be committed as its result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mimix_core.errors import BadInput, Transient
from mimix_core.vlm.protocol import RejectedRequest, VlmError, VlmOutcome


@dataclass
class RequestTally:
    """The outcomes of one unit's requests: the last one by id, and how many the provider served.

    Record only what was sent, or read from the response cache: a clip or video that cannot be read
    never reaches the provider and says nothing about it.
    """

    errors: dict[str, VlmError | None] = field(default_factory=dict)
    served: int = 0
    """Outcomes that the provider returned in this run, errors included, cached responses not."""

    def record(self, outcome: VlmOutcome[Any]) -> None:
        """Count an outcome. A repeated request replaces the earlier outcome of its id."""
        self.errors[outcome.id] = outcome.error
        self.served += not outcome.cached and not isinstance(outcome.error, Transient)

    def errors_of(self, kind: type[Exception]) -> dict[str, VlmError]:
        """Return the last errors of a kind, by id in sorted order."""
        return {
            name: error for name, error in sorted(self.errors.items()) if isinstance(error, kind)
        }


@dataclass(frozen=True)
class FailurePolicy:
    """The bounds on failed requests, and the words of the two errors that exceeding them raises.

    ``max_failure_rate``: share of requests that may stay unanswered, of those sent in this run.
    ``items``: what a request is about, in the plural. ``rejection_fix`` and ``outage_fix``: advice.
    """

    max_failure_rate: float
    items: str
    rejection_fix: str
    outage_fix: str = ""

    def check(self, tally: RequestTally) -> None:
        """Check a finished tally. Raises BadInput and Transient as the two checks below do."""
        self.check_rejections(tally)
        self.check_outage(tally)

    def check_rejections(self, tally: RequestTally) -> None:
        """Raise BadInput when the provider rejected every request.

        Call it also when the client gave up with Unavailable: many rejections in a row look like an
        outage to the client.
        """
        rejected = tally.errors_of(RejectedRequest)
        if rejected and len(rejected) == len(tally.errors):
            raise BadInput(
                f"the provider rejected every request: {next(iter(rejected.values()))}",
                fix=self.rejection_fix,
            )

    def check_outage(self, tally: RequestTally) -> None:
        """Raise Transient when too many requests stayed unanswered, or all that were sent.

        One unanswered request is always allowed, as long as the provider served another one.
        """
        unanswered = tally.errors_of(Transient)
        if not unanswered:
            return
        bound = max(1, self.max_failure_rate * (tally.served + len(unanswered)))
        if not tally.served or len(unanswered) > bound:
            name, error = next(iter(unanswered.items()))
            raise Transient(
                f"{len(unanswered)} of {len(tally.errors)} {self.items} got no answer, e.g. "
                f"{name}: {error}. All other answers are cached: run it again. "
                f"{self.outage_fix}".rstrip()
            )
