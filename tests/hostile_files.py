"""Reproducible broken and hostile files, as an unattended run may find them in a folder.

Most are good videos edited with ``tests.container_editing``; the others are not videos at all.
``expected_reasons`` returns the reasons that each file's rows may have: an unusable file is
rejected with its reason, and a file whose wrong headers are harmless is used.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import sqlite3
import struct
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

from mimix_core.tables import Reason
from tests.container_editing import (
    CLUSTER,
    box,
    box_body_offset,
    corrupt,
    ebml_bodies,
    full_box,
    mdat_range,
    overwrite,
    random_bytes,
    ts_packets,
)
from tests.hostile_headers import containers, lying_headers, timestamps
from tests.hostile_sources import SourceFiles


def truncated(sources: SourceFiles) -> dict[str, bytes]:
    first, last, flash = sources.index_first, sources.index_last, sources.flash
    return {
        **{f"cut-at-{n}-percent.mp4": first[: len(first) * n // 100] for n in (10, 50, 90, 99)},
        **{f"cut-at-{n}-percent-no-index.mp4": last[: len(last) * n // 100] for n in (50, 98)},
        "cut-inside-the-index.mp4": first[: box_body_offset(first, b"moov") + 400],
        "cut-in-fragments.mp4": sources.fragmented[: len(sources.fragmented) * 6 // 10],
        "cut.mkv": sources.matroska[: len(sources.matroska) // 2],
        "cut-in-the-header.mkv": sources.matroska[:60],
        "cut.avi": sources.avi[: len(sources.avi) // 2],
        "cut-in-the-header.avi": sources.avi[:120],
        "cut.flv": flash[: len(flash) // 2],
        "cut-after-three-packets.ts": sources.transport[: 3 * 188],
        "never-downloaded-tail.mp4": first[: len(first) // 2] + bytes(len(first) - len(first) // 2),
        "never-downloaded-middle.mp4": overwrite(first, len(first) // 3, bytes(len(first) // 4)),
        "two-halves-of-two-files.mp4": first[: len(first) // 2] + sources.avi[len(first) // 2 :],
    }


def damaged(sources: SourceFiles) -> dict[str, bytes]:
    start, end = mdat_range(sources.index_first)
    clusters = ebml_bodies(sources.matroska, CLUSTER)
    packets = ts_packets(sources.transport)
    return {
        **{
            f"damaged-1-in-{round(1 / share)}.mp4": corrupt(sources.index_first, start, end, share)
            for share in (0.1, 0.01, 0.001)
        },
        "damaged-index.mp4": corrupt(
            sources.index_first, box_body_offset(sources.index_first, b"moov"), start, 0.05
        ),
        "damaged.mkv": corrupt(sources.matroska, clusters[2][0], len(sources.matroska), 0.01),
        "damaged.avi": corrupt(sources.avi, 4000, len(sources.avi) - 4000, 0.01),
        "damaged.ts": corrupt(sources.transport, 10_000, len(sources.transport), 0.01),
        "lost-packets.ts": b"".join(p for n, p in enumerate(packets) if n < 40 or n % 9),
        "all-media-zero.mp4": overwrite(sources.index_first, start, bytes(end - start)),
        "all-media-noise.mp4": overwrite(sources.index_first, start, random_bytes(end - start)),
    }


def no_video(sources: SourceFiles) -> dict[str, bytes]:
    sound, cover = sources.sound, sources.cover
    mapped = ["-i", str(cover), "-map", "0:a", "-map", "1:v", "-disposition:v:0", "attached_pic"]
    titles = sources.folder / "titles.srt"
    titles.write_text("1\n00:00:01,000 --> 00:00:02,000\nNobody here.\n")
    handler = sources.index_last.index(b"hdlr") + 12
    return {
        "sound-mp3.mp4": sources.remux(sound, "s.mp3", "-c:a", "libmp3lame"),
        "sound-wav.mp4": sources.remux(sound, "s.wav"),
        "sound-flac.mp4": sources.remux(sound, "s.flac"),
        "sound-adts.mp4": sources.remux(sound, "s.aac"),
        "sound-m4a.mp4": sources.remux(sound, "s.m4a"),
        "sound.mkv": sources.remux(sound, "s.mka", "-c:a", "flac"),
        "cover-picture-only.mp4": sources.remux(sound, "c.m4a", *mapped, "-c:v", "png"),
        "subtitles-only.mkv": sources.remux(titles, "t.mkv"),
        "subtitles-only.mp4": sources.remux(titles, "t.mp4", "-c:s", "mov_text"),
        "video-said-to-be-sound.mp4": overwrite(sources.index_last, handler, b"soun"),
        "no-tracks.mp4": box(b"ftyp", b"isom\0\0\2\0isom") + box(b"moov", b""),
        "null-packets.ts": (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 500,
    }


def not_media(sources: SourceFiles) -> dict[str, bytes]:
    archive, tar = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(zipfile.ZipInfo("episode.mp4"), sources.index_first)
    with tarfile.open(fileobj=tar, mode="w") as packed_tar:
        member = tarfile.TarInfo("episode.mp4")
        member.size = len(sources.index_first)
        packed_tar.addfile(member, io.BytesIO(sources.index_first))
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
        "noise.mp4": random_bytes(65536),
        "text.mp4": b"This episode is not available in your country.\n" * 40,
        "html.mp4": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "json.mp4": json.dumps({"error": "quota exceeded", "code": 403}).encode(),
        "subtitles.mp4": b"1\n00:00:01,000 --> 00:00:02,000\nHello.\n",
        "pdf.mp4": b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n%%EOF\n",
        "svg.mp4": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
        "zip.mp4": archive.getvalue(),
        "tar.mp4": tar.getvalue(),
        "gzip.mp4": gzip.compress(sources.index_first, mtime=0),
        "sqlite.mp4": database.serialize(),
        "program.mp4": b"\x7fELF\2\1\1" + bytes(57),
        "script.ts": b"export const episodes: string[] = [];\n" * 50,
        **pictures,
        "only-ftyp.mp4": box(b"ftyp", b"isom\0\0\2\0isom"),
        "only-media.mp4": box(b"ftyp", b"isom\0\0\2\0isom") + box(b"mdat", random_bytes(5000)),
        "only-ebml-header.mkv": sources.matroska[:40],
        "only-riff.avi": b"RIFF\x04\0\0\0AVI ",
        "only-header.flv": b"FLV\1\1\0\0\0\x09\0\0\0\0",
        "only-header.wmv": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + random_bytes(300),
        "only-header.mxf": bytes.fromhex("060e2b34020501010d01020101020400") + random_bytes(300),
        "only-header.ogg": b"OggS\0\2" + bytes(20) + b"\1\x1e\x01vorbis" + bytes(22),
    }


def manifests(sources: SourceFiles) -> dict[str, bytes]:
    """Files that refer to other files or URLs."""
    secret, web = sources.secret, sources.web
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
    data = sources.index_last
    at = box_body_offset(data, b"dref") + 8
    url = secret.as_uri().encode() + b"\0"
    entry = full_box(b"url ", url)
    drefs = data[:at] + entry + data[at + 12 :]
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        offset = box_body_offset(drefs, kind) - 8
        (old,) = struct.unpack(">I", drefs[offset : offset + 4])
        drefs = overwrite(drefs, offset, struct.pack(">I", old + len(entry) - 12))
    movie = box(
        b"moov",
        box(b"rmra", box(b"rmda", full_box(b"rdrf", b"url " + struct.pack(">I", len(url)) + url))),
    )
    return {
        **{name: text.encode() for name, text in texts.items()},
        "media-in-another-file.mp4": drefs,
        "reference-movie.mov": box(b"ftyp", b"qt  \0\0\2\0qt  ") + movie,
    }


_DECODE_FAILURES = {Reason.UNREADABLE_VIDEO, Reason.VIDEO_DAMAGED, Reason.VIDEO_TRUNCATED}
_NO_VIDEO = {Reason.UNREADABLE_VIDEO, Reason.NO_VIDEO_STREAM}

FAMILIES: dict[Callable[[SourceFiles], Mapping[str, bytes]], set[Reason]] = {
    truncated: {*_DECODE_FAILURES, Reason.SCENE_DAMAGED},
    damaged: {*_DECODE_FAILURES, Reason.NO_VIDEO_STREAM, Reason.SCENE_DAMAGED},
    no_video: _NO_VIDEO,
    not_media: {Reason.UNREADABLE_VIDEO, Reason.NO_VIDEO_STREAM},
    manifests: _NO_VIDEO,
    lying_headers: {*_DECODE_FAILURES, Reason.VIDEO_TOO_LARGE, Reason.SCENE_DAMAGED},
    timestamps: {*_DECODE_FAILURES, Reason.SCENE_CLOCK_BREAK},
    containers: {*_DECODE_FAILURES, Reason.NO_VIDEO_STREAM, Reason.SCENE_DAMAGED},
}
"""The kinds of files, and the reasons of which each file of the kind must have one."""

EXACT_REASONS = {
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
"""Files for which only one reason is right."""

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
"""Files whose flaw hides no frame: all 168 can be decoded, so they must be used."""

WITH_CLIPS = frozenset({"clock-starts-again.ts", "cut-at-99-percent.mp4"})
"""Files with a reason of which a part is sound."""

WITHOUT_CLIPS = frozenset({"one-frame.mp4", "time-base-zero.mp4"})
"""Files that are readable but too short for a clip: their edit list, in seconds where the time base
is lost, leaves one frame."""

ODD_NAMES = (
    "-i.mp4",
    "two\nlines.mp4",
    "naïve 日本 [red]'quoted' \"twice\" {x} %03d $(y) `z`; a|b.mp4",
    "n" * 251 + ".mp4",
    "concat:a|b.mp4",
)
"""Unusual names of good videos."""


def expected_reasons(name: str, family: Callable[[SourceFiles], Mapping[str, bytes]]) -> set[str]:
    """Return the reasons of which this file's rows must have one; empty for a usable file."""
    if name in HARMLESS:
        return set()
    return {
        reason.value
        for reason in ({EXACT_REASONS[name]} if name in EXACT_REASONS else FAMILIES[family])
    }


def write_corpus(sources: SourceFiles, folder: Path) -> dict[Path, set[str]]:
    """Write every file into ``folder``; return the expected reasons of each."""
    sources.folder.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[Path, set[str]] = {}
    for family in FAMILIES:
        for name, data in family(sources).items():
            path = folder / name
            assert path not in found, name
            path.write_bytes(data)
            found[path] = expected_reasons(name, family)
    return found


@contextmanager
def detect_outside_access(folder: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """Provide a web server, a secret file, and a list that records every access to either.

    The secret is a named pipe: opening it for reading unblocks the thread that waits to write.
    """
    accesses: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            accesses.append(f"web {self.path}")
            self.send_error(404)

        def log_message(self, *args: object) -> None:
            """Suppress the request log."""

    secret = folder / "secret.mp4"
    os.mkfifo(secret)
    done = threading.Event()

    def wait() -> None:
        with secret.open("wb"):
            if not done.is_set():
                accesses.append("secret")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threads = [threading.Thread(target=target) for target in (server.serve_forever, wait)]
    for thread in threads:
        thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", secret, accesses
    finally:
        done.set()
        os.close(os.open(secret, os.O_RDONLY | os.O_NONBLOCK))
        server.shutdown()
        server.server_close()
        for thread in threads:
            thread.join()
