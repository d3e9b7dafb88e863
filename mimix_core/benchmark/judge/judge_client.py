"""Asking a judge: an answer and its date for each question, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Generic

from mimix_core import tables
from mimix_core.errors import BadInput, Transient
from mimix_core.media import EncodeFailed, UnreadableVideo
from mimix_core.settings.judge_settings import JudgeSettings, JudgeVlmSettings
from mimix_core.tables import Reason, Row
from mimix_core.vlm import (
    BudgetSpent,
    InvalidReply,
    Outcome,
    Question,
    Refused,
    RejectedRequest,
    TruncatedReply,
    Unavailable,
    Usage,
    VlmError,
    ask_all,
)
from mimix_core.vlm.protocol import M
from mimix_core.vlm.response_cache import Answers

Tell = Callable[[int, int, str], None]

NO_USAGE = Usage()


@dataclass(frozen=True)
class Wanted(Generic[M]):
    """A question to be asked. ``question`` decodes its videos: may raise UnreadableVideo, or
    EncodeFailed for a negative control."""

    id: str
    question: Callable[[], Question[M]]


@dataclass(frozen=True)
class Heard(Generic[M]):
    """What became of a question. ``value`` is None for one without an answer: it has a reason."""

    value: M | None
    reason: Reason | None = None
    detail: str = ""
    model: str = ""
    asked_on: str = ""
    attempts: int = 0
    usage: Usage = NO_USAGE
    cost_usd: Decimal | None = Decimal(0)


def judge_vlm(settings: JudgeSettings) -> JudgeVlmSettings:
    """The model that judges. Raises BadInput when the settings name none."""
    if settings.vlm is None:
        raise BadInput(
            "no model judges",
            where="settings, key judge.vlm",
            fix="Name one, e.g. vlm: {backend: gemini, model: gemini-2.5-flash}",
        )
    return settings.vlm


class Judge:
    """Asks one model; ``answers`` keeps what was paid for, and when it was answered."""

    def __init__(self, settings: JudgeSettings, answers: Path) -> None:
        self.vlm, self.share = judge_vlm(settings), settings.max_failure_rate
        self.answers = answers
        self._digests: dict[str, str] = {}

    def hear(self, wanted: Sequence[Wanted[M]], tell: Tell) -> dict[str, Heard[M]]:
        """Each question's answer or reason, by id; ``tell(done, total, id)`` as they come.

        Nobody is asked for a question whose video cannot be read. Raises BadInput when the budget
        is spent or the provider takes none of the requests, Transient when too many got no answer:
        all answers so far are kept, and asking again pays for none of them.
        """
        found: dict[str, Heard[M]] = {}
        fresh = 0

        def note(name: str, heard: Heard[M]) -> None:
            found[name] = heard
            tell(len(found), len(wanted), name)

        try:
            for outcome in ask_all(
                self._questions(wanted, note), self.vlm, self.answers, len(wanted)
            ):
                spoke = outcome.reply is not None and not outcome.reply.cached
                fresh += spoke or not isinstance(outcome.error, Transient | None)
                note(outcome.id, self._heard(outcome))
        except BudgetSpent as spent:
            answered = sum(heard.value is not None for heard in found.values())
            raise BadInput(
                f"{spent.what}: {answered} of {len(wanted)} questions are answered",
                fix="All answers are kept and none is paid twice: with more budget "
                "(judge.vlm.budget_usd), the same command goes on from here",
            ) from spent
        except Unavailable:
            # What the provider takes no request of looks like an outage after some of them.
            _takes_any(found.values())
            raise
        _takes_any(found.values())
        self._not_an_outage(found, fresh)
        return found

    def _questions(
        self, wanted: Sequence[Wanted[M]], note: Callable[[str, Heard[M]], None]
    ) -> Iterator[Question[M]]:
        for one in wanted:
            try:
                question = one.question()
            except UnreadableVideo as error:
                note(one.id, Heard(None, error.reason, error.what))
                continue
            except EncodeFailed as error:
                note(one.id, Heard(None, Reason.ENCODE_FAILED, str(error)))
                continue
            self._digests[one.id] = question.digest(self.vlm.backend, self.vlm.model)
            yield question

    def _heard(self, outcome: Outcome[M]) -> Heard[M]:
        if outcome.reply is None:
            assert outcome.error is not None
            return Heard(
                None,
                _reason(outcome.error),
                str(outcome.error),
                attempts=outcome.attempts,
                usage=outcome.error.usage,
                cost_usd=outcome.cost_usd,
            )
        # The date is the answer's own, so that a run on another day gives the same bytes.
        kept = Answers(self.answers).read(self._digests[outcome.id])
        if kept is None:
            raise Transient(f"the answer to {outcome.id} was taken away while it was read")
        reply = outcome.reply
        return Heard(
            reply.value,
            model=reply.model,
            asked_on=kept.date.isoformat(),
            attempts=outcome.attempts,
            usage=reply.usage,
            cost_usd=outcome.cost_usd,
        )

    def _not_an_outage(self, found: dict[str, Heard[M]], fresh: int) -> None:
        """One question that a server chokes on is a missing answer; a server that is gone is not.

        ``fresh``: how many questions it answered now, be it with an error.
        """
        gone = {n: one for n, one in found.items() if one.reason is Reason.ANSWER_UNAVAILABLE}
        if gone and (not fresh or len(gone) > max(1, self.share * (fresh + len(gone)))):
            name, heard = next(iter(gone.items()))
            raise Transient(
                f"{len(gone)} of {len(found)} questions got no answer, {name} for one: "
                f"{heard.detail}. All other answers are kept: run it again"
            )


def _takes_any(heard: Any) -> None:
    """Raises BadInput when the provider calls every single request wrong."""
    asked = [one for one in heard if one.attempts or one.value is not None]
    rejected = [one for one in asked if one.reason is Reason.ANSWER_REJECTED]
    if rejected and len(rejected) == len(asked):
        raise BadInput(
            f"the provider takes no request: {rejected[0].detail}",
            fix="See judge.vlm: the model may read no pictures, too few at once, or no JSON schema",
        )


def _reason(error: VlmError) -> Reason:
    for kind, reason in (
        (Refused, Reason.ANSWER_REFUSED),
        (TruncatedReply, Reason.ANSWER_TRUNCATED),
        (InvalidReply, Reason.ANSWER_INVALID),
        (RejectedRequest, Reason.ANSWER_REJECTED),
    ):
        if isinstance(error, kind):
            return reason
    return Reason.ANSWER_UNAVAILABLE


def row_of(heard: Heard[Any], analysis: str, rubric_version: str, **values: Any) -> Row:
    """A row of either table: what was asked, what came back, and what it cost."""
    same = {
        **values,
        "analysis": analysis,
        "model": heard.model,
        "asked_on": heard.asked_on,
        "rubric_version": rubric_version,
        "attempts": heard.attempts,
        "input_tokens": heard.usage.input_tokens,
        "output_tokens": heard.usage.output_tokens,
        "cost_usd": None if heard.cost_usd is None else float(heard.cost_usd),
    }
    if heard.reason is None:
        return tables.ok(**same)
    return tables.failed(heard.reason, heard.detail, **same)
