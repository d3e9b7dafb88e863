"""Mask storage for cutouts: one Parquet file with an 8-bit gray PNG per frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mimix_core.errors import BadInput
from mimix_core.tables import MASKS

AlphaFrames = NDArray[np.uint8]


def write_masks(path: Path, alpha_NHW: AlphaFrames) -> None:
    """Write alphas, uint8 [frames, height, width]; the same alphas give the same bytes."""
    pngs = []
    for frame, alpha in enumerate(alpha_NHW):
        written, png = cv2.imencode(".png", alpha, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        if not written:
            raise ValueError(f"{path.name}: frame {frame} cannot be encoded as PNG")
        pngs.append(png.tobytes())
    frames = pa.array(range(len(pngs)), pa.int32())
    table = pa.Table.from_arrays([frames, pa.array(pngs, pa.binary())], schema=MASKS)
    pq.write_table(table, path, compression="none")


def read_masks(path: Path, frames: Sequence[int] | None = None) -> AlphaFrames:
    """Read the alphas of all frames or of some, uint8 [frames, height, width]. Raises BadInput."""
    try:
        table = pq.read_table(path, schema=MASKS).sort_by("frame")
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(f"is not a readable masks file ({error})", where=path.name) from error
    if frames is not None:
        if not 0 <= min(frames) <= max(frames) < len(table):
            raise BadInput(f"has {len(table)} frames, not {max(frames) + 1}", where=path.name)
        table = table.take(list(frames))
    alphas = []
    for png in table.column("alpha_png").to_pylist():
        alpha = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
        if alpha is None:
            raise BadInput("contains a broken PNG", where=path.name)
        alphas.append(alpha)
    if not alphas:
        raise BadInput("contains no frames", where=path.name)
    return np.stack(alphas).astype(np.uint8)
