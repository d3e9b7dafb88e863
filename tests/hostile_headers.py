"""Video files whose headers, timestamps or containers say what is not so."""

from __future__ import annotations

import struct

from PIL import Image

from tests.container_editing import (
    CLUSTER,
    CLUSTER_TIME,
    SEEK_HEAD,
    SIMPLE_BLOCK,
    box,
    box_body_offset,
    build_avc_config,
    build_sps,
    corrupt,
    ebml_bodies,
    full_box,
    overwrite,
    overwrite_in_box,
    random_bytes,
    replace_avc_config,
    rewrite_chunk_offsets,
    ts_packets,
    without_timestamps,
)
from tests.hostile_sources import FRAMES, SourceFiles


def lying_headers(sources: SourceFiles) -> dict[str, bytes]:
    data = sources.index_last
    huge = struct.pack(">I", 0x7FFFFFFF)
    config = box_body_offset(data, b"avcC")
    return {
        "lies-about-its-size.mp4": overwrite_in_box(data, b"avc1", 24, b"\xff\xff\xff\xff"),
        "lies-about-its-length.mp4": overwrite_in_box(data, b"mdhd", 16, huge),
        "codec-unknown.mp4": overwrite_in_box(data, b"avc1", -4, b"xyz1"),
        "codec-unknown.mkv": sources.matroska.replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/AVC"),
        "says-hevc-holds-avc.mp4": overwrite_in_box(data, b"avc1", -4, b"hev1"),
        "says-av1-holds-avc.mp4": overwrite_in_box(data, b"avc1", -4, b"av01"),
        "no-parameter-sets.mp4": overwrite(data, config + 5, b"\xe0\x00"),
        "no-picture-parameters.mp4": replace_avc_config(data, _without_pps(data)),
        "parameters-of-noise.mp4": overwrite(data, config + 8, random_bytes(12)),
        "parameters-of-another-size.mp4": replace_avc_config(
            data, build_avc_config(build_sps(64, 64))
        ),
        "lies-about-unit-lengths.mp4": overwrite(data, config + 4, b"\xfc"),
        "65520-pixels-wide.mp4": replace_avc_config(
            data, build_avc_config(build_sps(65520, 65520))
        ),
        "16384-pixels-wide.mp4": replace_avc_config(
            data, build_avc_config(build_sps(16384, 16384))
        ),
        "picture-bomb.mov": _picture_bomb(sources),
        "raw-60000-pixels-wide.avi": _raw_avi(60000, 60000),
        "samples-beyond-the-end.mp4": rewrite_chunk_offsets(data, lambda n, old: old + 0x40000000),
        "samples-all-in-one-offset.mp4": rewrite_chunk_offsets(data, lambda n, old: 8),
        "samples-of-4-gigabytes.mp4": overwrite_in_box(data, b"stsz", 4, b"\xff\xff\xff\xff"),
        "samples-of-no-bytes.mp4": overwrite_in_box(data, b"stsz", 12, bytes(4 * FRAMES)),
        "twenty-million-frames.mp4": _many_frames(data, 20_000_000),
        "two-billion-frames.mp4": _many_frames(data, 0x7FFFFFFF),
        "index-nested-in-itself.mp4": _nested(data),
        "box-longer-than-the-file.mp4": overwrite(data, data.index(b"moov") - 4, huge),
        "box-of-no-size.mp4": overwrite(data, data.index(b"trak") - 4, bytes(4)),
        "encrypted.mp4": sources.remux(
            sources.source,
            "e.mp4",
            "-c",
            "copy",
            "-encryption_scheme",
            "cenc-aes-ctr",
            "-encryption_key",
            "00112233445566778899aabbccddeeff",
            "-encryption_kid",
            "ffeeddccbbaa99887766554433221100",
        ),
    }


def _without_pps(data: bytes) -> bytes:
    start = box_body_offset(data, b"avcC")
    (length,) = struct.unpack(">H", data[start + 6 : start + 8])
    return data[start : start + 8 + length] + b"\0"


def _picture_bomb(sources: SourceFiles) -> bytes:
    """Build a video of 16000 x 16000 pixels in a few kilobytes."""
    path = sources.folder / "bomb.png"
    Image.new("1", (16000, 16000)).save(path, optimize=True)
    return sources.remux(path, "bomb.mov", "-c", "copy")


def _raw_avi(width: int, height: int) -> bytes:
    """Build an AVI that states raw frames of that size but contains a few bytes."""
    header = struct.pack("<14I", 40000, 0, 0, 16, 9, 0, 1, 0, width, height, 0, 0, 0, 0)
    stream = struct.pack("<4s4s10I4H", b"vids", b"DIB ", 0, 0, 0, 1, 25, 0, 9, 0, 0, 0, 0, 0, 0, 0)
    form = struct.pack("<3I2H6I", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("<I", len(body)) + body

    strl = chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", form))
    movi = chunk(b"LIST", b"movi" + chunk(b"00db", bytes(3000)) * 9)
    return chunk(b"RIFF", b"AVI " + chunk(b"LIST", b"hdrl" + chunk(b"avih", header) + strl) + movi)


def _many_frames(data: bytes, frames: int) -> bytes:
    """Make all tables state ``frames`` frames of one byte in one chunk."""
    data = overwrite_in_box(data, b"stts", 4, struct.pack(">3I", 1, frames, 512))
    data = overwrite_in_box(data, b"stsc", 4, struct.pack(">4I", 1, 1, frames, 1))
    return overwrite_in_box(data, b"stsz", 4, struct.pack(">2I", 1, frames))


def _nested(data: bytes) -> bytes:
    start = data.index(b"moov") - 4
    inner = data[start:]
    for _ in range(2000):
        inner = box(b"moov", inner)
    return data[:start] + inner


def timestamps(sources: SourceFiles) -> dict[str, bytes]:
    data, blocks = sources.index_last, ebml_bodies(sources.matroska, SIMPLE_BLOCK)
    same = backwards = sources.matroska
    for start, _ in blocks:
        same = overwrite(same, start + 1, b"\0\0")
        (time,) = struct.unpack(">h", sources.matroska[start + 1 : start + 3])
        backwards = overwrite(backwards, start + 1, struct.pack(">h", -time))
    for start, end in ebml_bodies(sources.matroska, CLUSTER_TIME):
        same = overwrite(same, start, bytes(end - start))
    avi = sources.avi
    rate = avi.index(b"strh") + 8 + 20
    stamps = [without_timestamps(packet) for packet in ts_packets(sources.transport)]
    one = sources.remux(sources.source, "one.mp4", "-c", "copy", "-frames:v", "1")
    return {
        "all-frames-at-once.mkv": same,
        "all-frames-at-once.mp4": overwrite_in_box(data, b"stts", 12, bytes(4)),
        "clock-runs-back.mkv": backwards,
        "clock-starts-again.ts": sources.transport + sources.transport,
        "no-clock.ts": b"".join(stamps),
        "no-frame-rate.avi": overwrite(avi, rate, bytes(8)),
        "time-base-zero.mp4": overwrite_in_box(data, b"mdhd", 12, bytes(4)),
        "a-frame-of-two-days.mp4": _two_days(data),
        "one-frame.mp4": one,
        "edit-beyond-the-end.mp4": overwrite_in_box(
            data, b"elst", 12, struct.pack(">I", 0x7FFFFFF0)
        ),
    }


def _two_days(data: bytes) -> bytes:
    """Give the middle frame the maximum duration, and disable the edit list that would cut it."""
    data = data.replace(b"edts", b"free")
    start = box_body_offset(data, b"stts")
    (delta,) = struct.unpack(">I", data[start + 12 : start + 16])
    counts = [(FRAMES // 2, delta), (1, 0x7FFFFFFF), (FRAMES // 2 - 1, delta)]
    entry = full_box(
        b"stts", struct.pack(">I", 3) + b"".join(struct.pack(">2I", *c) for c in counts)
    )
    data = data[: start - 8] + entry + data[start + 16 :]
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        at = box_body_offset(data, kind) - 8
        (old,) = struct.unpack(">I", data[at : at + 4])
        data = overwrite(data, at, struct.pack(">I", old + 16))
    return data


def containers(sources: SourceFiles) -> dict[str, bytes]:
    mkv, avi = sources.matroska, sources.avi
    (seek_start, seek_end) = ebml_bodies(mkv, SEEK_HEAD)[0]
    to_itself = b"\x4d\xbb\x8c\x53\xab\x84\x11\x4d\x9b\x74\x53\xac\x81\x00"
    padding = seek_end - seek_start - len(to_itself)
    index = avi.rindex(b"idx1")
    clusters = ebml_bodies(mkv, CLUSTER)
    small = sources.remux(sources.source, "small.ts", "-s", "160x96", "-muxdelay", "0")
    return {
        "seeks-to-itself.mkv": overwrite(
            mkv, seek_start, to_itself + b"\xec" + bytes([0x80 | padding - 2]) + bytes(padding - 2)
        ),
        "cluster-longer-than-the-file.mkv": overwrite(
            mkv, clusters[1][0] - 8, b"\x01\xff\xff\xff\xff\xff\xff\x00"
        ),
        "broken-elements.mkv": corrupt(mkv, 60, clusters[0][0], 0.1),
        "without-index.avi": avi[:index],
        "wrong-index.avi": corrupt(avi, index + 8, len(avi), 0.9),
        "size-changes.ts": sources.transport + small,
        "without-end.mkv": sources.remux(sources.source, "live.mkv", "-c", "copy", "-live", "1"),
        "two-pixels.avi": sources.remux(sources.source, "two.avi", "-c:v", "ffv1", "-s", "2x2"),
    }
