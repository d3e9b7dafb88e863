"""The process that talks to the provider. It outlives whoever asked, until its requests are home.

``python -m mimix_core.vlm`` is started by ``asking.py``, in a session of its own. A request
that was sent will be paid, so when the asking process is killed the courier still takes in the
answers that are under way, writes them to disk and ends; it starts nothing new. While it lives it
holds the locks of these questions, so that the next process waits and finds them answered.

Messages are pickled dataclasses of this module, each behind its length, over stdin and stdout. The
answers are read (as pydantic models) by the asking process, which has the models.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import pickle
import struct
import sys
import traceback
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mimix_core.errors import BadInput, MimixError, StageFailed
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.backends import open_backend
from mimix_core.vlm.protocol import Question, VlmError
from mimix_core.vlm.request_runner import Answered, Engine, Failed, Stopped
from mimix_core.vlm.response_cache import Answers, Kept

if TYPE_CHECKING:
    from mimix_core.vlm.batch_client import BatchDesk

LENGTH = struct.Struct(">Q")


@dataclass(frozen=True)
class Begin:
    settings: VlmSettings
    answers: Path


@dataclass(frozen=True)
class Ask:
    """``question.answer`` is no more than a placeholder here."""

    number: int
    digest: str
    question: Question[Any]


@dataclass(frozen=True)
class NoMore:
    """All questions are asked: a batch can be closed."""


@dataclass(frozen=True)
class Judged:
    """What is wrong with the text that ``ToJudge`` brought; None: nothing."""

    case: int
    problem: str | None


@dataclass(frozen=True)
class ToJudge:
    case: int
    number: int
    text: str


@dataclass(frozen=True)
class Found:
    number: int
    kept: Kept
    new: bool


@dataclass(frozen=True)
class Lost:
    number: int
    error: VlmError
    attempts: int
    spent_usd: Decimal | None


@dataclass(frozen=True)
class Broke:
    """Nothing more can be asked: wrong settings, no key, no money, or a bug."""

    number: int
    error: MimixError


@dataclass(frozen=True)
class Says:
    """What the courier waits for, in words."""

    note: str


def pack(message: object) -> bytes:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(data)) + data


def receive(stream: IO[bytes]) -> object | None:
    """The next message; None when the other side is gone."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    data = stream.read(length)
    return pickle.loads(data) if len(data) == length else None


def bug(error: Exception) -> StageFailed:
    """Any other error, by its kind alone: its text and its chain may hold what must not get out."""
    frames = traceback.extract_tb(error.__traceback__)
    last = next((one for one in reversed(frames) if "mimix_core" in one.filename), frames[-1])
    place = f"{Path(last.filename).name}:{last.lineno}"
    return StageFailed(f"asking the model failed with {type(error).__name__} in {place}")


class Courier:
    """The messages' way to and from an engine."""

    def __init__(self, out: asyncio.StreamWriter, engine: Engine) -> None:
        self._out, self.engine = out, engine
        self._cases = itertools.count()
        self._verdicts: dict[int, asyncio.Future[str | None]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self._desk: BatchDesk | None = None

    def send(self, message: object) -> None:
        if not self.engine.closing:
            self._out.write(pack(message))

    def ask(self, asked: Ask) -> None:
        task = asyncio.create_task(self._answer(asked))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def batch(self, asked: Ask) -> None:
        """Put a question aside for a batch."""
        if self._desk is None:
            from mimix_core.vlm.backends.openai import OpenAIBackend
            from mimix_core.vlm.batch_client import BatchDesk, Listener

            backend = self.engine.backend
            assert isinstance(backend, OpenAIBackend), "asking.py lets no other through"
            told = Listener(
                judge=self.judge,
                found=lambda number, kept: self.send(Found(number, kept, True)),
                lost=lambda *lost: self.send(Lost(*lost)),
                say=lambda note: self.send(Says(note)),
            )
            self._desk = BatchDesk(self.engine, backend, told)
        try:
            self._desk.take(asked.number, asked.digest, asked.question)
        except MimixError as error:
            self.send(Broke(asked.number, error))

    def run_batches(self) -> None:
        if self._desk is not None:
            task = asyncio.create_task(self._see_through(self._desk))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _see_through(self, desk: BatchDesk) -> None:
        try:
            await desk.run()
        except MimixError as error:
            self.send(Broke(-1, error))
        except Exception as error:
            self.send(Broke(-1, bug(error)))

    def judged(self, verdict: Judged) -> None:
        self._verdicts.pop(verdict.case).set_result(verdict.problem)

    async def judge(self, number: int, text: str) -> str | None:
        """Let the asking process read an answer. When it is gone, the next one will read it."""
        if self.engine.closing:
            return None
        case = next(self._cases)
        verdict: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._verdicts[case] = verdict
        self.send(ToJudge(case, number, text))
        return await verdict

    async def _answer(self, asked: Ask) -> None:
        number = asked.number

        async def judge(text: str) -> str | None:
            return await self.judge(number, text)

        try:
            found: Answered = await self.engine.answer(asked.question, asked.digest, judge)
            self.send(Found(number, found.kept, found.new))
        except Failed as failed:
            self.send(Lost(number, failed.error, failed.attempts, failed.spent_usd))
        except Stopped:
            return
        except MimixError as error:
            self.send(Broke(number, error))
        except Exception as error:
            self.send(Broke(number, bug(error)))

    async def close(self) -> None:
        """Take in what is under way; nothing else is waited for."""
        self.engine.closing = True
        for verdict in self._verdicts.values():
            if not verdict.done():
                verdict.set_result(None)
        for task in self.tasks - self.engine.under_way:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self._desk is not None:
            self._desk.close()
        await self.engine.backend.close()


async def serve(parent: int, messages: IO[bytes]) -> None:
    """Ask what stdin says until the process ``parent`` is gone or has closed its end."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, messages)
    out = asyncio.StreamWriter(transport, protocol, None, loop)
    begin = await _next(reader, parent)
    assert isinstance(begin, Begin)
    try:
        backend = open_backend(begin.settings)
        engine = Engine(begin.settings, Answers(begin.answers), backend)
        engine.ledger.sweep()
    except BadInput as error:
        out.write(pack(Broke(-1, error)))
        await out.drain()
        return
    # The clients' hundred thousands of objects stay: the collector need not look at them again.
    gc.collect()
    gc.freeze()
    courier = Courier(out, engine)
    try:
        while (message := await _next(reader, parent)) is not None:
            match message:
                case Ask() if begin.settings.mode == "batch":
                    courier.batch(message)
                case Ask():
                    courier.ask(message)
                case NoMore():
                    courier.run_batches()
                case Judged():
                    courier.judged(message)
    finally:
        await courier.close()


async def _next(reader: asyncio.StreamReader, parent: int) -> object | None:
    """The next message; None once the asking process is gone or has closed its end."""
    head = await _exactly(reader, LENGTH.size, parent)
    data = await _exactly(reader, LENGTH.unpack(head)[0], parent) if head else None
    return pickle.loads(data) if data else None


async def _exactly(reader: asyncio.StreamReader, count: int, parent: int) -> bytes | None:
    waiting = asyncio.ensure_future(reader.readexactly(count))
    while True:
        # A forked child of the asking process may hold its end of the pipe open after its death.
        done, _ = await asyncio.wait({waiting}, timeout=1.0)
        if done:
            try:
                return waiting.result()
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
        if os.getppid() != parent:
            waiting.cancel()
            return None


def main() -> None:
    # Whatever a library prints must not come between the messages.
    messages = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    asyncio.run(serve(os.getppid(), messages))
