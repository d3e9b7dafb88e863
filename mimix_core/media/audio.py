"""Sound: for recognition as an array, and beside clips as FLAC files.

One clock: sample 0 of what comes out sounds at the asked time of the container's clock, silence
stands where the source has none.
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

from mimix_core.media.container import open_container, packets, words
from mimix_core.media.probe import UnreadableVideo

_MAX_CHANNELS = 2

_JITTER = Fraction(1, 50)
"""Seconds that the stated time of samples may be off from where those before them end: containers
round times. Further off, sound is missing or comes twice."""

_WHOLE_NUMBERS = {"aac": "aac_fixed", "ac3": "ac3_fixed", "mp3float": "mp3"}
"""Decoders that count in floating point give other samples on other processors; these do not."""

_BLOCK = 1 << 14
"""Samples handed on at a time."""

_FLAC = {"lpc_type": "fixed", "compression_level": "5"}
"""The other predictors are found in floating point: same samples, other bytes elsewhere."""


@dataclass(frozen=True)
class SoundCut:
    """A stretch of sound, in seconds of the container's clock, and the FLAC file it goes to."""

    start: Fraction
    end: Fraction
    path: Path


def sound_cuts(source: Path, cuts: Sequence[SoundCut]) -> Iterator[tuple[int, Path]]:
    """Cut the sound of a file in one decode; gives (number of the cut, its file) as each is done.

    ``cuts`` stand in order of their start and may overlap. Each file has exactly
    round((end - start) * rate) samples of 16 bits at the source's rate, in at most two channels,
    and the same bytes for the same source and cut. Nothing comes when the source has no sound.
    Raises UnreadableVideo when the sound breaks off: files that are not done are removed.
    """
    if any(later.start < cut.start for cut, later in pairwise(cuts)):
        raise ValueError("cuts must be sorted by their start")
    with open_container(source) as container:
        stream = _sound(container)
        if stream is None:
            return
        waiting = list(enumerate(cuts))[::-1]
        writing: list[_Writer] = []
        last: _Block | None = None
        try:
            for block in _blocks(container, stream, source.name):
                while waiting and round(waiting[-1][1].start * block.rate) < block.end:
                    writing.append(_Writer(*waiting.pop(), block.rate, block.layout))
                for writer in list(writing):
                    writer.add(block)
                    if writer.full:
                        writing.remove(writer)
                        yield writer.number, writer.close()
                last = block
            if last is None:
                return
            # The sound is over: what is left is silence.
            while waiting:
                writing.append(_Writer(*waiting.pop(), last.rate, last.layout))
            while writing:
                writer = writing.pop(0)
                yield writer.number, writer.close()
        finally:
            for writer in writing:
                writer.discard()


def read_audio(path: Path, *, rate: int, start: Fraction) -> NDArray[np.float32] | None:
    """The best audio stream, mono, ``rate`` samples a second, float32 [samples] in -1..1.

    Sample 0 sounds at ``start`` seconds of the container's clock: what comes earlier is cut, and
    silence fills what is missing, also in the middle. None when the file has no audio. Raises
    UnreadableVideo.
    """
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
    parts: list[NDArray[np.float32]] = []

    def add(block: _Block, samples: NDArray[np.int16], number: int) -> None:
        frame = _frame(samples, block.rate, block.layout, number)
        parts.extend(part.to_ndarray()[0] for part in resampler.resample(frame))

    following: int | None = None
    with open_container(path) as container:
        stream = _sound(container)
        if stream is None:
            return None
        for block in _blocks(container, stream, path.name):
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
    """Successive samples, int16 [samples, channels]; ``start``: number of the first."""

    start: int
    samples: NDArray[np.int16]
    rate: int
    layout: str

    @property
    def end(self) -> int:
        return self.start + len(self.samples)


def _frame(samples: NDArray[np.int16], rate: int, layout: str, start: int) -> Any:
    """An ``av.AudioFrame`` of int16 [samples, channels]; ``start``: number of the first."""
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(samples).reshape(1, -1), format="s16", layout=layout
    )
    frame.sample_rate = rate
    frame.pts, frame.time_base = start, Fraction(1, rate)
    return frame


class _Writer:
    """One cut on its way into its file."""

    def __init__(self, number: int, cut: SoundCut, rate: int, layout: str) -> None:
        self.number = number
        self._path = cut.path
        self._next = round(cut.start * rate)
        self._begin = self._next
        self.end = self._next + round((cut.end - cut.start) * rate)
        self._container: Any = av.open(
            f"file:{cut.path}", "w", format="flac", options={"fflags": "+bitexact"}
        )
        self._stream = self._container.add_stream("flac", rate=rate, options=_FLAC)
        context = self._stream.codec_context
        context.layout, context.format = layout, "s16"
        context.flags |= int(av.codec.context.Flags.bitexact)
        self._rate, self._layout = rate, layout
        self._channels = self._stream.codec_context.layout.nb_channels

    @property
    def full(self) -> bool:
        return self._next >= self.end

    def add(self, block: _Block) -> None:
        """What the cut needs of a block, after silence for what lies before it."""
        self.add_silence(min(block.start, self.end))
        self._write(block.samples[self._next - block.start : self.end - block.start])

    def add_silence(self, until: int) -> None:
        while self._next < until:
            length = min(until - self._next, self._rate)
            self._write(np.zeros((length, self._channels), np.int16))

    def close(self) -> Path:
        """Fill up with silence, and finish the file."""
        self.add_silence(self.end)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._path

    def discard(self) -> None:
        """Give the file up."""
        self._container.close()
        self._path.unlink(missing_ok=True)

    def _write(self, samples: NDArray[np.int16]) -> None:
        if not len(samples):
            return
        frame = _frame(samples, self._rate, self._layout, self._next - self._begin)
        self._container.mux(self._stream.encode(frame))
        self._next += len(samples)


def _blocks(container: Any, stream: Any, name: str) -> Iterator[_Block]:
    """All samples in order on the container's clock, none twice; gaps are left out."""
    held: list[_Block] = []
    for part in _parts(container, stream, name):
        if held and (part.start != held[-1].end or held[-1].end - held[0].start >= _BLOCK):
            yield _joined(held)
            held = []
        held.append(part)
    if held:
        yield _joined(held)


def _joined(parts: Sequence[_Block]) -> _Block:
    first = parts[0]
    samples = np.concatenate([part.samples for part in parts])
    return _Block(first.start, samples, first.rate, first.layout)


def _parts(container: Any, stream: Any, name: str) -> Iterator[_Block]:
    """As they are decoded."""
    resampler: Any = None
    taken: tuple[str, str] | None = None
    following: int | None = None
    rate, layout = 0, ""
    try:
        for frame, stated in _decoded(container, stream):
            if not rate:
                rate = frame.sample_rate
                layout = "mono" if frame.layout.nb_channels == 1 else "stereo"
            if frame.sample_rate != rate:
                raise UnreadableVideo(
                    f"the audio goes from {rate} to {frame.sample_rate} samples a second",
                    where=name,
                )
            coded = (frame.format.name, frame.layout.name)
            if coded != taken:
                # Broadcasts go from stereo to surround and back.
                resampler, taken = av.AudioResampler("s16", layout, rate), coded
            start = stated
            if following is not None and abs(stated - following) <= _JITTER * rate:
                start = following
            for part in resampler.resample(frame):
                samples = part.to_ndarray().reshape(part.samples, -1)
                if following is not None and start < following:
                    samples, start = samples[following - start :], following
                if len(samples):
                    yield _Block(start, samples, rate, layout)
                    start = following = start + len(samples)
    except (av.FFmpegError, ValueError) as error:
        raise UnreadableVideo(f"the audio breaks off ({words(error)})", where=name) from error


def _decoded(container: Any, stream: Any) -> Iterator[tuple[Any, int]]:
    """Decoded frames, and the number of the first sample of each by the stated times."""
    context = _exact_decoder(stream)
    base = Fraction(stream.time_base)
    begin = 0
    for packet in packets(container, stream):
        for frame in context.decode(packet):
            if frame.pts is not None:
                begin = _nearest(frame.pts, base * frame.sample_rate)
                # Samples that only start the decoder are taken off at the front.
                if packet.duration and packet.pts == frame.pts:
                    missing = _nearest(packet.duration, base * frame.sample_rate) - frame.samples
                    # A duration is rounded to the time base: less than that says nothing.
                    begin += missing if missing > base * frame.sample_rate else 0
            yield frame, begin
            begin += frame.samples


def _nearest(ticks: int, samples_a_tick: Fraction) -> int:
    """``ticks`` in samples, in whole numbers."""
    top, bottom = samples_a_tick.numerator, samples_a_tick.denominator
    return (2 * ticks * top + bottom) // (2 * bottom)


def _exact_decoder(stream: Any) -> Any:
    own = stream.codec_context
    name = _WHOLE_NUMBERS.get(own.name)
    if name is None or name not in av.codecs_available:
        return own
    context = av.CodecContext.create(name, "r")
    context.extradata = own.extradata
    context.sample_rate = own.sample_rate
    context.layout = own.layout
    return context


def _sound(container: Any) -> Any:
    """The audio stream players choose; None when there is none."""
    streams = [s for s in container.streams.audio if s.codec_context is not None]
    best = container.streams.best("audio")
    return best if best in streams else next(iter(streams), None)
