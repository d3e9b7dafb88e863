"""Broken and hostile files, made the same way every time: what a night's run may meet in a folder.

Most are good videos cut into (see ``tests.surgery``); the rest was never a video. ``expected`` says
for each what its rows must say: a file that cannot be used names its reason, a file whose lies do
no harm is used.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import sqlite3
import struct
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

from mimix_core.media import ffmpeg_exe
from mimix_core.tables import Reason
from tests.media_factory import Shot, write_sound, write_video
from tests.surgery import (
    CLUSTER,
    CLUSTER_TIME,
    SEEK_HEAD,
    SIMPLE_BLOCK,
    avc_config,
    body_of,
    box,
    chunk_table,
    ebml_bodies,
    flip,
    full_box,
    mdat,
    noise,
    put,
    put_box,
    replace_avc_config,
    sps,
    ts_packets,
    without_timestamps,
)

FRAMES = 168
"""Of the good videos: 7 s, one clip each."""


@dataclass(frozen=True)
class Kit:
    """Good files to be cut into, made in ``folder`` when first wanted.

    ``web`` is the URL of a server, ``secret`` a path, that no file may make MiMix open.
    """

    folder: Path
    web: str
    secret: Path

    def good(self, path: Path, first_shot: int = 0, **options: object) -> Path:
        """Two shots of moving pictures; other ``first_shot``, other pictures."""
        shots = [Shot(1)] * first_shot + [Shot(130), Shot(FRAMES - 130)]
        return write_video(path, shots, **options).path  # type: ignore[arg-type]

    def remux(self, source: Path, name: str, *options: str) -> bytes:
        """What the ffmpeg command makes of ``source`` in a file of that name."""
        target = self.folder / name
        command = [ffmpeg_exe(), "-v", "error", "-y", "-bitexact", "-i", str(source)]
        subprocess.run([*command, *options, "-bitexact", str(target)], check=True)
        return target.read_bytes()

    @cached_property
    def source(self) -> Path:
        return self.good(self.folder / "source.mp4", b_frames=0)

    @cached_property
    def index_last(self) -> bytes:
        return self.remux(self.source, "last.mp4", "-c", "copy")

    @cached_property
    def index_first(self) -> bytes:
        return self.remux(self.source, "first.mp4", "-c", "copy", "-movflags", "+faststart")

    @cached_property
    def fragmented(self) -> bytes:
        flags = "+frag_keyframe+empty_moov+default_base_moof"
        return self.remux(self.source, "fragments.mp4", "-c", "copy", "-movflags", flags)

    @cached_property
    def matroska(self) -> bytes:
        return self.remux(self.source, "m.mkv", "-c", "copy", "-cluster_time_limit", "1000")

    @cached_property
    def transport(self) -> bytes:
        return self.remux(self.source, "t.ts", "-c", "copy", "-muxdelay", "0")

    @cached_property
    def avi(self) -> bytes:
        return self.remux(self.source, "a.avi", "-c:v", "mpeg4", "-q:v", "4")

    @cached_property
    def flash(self) -> bytes:
        return self.remux(self.source, "f.flv", "-c", "copy")

    @cached_property
    def sound(self) -> Path:
        return write_sound(self.folder / "sound.mov", 3, beep_at=1)

    @cached_property
    def cover(self) -> Path:
        path = self.folder / "cover.png"
        Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(path)
        return path


def truncated(kit: Kit) -> dict[str, bytes]:
    first, last, flash = kit.index_first, kit.index_last, kit.flash
    return {
        **{f"cut-at-{n}-percent.mp4": first[: len(first) * n // 100] for n in (10, 50, 90, 99)},
        **{f"cut-at-{n}-percent-no-index.mp4": last[: len(last) * n // 100] for n in (50, 98)},
        "cut-inside-the-index.mp4": first[: body_of(first, b"moov") + 400],
        "cut-in-fragments.mp4": kit.fragmented[: len(kit.fragmented) * 6 // 10],
        "cut.mkv": kit.matroska[: len(kit.matroska) // 2],
        "cut-in-the-header.mkv": kit.matroska[:60],
        "cut.avi": kit.avi[: len(kit.avi) // 2],
        "cut-in-the-header.avi": kit.avi[:120],
        "cut.flv": flash[: len(flash) // 2],
        "cut-after-three-packets.ts": kit.transport[: 3 * 188],
        "never-downloaded-tail.mp4": first[: len(first) // 2] + bytes(len(first) - len(first) // 2),
        "never-downloaded-middle.mp4": put(first, len(first) // 3, bytes(len(first) // 4)),
        "two-halves-of-two-files.mp4": first[: len(first) // 2] + kit.avi[len(first) // 2 :],
    }


def damaged(kit: Kit) -> dict[str, bytes]:
    start, end = mdat(kit.index_first)
    clusters = ebml_bodies(kit.matroska, CLUSTER)
    packets = ts_packets(kit.transport)
    return {
        **{
            f"damaged-1-in-{round(1 / share)}.mp4": flip(kit.index_first, start, end, share)
            for share in (0.1, 0.01, 0.001)
        },
        "damaged-index.mp4": flip(kit.index_first, body_of(kit.index_first, b"moov"), start, 0.05),
        "damaged.mkv": flip(kit.matroska, clusters[2][0], len(kit.matroska), 0.01),
        "damaged.avi": flip(kit.avi, 4000, len(kit.avi) - 4000, 0.01),
        "damaged.ts": flip(kit.transport, 10_000, len(kit.transport), 0.01),
        "lost-packets.ts": b"".join(p for n, p in enumerate(packets) if n < 40 or n % 9),
        "all-media-zero.mp4": put(kit.index_first, start, bytes(end - start)),
        "all-media-noise.mp4": put(kit.index_first, start, noise(end - start)),
    }


def no_video(kit: Kit) -> dict[str, bytes]:
    sound, cover = kit.sound, kit.cover
    mapped = ["-i", str(cover), "-map", "0:a", "-map", "1:v", "-disposition:v:0", "attached_pic"]
    titles = kit.folder / "titles.srt"
    titles.write_text("1\n00:00:01,000 --> 00:00:02,000\nNobody here.\n")
    handler = kit.index_last.index(b"hdlr") + 12
    return {
        "sound-mp3.mp4": kit.remux(sound, "s.mp3", "-c:a", "libmp3lame"),
        "sound-wav.mp4": kit.remux(sound, "s.wav"),
        "sound-flac.mp4": kit.remux(sound, "s.flac"),
        "sound-adts.mp4": kit.remux(sound, "s.aac"),
        "sound-m4a.mp4": kit.remux(sound, "s.m4a"),
        "sound.mkv": kit.remux(sound, "s.mka", "-c:a", "flac"),
        "cover-picture-only.mp4": kit.remux(sound, "c.m4a", *mapped, "-c:v", "png"),
        "subtitles-only.mkv": kit.remux(titles, "t.mkv"),
        "subtitles-only.mp4": kit.remux(titles, "t.mp4", "-c:s", "mov_text"),
        "video-said-to-be-sound.mp4": put(kit.index_last, handler, b"soun"),
        "no-tracks.mp4": box(b"ftyp", b"isom\0\0\2\0isom") + box(b"moov", b""),
        "null-packets.ts": (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 500,
    }


def not_media(kit: Kit) -> dict[str, bytes]:
    archive, tar = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(zipfile.ZipInfo("episode.mp4"), kit.index_first)
    with tarfile.open(fileobj=tar, mode="w") as packed_tar:
        member = tarfile.TarInfo("episode.mp4")
        member.size = len(kit.index_first)
        packed_tar.addfile(member, io.BytesIO(kit.index_first))
    picture = Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3))
    pictures = {}
    for name in ("png", "jpeg", "gif", "bmp", "webp"):
        stream = io.BytesIO()
        picture.save(stream, name)
        pictures[f"{name}.mp4"] = stream.getvalue()
    database = sqlite3.connect(":memory:")
    database.execute("create table episodes (name text)")
    return {
        "empty.mp4": b"",
        "empty-too.mkv": b"",
        "one-byte.mp4": b"\0",
        "zeros.mp4": bytes(65536),
        "noise.mp4": noise(65536),
        "text.mp4": b"This episode is not available in your country.\n" * 40,
        "html.mp4": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "json.mp4": json.dumps({"error": "quota exceeded", "code": 403}).encode(),
        "subtitles.mp4": b"1\n00:00:01,000 --> 00:00:02,000\nHello.\n",
        "pdf.mp4": b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n%%EOF\n",
        "svg.mp4": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
        "zip.mp4": archive.getvalue(),
        "tar.mp4": tar.getvalue(),
        "gzip.mp4": gzip.compress(kit.index_first, mtime=0),
        "sqlite.mp4": database.serialize(),
        "program.mp4": b"\x7fELF\2\1\1" + bytes(57),
        "script.ts": b"export const episodes: string[] = [];\n" * 50,
        **pictures,
        "only-ftyp.mp4": box(b"ftyp", b"isom\0\0\2\0isom"),
        "only-media.mp4": box(b"ftyp", b"isom\0\0\2\0isom") + box(b"mdat", noise(5000)),
        "only-ebml-header.mkv": kit.matroska[:40],
        "only-riff.avi": b"RIFF\x04\0\0\0AVI ",
        "only-header.flv": b"FLV\1\1\0\0\0\x09\0\0\0\0",
        "only-header.wmv": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + noise(300),
        "only-header.mxf": bytes.fromhex("060e2b34020501010d01020101020400") + noise(300),
        "only-header.ogg": b"OggS\0\2" + bytes(20) + b"\1\x1e\x01vorbis" + bytes(22),
    }


def manifests(kit: Kit) -> dict[str, bytes]:
    """Files that ask whoever opens them to open something else."""
    secret, web = kit.secret, kit.web
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"
    dash = (
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT9S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="9" '
        'codecs="avc1.42E01E"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    )
    texts = {
        "playlist-of-the-web.mp4": playlist.format(f"{web}/segment.ts"),
        "playlist-of-a-secret.mp4": playlist.format(f"file://{secret}"),
        "playlist-of-subfile.mp4": playlist.format(f"subfile,,start,0,end,99,,:{secret}"),
        "playlist-key.m3u8.mp4": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="'
        f'{web}/key"\n#EXTINF:9,\nx.ts\n',
        "concat.mp4": f"ffconcat version 1.0\nfile '{secret}'\n",
        "concat-of-the-web.mp4": f"ffconcat version 1.0\nfile '{web}/a.mp4'\n",
        "dash-of-the-web.mp4": dash.format(f"{web}/a.mp4"),
        "dash-of-a-secret.mp4": dash.format(f"file://{secret}"),
        "session-description.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "redirect.wmv": f"[Reference]\nRef1={web}/a.wmv\n",
        "asx.wmv": f'<ASX version="3.0"><Entry><Ref href="{web}/a.wmv"/></Entry></ASX>',
        "avisynth.avi": f'AVISource("{secret}")\n',
    }
    data = kit.index_last
    at = body_of(data, b"dref") + 8
    url = secret.as_uri().encode() + b"\0"
    entry = full_box(b"url ", url)
    drefs = data[:at] + entry + data[at + 12 :]
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        place = body_of(drefs, kind) - 8
        (old,) = struct.unpack(">I", drefs[place : place + 4])
        drefs = put(drefs, place, struct.pack(">I", old + len(entry) - 12))
    movie = box(
        b"moov",
        box(b"rmra", box(b"rmda", full_box(b"rdrf", b"url " + struct.pack(">I", len(url)) + url))),
    )
    return {
        **{name: text.encode() for name, text in texts.items()},
        "media-in-another-file.mp4": drefs,
        "reference-movie.mov": box(b"ftyp", b"qt  \0\0\2\0qt  ") + movie,
    }


def lying_headers(kit: Kit) -> dict[str, bytes]:
    data = kit.index_last
    huge = struct.pack(">I", 0x7FFFFFFF)
    config = body_of(data, b"avcC")
    return {
        "lies-about-its-size.mp4": put_box(data, b"avc1", 24, b"\xff\xff\xff\xff"),
        "lies-about-its-length.mp4": put_box(data, b"mdhd", 16, huge),
        "codec-unknown.mp4": put_box(data, b"avc1", -4, b"xyz1"),
        "codec-unknown.mkv": kit.matroska.replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/AVC"),
        "says-hevc-holds-avc.mp4": put_box(data, b"avc1", -4, b"hev1"),
        "says-av1-holds-avc.mp4": put_box(data, b"avc1", -4, b"av01"),
        "no-parameter-sets.mp4": put(data, config + 5, b"\xe0\x00"),
        "no-picture-parameters.mp4": replace_avc_config(data, _without_pps(data)),
        "parameters-of-noise.mp4": put(data, config + 8, noise(12)),
        "parameters-of-another-size.mp4": replace_avc_config(data, avc_config(sps(64, 64))),
        "lies-about-unit-lengths.mp4": put(data, config + 4, b"\xfc"),
        "65520-pixels-wide.mp4": replace_avc_config(data, avc_config(sps(65520, 65520))),
        "16384-pixels-wide.mp4": replace_avc_config(data, avc_config(sps(16384, 16384))),
        "picture-bomb.mov": _picture_bomb(kit),
        "raw-60000-pixels-wide.avi": _raw_avi(60000, 60000),
        "samples-beyond-the-end.mp4": chunk_table(data, lambda n, old: old + 0x40000000),
        "samples-all-in-one-place.mp4": chunk_table(data, lambda n, old: 8),
        "samples-of-4-gigabytes.mp4": put_box(data, b"stsz", 4, b"\xff\xff\xff\xff"),
        "samples-of-no-bytes.mp4": put_box(data, b"stsz", 12, bytes(4 * FRAMES)),
        "twenty-million-frames.mp4": _many_frames(data, 20_000_000),
        "two-billion-frames.mp4": _many_frames(data, 0x7FFFFFFF),
        "index-nested-in-itself.mp4": _nested(data),
        "box-longer-than-the-file.mp4": put(data, data.index(b"moov") - 4, huge),
        "box-of-no-size.mp4": put(data, data.index(b"trak") - 4, bytes(4)),
        "encrypted.mp4": kit.remux(
            kit.source,
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
    start = body_of(data, b"avcC")
    (length,) = struct.unpack(">H", data[start + 6 : start + 8])
    return data[start : start + 8 + length] + b"\0"


def _picture_bomb(kit: Kit) -> bytes:
    """Pictures of 16000 x 16000 pixels, a few kilobytes each."""
    path = kit.folder / "bomb.png"
    Image.new("1", (16000, 16000)).save(path, optimize=True)
    return kit.remux(path, "bomb.mov", "-c", "copy")


def _raw_avi(width: int, height: int) -> bytes:
    """An AVI that promises raw pictures of that size and holds a few bytes."""
    header = struct.pack("<14I", 40000, 0, 0, 16, 9, 0, 1, 0, width, height, 0, 0, 0, 0)
    stream = struct.pack("<4s4s10I4H", b"vids", b"DIB ", 0, 0, 0, 1, 25, 0, 9, 0, 0, 0, 0, 0, 0, 0)
    form = struct.pack("<3I2H6I", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("<I", len(body)) + body

    strl = chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", form))
    movi = chunk(b"LIST", b"movi" + chunk(b"00db", bytes(3000)) * 9)
    return chunk(b"RIFF", b"AVI " + chunk(b"LIST", b"hdrl" + chunk(b"avih", header) + strl) + movi)


def _many_frames(data: bytes, frames: int) -> bytes:
    """All tables agree on ``frames`` frames of one byte in one chunk."""
    data = put_box(data, b"stts", 4, struct.pack(">3I", 1, frames, 512))
    data = put_box(data, b"stsc", 4, struct.pack(">4I", 1, 1, frames, 1))
    return put_box(data, b"stsz", 4, struct.pack(">2I", 1, frames))


def _nested(data: bytes) -> bytes:
    start = data.index(b"moov") - 4
    inner = data[start:]
    for _ in range(2000):
        inner = box(b"moov", inner)
    return data[:start] + inner


def clocks(kit: Kit) -> dict[str, bytes]:
    data, blocks = kit.index_last, ebml_bodies(kit.matroska, SIMPLE_BLOCK)
    same = backwards = kit.matroska
    for start, _ in blocks:
        same = put(same, start + 1, b"\0\0")
        (time,) = struct.unpack(">h", kit.matroska[start + 1 : start + 3])
        backwards = put(backwards, start + 1, struct.pack(">h", -time))
    for start, end in ebml_bodies(kit.matroska, CLUSTER_TIME):
        same = put(same, start, bytes(end - start))
    avi = kit.avi
    rate = avi.index(b"strh") + 8 + 20
    stamps = [without_timestamps(packet) for packet in ts_packets(kit.transport)]
    one = kit.remux(kit.source, "one.mp4", "-c", "copy", "-frames:v", "1")
    return {
        "all-frames-at-once.mkv": same,
        "all-frames-at-once.mp4": put_box(data, b"stts", 12, bytes(4)),
        "clock-runs-back.mkv": backwards,
        "clock-starts-again.ts": kit.transport + kit.transport,
        "no-clock.ts": b"".join(stamps),
        "no-frame-rate.avi": put(avi, rate, bytes(8)),
        "time-base-zero.mp4": put_box(data, b"mdhd", 12, bytes(4)),
        "a-frame-of-two-days.mp4": _two_days(data),
        "one-frame.mp4": one,
        "edit-beyond-the-end.mp4": put_box(data, b"elst", 12, struct.pack(">I", 0x7FFFFFF0)),
    }


def _two_days(data: bytes) -> bytes:
    """The frame in the middle lasts as long as its field can say; no edit list cuts that short."""
    data = data.replace(b"edts", b"free")
    start = body_of(data, b"stts")
    (delta,) = struct.unpack(">I", data[start + 12 : start + 16])
    counts = [(FRAMES // 2, delta), (1, 0x7FFFFFFF), (FRAMES // 2 - 1, delta)]
    entry = full_box(
        b"stts", struct.pack(">I", 3) + b"".join(struct.pack(">2I", *c) for c in counts)
    )
    data = data[: start - 8] + entry + data[start + 16 :]
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        at = body_of(data, kind) - 8
        (old,) = struct.unpack(">I", data[at : at + 4])
        data = put(data, at, struct.pack(">I", old + 16))
    return data


def containers(kit: Kit) -> dict[str, bytes]:
    mkv, avi = kit.matroska, kit.avi
    (seek_start, seek_end) = ebml_bodies(mkv, SEEK_HEAD)[0]
    to_itself = b"\x4d\xbb\x8c\x53\xab\x84\x11\x4d\x9b\x74\x53\xac\x81\x00"
    padding = seek_end - seek_start - len(to_itself)
    index = avi.rindex(b"idx1")
    clusters = ebml_bodies(mkv, CLUSTER)
    small = kit.remux(kit.source, "small.ts", "-s", "160x96", "-muxdelay", "0")
    return {
        "seeks-to-itself.mkv": put(
            mkv, seek_start, to_itself + b"\xec" + bytes([0x80 | padding - 2]) + bytes(padding - 2)
        ),
        "cluster-longer-than-the-file.mkv": put(
            mkv, clusters[1][0] - 8, b"\x01\xff\xff\xff\xff\xff\xff\x00"
        ),
        "broken-elements.mkv": flip(mkv, 60, clusters[0][0], 0.1),
        "without-index.avi": avi[:index],
        "wrong-index.avi": flip(avi, index + 8, len(avi), 0.9),
        "size-changes.ts": kit.transport + small,
        "without-end.mkv": kit.remux(kit.source, "live.mkv", "-c", "copy", "-live", "1"),
        "two-pixels.avi": kit.remux(kit.source, "two.avi", "-c:v", "ffv1", "-s", "2x2"),
    }


_BROKEN = {Reason.UNREADABLE_VIDEO, Reason.VIDEO_DAMAGED, Reason.VIDEO_TRUNCATED}
_NOTHING = {Reason.UNREADABLE_VIDEO, Reason.NO_VIDEO_STREAM}

FAMILIES: dict[Callable[[Kit], Mapping[str, bytes]], set[Reason]] = {
    truncated: {*_BROKEN, Reason.SCENE_DAMAGED},
    damaged: {*_BROKEN, Reason.NO_VIDEO_STREAM, Reason.SCENE_DAMAGED},
    no_video: _NOTHING,
    not_media: {Reason.UNREADABLE_VIDEO, Reason.NO_VIDEO_STREAM},
    manifests: _NOTHING,
    lying_headers: {*_BROKEN, Reason.VIDEO_TOO_LARGE, Reason.SCENE_DAMAGED},
    clocks: _BROKEN,
    containers: {*_BROKEN, Reason.NO_VIDEO_STREAM, Reason.SCENE_DAMAGED},
}
"""The kinds of files, and the reasons one of which each file of the kind must give."""

EXACTLY = {
    "sound-m4a.mp4": Reason.NO_VIDEO_STREAM,
    "sound.mkv": Reason.NO_VIDEO_STREAM,
    "cover-picture-only.mp4": Reason.NO_VIDEO_STREAM,
    "subtitles-only.mkv": Reason.NO_VIDEO_STREAM,
    "subtitles-only.mp4": Reason.NO_VIDEO_STREAM,
    "video-said-to-be-sound.mp4": Reason.NO_VIDEO_STREAM,
    "picture-bomb.mov": Reason.VIDEO_TOO_LARGE,
    "empty.mp4": Reason.UNREADABLE_VIDEO,
    "two-pixels.avi": Reason.UNREADABLE_VIDEO,
}
"""Where only one reason would be right."""

HARMLESS = frozenset(
    {
        "box-longer-than-the-file.mp4",
        "box-of-no-size.mp4",
        "lies-about-its-length.mp4",
        "lies-about-its-size.mp4",
        "media-in-another-file.mp4",
        "no-frame-rate.avi",
        "seeks-to-itself.mkv",
        "without-end.mkv",
        "without-index.avi",
    }
)
"""Files whose flaw hides no frame: all 168 are there, so they must be used."""

TOO_LITTLE = frozenset({"one-frame.mp4", "time-base-zero.mp4"})
"""What can be read of these is read, and holds no clip: the edit list, in seconds where the time
base is lost, leaves one frame."""

ODD_NAMES = (
    "-i.mp4",
    "two\nlines.mp4",
    "naïve 日本 [red]'quoted' \"twice\" {x} %03d $(y) `z`; a|b.mp4",
    "n" * 251 + ".mp4",
    "concat:a|b.mp4",
)
"""Names that good videos may have."""


def expected(name: str, family: Callable[[Kit], Mapping[str, bytes]]) -> set[str]:
    """The reasons one of which the rows of this file must give; empty for a file to be used."""
    if name in HARMLESS:
        return set()
    return {reason.value for reason in ({EXACTLY[name]} if name in EXACTLY else FAMILIES[family])}


def write_corpus(kit: Kit, folder: Path) -> dict[Path, set[str]]:
    """Write every file into ``folder``; gives what is expected of each."""
    kit.folder.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[Path, set[str]] = {}
    for family in FAMILIES:
        for name, data in family(kit).items():
            path = folder / name
            assert path not in found, name
            path.write_bytes(data)
            found[path] = expected(name, family)
    return found


@contextmanager
def tripwires(folder: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A web server, a secret file, and the list in which every touch of either is written.

    The secret is a pipe: whoever opens it to read lets the thread that waits to write go on.
    """
    touched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            touched.append(f"web {self.path}")
            self.send_error(404)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    secret = folder / "secret.mp4"
    os.mkfifo(secret)
    done = threading.Event()

    def wait() -> None:
        with secret.open("wb"):
            if not done.is_set():
                touched.append("secret")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threads = [threading.Thread(target=target) for target in (server.serve_forever, wait)]
    for thread in threads:
        thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", secret, touched
    finally:
        done.set()
        os.close(os.open(secret, os.O_RDONLY | os.O_NONBLOCK))
        server.shutdown()
        server.server_close()
        for thread in threads:
            thread.join()
