"""Editing of video files: MP4 boxes, EBML elements, AVI chunks, TS packets, H.264 headers."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator

TS_PACKET = 188


def box(kind: bytes, body: bytes) -> bytes:
    """Build an MP4 box."""
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, body: bytes, version_flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version_flags) + body)


def box_body_offset(data: bytes, kind: bytes) -> int:
    """Return the body offset of the only box ``kind``: ``mdat``, or one from ``moov`` on."""
    start = 0 if kind == b"mdat" else data.index(b"moov")
    assert data.count(kind, start) == 1, f"{data.count(kind, start)} boxes {kind!r}"
    return data.index(kind, start) + 4


def overwrite(data: bytes, offset: int, value: bytes) -> bytes:
    """Overwrite the bytes at ``offset`` with ``value``."""
    assert offset + len(value) <= len(data)
    return data[:offset] + value + data[offset + len(value) :]


def overwrite_in_box(data: bytes, kind: bytes, offset: int, value: bytes) -> bytes:
    """Write ``value`` at ``offset`` of the body of box ``kind``."""
    return overwrite(data, box_body_offset(data, kind) + offset, value)


def mdat_range(data: bytes) -> tuple[int, int]:
    """Return where the media bytes of an MP4 start and end."""
    start = box_body_offset(data, b"mdat")
    return start, start - 8 + struct.unpack(">I", data[start - 8 : start - 4])[0]


def corrupt(data: bytes, start: int, end: int, share: float, seed: int = 1) -> bytes:
    """Replace ``share`` of the bytes in [start, end) with random ones."""
    chance = random.Random(seed)
    changed = bytearray(data)
    for _ in range(max(1, round((end - start) * share))):
        changed[chance.randrange(start, end)] = chance.randrange(256)
    return bytes(changed)


def random_bytes(size: int, seed: int = 2) -> bytes:
    return random.Random(seed).randbytes(size)


def rewrite_chunk_offsets(data: bytes, change: Callable[[int, int], int]) -> bytes:
    """Replace each entry of ``stco`` by ``change(index, offset)``."""
    start = box_body_offset(data, b"stco")
    (count,) = struct.unpack(">I", data[start + 4 : start + 8])
    old = struct.unpack(f">{count}I", data[start + 8 : start + 8 + 4 * count])
    new = [change(index, offset) & 0xFFFFFFFF for index, offset in enumerate(old)]
    return overwrite(data, start + 8, struct.pack(f">{count}I", *new))


def iter_ebml(
    data: bytes, start: int = 0, end: int | None = None
) -> Iterator[tuple[int, int, int]]:
    """Yield (id, body start, body end) of all EBML elements in [start, end), also in clusters."""
    position = start
    end = len(data) if end is None else end
    while position < end:
        length = 9 - data[position].bit_length()
        identity = int.from_bytes(data[position : position + length], "big")
        position += length
        width = 9 - data[position].bit_length()
        size = int.from_bytes(data[position : position + width], "big") & ~(1 << 7 * width)
        position += width
        yield identity, position, position + size
        if identity not in (SEGMENT, CLUSTER):
            position += size


SEGMENT, CLUSTER, SIMPLE_BLOCK, CLUSTER_TIME, SEEK_HEAD = (
    0x18538067,
    0x1F43B675,
    0xA3,
    0xE7,
    0x114D9B74,
)


def ebml_bodies(data: bytes, wanted: int) -> list[tuple[int, int]]:
    return [(start, end) for identity, start, end in iter_ebml(data) if identity == wanted]


def ts_packets(data: bytes) -> list[bytes]:
    assert len(data) % TS_PACKET == 0
    return [data[at : at + TS_PACKET] for at in range(0, len(data), TS_PACKET)]


def without_timestamps(packet: bytes) -> bytes:
    """Remove PTS and DTS from the PES header of a TS packet, if one starts in it."""
    at = packet.find(b"\x00\x00\x01\xe0")
    if at < 0 or not packet[1] & 0x40:
        return packet
    return overwrite(packet, at + 7, bytes([packet[at + 7] & 0x3F]))


class BitWriter:
    """Writes the bits of H.264 headers."""

    def __init__(self) -> None:
        self._bits = ""

    def fixed(self, value: int, width: int) -> BitWriter:
        self._bits += format(value, f"0{width}b")
        return self

    def golomb(self, *values: int) -> BitWriter:
        for value in values:
            word = format(value + 1, "b")
            self._bits += "0" * (len(word) - 1) + word
        return self

    def bytes(self) -> bytes:
        """Return the bytes with stop bit, padding and emulation prevention bytes."""
        bits = self._bits + "1"
        bits += "0" * (-len(bits) % 8)
        plain = int(bits, 2).to_bytes(len(bits) // 8, "big")
        escaped = bytearray()
        for byte in plain:
            if byte <= 3 and escaped[-2:] == b"\x00\x00":
                escaped.append(3)
            escaped.append(byte)
        return bytes(escaped)


def build_sps(width: int, height: int) -> bytes:
    """Build a baseline H.264 sequence parameter set for that frame size (multiples of 16)."""
    bits = BitWriter().fixed(0x67, 8).fixed(66, 8).fixed(0, 8).fixed(52, 8)
    # id, frame number bits, order by decoding, one reference, no gaps
    bits.golomb(0, 0, 2, 1).fixed(0, 1)
    bits.golomb(width // 16 - 1, height // 16 - 1)
    # frames only, direct 8x8, no cropping, no VUI
    return bits.fixed(1, 1).fixed(1, 1).fixed(0, 1).fixed(0, 1).bytes()


def build_avc_config(sequence: bytes, picture: bytes = bytes.fromhex("68ce3c80")) -> bytes:
    """Build the body of an ``avcC`` box with one sequence and one picture parameter set."""
    return (
        bytes([1, sequence[1], sequence[2], sequence[3], 0xFF, 0xE1])
        + struct.pack(">H", len(sequence))
        + sequence
        + b"\x01"
        + struct.pack(">H", len(picture))
        + picture
    )


def replace_avc_config(data: bytes, config: bytes) -> bytes:
    """Replace the ``avcC`` body with ``config``, and adjust the sizes of all enclosing boxes.

    The index must come after the media, whose offsets would otherwise change.
    """
    start = box_body_offset(data, b"avcC")
    (size,) = struct.unpack(">I", data[start - 8 : start - 4])
    grown = len(config) - (size - 8)
    data = data[: start - 8] + box(b"avcC", config) + data[start - 8 + size :]
    assert data.index(b"moov") > data.index(b"mdat")
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = box_body_offset(data, kind) - 8
        (old,) = struct.unpack(">I", data[at : at + 4])
        data = overwrite(data, at, struct.pack(">I", old + grown))
    return data
