"""Asking a vision-language model for captions: answers are checked, and asked for again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimix_core import tables
from mimix_core.domain.caption_grammar import Caption
from mimix_core.errors import BadInput, Transient
from mimix_core.media import UnreadableVideo
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.caption_rows import NOTHING, Spent, columns
from mimix_core.stages.captions.caption_validation import Rules, problems
from mimix_core.stages.captions.prompt_template import Prompt
from mimix_core.stages.captions.response_schema import CaptionAnswer, caption_in
from mimix_core.stages.captions.vlm_prompt import question
from mimix_core.tables import Reason, Row
from mimix_core.vlm import (
    BudgetSpent,
    InvalidReply,
    Message,
    Outcome,
    Question,
    Refused,
    RejectedRequest,
    Text,
    TruncatedReply,
    Unavailable,
    VlmError,
    ask_all,
)

Tell = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Subject:
    """One clip to be captioned. ``messages`` decodes it, and may raise UnreadableVideo.

    ``rules``: what its caption is held to; with names that must act in them, an answer that sees
    nobody is none.
    """

    id: str
    messages: Callable[[], tuple[Message, ...]]
    rules: Rules


@dataclass
class Told:
    """What a subject's questions came to: a caption, or the reason why there is none."""

    caption: Caption | None = None
    reason: Reason | None = None
    detail: str = ""
    model: str = ""
    spent: Spent = NOTHING


@dataclass
class _Talk:
    """A subject that has no usable answer yet, and all that was said about the last ones."""

    subject: Subject
    told: Told = field(default_factory=Told)
    # Turns after the first request; lines at the end, of answers since that could not be read.
    turns: tuple[Message, ...] = ()
    notes: tuple[Text, ...] = ()

    def messages(self) -> tuple[Message, ...]:
        *first, last = (*self.subject.messages(), *self.turns)
        return (*first, Message(last.role, (*last.parts, *self.notes)))


class Captioning:
    """Captions of subjects, asked of one model; ``answers`` keeps what was paid for."""

    def __init__(self, prompt: Prompt, settings: CaptionSettings, answers: Path) -> None:
        self.prompt, self.settings, self.answers = prompt, settings, answers

    @property
    def backend(self) -> str:
        return f"vlm/{self.settings.vlm.backend}"

    def captions(self, subjects: Sequence[Subject], tell: Tell) -> dict[str, Told]:
        """Each subject's caption or reason; ``tell(done, total, id)`` as they come.

        An answer with problems is asked for again, at most ``asked_again`` times, with them told.
        Raises BadInput when the budget is spent (all answers so far are kept) or the provider
        takes none of the requests, Transient when too many got no answer.
        """
        talks = {subject.id: _Talk(subject) for subject in subjects}
        done: dict[str, Told] = {}
        again = dict(talks)
        heard = 0
        try:
            for left in range(self.settings.asked_again, -1, -1):
                asked, again = again, {}
                for name, final, fresh in self._round(asked):
                    heard += fresh
                    if final or left == 0:
                        done[name] = talks[name].told
                        tell(len(done), len(talks), name)
                    else:
                        again[name] = talks[name]
                if not again:
                    break
        except BudgetSpent as spent:
            raise BadInput(
                f"{spent.what}: {len(done)} of {len(talks)} clips are answered, "
                f"{len(talks) - len(done)} are not",
                fix="All answers are kept and none is paid twice: with more budget "
                "(captions.vlm.budget_usd), the same command goes on from here",
            ) from spent
        except Unavailable:
            # What the provider takes no request of looks like an outage after some of them.
            self._takes_any(done)
            raise
        self._takes_any(done)
        self._not_an_outage(done, heard)
        return done

    def _round(self, asked: Mapping[str, _Talk]) -> Iterator[tuple[str, bool, bool]]:
        """Ask once for each: its id, whether its outcome is final, whether the server spoke."""
        unreadable: list[str] = []

        def questions() -> Iterator[Question[CaptionAnswer]]:
            for name, talk in asked.items():
                try:
                    messages = talk.messages()
                except UnreadableVideo as error:
                    talk.told.reason, talk.told.detail = Reason.UNREADABLE_VIDEO, str(error)
                    unreadable.append(name)
                    continue
                rules = talk.subject.rules
                yield question(name, messages, tuple(rules.roster), rules.style, self.settings)

        for outcome in ask_all(questions(), self.settings.vlm, self.answers, len(asked)):
            fresh = (
                not outcome.reply.cached
                if outcome.reply is not None
                else not isinstance(outcome.error, Transient)
            )
            yield outcome.id, self._heard(asked[outcome.id], outcome), fresh
        yield from ((name, True, False) for name in unreadable)

    def _heard(self, talk: _Talk, outcome: Outcome[CaptionAnswer]) -> bool:
        """Note an outcome; False when it is worth to ask again."""
        told = talk.told
        told.spent += _spent(outcome)
        if outcome.reply is None:
            assert outcome.error is not None
            told.caption = None
            told.reason, told.detail = _reason(outcome.error), str(outcome.error)
            if not isinstance(outcome.error, InvalidReply | TruncatedReply):
                return True
            talk.notes += (Text(self.prompt.text("again", problems=[told.detail])),)
            return False
        answer, rules = outcome.reply.value, talk.subject.rules
        told.model = outcome.reply.model
        if answer.nobody() and not rules.wanted:
            told.caption, told.reason = None, Reason.NO_CHARACTER
            told.detail = "nobody of the cast is recognised in the clip"
            return True
        caption, wrong = caption_in(answer)
        if caption is not None:
            wrong += problems(caption, rules)
        told.caption, told.reason = caption, Reason.CAPTION_CHECK_FAILED if wrong else None
        told.detail = "; ".join(wrong)
        talk.turns += (
            Message("assistant", (Text(answer.model_dump_json()),)),
            Message("user", (Text(self.prompt.text("again", problems=wrong)),)),
        )
        talk.notes = ()
        return not wrong

    def _not_an_outage(self, done: Mapping[str, Told], heard: int) -> None:
        """One clip that a server chokes on is a failed row; a server that is gone is not.

        ``heard``: how many questions it answered now, be it with an error.
        """
        gone = {n: told for n, told in done.items() if told.reason is Reason.CAPTION_UNAVAILABLE}
        if not gone:
            return
        bound = max(1, self.settings.unavailable_share * (heard + len(gone)))
        if not heard or len(gone) > bound:
            name, told = next(iter(gone.items()))
            raise Transient(
                f"{len(gone)} of {len(done)} clips got no answer, {name} for one: {told.detail}. "
                "All other answers are kept: run it again. If it is the clip that the server "
                "cannot take, leave it out in captions.overrides"
            )

    def _takes_any(self, done: Mapping[str, Told]) -> None:
        """Raises BadInput when the provider calls every single request wrong."""
        rejected = [told for told in done.values() if told.reason is Reason.CAPTION_REJECTED]
        if rejected and len(rejected) == len(done):
            raise BadInput(
                f"the provider takes no request: {rejected[0].detail}",
                fix="See captions.vlm: the model may read no pictures, or no JSON schema",
            )

    def row(self, name: str, told: Told, rules: Rules) -> Row:
        """The row of the captions table."""
        values = columns(
            name, self.backend, told.caption, rules.style, model=told.model, spent=told.spent
        )
        return row_of(told.reason, told.detail, values)


def row_of(reason: Reason | None, detail: str, values: dict[str, Any]) -> Row:
    """An ok row without a reason; who does not qualify is rejected, all else failed."""
    if reason is None:
        return tables.ok(**values)
    if reason in (Reason.NO_CHARACTER, Reason.NO_ACTION_IN_SCRIPT, Reason.LEFT_OUT_BY_HAND):
        return tables.rejected(reason, detail, **values)
    return tables.failed(reason, detail, **values)


def _spent(outcome: Outcome[Any]) -> Spent:
    usage = outcome.reply.usage if outcome.reply is not None else None
    if outcome.error is not None:
        usage = outcome.error.usage
    assert usage is not None
    return Spent(
        outcome.attempts,
        usage.input_tokens,
        usage.cached_tokens,
        usage.output_tokens,
        outcome.cost_usd,
    )


def _reason(error: VlmError) -> Reason:
    for kind, reason in (
        (Refused, Reason.CAPTION_REFUSED),
        (TruncatedReply, Reason.CAPTION_TRUNCATED),
        (InvalidReply, Reason.CAPTION_INVALID),
        (RejectedRequest, Reason.CAPTION_REJECTED),
    ):
        if isinstance(error, kind):
            return reason
    return Reason.CAPTION_UNAVAILABLE
