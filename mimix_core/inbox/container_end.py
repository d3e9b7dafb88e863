"""Recognize video files whose end is missing, from the sizes that their containers declare.

Only headers are read, so that a large file costs as little as a small one. An empty answer does
not prove a file complete: transport streams, for example, may end anywhere. Formats: ISO BMFF
(ISO/IEC 14496-12: MP4, MOV), Matroska and WebM (RFC 9559), RIFF (AVI), ASF (WMV), FLV, Ogg
(RFC 3533), RealMedia.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

STILL_WRITTEN = "it is still being written, or its end was lost"

_BMFF_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp")
_BMFF_BOXES = frozenset(
    b"ftyp styp moov mdat imda moof mfra free skip wide uuid meta meco sidx ssix prft emsg pdin "
    b"udta pnot PICT junk".split()
)
_CHUNK_TYPE = re.compile(rb"[ -~]{4}")
_EBML, _SEGMENT, _CUES = 0x1A45DFA3, 0x18538067, 0x1C53BB6B
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MAX_ITEMS = 1_000_000
"""Number of boxes or chunks that are followed; far more than fragments of a real file."""
_MAX_ASF_HEADER = 1 << 16
_OGG_TAIL = 1 << 17
_RM_TOLERANCE = 10


def find_missing_end(path: Path) -> str:
    """Return why the end of a video file is missing; empty if nothing shows that it is.

    Raises OSError when the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        if head and not head.strip(b"\0"):
            return f"begins with zeros: {STILL_WRITTEN}"
        for is_format, check in _FORMATS:
            if is_format(head):
                return check(file, size)
    return ""


def _ends_early(what: str, end: int, size: int) -> str:
    return f"{end - size:,} bytes are missing at the end ({what}): {STILL_WRITTEN}"


def _check_bmff(file: BinaryIO, size: int) -> str:
    """Check that all top-level boxes end within the file, and that one of them is the index."""
    position, found = 0, set()
    for _ in range(_MAX_ITEMS):
        if position + 8 > size:
            break
        file.seek(position)
        header = file.read(16)
        length, kind = struct.unpack(">I4s", header[:8])
        if kind not in _BMFF_BOXES:
            break  # padding or other data after the last box
        if length == 1 and len(header) == 16:
            length = struct.unpack(">Q", header[8:])[0]
        elif length == 0:
            length = size - position  # by definition up to the end of the file
        if length < 8:
            break
        found.add(kind)
        if position + length > size:
            return _ends_early(f"box {kind.decode('latin-1')}", position + length, size)
        position += length
    if b"moov" not in found:
        return f"has no index (moov): {STILL_WRITTEN}"
    if position < size and found <= {b"ftyp", b"moov", b"free", b"skip", b"wide", b"uuid"}:
        return f"has an index but no frames (mdat): {STILL_WRITTEN}"
    return ""


def _read_vint(file: BinaryIO, *, keep_marker: bool) -> tuple[int, int] | None:
    """Read an EBML variable-length integer; return value and length, None at the file's end.

    A size whose bits are all 1 is unknown and is returned as -1.
    """
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    if len(rest) < length - 1:
        return None
    value = int.from_bytes(first + rest, "big")
    if keep_marker:
        return value, length
    mask = (1 << (7 * length)) - 1
    return (-1 if value & mask == mask else value & mask), length


def _check_matroska(file: BinaryIO, size: int) -> str:
    """Check that the segment ends within the file; without a size, that it has its index."""
    position = 0
    for _ in range(_MAX_ITEMS):
        file.seek(position)
        kind = _read_vint(file, keep_marker=True)
        length = None if kind is None else _read_vint(file, keep_marker=False)
        if kind is None or length is None:
            break
        data = position + kind[1] + length[1]
        if kind[0] == _SEGMENT and length[0] < 0:
            return _check_open_segment(file, data, size)
        if length[0] < 0:
            break
        position = data + length[0]
        if position > size:
            return _ends_early("segment", position, size)
        if kind[0] == _SEGMENT:
            return ""
        if position == size:
            return f"has no frames: {STILL_WRITTEN}"
    return ""


def _check_open_segment(file: BinaryIO, start: int, size: int) -> str:
    """Check a segment of unknown size, as files have it while they are written."""
    position = start
    for _ in range(_MAX_ITEMS):
        file.seek(position)
        kind = _read_vint(file, keep_marker=True)
        length = None if kind is None else _read_vint(file, keep_marker=False)
        if kind is None or length is None or length[0] < 0:
            break
        if kind[0] == _CUES:
            return ""
        position += kind[1] + length[1] + length[0]
        if position > size:
            return _ends_early("cluster", position, size)
    return (
        f"has neither a size nor an index (Cues): {STILL_WRITTEN}. If it is a finished recording "
        "of a stream: ffmpeg -i FILE -c copy NEW.mkv"
    )


def _check_riff(file: BinaryIO, size: int) -> str:
    """Check that all RIFF chunks end within the file; the first size is 0 until it is closed."""
    position = 0
    for _ in range(_MAX_ITEMS):
        file.seek(position)
        header = file.read(8)
        if len(header) < 8 or header[:4] != b"RIFF":
            break
        (length,) = struct.unpack("<I", header[4:])
        if length in (0, 0xFFFFFFFF) and position == 0:
            return f"its header has no size yet: {STILL_WRITTEN}"
        position += 8 + length + length % 2
        if position - length % 2 > size:
            return _ends_early("RIFF chunk", position, size)
    return ""


def _check_asf(file: BinaryIO, size: int) -> str:
    """Compare the size in the file properties, unless the file is marked as a broadcast."""
    file.seek(0)
    header = file.read(_MAX_ASF_HEADER)
    place = header.find(_ASF_FILE_PROPERTIES)
    if place < 0 or len(header) < place + 92:
        return ""
    (declared,) = struct.unpack_from("<Q", header, place + 40)
    (flags,) = struct.unpack_from("<I", header, place + 88)
    if flags & 1:
        return ""
    return _ends_early("ASF file size", declared, size) if declared > size else ""


def _check_flv(file: BinaryIO, size: int) -> str:
    """Check that the last tag is complete: its length is repeated after it."""
    if size < 13 + 15:
        return f"has no frames: {STILL_WRITTEN}"
    file.seek(size - 4)
    (length,) = struct.unpack(">I", file.read(4))
    start = size - 4 - length
    if length >= 11 and start >= 13:
        file.seek(start)
        tag = file.read(4)
        if tag[0] & 0x1F in (8, 9, 18) and int.from_bytes(tag[1:4], "big") + 11 == length:
            return ""
    return f"its last tag is cut off: {STILL_WRITTEN}"


def _check_ogg(file: BinaryIO, size: int) -> str:
    """Check that the last page is complete and marked as the last of its stream."""
    start = max(0, size - _OGG_TAIL)
    file.seek(start)
    tail = file.read()
    place = tail.rfind(b"OggS")
    if place < 0 or len(tail) < place + 27:
        return f"its last page is cut off: {STILL_WRITTEN}"
    segments = tail[place + 26]
    lacing = tail[place + 27 : place + 27 + segments]
    end = place + 27 + segments + sum(lacing)
    if len(lacing) < segments or end > len(tail):
        return f"its last page is cut off: {STILL_WRITTEN}"
    return "" if tail[place + 5] & 4 else f"its stream has no last page: {STILL_WRITTEN}"


def _check_real_media(file: BinaryIO, size: int) -> str:
    """Check that all chunks end within the file.

    FFmpeg's muxer counts 10 bytes too many in the data chunk.
    """
    position = 0
    for _ in range(_MAX_ITEMS):
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            break
        kind, length = struct.unpack(">4sI", header)
        if length < 8 or not _CHUNK_TYPE.fullmatch(kind):
            break
        position += length
        if position > size + _RM_TOLERANCE:
            return _ends_early(f"chunk {kind.decode('latin-1')}", position, size)
    return ""


_FORMATS: tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO, int], str]], ...] = (
    (lambda head: head[4:8] in _BMFF_FIRST_BOXES, _check_bmff),
    (lambda head: head[:4] == _EBML.to_bytes(4, "big"), _check_matroska),
    (lambda head: head[:4] == b"RIFF", _check_riff),
    (lambda head: head == _ASF_HEADER, _check_asf),
    (lambda head: head[:3] == b"FLV", _check_flv),
    (lambda head: head[:4] == b"OggS", _check_ogg),
    (lambda head: head[:4] == b".RMF", _check_real_media),
)


def find_holes(path: Path) -> int:
    """Return how many bytes of a file were never written, as in preallocated downloads."""
    if not hasattr(os, "SEEK_HOLE"):
        return 0
    holes = 0
    with path.open("rb") as file:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size
        position = 0
        while position < size:
            try:
                data = os.lseek(descriptor, position, os.SEEK_DATA)
            except OSError:
                return holes + size - position  # only a hole is left
            holes += data - position
            position = os.lseek(descriptor, data, os.SEEK_HOLE)
    return holes
