"""Videos whose containers count frames in decoding order: the frames in the order of display."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from mimix_core.media import open_video, to_display_rgb
from tests.media_factory import Shot, read_counter, write_video

FRAMES = 60
VOP_START = b"\x00\x00\x01\xb6"
NTSC_FILM = Fraction(24000, 1001)


def write_decoding_order(
    target: Path, *, codec: str = "mpeg4", rate: Fraction = Fraction(25), frames: int = FRAMES
) -> Path:
    """Write frames 0, 1, 2 ... with B-frames; each packet's PTS is its place in the file."""
    source = target if target.suffix == ".avi" else target.with_suffix(".source.mkv")
    write_video(source, [Shot(frames)], codec=codec, rate=rate, gop=24)
    if source == target:
        # AVI has no other times.
        return target
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        stream.time_base = 1 / rate
        number = 0
        for packet in reader.demux(video=0):
            if packet.size:
                packet.stream = stream
                packet.time_base = 1 / rate
                packet.pts = packet.dts = number
                packet.duration = 1
                writer.mux(packet)
                number += 1
    assert number == frames
    return target


def not_coded_vop(time_bits: int) -> bytes:
    """Build an MPEG-4 frame that only says that nothing is coded."""
    bits = "01" + "0" + "1" + "0" * time_bits + "1" + "0" + "0"
    bits += "1" * (-len(bits) % 8)
    return VOP_START + int(bits, 2).to_bytes(len(bits) // 8, "big")


def packet_contents(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def write_packets(target: Path, source: Path, contents: Sequence[bytes]) -> Path:
    """Write packets at 25/s, their PTS counted in the order of ``contents``."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        stream.time_base = Fraction(1, 25)
        for number, content in enumerate(contents):
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            packet.is_keyframe = vop_type(content) == 0
            writer.mux(packet)
    return target


def vop_type(content: bytes) -> int:
    """Return the type of the first MPEG-4 frame in a packet: 0 I, 1 P, 2 B."""
    return content[content.index(VOP_START) + 4] >> 6


def pack_b_frames(source: Path, target: Path) -> Path:
    """Put each B-frame into the packet of the frame before it, as DivX and XviD do for AVI."""
    packed: list[bytes] = []
    for content in packet_contents(source):
        kind = vop_type(content)
        if kind == 2:
            # Its own place in the file holds an empty frame.
            packed[-1] += content
            packed.append(not_coded_vop(5))
        elif kind == 0:
            place = content.index(VOP_START)
            packed.append(content[:place] + b"\x00\x00\x01\xb2DivX503b1393p" + content[place:])
        else:
            packed.append(content)
    return write_packets(target, source, packed)


def counters_and_times(path: Path) -> tuple[list[int], list[Fraction], int]:
    with open_video(path, threads=2) as video:
        frames = list(video.frames())
        counters = [read_counter(to_display_rgb(frame, video.info)) for frame in frames]
        times = [frame.pts * video.info.time_base for frame in frames]
        return counters, times, len(video.damage.pts)


CASES = {
    "xvid.avi": ("mpeg4", Fraction(25)),
    "xvid.mkv": ("mpeg4", Fraction(25)),
    "xvid.mp4": ("mpeg4", Fraction(25)),
    "xvid.asf": ("mpeg4", Fraction(25)),
    "h264.avi": ("libx264", Fraction(25)),
    "h264-film.avi": ("libx264", NTSC_FILM),
    "h264.mp4": ("libx264", NTSC_FILM),
    "h264.mkv": ("libx264", Fraction(25)),
    "mpeg2.avi": ("mpeg2video", Fraction(25)),
}


@pytest.mark.parametrize("name", CASES)
def test_frames_counted_in_decoding_order_are_read_in_display_order(
    tmp_path: Path, name: str
) -> None:
    codec, rate = CASES[name]
    path = write_decoding_order(tmp_path / name, codec=codec, rate=rate)
    counters, times, damaged = counters_and_times(path)
    assert counters == list(range(FRAMES))
    assert damaged == 0
    for earlier, later in pairwise(times):
        # Matroska and ASF round times to milliseconds.
        assert abs(later - earlier - 1 / rate) <= Fraction(1, 1000)


def test_packed_b_frames_are_read_in_display_order(tmp_path: Path) -> None:
    source = tmp_path / "source.mkv"
    write_video(source, [Shot(FRAMES)], codec="mpeg4", rate=Fraction(25), b_frames=1, gop=24)
    counters, times, damaged = counters_and_times(pack_b_frames(source, tmp_path / "packed.avi"))
    assert counters == list(range(FRAMES))
    assert {later - earlier for earlier, later in pairwise(times)} == {Fraction(1, 25)}
    assert damaged == 0


def test_empty_frames_between_b_frames_are_neither_damage_nor_a_shift(tmp_path: Path) -> None:
    """An encoder that drops a repeated image writes a frame without content in its place."""
    source = tmp_path / "source.mkv"
    write_video(source, [Shot(FRAMES)], codec="mpeg4", rate=Fraction(25), b_frames=1, gop=24)
    contents = packet_contents(source)
    # Before every third frame that is not a B-frame.
    references = [number for number, content in enumerate(contents) if vop_type(content) != 2]
    for number in reversed(references[3::3]):
        contents.insert(number, not_coded_vop(5))
    path = write_packets(tmp_path / "dropped.avi", source, contents)
    counters, times, damaged = counters_and_times(path)
    assert counters == list(range(FRAMES))
    gaps = [(later - earlier) * 25 for earlier, later in pairwise(times)]
    assert set(gaps) == {1, 2} and gaps.count(2) == len(contents) - FRAMES > 5
    assert damaged == 0
