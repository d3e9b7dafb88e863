"""Encoding of planned clips: one decode feeds all encoders, and each written clip is verified."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from threading import Lock
from typing import Any

from mimix_core import tables
from mimix_core.domain.timeline import clip_duration
from mimix_core.engine import progress
from mimix_core.engine.artifacts import digest_file
from mimix_core.media import (
    AudioSegment,
    ClipWriter,
    CropResize,
    EncodeFailed,
    FrameResizer,
    LostAudio,
    ScanType,
    UnreadableVideo,
    VerificationFailed,
    extract_audio_segments,
    fingerprint,
    verify_clip,
)
from mimix_core.settings import ClipSettings
from mimix_core.stages.clips.frame_reader import SelectiveFrameReader
from mimix_core.stages.clips.planning import ClipPlan, FrameIndex
from mimix_core.tables import Reason, Row, Status

_MAX_LOST_AUDIO = Fraction(1, 2)
"""A clip fails when a larger share of its audio cannot be decoded: it would look silent."""

_HEARTBEAT_FRAMES = 48
"""Frames processed between two progress reports."""


@dataclass(frozen=True)
class EpisodeSource:
    """The episode that clips are extracted from.

    ``seekable``: False where the timestamps of its frames were repaired. ``language``: of the audio
    stream to prefer.
    """

    path: Path
    scan_type: ScanType
    frames: FrameIndex
    seekable: bool
    language: str


@dataclass
class _ClipDraft:
    """A clip in progress, with its resized frames so far."""

    plan: ClipPlan
    frames: list[Any] = field(default_factory=list)
    failure: str = ""


class _Heartbeat:
    """Counts frames from any thread, and reports progress from the stage's main thread."""

    def __init__(self, total: int) -> None:
        self.finished_clips, self._total = 0, total
        self._frames = self._reported_frames = 0
        self._lock = Lock()

    def count_frame(self) -> None:
        """Count a decoded or encoded frame; thread-safe."""
        with self._lock:
            self._frames += 1

    def report(self) -> None:
        """Report progress only after new frames, so that a hang is not reported as progress."""
        if self._frames - self._reported_frames >= _HEARTBEAT_FRAMES:
            self._reported_frames = self._frames
            progress.report_progress(self.finished_clips, self._total, "clips written")


def encode_clips(
    source: EpisodeSource, plans: Sequence[ClipPlan], settings: ClipSettings, out: Path
) -> tuple[list[Row], dict[str, int]]:
    """Encode the planned clips into ``out / "clips"``; return one row per clip and decode notes.

    Complete clips wait for a free encoder. Memory holds the frames of at most
    ``encoder_workers`` + 1 clips (48 MB each at 81x832x480), plus those of the clips being decoded
    (one, unless clips overlap).
    """
    if not plans:
        return [], {}
    (out / "clips").mkdir()
    drafts = [_ClipDraft(clip_plan) for clip_plan in plans]
    heartbeat = _Heartbeat(len(plans))

    def on_frame() -> None:
        heartbeat.count_frame()
        heartbeat.report()

    reader = SelectiveFrameReader(
        source.path,
        source.scan_type,
        source.frames,
        seekable=source.seekable,
        threads=settings.decode_threads,
        on_frame=on_frame,
    )
    rows: list[Row] = []
    with ThreadPoolExecutor(settings.encoder_workers) as pool:
        audio = pool.submit(_extract_audio, source, plans, settings, out)
        pending: deque[Future[Row]] = deque()

        def collect(remaining: int) -> None:
            while len(pending) > remaining:
                rows.append(_wait_for(pending.popleft(), heartbeat))
                heartbeat.finished_clips = len(rows)

        decode_error: UnreadableVideo | None = None
        try:
            for draft in _fill_drafts(reader, drafts):
                pending.append(pool.submit(_encode_clip, draft, settings, out, heartbeat))
                collect(settings.encoder_workers)
        except UnreadableVideo as error:
            decode_error = error
        collect(0)
        _wait_for(audio, heartbeat)
    written = {row["clip_id"] for row in rows}
    rows += [
        tables.failed(decode_error.reason, decode_error.what, **clip_plan.columns())
        for clip_plan in plans
        if decode_error is not None and clip_plan.clip_id not in written
    ]
    extracted = audio.result()
    notes = {"decode_jumps": reader.seeks, "decoded_straight": int(reader.sequential_fallback)}
    if extracted.lost:
        notes["clips_with_lost_audio"] = len(extracted.lost)
    max_lost_audio = _MAX_LOST_AUDIO * clip_duration(settings.frames, settings.rate)
    return [_add_audio_columns(row, extracted, max_lost_audio, out) for row in rows], notes


def _wait_for(future: Future[Any], heartbeat: _Heartbeat) -> Any:
    """Wait for a future's result, reporting progress meanwhile."""
    while True:
        try:
            return future.result(timeout=1)
        except TimeoutError:
            if future.done():
                raise
            heartbeat.report()


def _fill_drafts(
    reader: SelectiveFrameReader, drafts: Sequence[_ClipDraft]
) -> Iterator[_ClipDraft]:
    """Decode the episode once; yield each draft when it is complete or has failed."""
    drafts_by_frame: defaultdict[int, list[_ClipDraft]] = defaultdict(list)
    for draft in drafts:
        for number in sorted(set(draft.plan.frame_numbers)):
            drafts_by_frame[number].append(draft)
    resizers: dict[CropResize, FrameResizer] = {}
    for number, frame in reader.read_frames(sorted(drafts_by_frame)):
        for draft in drafts_by_frame.pop(number):
            if draft.failure:
                continue
            plan = draft.plan
            if frame is None:
                pts = plan.source_pts[plan.frame_numbers.index(number)]
                draft.failure = f"the decoder returned no frame with PTS {pts}"
                yield draft
                continue
            if plan.crop_resize not in resizers:
                assert reader.info is not None
                resizers[plan.crop_resize] = FrameResizer(reader.info, plan.crop_resize)
            # A frame of a low-rate source is repeated in the clip.
            draft.frames += [resizers[plan.crop_resize](frame)] * plan.frame_numbers.count(number)
            if number == plan.frame_numbers[-1]:
                yield draft


def _encode_clip(
    draft: _ClipDraft, settings: ClipSettings, out: Path, heartbeat: _Heartbeat
) -> Row:
    """Encode a draft, verify the written clip, and return its row."""
    frames, draft.frames = draft.frames, []
    plan = draft.plan
    width, height = plan.crop_resize.width, plan.crop_resize.height
    values = plan.columns()
    if draft.failure:
        return tables.failed(Reason.PROOF_FAILED, draft.failure, **values)
    path = out / "clips" / f"{plan.clip_id}.mp4"
    fingerprint_builder = fingerprint.FingerprintBuilder(plan.rate)

    def on_frame(number: int, frame: Any) -> None:
        heartbeat.count_frame()
        fingerprint_builder.add(number, frame)

    try:
        with ClipWriter(
            path, width, height, crf=settings.crf, preset=settings.preset, rate=plan.rate
        ) as writer:
            for frame in frames:
                writer.write(frame)
                heartbeat.count_frame()
        # One thread: the other encoders use the other cores.
        verify_clip(
            path,
            width,
            height,
            frames=len(plan.source_pts),
            rate=plan.rate,
            threads=1,
            on_frame=on_frame,
        )
    except EncodeFailed as error:
        return tables.failed(Reason.ENCODE_FAILED, str(error), **values)
    except VerificationFailed as error:
        path.unlink()
        return tables.failed(Reason.PROOF_FAILED, str(error), **values)
    values |= {
        "file": path.relative_to(out).as_posix(),
        "sha256": digest_file(path),
        "fingerprint": fingerprint_builder.finish(),
        "inset_fingerprint": fingerprint_builder.finish_inset(),
    }
    return tables.ok(**values)


def _audio_path(clip_id: str, out: Path) -> Path:
    return out / "clips" / f"{clip_id}.flac"


@dataclass(frozen=True)
class _ExtractedAudio:
    """``error``: what interrupted the extraction. ``lost``: seconds by clip that became silence."""

    error: UnreadableVideo | None = None
    lost: Mapping[str, Fraction] = field(default_factory=dict)


def _extract_audio(
    source: EpisodeSource, plans: Sequence[ClipPlan], settings: ClipSettings, out: Path
) -> _ExtractedAudio:
    """Extract the audio of all clips that have any."""
    if settings.audio == "none":
        return _ExtractedAudio()
    duration = clip_duration(settings.frames, settings.rate)
    segments = [
        AudioSegment(plan.start, plan.start + duration, _audio_path(plan.clip_id, out))
        for plan in plans
    ]
    finished: set[int] = set()
    lost = LostAudio()
    error: UnreadableVideo | None = None
    try:
        for index, _ in extract_audio_segments(
            source.path, segments, language=source.language, lost=lost
        ):
            finished.add(index)
    except UnreadableVideo as caught:
        error = caught
        for index, segment in enumerate(segments):
            if index not in finished:
                segment.path.unlink(missing_ok=True)
    lost_by_clip = {plans[index].clip_id: seconds for index, seconds in lost.segments.items()}
    return _ExtractedAudio(error, lost_by_clip)


def _add_audio_columns(
    row: Row, audio: _ExtractedAudio, max_lost_audio: Fraction, out: Path
) -> Row:
    """Add the audio columns to a clip's row; it fails where the source's audio is broken.

    ``max_lost_audio``: in seconds.
    """
    path = _audio_path(row["clip_id"], out)
    if row["status"] != Status.OK:
        path.unlink(missing_ok=True)
        return row
    lost = audio.lost.get(row["clip_id"], Fraction(0))
    if path.exists() and lost <= max_lost_audio:
        audio_columns = {
            "audio_file": path.relative_to(out).as_posix(),
            "audio_sha256": digest_file(path),
            "lost_audio_ms": round(lost * 1000),
        }
        return row | audio_columns
    if path.exists():
        path.unlink()
        reason = Reason.UNREADABLE_VIDEO
        detail = f"{float(lost):.2f} s of the clip's audio cannot be decoded"
    elif audio.error is not None:
        reason, detail = audio.error.reason, f"audio: {audio.error.what}"
    else:
        return row
    (out / row["file"]).unlink()
    values = row | {"file": "", "sha256": "", "fingerprint": b"", "inset_fingerprint": b""}
    for column in ("status", "reason", "detail"):
        del values[column]
    detail += "; with the setting clips.audio: none, clips have no audio"
    return tables.failed(reason, detail, **values)
