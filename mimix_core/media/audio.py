"""Audio extraction: as an array for speech recognition, and as FLAC files for clips.

Everything is on the container's clock: sample 0 of the output is at the requested time, and gaps in
the source are filled with silence. So are packets that cannot be decoded, and these are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mimix_core.media.audio_decoder import AudioBlock, read_audio_blocks, select_audio_stream
from mimix_core.media.container import open_container, open_recording

_FLAC_OPTIONS = {"lpc_type": "fixed", "compression_level": "5"}
"""The other predictors are computed in floating point: they give the same samples, but different
bytes on different processors."""


@dataclass(frozen=True)
class AudioSegment:
    """A time span of the audio, in seconds on the container's clock, and its output FLAC file."""

    start: Fraction
    end: Fraction
    path: Path


@dataclass
class LostAudio:
    """Seconds of audio that could not be decoded: in all, and of each segment by its index."""

    total: Fraction = Fraction(0)
    segments: dict[int, Fraction] = field(default_factory=dict)

    def add_block(self, block: AudioBlock) -> None:
        """Count a block of the source."""
        if block.lost:
            self.total += Fraction(len(block.samples), block.rate)


def extract_audio_segments(
    source: Path,
    segments: Sequence[AudioSegment],
    *,
    language: str = "",
    lost: LostAudio | None = None,
) -> Iterator[tuple[int, Path]]:
    """Extract audio segments in one decode; yield (segment index, file) as each one is finished.

    ``segments`` must be sorted by start and may overlap. Each file has exactly
    round((end - start) * rate) 16-bit samples at the source's rate, in at most two channels,
    and the same bytes for the same source and segment. The stream in ``language`` is preferred.
    Packets that cannot be decoded become silence, which is added to ``lost``. Yields nothing when
    the source has no audio. Raises UnreadableVideo when audio decoding fails; unfinished files are
    removed.
    """
    lost = LostAudio() if lost is None else lost
    if any(later.start < segment.start for segment, later in pairwise(segments)):
        raise ValueError("segments must be sorted by their start")
    with open_container(source) as container:
        stream = select_audio_stream(container, language)
        if stream is None:
            return
        pending = list(enumerate(segments))[::-1]
        active: list[_SegmentWriter] = []
        last: AudioBlock | None = None
        try:
            for block in read_audio_blocks(container, stream, source.name):
                while pending and round(pending[-1][1].start * block.rate) < block.end:
                    active.append(_SegmentWriter(*pending.pop(), block.rate, block.layout))
                for writer in list(active):
                    writer.add(block)
                    if writer.full:
                        active.remove(writer)
                        yield writer.index, writer.close(lost)
                lost.add_block(block)
                last = block
            if last is None:
                return
            # The audio has ended: the rest is silence.
            while pending:
                active.append(_SegmentWriter(*pending.pop(), last.rate, last.layout))
            while active:
                writer = active.pop(0)
                yield writer.index, writer.close(lost)
        finally:
            for writer in active:
                writer.discard()


def read_audio(
    path: Path,
    *,
    rate: int,
    start: Fraction,
    language: str = "",
    lost: LostAudio | None = None,
) -> NDArray[np.float32] | None:
    """Read the best audio stream as mono float32 [samples] in -1..1 at ``rate`` samples per second.

    Sample 0 is at ``start`` seconds on the container's clock: earlier audio is cut off, and gaps,
    including those in the middle, are filled with silence. The stream in ``language`` is
    preferred. Packets that cannot be decoded become silence, which is added to ``lost``. Returns
    None when the file has no audio. Raises UnreadableVideo.
    """
    lost = LostAudio() if lost is None else lost
    with open_container(path) as container:
        return _read_mono(container, path.name, rate, start, language, lost)


def read_recording(path: Path, *, rate: int) -> NDArray[np.float32] | None:
    """Read a file of audio, or of video with audio, as ``read_audio`` does, from its time 0."""
    with open_recording(path) as container:
        return _read_mono(container, path.name, rate, Fraction(0), "", LostAudio())


def _read_mono(
    container: Any, name: str, rate: int, start: Fraction, language: str, lost: LostAudio
) -> NDArray[np.float32] | None:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
    parts: list[NDArray[np.float32]] = []

    def add(block: AudioBlock, samples: NDArray[np.int16], start: int) -> None:
        frame = _audio_frame(samples, block.rate, block.layout, start)
        parts.extend(part.to_ndarray()[0] for part in resampler.resample(frame))

    following: int | None = None
    stream = select_audio_stream(container, language)
    if stream is None:
        return None
    for block in read_audio_blocks(container, stream, name):
        lost.add_block(block)
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
        self._lost_samples = 0

    @property
    def full(self) -> bool:
        return self._next >= self.end

    def add(self, block: AudioBlock) -> None:
        """Append the block's samples that belong to the segment, after silence for any gap."""
        self.add_silence(min(block.start, self.end))
        samples = block.samples[self._next - block.start : self.end - block.start]
        self._lost_samples += len(samples) if block.lost else 0
        self._write(samples)

    def add_silence(self, until: int) -> None:
        while self._next < until:
            length = min(until - self._next, self._rate)
            self._write(np.zeros((length, self._channels), np.int16))

    def close(self, lost: LostAudio) -> Path:
        """Pad with silence up to the segment's end and finish the file; count what was lost."""
        self.add_silence(self.end)
        if self._lost_samples:
            lost.segments[self.index] = Fraction(self._lost_samples, self._rate)
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
