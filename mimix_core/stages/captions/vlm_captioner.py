"""Request captions from a vision-language model, check them and request corrections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimix_core.domain.caption_grammar import Caption
from mimix_core.media import UnreadableVideo
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.caption_rows import (
    NO_USAGE,
    RequestUsage,
    caption_columns,
    row_with_reason,
)
from mimix_core.stages.captions.caption_validation import CaptionRules, find_caption_problems
from mimix_core.stages.captions.prompt_template import PromptTemplate
from mimix_core.stages.captions.response_schema import CaptionResponse, caption_from_response
from mimix_core.stages.captions.vlm_prompt import build_caption_request
from mimix_core.tables import Reason, Row
from mimix_core.vlm import (
    ChatMessage,
    InvalidResponse,
    TextPart,
    TruncatedResponse,
    VlmOutcome,
    VlmRequest,
    run_requests,
)
from mimix_core.vlm.failure_policy import (
    CAPTION_FAILURES,
    FailurePolicy,
    RequestTally,
    describe_failure,
)

CaptionProgress = Callable[[int, int, str], None]
"""Called with the number of finished clips, the number of all clips, and a clip's id."""


@dataclass(frozen=True)
class CaptionTask:
    """One clip to caption. ``messages`` decodes its video and may raise UnreadableVideo.

    ``rules``: for its caption; if they have required characters, an empty response is invalid.
    ``retry``: how often a person wanted another response.
    """

    id: str
    messages: Callable[[], tuple[ChatMessage, ...]]
    rules: CaptionRules
    retry: int = 0


@dataclass
class CaptionResult:
    """The result of a task: a caption, or the reason why there is none."""

    caption: Caption | None = None
    reason: Reason | None = None
    detail: str = ""
    model: str = ""
    usage: RequestUsage = NO_USAGE


@dataclass
class _Conversation:
    """The messages exchanged about a task so far, and its latest result.

    ``turns``: messages after the first request. ``notes``: added to the last message, about
    responses since then that could not be parsed.
    """

    task: CaptionTask
    result: CaptionResult = field(default_factory=CaptionResult)
    turns: tuple[ChatMessage, ...] = ()
    notes: tuple[TextPart, ...] = ()

    def messages(self) -> tuple[ChatMessage, ...]:
        *first, last = (*self.task.messages(), *self.turns)
        return (*first, ChatMessage(last.role, (*last.parts, *self.notes)))


class VlmCaptioner:
    """Captions clips with one model; ``response_cache`` is the folder of paid responses."""

    def __init__(
        self, template: PromptTemplate, settings: CaptionSettings, response_cache: Path
    ) -> None:
        self.template, self.settings = template, settings
        self.response_cache = response_cache
        self.failure_policy = FailurePolicy(
            max_failure_rate=settings.max_failure_rate,
            items="clips",
            rejection_fix="See captions.vlm: the model may not support images, or JSON schemas",
            outage_fix="If the server fails on this clip alone, add it to captions.overrides.",
        )

    @property
    def backend(self) -> str:
        """The value of the column ``backend``."""
        return f"vlm/{self.settings.vlm.backend}"

    def caption_all(
        self, tasks: Sequence[CaptionTask], on_progress: CaptionProgress
    ) -> dict[str, CaptionResult]:
        """Caption all tasks and return the results by id.

        A response with problems is followed by at most ``max_reprompts`` requests for a correction,
        which list the problems. Raises BadInput when the budget is spent (all responses so far are
        cached) or the provider rejects every request, Transient when too many got no response.
        """
        conversations = {task.id: _Conversation(task) for task in tasks}
        results: dict[str, CaptionResult] = {}
        pending = dict(conversations)

        def describe_progress() -> str:
            total = len(conversations)
            return (
                f"{len(results)} of {total} clips have a response, {total - len(results)} have none"
            )

        with self.failure_policy.apply("captions.vlm", describe_progress) as tally:
            for reprompts_left in range(self.settings.max_reprompts, -1, -1):
                requested, pending = pending, {}
                for name, final in self._request_round(requested, tally):
                    if final or reprompts_left == 0:
                        results[name] = conversations[name].result
                        on_progress(len(results), len(conversations), name)
                    else:
                        pending[name] = conversations[name]
                if not pending:
                    break
        return results

    def _request_round(
        self, conversations: Mapping[str, _Conversation], tally: RequestTally
    ) -> Iterator[tuple[str, bool]]:
        """Send one request for each conversation; yield its id and whether its result is final."""
        unreadable: list[str] = []

        def requests() -> Iterator[VlmRequest[CaptionResponse]]:
            for name, conversation in conversations.items():
                try:
                    messages = conversation.messages()
                except UnreadableVideo as error:
                    result = conversation.result
                    result.reason, result.detail = Reason.UNREADABLE_VIDEO, str(error)
                    unreadable.append(name)
                    continue
                rules = conversation.task.rules
                yield build_caption_request(
                    name,
                    messages,
                    tuple(rules.roster),
                    rules.style,
                    self.settings,
                    conversation.task.retry,
                )

        outcomes = run_requests(
            requests(), self.settings.vlm, self.response_cache, len(conversations)
        )
        for outcome in outcomes:
            tally.record(outcome)
            yield outcome.id, self._record_outcome(conversations[outcome.id], outcome)
        yield from ((name, True) for name in unreadable)

    def _record_outcome(
        self, conversation: _Conversation, outcome: VlmOutcome[CaptionResponse]
    ) -> bool:
        """Record an outcome; return whether it is final, false if a correction is worth asking."""
        result = conversation.result
        result.usage += _request_usage(outcome)
        if outcome.response is None:
            assert outcome.error is not None
            result.caption = None
            problem = str(outcome.error)
            result.reason = CAPTION_FAILURES.reason_of(outcome.error)
            result.detail = describe_failure(outcome.error)
            if not isinstance(outcome.error, InvalidResponse | TruncatedResponse):
                return True
            conversation.notes += (TextPart(self.template.render("again", problems=[problem])),)
            return False
        response, rules = outcome.response.value, conversation.task.rules
        result.model = outcome.response.model
        if response.is_empty() and not rules.required_characters:
            result.caption, result.reason = None, Reason.NO_CHARACTER
            result.detail = "no character of the cast is recognized in the clip"
            return True
        caption, problems = caption_from_response(response)
        if caption is not None:
            problems += find_caption_problems(caption, rules)
        result.caption = caption
        result.reason = Reason.CAPTION_CHECK_FAILED if problems else None
        result.detail = "; ".join(problems)
        conversation.turns += (
            ChatMessage("assistant", (TextPart(response.model_dump_json()),)),
            ChatMessage("user", (TextPart(self.template.render("again", problems=problems)),)),
        )
        conversation.notes = ()
        return not problems

    def build_row(self, name: str, result: CaptionResult, rules: CaptionRules) -> Row:
        """Build the row of the captions table."""
        values = caption_columns(
            name, self.backend, result.caption, rules.style, model=result.model, usage=result.usage
        )
        return row_with_reason(result.reason, result.detail, values)


def _request_usage(outcome: VlmOutcome[Any]) -> RequestUsage:
    usage = outcome.response.usage if outcome.response is not None else None
    if outcome.error is not None:
        usage = outcome.error.usage
    assert usage is not None
    return RequestUsage(
        outcome.attempts,
        usage.input_tokens,
        usage.cached_tokens,
        usage.output_tokens,
        outcome.cost_usd,
    )
