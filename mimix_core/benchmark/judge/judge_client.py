"""Send questions to a judge model and collect the judgements, or why they are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Generic

from mimix_core import tables
from mimix_core.errors import BadInput, Transient
from mimix_core.media import EncodeFailed, UnreadableVideo
from mimix_core.settings.judge_settings import JudgeSettings, JudgeVlmSettings
from mimix_core.tables import Reason, Row
from mimix_core.vlm import TokenUsage, VlmOutcome, VlmRequest, run_requests
from mimix_core.vlm.failure_policy import JUDGE_FAILURES, FailurePolicy, describe_failure
from mimix_core.vlm.protocol import ResponseT
from mimix_core.vlm.response_cache import ResponseCache

ProgressCallback = Callable[[int, int, str], None]

NO_USAGE = TokenUsage()


@dataclass(frozen=True)
class JudgeRequest(Generic[ResponseT]):
    """A question that is built when it is sent.

    ``build_question`` decodes its videos: raises UnreadableVideo, or EncodeFailed for a negative
    control. ``retry``: how often a person wanted another answer.
    """

    id: str
    build_question: Callable[[], VlmRequest[ResponseT]]
    retry: int = 0


@dataclass(frozen=True)
class Judgement(Generic[ResponseT]):
    """The answer to a question, or the ``reason`` why there is none (``value`` is None)."""

    value: ResponseT | None
    reason: Reason | None = None
    detail: str = ""
    model: str = ""
    asked_on: str = ""
    attempts: int = 0
    usage: TokenUsage = NO_USAGE
    cost_usd: Decimal | None = Decimal(0)


def require_judge_vlm(settings: JudgeSettings) -> JudgeVlmSettings:
    """Return the judge model's settings. Raises BadInput when none is configured."""
    if settings.vlm is None:
        raise BadInput(
            "no judge model is configured",
            where="settings, key judge.vlm",
            fix="Configure one, e.g. vlm: {backend: gemini, model: gemini-2.5-flash}",
        )
    return settings.vlm


class JudgeClient:
    """Sends questions to one model; answers and their dates are cached on disk."""

    def __init__(self, settings: JudgeSettings, answers: Path) -> None:
        self.vlm = require_judge_vlm(settings)
        self._policy = FailurePolicy(
            settings.max_failure_rate,
            items="questions",
            rejection_fix="Check judge.vlm: the model may not accept images, as many images at "
            "once, or a JSON schema",
        )
        self.answers = answers
        self._digests: dict[str, str] = {}

    def evaluate(
        self, requests: Sequence[JudgeRequest[ResponseT]], report_progress: ProgressCallback
    ) -> dict[str, Judgement[ResponseT]]:
        """Collect the judgement of each request by id, in the order in which they arrive.

        Calls ``report_progress(done, total, id)`` for each. A request whose video is unreadable is
        not sent. Raises BadInput when the budget is spent or the provider rejects every request,
        Transient when too many get no answer. Answers received are cached and never paid twice.
        """
        judgements: dict[str, Judgement[ResponseT]] = {}

        def add(name: str, judgement: Judgement[ResponseT]) -> None:
            judgements[name] = judgement
            report_progress(len(judgements), len(requests), name)

        def describe_progress() -> str:
            answered = sum(judgement.value is not None for judgement in judgements.values())
            return f"{answered} of {len(requests)} questions are answered"

        with self._policy.apply("judge.vlm", describe_progress) as tally:
            for outcome in run_requests(
                self._questions(requests, add), self.vlm, self.answers, len(requests)
            ):
                tally.record(outcome)
                add(outcome.id, self._judgement(outcome))
        return judgements

    def _questions(
        self,
        requests: Sequence[JudgeRequest[ResponseT]],
        add: Callable[[str, Judgement[ResponseT]], None],
    ) -> Iterator[VlmRequest[ResponseT]]:
        for request in requests:
            try:
                question = replace(request.build_question(), retry=request.retry)
            except UnreadableVideo as error:
                add(request.id, Judgement(None, error.reason, error.what))
                continue
            except EncodeFailed as error:
                add(request.id, Judgement(None, Reason.ENCODE_FAILED, str(error)))
                continue
            self._digests[request.id] = question.digest(self.vlm)
            yield question

    def _judgement(self, outcome: VlmOutcome[ResponseT]) -> Judgement[ResponseT]:
        if outcome.response is None:
            assert outcome.error is not None
            return Judgement(
                None,
                JUDGE_FAILURES.reason_of(outcome.error),
                describe_failure(outcome.error),
                attempts=outcome.attempts,
                usage=outcome.error.usage,
                cost_usd=outcome.cost_usd,
            )
        # The date of the answer, not of this run: a later run writes the same bytes.
        cached = ResponseCache(self.answers).read(self._digests[outcome.id])
        if cached is None:
            raise Transient(f"the cached answer to {outcome.id} was removed while it was read")
        reply = outcome.response
        return Judgement(
            reply.value,
            model=reply.model,
            asked_on=cached.date.isoformat(),
            attempts=outcome.attempts,
            usage=reply.usage,
            cost_usd=outcome.cost_usd,
        )


def build_answer_row(
    judgement: Judgement[Any], analysis: str, rubric_version: str, **values: Any
) -> Row:
    """Build a row of either judge table from its own columns and those of the answer."""
    columns = {
        **values,
        "analysis": analysis,
        "model": judgement.model,
        "asked_on": judgement.asked_on,
        "rubric_version": rubric_version,
        "attempts": judgement.attempts,
        "input_tokens": judgement.usage.input_tokens,
        "output_tokens": judgement.usage.output_tokens,
        "cost_usd": None if judgement.cost_usd is None else float(judgement.cost_usd),
    }
    if judgement.reason is None:
        return tables.ok(**columns)
    return tables.failed(judgement.reason, judgement.detail, **columns)
