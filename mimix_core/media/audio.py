"""Audio extraction: as an array for speech recognition, and as FLAC files for clips.

Everything is on the container's clock: sample 0 of the output is at the requested time, and gaps in
the source are filled with silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mimix_core.media.container import demux_packets, error_text, open_container
from mimix_core.media.probe import UnreadableVideo

_MAX_CHANNELS = 2

_MAX_TIMESTAMP_ERROR = Fraction(1, 50)
"""Seconds by which a frame's timestamp may differ from the end of the previous frame, because
containers round timestamps. A larger difference means that audio is missing or repeated."""

_FIXED_POINT_DECODERS = {"aac": "aac_fixed", "ac3": "ac3_fixed", "mp3float": "mp3"}
"""Floating-point decoders produce different samples on different processors; these do not."""

_BLOCK_SAMPLES = 1 << 14
"""Minimum number of samples per block, except before a gap and at the end."""

_FLAC_OPTIONS = {"lpc_type": "fixed", "compression_level": "5"}
"""The other predictors are computed in floating point: they give the same samples, but different
bytes on different processors."""


@dataclass(frozen=True)
class AudioSegment:
    """A time span of the audio, in seconds on the container's clock, and its output FLAC file."""

    start: Fraction
    end: Fraction
    path: Path


def extract_audio_segments(
    source: Path, segments: Sequence[AudioSegment]
) -> Iterator[tuple[int, Path]]:
    """Extract audio segments in one decode; yield (segment index, file) as each one is finished.

    ``segments`` must be sorted by start and may overlap. Each file has exactly
    round((end - start) * rate) 16-bit samples at the source's rate, in at most two channels, and
    the same bytes for the same source and segment. Yields nothing when the source has no audio.
    Raises UnreadableVideo when audio decoding fails; unfinished files are removed.
    """
    if any(later.start < segment.start for segment, later in pairwise(segments)):
        raise ValueError("segments must be sorted by their start")
    with open_container(source) as container:
        stream = _select_audio_stream(container)
        if stream is None:
            return
        pending = list(enumerate(segments))[::-1]
        active: list[_SegmentWriter] = []
        last: _Block | None = None
        try:
            for block in _read_blocks(container, stream, source.name):
                while pending and round(pending[-1][1].start * block.rate) < block.end:
                    active.append(_SegmentWriter(*pending.pop(), block.rate, block.layout))
                for writer in list(active):
                    writer.add(block)
                    if writer.full:
                        active.remove(writer)
                        yield writer.index, writer.close()
                last = block
            if last is None:
                return
            # The audio has ended: the rest is silence.
            while pending:
                active.append(_SegmentWriter(*pending.pop(), last.rate, last.layout))
            while active:
                writer = active.pop(0)
                yield writer.index, writer.close()
        finally:
            for writer in active:
                writer.discard()


def read_audio(path: Path, *, rate: int, start: Fraction) -> NDArray[np.float32] | None:
    """Read the best audio stream as mono float32 [samples] in -1..1 at ``rate`` samples per second.

    Sample 0 is at ``start`` seconds on the container's clock: earlier audio is cut off, and gaps,
    including those in the middle, are filled with silence. Returns None when the file has no
    audio. Raises UnreadableVideo.
    """
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
    parts: list[NDArray[np.float32]] = []

    def add(block: _Block, samples: NDArray[np.int16], start: int) -> None:
        frame = _audio_frame(samples, block.rate, block.layout, start)
        parts.extend(part.to_ndarray()[0] for part in resampler.resample(frame))

    following: int | None = None
    with open_container(path) as container:
        stream = _select_audio_stream(container)
        if stream is None:
            return None
        for block in _read_blocks(container, stream, path.name):
            if following is None:
                following = round(start * block.rate)
            while following < block.start:
                length = min(block.start - following, block.rate)
                silence = np.zeros((length, block.samples.shape[1]), np.int16)
                add(block, silence, following)
                following += length
            if following < block.end:
                add(block, block.samples[following - block.start :], following)
                following = block.end
    if following is None:
        return None
    parts.extend(part.to_ndarray()[0] for part in resampler.resample(None))
    return np.concatenate([np.zeros(0, np.float32), *parts])


@dataclass(frozen=True)
class _Block:
    """Consecutive samples, int16 [samples, channels]; ``start``: index of the first one."""

    start: int
    samples: NDArray[np.int16]
    rate: int
    layout: str

    @property
    def end(self) -> int:
        return self.start + len(self.samples)


def _audio_frame(samples: NDArray[np.int16], rate: int, layout: str, start: int) -> Any:
    """Build an ``av.AudioFrame`` of int16 [samples, channels]; ``start``: index of the first."""
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(samples).reshape(1, -1), format="s16", layout=layout
    )
    frame.sample_rate = rate
    frame.pts, frame.time_base = start, Fraction(1, rate)
    return frame


class _SegmentWriter:
    """Writes one audio segment to its FLAC file."""

    def __init__(self, index: int, segment: AudioSegment, rate: int, layout: str) -> None:
        self.index = index
        self._path = segment.path
        self._next = round(segment.start * rate)
        self._begin = self._next
        self.end = self._next + round((segment.end - segment.start) * rate)
        self._container: Any = av.open(
            f"file:{segment.path}", "w", format="flac", options={"fflags": "+bitexact"}
        )
        self._stream = self._container.add_stream("flac", rate=rate, options=_FLAC_OPTIONS)
        context = self._stream.codec_context
        context.layout, context.format = layout, "s16"
        context.flags |= int(av.codec.context.Flags.bitexact)
        self._rate, self._layout = rate, layout
        self._channels = self._stream.codec_context.layout.nb_channels

    @property
    def full(self) -> bool:
        return self._next >= self.end

    def add(self, block: _Block) -> None:
        """Append the block's samples that belong to the segment, after silence for any gap."""
        self.add_silence(min(block.start, self.end))
        self._write(block.samples[self._next - block.start : self.end - block.start])

    def add_silence(self, until: int) -> None:
        while self._next < until:
            length = min(until - self._next, self._rate)
            self._write(np.zeros((length, self._channels), np.int16))

    def close(self) -> Path:
        """Pad with silence up to the segment's end and finish the file."""
        self.add_silence(self.end)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._path

    def discard(self) -> None:
        """Close and remove the unfinished file."""
        self._container.close()
        self._path.unlink(missing_ok=True)

    def _write(self, samples: NDArray[np.int16]) -> None:
        if not len(samples):
            return
        frame = _audio_frame(samples, self._rate, self._layout, self._next - self._begin)
        self._container.mux(self._stream.encode(frame))
        self._next += len(samples)


def _read_blocks(container: Any, stream: Any, name: str) -> Iterator[_Block]:
    """Yield all samples in order on the container's clock, without repeats; gaps are skipped."""
    held: list[_Block] = []
    for part in _resample_frames(container, stream, name):
        if held and (part.start != held[-1].end or held[-1].end - held[0].start >= _BLOCK_SAMPLES):
            yield _concatenate(held)
            held = []
        held.append(part)
    if held:
        yield _concatenate(held)


def _concatenate(parts: Sequence[_Block]) -> _Block:
    first = parts[0]
    samples = np.concatenate([part.samples for part in parts])
    return _Block(first.start, samples, first.rate, first.layout)


def _resample_frames(container: Any, stream: Any, name: str) -> Iterator[_Block]:
    """Yield the decoded frames as int16 blocks, one per resampled frame."""
    resampler: Any = None
    resampler_format: tuple[str, str] | None = None
    following: int | None = None
    rate, layout = 0, ""
    try:
        for frame, timestamp in _decode_frames(container, stream):
            if not rate:
                rate = frame.sample_rate
                layout = "mono" if frame.layout.nb_channels == 1 else "stereo"
            if frame.sample_rate != rate:
                raise UnreadableVideo(
                    f"the audio sample rate changes from {rate} to {frame.sample_rate} Hz",
                    where=name,
                )
            coded = (frame.format.name, frame.layout.name)
            if coded != resampler_format:
                # Broadcasts switch between stereo and surround.
                resampler, resampler_format = av.AudioResampler("s16", layout, rate), coded
            start = timestamp
            if following is not None and abs(timestamp - following) <= _MAX_TIMESTAMP_ERROR * rate:
                start = following
            for part in resampler.resample(frame):
                samples = part.to_ndarray().reshape(part.samples, -1)
                if following is not None and start < following:
                    samples, start = samples[following - start :], following
                if len(samples):
                    yield _Block(start, samples, rate, layout)
                    start = following = start + len(samples)
    except (av.FFmpegError, ValueError) as error:
        raise UnreadableVideo(f"audio decoding failed ({error_text(error)})", where=name) from error


def _decode_frames(container: Any, stream: Any) -> Iterator[tuple[Any, int]]:
    """Yield decoded frames and the index of each one's first sample according to its timestamp."""
    context = _fixed_point_decoder(stream)
    base = Fraction(stream.time_base)
    begin = 0
    for packet in demux_packets(container, stream):
        for frame in context.decode(packet):
            if frame.pts is not None:
                begin = _ticks_to_samples(frame.pts, base * frame.sample_rate)
                # Encoder delay (priming samples) is removed at the front.
                if packet.duration and packet.pts == frame.pts:
                    missing = (
                        _ticks_to_samples(packet.duration, base * frame.sample_rate) - frame.samples
                    )
                    # Durations are rounded to the time base: ignore smaller differences.
                    begin += missing if missing > base * frame.sample_rate else 0
            yield frame, begin
            begin += frame.samples


def _ticks_to_samples(ticks: int, samples_per_tick: Fraction) -> int:
    """Convert ``ticks`` to the nearest sample index in integer arithmetic."""
    top, bottom = samples_per_tick.numerator, samples_per_tick.denominator
    return (2 * ticks * top + bottom) // (2 * bottom)


def _fixed_point_decoder(stream: Any) -> Any:
    default = stream.codec_context
    name = _FIXED_POINT_DECODERS.get(default.name)
    if name is None or name not in av.codecs_available:
        return default
    context = av.CodecContext.create(name, "r")
    context.extradata = default.extradata
    context.sample_rate = default.sample_rate
    context.layout = default.layout
    return context


def _select_audio_stream(container: Any) -> Any:
    """Select the audio stream that players would choose; None when there is none."""
    streams = [s for s in container.streams.audio if s.codec_context is not None]
    best = container.streams.best("audio")
    return best if best in streams else next(iter(streams), None)
