"""Making planned clips: one decode feeds the encoders; each clip is decoded back after writing."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from mimix_core import tables
from mimix_core.domain.timeline import clip_duration
from mimix_core.engine import progress
from mimix_core.engine.artifacts import digest_file
from mimix_core.media import (
    ClipWriter,
    EncodeFailed,
    Fields,
    ProofFailed,
    Shape,
    Shaper,
    SoundCut,
    UnreadableVideo,
    fingerprint,
    prove_clip,
    sound_cuts,
)
from mimix_core.settings import ClipSettings
from mimix_core.stages.clips.frame_reader import FrameFeed
from mimix_core.stages.clips.planning import Frames, Plan
from mimix_core.tables import Reason, Row, Status

_SPEAK_EVERY = 48
"""Frames handled between two signs of life."""


@dataclass(frozen=True)
class Source:
    """The episode that clips are made of."""

    path: Path
    fields: Fields
    frames: Frames


@dataclass
class _Draft:
    """A clip on its way: the shaped pictures of its frames so far."""

    plan: Plan
    pictures: list[Any] = field(default_factory=list)
    problem: str = ""


class _Pulse:
    """Counts frames, in whatever thread, and tells from the stage's own that work goes on."""

    def __init__(self, total: int) -> None:
        self.made, self._total = 0, total
        self._frames = self._told = 0
        self._lock = Lock()

    def beat(self) -> None:
        with self._lock:
            self._frames += 1

    def tell(self) -> None:
        """Silent when no frame was decoded or encoded since: who hangs must not look alive."""
        if self._frames - self._told >= _SPEAK_EVERY:
            self._told = self._frames
            progress.advance(self.made, self._total, "clips written")


def make(
    source: Source, plans: Sequence[Plan], settings: ClipSettings, out: Path
) -> tuple[list[Row], dict[str, int]]:
    """Make the planned clips in ``out / "clips"``; one row each, and notes on the decode.

    Whole clips wait for a free encoder: ``encoders`` + 1 clips of pictures are held at most
    (48 MB each at 832x480), and those that are being decoded (one, unless clips overlap).
    """
    if not plans:
        return [], {}
    (out / "clips").mkdir()
    drafts = [_Draft(one) for one in plans]
    pulse = _Pulse(len(plans))

    def alive() -> None:
        pulse.beat()
        pulse.tell()

    feed = FrameFeed(
        source.path, source.fields, source.frames, threads=settings.decode_threads, alive=alive
    )
    rows: list[Row] = []
    with ThreadPoolExecutor(settings.encoders) as pool:
        sound = pool.submit(_cut_sound, source.path, plans, settings, out)
        waiting: deque[Future[Row]] = deque()

        def collect(left: int) -> None:
            while len(waiting) > left:
                rows.append(_patient(waiting.popleft(), pulse))
                pulse.made = len(rows)

        broken: UnreadableVideo | None = None
        try:
            for draft in _filled(feed, drafts):
                waiting.append(pool.submit(_write, draft, settings, out, pulse))
                collect(settings.encoders)
        except UnreadableVideo as error:
            broken = error
        collect(0)
        _patient(sound, pulse)
    written = {row["clip_id"] for row in rows}
    rows += [
        tables.failed(broken.reason, broken.what, **one.values())
        for one in plans
        if broken is not None and one.clip_id not in written
    ]
    silent = sound.result()
    notes = {"decode_jumps": feed.jumps, "decoded_straight": int(feed.straight)}
    return [_with_sound(row, silent, out) for row in rows], notes


def _patient(future: Future[Any], pulse: _Pulse) -> Any:
    """The result of a future, with signs of life as long as there is progress."""
    while True:
        try:
            return future.result(timeout=1)
        except TimeoutError:
            if future.done():
                raise
            pulse.tell()


def _filled(feed: FrameFeed, drafts: Sequence[_Draft]) -> Iterator[_Draft]:
    """Decode once, forward; give out each draft with its last frame or its first problem."""
    users: defaultdict[int, list[_Draft]] = defaultdict(list)
    for draft in drafts:
        for number in sorted(set(draft.plan.numbers)):
            users[number].append(draft)
    shapers: dict[Shape, Shaper] = {}
    for number, frame in feed.give(sorted(users)):
        for draft in users.pop(number):
            if draft.problem:
                continue
            plan = draft.plan
            if frame is None:
                pts = plan.source_pts[plan.numbers.index(number)]
                draft.problem = f"the decoder gives no frame of PTS {pts}"
                yield draft
                continue
            if plan.shape not in shapers:
                assert feed.info is not None
                shapers[plan.shape] = Shaper(feed.info, plan.shape)
            # A slow source's frame stands for several frames of the clip.
            draft.pictures += [shapers[plan.shape](frame)] * plan.numbers.count(number)
            if number == plan.numbers[-1]:
                yield draft


def _write(draft: _Draft, settings: ClipSettings, out: Path, pulse: _Pulse) -> Row:
    """Encode a draft, decode it back, and give its row."""
    pictures, draft.pictures = draft.pictures, []
    plan = draft.plan
    width, height = plan.shape.width, plan.shape.height
    values = plan.values()
    if draft.problem:
        return tables.failed(Reason.PROOF_FAILED, draft.problem, **values)
    path = out / "clips" / f"{plan.clip_id}.mp4"
    prints = fingerprint.Maker()

    def look(number: int, frame: Any) -> None:
        pulse.beat()
        prints.add(number, frame)

    try:
        with ClipWriter(path, width, height, crf=settings.crf, preset=settings.preset) as writer:
            for picture in pictures:
                writer.write(picture)
                pulse.beat()
        # One thread: the encoders beside it have the other cores.
        prove_clip(path, width, height, threads=1, look=look)
    except EncodeFailed as error:
        return tables.failed(Reason.ENCODE_FAILED, str(error), **values)
    except ProofFailed as error:
        path.unlink()
        return tables.failed(Reason.PROOF_FAILED, str(error), **values)
    values |= {
        "file": path.relative_to(out).as_posix(),
        "sha256": digest_file(path),
        "fingerprint": prints.done(),
    }
    return tables.ok(**values)


def _sound_path(clip_id: str, out: Path) -> Path:
    return out / "clips" / f"{clip_id}.flac"


def _cut_sound(
    path: Path, plans: Sequence[Plan], settings: ClipSettings, out: Path
) -> UnreadableVideo | None:
    """Write the sound of all clips that the source has sound for; the error that ended it."""
    if settings.audio == "none":
        return None
    cuts = [
        SoundCut(plan.start, plan.start + clip_duration(), _sound_path(plan.clip_id, out))
        for plan in plans
    ]
    done: set[int] = set()
    try:
        for index, _ in sound_cuts(path, cuts):
            done.add(index)
    except UnreadableVideo as error:
        for index, cut in enumerate(cuts):
            if index not in done:
                cut.path.unlink(missing_ok=True)
        return error
    return None


def _with_sound(row: Row, broken: UnreadableVideo | None, out: Path) -> Row:
    """A clip's row with the columns of its sound; failed where the source's sound breaks off."""
    path = _sound_path(row["clip_id"], out)
    if row["status"] != Status.OK:
        path.unlink(missing_ok=True)
        return row
    if path.exists():
        sound = {"audio_file": path.relative_to(out).as_posix(), "audio_sha256": digest_file(path)}
        return row | sound
    if broken is None:
        return row
    (out / row["file"]).unlink()
    empty = {"file": "", "sha256": "", "fingerprint": b""}
    detail = f"sound: {broken.what}; the setting clips.audio: none does without it"
    return tables.failed(broken.reason, detail, **(row | empty))
