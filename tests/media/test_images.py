"""Reference images come from anywhere: only plain formats of a sensible size are decoded."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimix_core.errors import BadInput
from mimix_core.media.images import GRAY, load_reference_image


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width: int, height: int) -> bytes:
    """A small PNG file whose header declares a huge image."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1 + (width + 7) // 8) * 64)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 64 64
%%EndComments
(/tmp/mimix-eps-ran) (w) file closefile
showpage
%%EOF
"""


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("bomb.png", png_bomb(100_000, 100_000), "pixels|bomb"),
        ("large.png", png_bomb(9_000, 8_000), "9000x8000 pixels, the limit is 64 million"),
        ("script.eps", EPS, "supported format"),
        ("script.png", EPS, "supported format"),
        ("text.png", b"not an image", "supported format"),
        ("empty.png", b"", "supported format"),
        ("cut.png", png_bomb(64, 64)[:50], "is not a readable image|supported format"),
    ],
)
def test_what_is_not_a_plain_image_is_refused(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInput, match=words) as caught:
        load_reference_image(path, GRAY)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff", "gif"])
def test_plain_formats_are_read(tmp_path: Path, suffix: str) -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 200
    path = tmp_path / f"tom.{suffix}"
    Image.fromarray(image).save(path)
    loaded = load_reference_image(path, GRAY)
    assert loaded.shape == (40, 60, 3)
    assert abs(int(loaded[20, 50, 0]) - 200) < 10
