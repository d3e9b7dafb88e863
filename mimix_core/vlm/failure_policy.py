"""Decide when failed requests stop a stage instead of failing single rows.

One request that a provider cannot answer costs one row. A provider that rejects every request
means wrong settings, and one that stops answering means an outage: both stop the stage, because a
table full of failed rows would be committed as its result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mimix_core.errors import BadInput, Transient
from mimix_core.tables import Reason
from mimix_core.vlm.api_keys import excerpt
from mimix_core.vlm.protocol import (
    BudgetExceeded,
    InvalidResponse,
    RefusedResponse,
    RejectedRequest,
    TruncatedResponse,
    Unavailable,
    VlmError,
    VlmOutcome,
)


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

    @contextmanager
    def apply(self, where: str, describe_progress: Callable[[], str]) -> Iterator[RequestTally]:
        """Yield the tally of a unit's requests, and check it when they end.

        Raises BadInput when the provider rejects every request, or when the budget is spent: then
        with ``describe_progress()``, how many items are finished. Raises Transient in an outage.
        ``where``: the settings of the model.
        """
        tally = RequestTally()
        try:
            yield tally
        except BudgetExceeded as spent:
            raise BadInput(
                f"{spent.what}: {describe_progress()}",
                where=where,
                fix=f"{spent.fix[:1].upper()}{spent.fix[1:]}. The same command continues from here",
            ) from spent
        except Unavailable:
            # Many rejections in a row look like an outage to the client.
            self.check_rejections(tally)
            raise
        self.check(tally)

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


@dataclass(frozen=True)
class FailureReasons:
    """A table's reasons of rows whose request got no valid response, by kind of error.

    A person can decide to send the requests of such rows once more (``retries.py``).
    """

    refused: Reason
    truncated: Reason
    invalid: Reason
    rejected: Reason
    unavailable: Reason

    def reason_of(self, error: VlmError) -> Reason:
        """Return the reason of a row whose request ended with this error."""
        for kind, reason in (
            (RefusedResponse, self.refused),
            (TruncatedResponse, self.truncated),
            (InvalidResponse, self.invalid),
            (RejectedRequest, self.rejected),
        ):
            if isinstance(error, kind):
                return reason
        return self.unavailable

    def names(self) -> tuple[str, ...]:
        """Return all reasons as they are in the table."""
        reasons = (self.refused, self.truncated, self.invalid, self.rejected, self.unavailable)
        return tuple(reason.value for reason in reasons)


CAPTION_FAILURES = FailureReasons(
    Reason.CAPTION_REFUSED,
    Reason.CAPTION_TRUNCATED,
    Reason.CAPTION_INVALID,
    Reason.CAPTION_REJECTED,
    Reason.CAPTION_UNAVAILABLE,
)
JUDGE_FAILURES = FailureReasons(
    Reason.ANSWER_REFUSED,
    Reason.ANSWER_TRUNCATED,
    Reason.ANSWER_INVALID,
    Reason.ANSWER_REJECTED,
    Reason.ANSWER_UNAVAILABLE,
)


def describe_failure(error: VlmError) -> str:
    """Describe an error for a person, with the start of what the model wrote instead."""
    return f"{error}; the model wrote: {excerpt(error.text)}" if error.text else str(error)
