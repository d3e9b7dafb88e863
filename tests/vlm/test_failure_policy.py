"""When failed requests stop a stage: rejected settings and outages, not single failures."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pydantic import BaseModel

from mimix_core.errors import BadInput, Transient
from mimix_core.vlm import (
    InvalidResponse,
    RateLimited,
    RefusedResponse,
    RejectedRequest,
    TokenUsage,
    Unavailable,
    VlmError,
    VlmOutcome,
    VlmResponse,
)
from mimix_core.vlm.failure_policy import FailurePolicy, RequestTally

POLICY = FailurePolicy(0.05, "clips", "See captions.vlm.", "Or exclude the clip.")


class Answer(BaseModel):
    pass


def tally(*outcomes: VlmError | str) -> RequestTally:
    """A tally of errors, of answers (``"new"``) and of cached answers (``"cached"``)."""
    found = RequestTally()
    for number, one in enumerate(outcomes):
        found.record(outcome(f"c{number:02}", one))
    return found


def outcome(name: str, one: VlmError | str) -> VlmOutcome[Answer]:
    if isinstance(one, str):
        reply = VlmResponse(Answer(), TokenUsage(), Decimal(0), "model")
        return VlmOutcome(name, reply, None, 1, Decimal(0), one == "cached")
    return VlmOutcome(name, None, one, 1, Decimal(0))


def test_answers_and_nothing_at_all_pass() -> None:
    POLICY.check(tally())
    POLICY.check(tally("new", "cached"))


def test_every_request_rejected_is_a_wrong_setting() -> None:
    with pytest.raises(BadInput, match="rejected every request: no images") as caught:
        POLICY.check(tally(*[RejectedRequest("no images")] * 30))
    assert caught.value.fix == "See captions.vlm."
    with pytest.raises(BadInput, match="rejected every request"):
        POLICY.check(tally(RejectedRequest("no images")))


@pytest.mark.parametrize(
    "other", ["new", "cached", InvalidResponse("not JSON"), RefusedResponse("no")]
)
def test_one_request_that_was_not_rejected_clears_the_settings(other: VlmError | str) -> None:
    POLICY.check(tally(*[RejectedRequest("too large")] * 30, other))


def test_a_single_unanswered_request_is_a_failed_row() -> None:
    POLICY.check(tally("new", Unavailable("500")))
    POLICY.check(tally(RefusedResponse("no"), RateLimited("429")))


@pytest.mark.parametrize("served", [(), ("cached",) * 100])
def test_a_provider_that_served_nothing_is_an_outage(served: tuple[str, ...]) -> None:
    with pytest.raises(Transient, match=rf"1 of {len(served) + 1} clips got no answer, e\.g\. c"):
        POLICY.check(tally(*served, Unavailable("500")))


def test_more_unanswered_than_the_rate_allows_is_an_outage() -> None:
    POLICY.check(tally(*["new"] * 38, *[Unavailable("500")] * 2))  # 2 of 40: exactly 5 %
    with pytest.raises(Transient, match=r"2 of 39 clips got no answer, e\.g\. c37: 500") as caught:
        POLICY.check(tally(*["new"] * 37, *[Unavailable("500")] * 2))
    assert str(caught.value).endswith("run it again. Or exclude the clip.")


def test_cached_answers_do_not_dilute_the_rate() -> None:
    with pytest.raises(Transient, match="2 of 103 clips"):
        POLICY.check(tally(*["cached"] * 100, "new", *[Unavailable("500")] * 2))


def test_a_repeated_request_counts_by_its_last_outcome() -> None:
    found = tally(InvalidResponse("not JSON"), InvalidResponse("not JSON"))
    for name in ("c00", "c01"):
        found.record(outcome(name, RejectedRequest("too long")))
    assert found.served == 4
    with pytest.raises(BadInput, match="rejected every request"):
        POLICY.check(found)
    found.record(outcome("c00", "new"))
    POLICY.check(found)


def test_rejections_are_told_apart_from_an_outage_of_the_client() -> None:
    mixed = tally(RejectedRequest("no images"), Unavailable("500"))
    POLICY.check_rejections(mixed)
    POLICY.check_outage(mixed)  # the rejection was served
