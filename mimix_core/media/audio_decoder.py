"""Decoding of a file's audio to blocks of samples on the container's clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mimix_core.domain.language_codes import normalize_language_code
from mimix_core.media.container import demux_packets, error_text
from mimix_core.media.probe import UnreadableVideo

_MAX_TIMESTAMP_ERROR = Fraction(1, 50)
"""Seconds by which a frame's timestamp may differ from the end of the previous frame, because
containers round timestamps. A larger difference means that audio is missing or repeated."""

_FIXED_POINT_DECODERS = {"aac": "aac_fixed", "ac3": "ac3_fixed", "mp3float": "mp3"}
"""Floating-point decoders produce different samples on different processors; these do not."""

_SECONDARY = int(
    av.stream.Disposition.comment
    | av.stream.Disposition.hearing_impaired
    | av.stream.Disposition.visual_impaired
)

_BLOCK_SAMPLES = 1 << 14
"""Minimum number of samples per block, except before a gap and at the end."""


@dataclass(frozen=True)
class AudioBlock:
    """Consecutive samples, int16 [samples, channels]; ``start``: index of the first one.

    ``lost``: silence in place of samples that could not be decoded.
    """

    start: int
    samples: NDArray[np.int16]
    rate: int
    layout: str
    lost: bool = False

    @property
    def end(self) -> int:
        return self.start + len(self.samples)


def read_audio_blocks(container: Any, stream: Any, name: str) -> Iterator[AudioBlock]:
    """Yield all samples in order on the container's clock, without repeats; gaps are skipped."""
    held: list[AudioBlock] = []
    for part in _resample_frames(container, stream, name):
        if held and (
            part.start != held[-1].end
            or held[-1].end - held[0].start >= _BLOCK_SAMPLES
            or part.lost != held[-1].lost
        ):
            yield _concatenate(held)
            held = []
        held.append(part)
    if held:
        yield _concatenate(held)


def _concatenate(parts: Sequence[AudioBlock]) -> AudioBlock:
    first = parts[0]
    samples = np.concatenate([part.samples for part in parts])
    return AudioBlock(first.start, samples, first.rate, first.layout, first.lost)


def _resample_frames(container: Any, stream: Any, name: str) -> Iterator[AudioBlock]:
    """Yield the decoded frames as int16 blocks, one per resampled frame.

    A packet that cannot be decoded is a block of silence, as long as the frame before it.
    """
    resampler: Any = None
    resampler_format: tuple[str, str] | None = None
    following: int | None = None
    rate, layout = 0, ""
    first_error = ""
    try:
        for decoded in _decode_frames(container, stream):
            frame, start = decoded.frame, decoded.start
            if frame is None:
                first_error = first_error or decoded.error
                if following is not None:
                    silence = np.zeros((decoded.samples, 1 if layout == "mono" else 2), np.int16)
                    yield AudioBlock(following, silence, rate, layout, lost=True)
                    following += decoded.samples
                continue
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
            if following is not None and abs(start - following) <= _MAX_TIMESTAMP_ERROR * rate:
                start = following
            for part in resampler.resample(frame):
                samples = part.to_ndarray().reshape(part.samples, -1)
                if following is not None and start < following:
                    samples, start = samples[following - start :], following
                if len(samples):
                    yield AudioBlock(start, samples, rate, layout)
                    start = following = start + len(samples)
    except (av.FFmpegError, ValueError) as error:
        raise UnreadableVideo(f"audio decoding failed ({error_text(error)})", where=name) from error
    if first_error and not rate:
        raise UnreadableVideo(f"audio decoding failed ({first_error})", where=name)


@dataclass(frozen=True)
class _Decoded:
    """A decoded frame and the index of its first sample; without a frame, the ``error`` instead."""

    frame: Any
    start: int
    samples: int
    error: str = ""


def _decode_frames(container: Any, stream: Any) -> Iterator[_Decoded]:
    """Yield decoded frames, each placed by its timestamp, and packets that cannot be decoded."""
    context = _fixed_point_decoder(stream)
    base = Fraction(stream.time_base)
    begin = length = 0
    for packet in demux_packets(container, stream):
        try:
            frames = context.decode(packet)
        except av.FFmpegError as error:
            # The frames of a stream have the same length, except in Vorbis.
            yield _Decoded(None, begin, length, error_text(error))
            begin += length
            continue
        for frame in frames:
            length = frame.samples
            if frame.pts is not None:
                begin = _ticks_to_samples(frame.pts, base * frame.sample_rate)
                # Encoder delay (priming samples) is removed at the front.
                if packet.duration and packet.pts == frame.pts:
                    missing = _ticks_to_samples(packet.duration, base * frame.sample_rate) - length
                    # Durations are rounded to the time base: ignore smaller differences.
                    begin += missing if missing > base * frame.sample_rate else 0
            yield _Decoded(frame, begin, length)
            begin += length


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


def select_audio_stream(container: Any, language: str = "") -> Any:
    """Select the audio stream in ``language``, or else the one that players would choose.

    Commentary and audio descriptions come last among those in the language. None when the
    container has no audio that can be decoded.
    """
    streams = [s for s in container.streams.audio if s.codec_context is not None]
    best = container.streams.best("audio")
    wanted = normalize_language_code(language)
    spoken = [s for s in streams if wanted and normalize_language_code(s.language or "") == wanted]
    if spoken:
        return min(spoken, key=lambda s: (_is_secondary(s), s is not best, s.index))
    return best if best in streams else next(iter(streams), None)


def _is_secondary(stream: Any) -> bool:
    """Whether the stream is a commentary, or an adaptation for the hearing or visually impaired."""
    return bool(int(stream.disposition) & _SECONDARY)
