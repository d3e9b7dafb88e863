"""When failed requests stop a stage: rejected settings and outages, not single failures."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pydantic import BaseModel

from mimix_core.errors import BadInput, Transient
from mimix_core.vlm import (
    BudgetExceeded,
    InvalidResponse,
    RateLimited,
    RefusedResponse,
    RejectedRequest,
    TokenUsage,
    TruncatedResponse,
    Unavailable,
    VlmError,
    VlmOutcome,
    VlmResponse,
)
from mimix_core.vlm.failure_policy import (
    CAPTION_FAILURES,
    JUDGE_FAILURES,
    FailurePolicy,
    RequestTally,
    describe_failure,
)

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


@pytest.mark.parametrize(
    ("raised", "error", "said"),
    [
        (BudgetExceeded("spent", fix="raise it"), BadInput, "judge.vlm: spent: 2 of 3 answered"),
        (Unavailable("ten in a row"), BadInput, "rejected every request: no images"),
        (ZeroDivisionError("x"), ZeroDivisionError, "x"),
    ],
)
def test_errors_that_end_the_requests_of_a_unit(
    raised: Exception, error: type[Exception], said: str
) -> None:
    with (
        pytest.raises(error, match=said) as caught,
        POLICY.apply("judge.vlm", lambda: "2 of 3 answered") as found,
    ):
        found.record(outcome("c", RejectedRequest("no images")))
        raise raised
    if isinstance(raised, BudgetExceeded):
        assert str(caught.value).endswith("Raise it. The same command continues from here")


def test_the_tally_is_checked_when_the_requests_end() -> None:
    with (
        pytest.raises(Transient, match="1 of 1 clips"),
        POLICY.apply("captions.vlm", str) as found,
    ):
        found.record(outcome("c", Unavailable("500")))


@pytest.mark.parametrize(
    ("error", "kind", "detail"),
    [
        (RefusedResponse("refused"), "refused", "refused"),
        (
            TruncatedResponse("cut", text="{ I\tsee\n  a"),
            "truncated",
            "cut; the model wrote: { I see a",
        ),
        (InvalidResponse("bad", text="x" * 999), "invalid", f"bad; the model wrote: {'x' * 300}"),
        (InvalidResponse("bad", text="sk-abcdef"), "invalid", "bad; the model wrote: ***"),
        (RejectedRequest("no"), "rejected", "no"),
        (RateLimited("429"), "unavailable", "429"),
        (Unavailable("500"), "unavailable", "500"),
    ],
)
def test_a_failed_row_says_why_and_what_the_model_wrote(
    error: VlmError, kind: str, detail: str
) -> None:
    assert CAPTION_FAILURES.reason_of(error) == f"caption_{kind}"
    assert JUDGE_FAILURES.reason_of(error) == f"answer_{kind}"
    assert f"answer_{kind}" in JUDGE_FAILURES.names()
    assert describe_failure(error) == detail


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
