"""Ask many questions: what is known comes from disk, the rest through a courier process."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ValidationError

from mimix_core.engine import progress
from mimix_core.errors import BadInput, MimixError, StageFailed
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.api_keys import api_key, scrub
from mimix_core.vlm.prices import price_of
from mimix_core.vlm.protocol import (
    BudgetSpent,
    M,
    Outcome,
    Question,
    RateLimited,
    RejectedRequest,
    Reply,
    Unavailable,
)
from mimix_core.vlm.request_worker import (
    Ask,
    Begin,
    Broke,
    Found,
    Judged,
    Lost,
    NoMore,
    Says,
    ToJudge,
    pack,
    receive,
)
from mimix_core.vlm.response_cache import Answers, Kept

HEARD_SECONDS = 1.0
FAILURES_IN_A_ROW = 10
"""So many questions in a row that the server could not take: it is the server, not the question."""


def ask_all(
    questions: Iterable[Question[M]],
    settings: VlmSettings,
    answers: Path,
    total: int | None = None,
) -> Iterator[Outcome[M]]:
    """Outcomes as they are there, in any order; every question gives exactly one.

    Questions are taken from the iterable only as fast as they are asked, in the caller's thread.
    ``answers``: the folder where answers are kept, the same for all processes of a workspace.
    ``total``: how many questions there will be, for the progress that is told while waiting.

    Raises BudgetSpent after the outcomes of all requests under way; BadCredentials and BadInput
    when nothing can be asked; Unavailable when the server fails one question after another.
    Whatever ends it, answers that were paid are kept.
    """
    price_of(settings)
    if settings.mode == "batch" and settings.backend != "openai":
        raise BadInput(
            f"the backend {settings.backend} has no batch service here",
            where="mode",
            fix="mode: live",
        )
    folder = Answers(answers)
    with_courier = _Asking(settings, folder, total)
    try:
        for question in questions:
            digest = question.digest(settings.backend, settings.model)
            kept = folder.read(digest)
            known = None if kept is None else _outcome(question, kept, cached=True)
            if known is not None:
                yield known
            else:
                with_courier.ask(question, digest)
            yield from with_courier.outcomes()
            if with_courier.broke is not None:
                break
        with_courier.no_more()
        yield from with_courier.outcomes(all_of_them=True)
        if with_courier.broke is not None:
            raise with_courier.broke
    finally:
        with_courier.close()


def _outcome(question: Question[M], kept: Kept, *, cached: bool) -> Outcome[M] | None:
    """The outcome of a kept answer; None when the question's model cannot read it."""
    try:
        value = question.answer.model_validate_json(kept.text)
    except ValidationError:
        return None
    reply = Reply(value, kept.usage, kept.cost_usd, kept.model, cached)
    return Outcome(question.id, reply, None, kept.attempts, kept.spent_usd)


def _problem(answer: type[BaseModel], text: str) -> str | None:
    """What is wrong with an answer's text: the first errors, without what the model said."""
    try:
        answer.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[:3]
        return "the answer is not of the asked form: " + "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'all of it'}: {one['msg']}" for one in first
        )
    return None


class _Asking:
    """The caller's end of a courier; none is started before the first question for it."""

    def __init__(self, settings: VlmSettings, answers: Answers, total: int | None) -> None:
        self._settings, self._answers, self._total = settings, answers, total
        self._courier: subprocess.Popen[bytes] | None = None
        self._open = ExitStack()
        self._log: IO[bytes] | None = None
        self._heard: queue.Queue[object | None] = queue.Queue()
        self._writing = threading.Lock()
        self._pending: dict[int, Question[Any]] = {}
        self._window = 2 * settings.concurrency + 8
        self._asked = 0
        self._done = 0
        self._failures = 0
        self._gone = False
        self.broke: MimixError | None = None

    def ask(self, question: Question[Any], digest: str) -> None:
        if self._courier is None:
            self._start()
        number = self._asked
        self._asked += 1
        # Only what is read here is kept here: the pictures go to the courier.
        self._pending[number] = replace(question, messages=())
        bare = replace(question, answer=BaseModel, schema=json.loads(json.dumps(question.schema)))
        self._send(Ask(number, digest, bare))

    def no_more(self) -> None:
        if self._courier is not None:
            self._send(NoMore())

    def outcomes(self, *, all_of_them: bool = False) -> Iterator[Outcome[Any]]:
        """Outcomes that are there; waits while more are asked than the window holds.

        ``all_of_them``: waits for every one, of those that still come after the courier broke off.
        """
        while self._pending and not self._gone:
            full = len(self._pending) >= self._window and self._settings.mode == "live"
            waits = all_of_them or full
            try:
                message = self._heard.get(timeout=HEARD_SECONDS if waits else 0)
            except queue.Empty:
                if not waits:
                    return
                self._say("waiting for answers")
                continue
            outcome = self._take(message)
            if outcome is not None:
                self._done += 1
                yield outcome

    def _take(self, message: object | None) -> Outcome[Any] | None:
        match message:
            case Found(number, kept, new):
                self._failures = 0
                outcome = _outcome(self._pending.pop(number), kept, cached=not new)
                assert outcome is not None, "read before by the same model"
                return outcome
            case Lost(number, error, attempts, spent_usd):
                question = self._pending.pop(number)
                if isinstance(error, Unavailable | RejectedRequest | RateLimited):
                    self._failures += 1
                else:
                    self._failures = 0
                if self._failures >= FAILURES_IN_A_ROW and self.broke is None:
                    self.broke = Unavailable(
                        f"the server failed {self._failures} questions in a row, the last one "
                        f"with: {error}"
                    )
                    self._let_go()
                return Outcome(question.id, None, error, attempts, spent_usd)
            case Broke(number, error):
                self._pending.pop(number, None)
                self.broke = self.broke or error
                if number < 0 or not isinstance(error, BudgetSpent):
                    self._let_go()
            case Says(note):
                self._say(note)
            case None:
                self._gone = True
                if self.broke is None:
                    self.broke = StageFailed(
                        f"the process that asks the model died. {self._tail()}"
                    )
        return None

    def _let_go(self) -> None:
        """Ask nothing more; the courier takes in what is under way by itself."""
        self._gone = True

    def _say(self, note: str) -> None:
        progress.advance(self._done, self._total or max(self._asked, 1), note)

    def _start(self) -> None:
        api_key(self._settings)  # a missing key is told before anything is started
        self._log = self._open.enter_context(
            tempfile.TemporaryFile()  # noqa: SIM115 - the stack closes it
        )
        self._courier = subprocess.Popen(
            [sys.executable, "-m", "mimix_core.vlm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            # Not in the group of the asking process: it may outlive it by a request.
            start_new_session=True,
        )
        self._answers.root.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._listen, args=(self._courier,), daemon=True).start()
        self._send(Begin(self._settings, self._answers.root))

    def _listen(self, courier: subprocess.Popen[bytes]) -> None:
        assert courier.stdout is not None
        while (message := receive(courier.stdout)) is not None:
            if isinstance(message, ToJudge):
                # Here and not in the caller's thread, which may be busy with the next question.
                answer = self._pending[message.number].answer
                self._send(Judged(message.case, _problem(answer, message.text)))
            else:
                self._heard.put(message)
        self._heard.put(None)

    def _send(self, message: object) -> None:
        assert self._courier is not None
        assert self._courier.stdin is not None
        with self._writing, suppress(BrokenPipeError, ValueError):
            # A courier that is gone says so on the other pipe.
            self._courier.stdin.write(pack(message))
            self._courier.stdin.flush()

    def _tail(self) -> str:
        assert self._log is not None
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return scrub(" ".join(lines[-3:]), api_key(self._settings))

    def close(self) -> None:
        """Let the courier go. With nothing under way it is gone at once."""
        if self._courier is None:
            return
        assert self._courier.stdin is not None
        with self._writing, suppress(BrokenPipeError):
            self._courier.stdin.close()
        if not self._pending:
            self._courier.wait()
        self._open.close()
