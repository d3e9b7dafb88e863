"""Small files that ask for much memory are refused before they get it, and pickles are not run."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import struct
import subprocess
import sys
import textwrap
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mimix_core.benchmark.vbench import torchscript_reader
from mimix_core.benchmark.vbench.networks import clip_text
from mimix_core.errors import BadInput
from mimix_core.media.images import GRAY, load_reference_image
from mimix_core.training.initial_adapter import read_initial_adapter
from mimix_core.wan import foreign_adapters, lora_export, model_registry
from mimix_core.wan.generation_adapters import read_any_adapter
from tests.media.test_images import chunk
from tests.paths import ROOT

MAX_TABLE_BYTES = 700_000_000
MAX_IMAGE_BYTES = 60_000_000
LARGEST_IMAGE_BYTES = 1_050_000_000
"""An image of 64 million pixels is decoded, oriented and put on its background."""


def growth(code: str, paths: Iterable[Path]) -> dict[str, tuple[str, int]]:
    """Run a snippet for each path in one process; return by name what came of it and its memory."""
    program = textwrap.dedent(
        """
        import json, sys
        from pathlib import Path
        from mimix_core.errors import BadInput
        from mimix_core.inbox.clip_sources import read_clip_sources
        from mimix_core.media.images import GRAY, load_reference_image
        def memory(kind):
            # Not getrusage, which counts what the parent had before exec.
            status = Path("/proc/self/status").read_text()
            return int(status.split(kind + ":")[1].split()[0]) * 1024
        found = {}
        for path in map(Path, sys.argv[1:]):
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            before, verdict = memory("VmRSS"), "accepted"
            try:
                CODE
            except BadInput:
                verdict = "refused"
            found[path.name] = verdict, memory("VmHWM") - before
        print(json.dumps(found))
        """
    ).replace("CODE", code)
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, paths)],
        capture_output=True,
        cwd=ROOT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, tuple[str, int]] = json.loads(done.stdout)
    return found


def repeated(text: str, count: int) -> pa.Array:
    indices = pa.nulls(count, pa.int32()).fill_null(0)
    return pa.DictionaryArray.from_arrays(indices, pa.array([text]))


def lists_of(values: pa.Array, rows: int) -> pa.Array:
    step = len(values) // rows
    return pa.ListArray.from_arrays(pa.array(range(0, len(values) + 1, step), pa.int32()), values)


TABLES = {
    "long-text": lambda: {
        "file_name": [f"{n}.mp4" for n in range(1000)],
        "caption": repeated("a" * 5_000_000, 1000),
    },
    "long-names": lambda: {
        "file_name": [f"{n}.mp4" for n in range(1000)],
        "characters": lists_of(repeated("a" * 5_000_000, 1000), 1000),
    },
    "long-list": lambda: {
        "file_name": ["a.mp4"],
        "characters": lists_of(repeated("Tom", 50_000_000), 1),
    },
    "many-texts": lambda: {
        "file_name": [f"{n}.mp4" for n in range(20_000)],
        "caption": repeated("a" * 900_000, 20_000),
    },
}


def test_a_table_of_a_kilobyte_does_not_become_gigabytes(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.parquet" for name in TABLES]
    for path in paths:
        table = pa.table(TABLES[path.stem]())
        pq.write_table(table, path, compression="zstd", store_schema=False)
        assert path.stat().st_size < 1_000_000
    for name, (verdict, size) in growth("read_clip_sources(path)", paths).items():
        assert verdict == "refused", name
        assert size < MAX_TABLE_BYTES, f"{name}: {size:,} bytes"


def png(width: int, height: int, *chunks: bytes, rows: int | None = None) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1 + 3 * width) * (height if rows is None else rows), 9)
    body = b"".join((chunk(b"IHDR", header), *chunks, chunk(b"IDAT", data), chunk(b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + body


def webp_lossless(width: int, height: int) -> bytes:
    """A lossless WebP file that ends after its header."""
    bits = (width - 1) | (height - 1) << 14
    data = b"\x2f" + struct.pack("<I", bits) + b"\0" * 16
    payload = b"WEBPVP8L" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(payload)) + payload


def webp_animated(width: int, height: int) -> bytes:
    """An animated WebP file whose canvas is larger than its only frame."""
    canvas = struct.pack("<I", 2) + (width - 1).to_bytes(3, "little")
    canvas += (height - 1).to_bytes(3, "little")
    frame = webp_lossless(1, 1)[12:]
    header = bytes(6) + bytes(6) + (100).to_bytes(3, "little") + b"\0"
    chunks = b"VP8X" + struct.pack("<I", len(canvas)) + canvas
    chunks += b"ANIM" + struct.pack("<I", 6) + bytes(6)
    chunks += b"ANMF" + struct.pack("<I", len(header) + len(frame)) + header + frame
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def gif(width: int, height: int) -> bytes:
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\0;"
    return b"GIF89a" + screen + frame


def compressed(size: int) -> bytes:
    return zlib.compress(bytes(size), 9)


IMAGES = {
    "one-pixel-too-many.png": lambda: png(8001, 8000, rows=1),
    "long-text.png": lambda: png(8, 8, chunk(b"zTXt", b"k\0\0" + compressed(1 << 27))),
    "long-profile.png": lambda: png(8, 8, chunk(b"iCCP", b"k\0\0" + compressed(1 << 27))),
    "long-exif.png": lambda: png(8, 8, chunk(b"iTXt", b"k\0\1\0\0\0" + compressed(1 << 27))),
    "long-data.png": lambda: png(8, 8, rows=4_000_000),
    "huge.webp": lambda: webp_lossless(16383, 16383),
    "huge-canvas.webp": lambda: webp_animated(16383, 16383),
    "huge.gif": lambda: gif(65535, 65535),
    "huge.ppm": lambda: b"P6 100000 100000 255\n" + bytes(100),
    "huge.bmp": lambda: (
        b"BM"
        + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
    ),
}


def test_a_small_file_of_a_picture_needs_little_memory(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in IMAGES]
    for path in paths:
        path.write_bytes(IMAGES[path.name]())
        assert path.stat().st_size < 3_000_000
    for name, (_, size) in growth("load_reference_image(path, GRAY)", paths).items():
        assert size < MAX_IMAGE_BYTES, f"{name}: {size:,} bytes"


@pytest.mark.e2e
@pytest.mark.parametrize("transparency", [(), (chunk(b"tRNS", bytes(6)),)])
def test_the_largest_picture_needs_a_gigabyte(
    tmp_path: Path, transparency: tuple[bytes, ...]
) -> None:
    path = tmp_path / "largest.png"
    path.write_bytes(png(8000, 8000, *transparency))
    [(verdict, size)] = growth("load_reference_image(path, GRAY)", [path]).values()
    assert verdict == "accepted"
    assert size < LARGEST_IMAGE_BYTES, f"{size:,} bytes"


SVG = b"""<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><text>&x;</text></svg>"""
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.svg", SVG),
        ("svg.png", SVG),
        ("a.heic", HEIC),
        ("heic.jpg", HEIC),
        ("a.avif", HEIC.replace(b"heic", b"avif")),
        ("a.psd", b"8BPS\0\1" + bytes(100)),
        ("a.pdf", b"%PDF-1.7\n"),
        ("a.svgz", gzip.compress(SVG)),
    ],
)
def test_formats_that_can_do_more_than_show_a_picture_are_refused(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match="supported format"):
        load_reference_image(tmp_path / name, GRAY)


class Runs:
    """Unpickling it creates a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self._folder),)


READERS = {
    "mimix": lora_export.read_adapter,
    "other program": foreign_adapters.read_foreign_adapter,
    "to start from": read_initial_adapter,
    "to generate with": lambda path: read_any_adapter(
        path, model_registry.get_backbone("wan2.1-t2v-1.3b")
    ),
}


@pytest.mark.parametrize("reader", list(READERS))
@pytest.mark.parametrize(
    "name", ["lora.safetensors", "lora.pt", "lora.bin", "lora.ckpt", "lora.zip"]
)
@pytest.mark.parametrize("form", ["pickle", "torch", "torch-old", "zip"])
def test_an_adapter_is_never_a_pickle(tmp_path: Path, reader: str, name: str, form: str) -> None:
    path, evil = tmp_path / name, {"lora": Runs(tmp_path / "RAN")}
    if form == "pickle":
        path.write_bytes(pickle.dumps(evil))
    elif form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("../../evil.py", "raise SystemExit")
            archive.writestr("archive/data.pkl", pickle.dumps(evil))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(BadInput):
        READERS[reader](path)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_compressed_archive_of_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/constants.pkl", b"")
        archive.writestr("w/data.pkl", b"\x80\x02]." + bytes(100_000_000))
    assert path.stat().st_size < 200_000
    with pytest.raises(pickle.UnpicklingError, match="compressed"):
        torchscript_reader.read_tensors(path)


def test_a_vocabulary_is_read_as_far_as_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bpe.txt.gz"
    path.write_bytes(gzip.compress(b"a b\n" * 25_000_000, 9))
    read: list[int] = []
    opened = gzip.open

    def counting(*arguments: object, **options: object) -> object:
        stream = opened(*arguments, **options)  # type: ignore[call-overload]
        inner = stream.read
        stream.read = lambda *size: read.append(len(text := inner(*size))) or text
        return stream

    monkeypatch.setattr(gzip, "open", counting)
    assert len(clip_text._read_merges(path)) == clip_text._MERGES
    assert sum(read) <= 10_000_000
