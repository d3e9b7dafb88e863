"""Targets: recordings of voices, and files of speaker models."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import av
import numpy as np

from mimix_core.characters.voice_bank import read_voice
from mimix_core.characters.wespeaker import WespeakerEncoder
from tests.characters.onnx_file import write_model
from tests.fuzz.mutations import spoil_bytes
from tests.fuzz.target import Target
from tests.voice_factory import MIDDLE, RATE, speak

_CODECS = {
    "wav": "pcm_s16le",
    "flac": "flac",
    "mp3": "mp3",
    "aiff": "pcm_s16be",
}
_HEADER = 400


@cache
def recordings() -> tuple[bytes, ...]:
    """Return the same second of speech in the formats that people have."""
    samples = (speak(MIDDLE, 1, 0) * 32767).astype(np.int16)[None]
    files = []
    with TemporaryDirectory() as folder:
        for suffix, codec in _CODECS.items():
            path = Path(folder) / f"voice.{suffix}"
            with av.open(str(path), "w") as container:
                stream = container.add_stream(codec, rate=RATE)
                stream.codec_context.layout = "mono"
                frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
                frame.sample_rate = RATE
                for packet in (stream.encode(frame), stream.encode(None)):
                    container.mux(packet)
            files.append(path.read_bytes())
    return tuple(files)


@cache
def models() -> tuple[bytes, ...]:
    """Return one small model."""
    with TemporaryDirectory() as folder:
        return (write_model(Path(folder) / "model.onnx").read_bytes(),)


def spoil_header(data: bytes, rng: Random) -> bytes:
    """Spoil the start, where most of what a reader trusts is, or the whole."""
    if rng.random() < 0.5:
        return spoil_bytes(data, rng)
    return spoil_bytes(data[:_HEADER], rng) + data[_HEADER:]


def read_recording_of_voice(data: bytes, folder: Path) -> None:
    (folder / "voice").write_bytes(data)
    read_voice(folder / "voice")


def encode_with_model(data: bytes, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(data)
    WespeakerEncoder(folder / "model.onnx").encode(speak(MIDDLE, 1, 0))


TARGETS = (
    Target("voice-recordings", recordings(), spoil_header, read_recording_of_voice),
    Target("speaker-models", models(), spoil_header, encode_with_model),
)
