"""Backend ``masks``: masks that were made elsewhere (rotoscoped, or rendered with the footage).

An episode's masks file is a zip of gray PNG images, one folder a character, and ``masks.json``::

    masks.json          {"rate": "24000/1001", "first": 0}
    Tom/0000.png        Tom in the episode's first frame
    Tom/0001.png
    Jerry/tom_0001.png  the last digits of a name are the number of the frame

``rate`` is the episode's number of frames per second, ``first`` the number of its first frame. A
frame without an image shows nothing of the character.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, ValidationError

from mimix_core.domain.sidecar_index import MASKS_ENDINGS
from mimix_core.engine.artifacts import FileRef, FrozenModel
from mimix_core.errors import BadInput
from mimix_core.media.opencv_threads import opencv_single_thread
from mimix_core.stages.cutouts.locate import clip_content_rect
from mimix_core.stages.cutouts.locate.box_annotations import source_frame_times
from mimix_core.stages.cutouts.segmenter import CharacterMatte, LocatedClip
from mimix_core.tables import ClipRow

Image = NDArray[np.uint8]

_INDEX = "masks.json"
_MAX_INDEX_BYTES = 10_000
_MAX_EXTRA_BYTES = 2**20
"""Length of an image beyond its pixels, which have at most four values of 16 bits."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = struct.Struct(">8s4x4sII")
_MAX_DEVIATION = Fraction(1, 4)
"""How far, in frames, the time of a frame may be from that of its number."""

_FIX = "docs/scripts-and-boxes.md shows what a masks file contains."


def _parse_rate(value: object) -> Fraction:
    if isinstance(value, str | int) and not isinstance(value, bool):
        try:
            rate = Fraction(value)
        except (ValueError, ZeroDivisionError):
            rate = Fraction(0)
        if 0 < rate <= 1000:
            return rate
    raise ValueError(f'{value!r} is not a frame rate such as 25 or "24000/1001"')


class MasksIndex(FrozenModel):
    """The file ``masks.json``: frames per second, and the number of the episode's first frame."""

    rate: Annotated[Fraction, BeforeValidator(_parse_rate)]
    first: int = Field(0, ge=0)


@dataclass(frozen=True)
class EpisodeMasks:
    """The content of a masks file: for each roster name, the image of each frame number."""

    path: Path
    index: MasksIndex
    images: Mapping[str, Mapping[int, str]]


def load_episode_masks(file: FileRef | None, names: Mapping[str, str]) -> EpisodeMasks | None:
    """List a masks file and check its names; None for None. Images are read when needed.

    ``names``: the roster name for each casefolded name and alias. Raises BadInput.
    """
    if file is None:
        return None
    where = str(file.path)
    images: dict[str, dict[int, str]] = {}
    try:
        with zipfile.ZipFile(file.path) as archive:
            index = _read_index(archive, where)
            for entry in archive.infolist():
                path = PurePosixPath(entry.filename)
                if entry.is_dir() or _is_hidden(path) or path.name == _INDEX:
                    continue
                name, number = _parse_entry(path, names, where)
                if number < index.first:
                    raise BadInput(
                        f"{path} comes before the first frame, which has the number {index.first}",
                        where=where,
                        fix=f"Correct first in {_INDEX}, or leave the image out.",
                    )
                earlier = images.setdefault(name, {}).setdefault(number, entry.filename)
                if earlier != entry.filename:
                    raise BadInput(
                        f"{earlier} and {entry.filename} are both frame {number} of {name}",
                        where=where,
                    )
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise BadInput(f"not readable as a zip file ({error})", where=where, fix=_FIX) from error
    if not images:
        raise BadInput("contains no image", where=where, fix=_FIX)
    return EpisodeMasks(file.path, index, images)


def read_mask_names(file: FileRef | None, names: Mapping[str, str]) -> dict[str, str]:
    """Map the name of each folder of a masks file to its roster name. Raises BadInput."""
    masks = load_episode_masks(file, names)
    if masks is None:
        return {}
    return {
        PurePosixPath(next(iter(images.values()))).parent.name: name
        for name, images in masks.images.items()
    }


class EpisodeMaskSegmenter:
    """Take the masks of an episode's masks file, cropped and resized as its clips are.

    An alpha is the image's, and the score is 1 in frames with any. Without a masks file, and for
    an image that cannot be used, it raises ValueError, which fails the clip's rows.
    """

    name = "masks"
    batch_size = 1

    def __init__(self, masks: EpisodeMasks | None) -> None:
        self._masks = masks

    def segment_batch(self, clips: Sequence[LocatedClip]) -> list[dict[str, CharacterMatte]]:
        masks = self._masks
        if masks is None:
            raise ValueError(
                "the episode has no masks file (library.yaml names none, and next to the video "
                f"there is none of its name with {' or '.join(MASKS_ENDINGS)})"
            )
        with opencv_single_thread(), zipfile.ZipFile(masks.path) as archive:
            return [
                {name: _read_matte(archive, masks, name, clip.row) for name in clip.tracks}
                for clip in clips
            ]


def _read_index(archive: zipfile.ZipFile, where: str) -> MasksIndex:
    found = [
        entry
        for entry in archive.infolist()
        if PurePosixPath(entry.filename).name == _INDEX
        and not _is_hidden(PurePosixPath(entry.filename))
    ]
    if len(found) != 1 or found[0].file_size > _MAX_INDEX_BYTES:
        problem = f"contains {len(found)} files {_INDEX}" if len(found) != 1 else "is too long"
        raise BadInput(f"{problem}; one short one is required", where=where, fix=_FIX)
    try:
        return MasksIndex.model_validate_json(archive.read(found[0]))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BadInput(
            f"{_INDEX}{', key ' + key if key else ''}: {first['msg']}", where=where, fix=_FIX
        ) from error
    except (RuntimeError, zlib.error) as error:
        raise BadInput(f"{_INDEX} cannot be read ({error})", where=where, fix=_FIX) from error


def _is_hidden(path: PurePosixPath) -> bool:
    """Return whether an entry is not the user's own: macOS adds such files to archives."""
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _parse_entry(path: PurePosixPath, names: Mapping[str, str], where: str) -> tuple[str, int]:
    """Return the roster name and the frame number of an image."""
    numbers = re.findall(r"[0-9]+", path.stem)
    if path.suffix.lower() != ".png" or not path.parent.name or not numbers:
        raise BadInput(
            f"{path} is not CHARACTER/NUMBER.png, one image of a character", where=where, fix=_FIX
        )
    name = names.get(path.parent.name.casefold())
    if name is None:
        raise BadInput(
            f"{path}: this show has no character {path.parent.name!r}",
            where=where,
            fix=f"Known: {', '.join(sorted(set(names.values())))}.",
        )
    return name, int(numbers[-1])


def _read_matte(
    archive: zipfile.ZipFile, masks: EpisodeMasks, name: str, clip: ClipRow
) -> CharacterMatte:
    images = masks.images.get(name, {})
    alpha_NHW = np.zeros((len(clip["source_pts"]), clip["height"], clip["width"]), np.uint8)
    read: dict[str, Image] = {}
    for frame, number in enumerate(_frame_numbers(masks, clip)):
        entry = images.get(number)
        if entry is None:
            continue
        if entry not in read:
            size = (clip["source_width"], clip["source_height"])
            read = {entry: _fit_to_clip(_read_image(archive, entry, size), clip)}
        alpha_NHW[frame] = read[entry]
    scores = alpha_NHW.any(axis=(1, 2)).astype(float).tolist()
    return CharacterMatte(alpha_NHW, scores)


def _frame_numbers(masks: EpisodeMasks, clip: ClipRow) -> list[int]:
    """Return the number, in the masks file, of the source frame of each frame of a clip."""
    rate = masks.index.rate
    numbers = []
    for time in source_frame_times(clip):
        number = round(time * rate)
        if abs(time * rate - number) > _MAX_DEVIATION:
            raise ValueError(
                f"{masks.path.name}: with {rate} frames per second ({_INDEX}), the frame at "
                f"{float(time):.3f} s would have the number {float(time * rate):.2f}: the rate is "
                "not that of the episode, or the episode's rate varies"
            )
        numbers.append(number + masks.index.first)
    return numbers


def _read_image(archive: zipfile.ZipFile, entry: str, size: tuple[int, int]) -> Image:
    """Read an image as alphas, uint8 [height, width]; ``size``: the width and height it must have.

    Raises ValueError. The size is checked before the image is decoded.
    """
    try:
        with archive.open(entry) as stream:
            header = stream.read(_PNG_HEADER.size)
            if len(header) < _PNG_HEADER.size or not header.startswith(_PNG_SIGNATURE):
                raise ValueError(f"{entry} is not a PNG image")
            found = _PNG_HEADER.unpack(header)[2:]
            if found != size:
                raise ValueError(
                    f"{entry} has {found[0]}x{found[1]} pixels, not the {size[0]}x{size[1]} of the "
                    "episode as displayed"
                )
            limit = 8 * size[0] * size[1] + _MAX_EXTRA_BYTES
            content = header + stream.read(limit + 1)
            if len(content) > limit:
                raise ValueError(f"{entry} is longer than any image of its size")
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{entry} cannot be read from the masks file ({error})") from error
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f"{entry} is a broken PNG image")
    if image.ndim == 3 and image.shape[2] == 4:
        image = image[:, :, 3]
    elif image.ndim == 3:
        if (image != image[:, :, :1]).any():
            raise ValueError(f"{entry} is neither gray nor has an alpha channel")
        image = image[:, :, 0]
    alphas = image if image.dtype == np.uint8 else (image.astype(np.uint32) + 128) // 257
    return np.ascontiguousarray(alphas, dtype=np.uint8)


def _fit_to_clip(alpha_HW: Image, clip: ClipRow) -> Image:
    """Crop and resize a mask of the source as the frames of a clip were."""
    x, y, width, height = clip["crop"]
    content = clip_content_rect(clip)
    part = alpha_HW[y : y + height, x : x + width]
    if part.shape != (content.height, content.width):
        smaller = content.width < width or content.height < height
        method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        part = np.asarray(
            cv2.resize(part, (content.width, content.height), interpolation=method), np.uint8
        )
    fitted = np.zeros((clip["height"], clip["width"]), np.uint8)
    rows = slice(content.y, content.y + content.height)
    fitted[rows, content.x : content.x + content.width] = part
    return fitted
