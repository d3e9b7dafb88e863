"""Masks made elsewhere: found at the right frames, in the right place, or refused with a reason."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mimix_core import tables
from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.stage import StageRun, run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.media.masks import read_masks
from mimix_core.settings import CutoutSettings
from mimix_core.stages.cutouts.backends.episode_masks import load_episode_masks, read_mask_names
from mimix_core.stages.cutouts.stage import STAGE, CutoutInputs, captioned_characters
from tests.factories import caption, clip, table_ref, video

NAMES = {"tom": "Tom", "the cat": "Tom", "jerry": "Jerry"}
FRAMES = 17
SETTINGS = CutoutSettings(backend="masks", min_area=0.001)
INDEX = {"rate": 16, "first": 100}


def mask(number: int) -> NDArray[np.uint8]:
    """Tom in the episode's frame ``number``: 128 x 96 pixels, a ring so that it has a hole."""
    alpha = np.zeros((96, 128), np.uint8)
    left = 20 + number
    alpha[40:80, left : left + 32] = 255
    alpha[56:64, left + 12 : left + 20] = 0
    return alpha


def png(image: NDArray[Any]) -> bytes:
    return bytes(cv2.imencode(".png", image)[1])


def write_zip(path: Path, entries: Mapping[str, bytes], index: object = INDEX) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        if index is not None:
            archive.writestr("pilot/masks.json", json.dumps(index))
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def tom_entries(**kinds: Any) -> dict[str, bytes]:
    return {f"pilot/the cat/roto.{100 + n:04}.png": png(mask(n)) for n in range(30)} | kinds


def run(store: Store, folder: Path, masks: Path | None, **row: Any) -> StageRun:
    """Cut Tom out of frames 8 to 24 of an episode; the clip's picture is his, four times over."""
    folder.mkdir(exist_ok=True)
    frames = np.full((FRAMES, 48, 64, 3), 60, np.uint8)
    for n in range(FRAMES):
        frames[n][cv2.resize(mask(n + 8), (64, 48), interpolation=cv2.INTER_AREA) > 127] = 200
    digest = video(folder / "in/clips/a.mp4", frames)
    times = {"start": 500, "source_pts": [500 + round(n * 62.5) for n in range(FRAMES)]}
    inputs = CutoutInputs(
        unit="pilot",
        roster=("Tom", "Jerry"),
        aliases={"the cat": "Tom"},
        clips=table_ref(
            folder / "in", tables.CLIPS, [clip("a", sha256=digest, frames=FRAMES, **times | row)]
        ),
        captions=(captions := table_ref(folder / "captions", tables.CAPTIONS, [caption("a")])),
        captioned=captioned_characters(captions),
        boxes=file_ref(write_boxes(folder)),
        masks=None if masks is None else file_ref(masks),
    )
    return run_stage(store, STAGE, inputs, SETTINGS)


def write_boxes(folder: Path) -> Path:
    path = folder / "boxes.yaml"
    lines = [
        f'  - {{time: "{n / 16}", character: Tom, box: '
        f"[{(20 + n) / 128}, {40 / 96}, {(52 + n) / 128}, {80 / 96}]}}"
        for n in range(30)
    ]
    path.write_text("boxes:\n" + "\n".join(lines) + "\n")
    return path


def only_row(made: StageRun) -> dict[str, Any]:
    (row,) = tables.read(made.ref.path, tables.CUTOUTS)
    return row


def test_each_frame_of_a_clip_has_the_mask_of_its_own_source_frame(
    store: Store, tmp_path: Path
) -> None:
    made = run(store, tmp_path / "x", write_zip(tmp_path / "a.zip", tom_entries()))
    row = only_row(made)
    assert (row["status"], row["backend"], row["detail"]) == ("ok", "masks", None)
    alphas = read_masks(made.ref.folder / row["file"])
    for n in range(FRAMES):
        whole = cv2.resize(mask(n + 8), (64, 48), interpolation=cv2.INTER_AREA)
        assert np.array_equal(alphas[n], whole)  # also its hole, which looks like what is around
    assert row["score"] == [1.0] * FRAMES


def test_masks_are_cropped_as_the_clip_is(store: Store, tmp_path: Path) -> None:
    made = run(
        store,
        tmp_path / "x",
        write_zip(tmp_path / "a.zip", tom_entries()),
        crop=[16, 40, 64, 48],
    )
    alphas = read_masks(made.ref.folder / only_row(made)["file"])
    assert np.array_equal(alphas[5], mask(13)[40:88, 16:80])


def test_a_changed_masks_file_is_another_key(store: Store, tmp_path: Path) -> None:
    one = run(store, tmp_path / "x", write_zip(tmp_path / "a.zip", tom_entries()))
    other = tom_entries() | {"pilot/the cat/roto.0110.png": png(mask(0))}
    two = run(store, tmp_path / "x", write_zip(tmp_path / "a.zip", other))
    assert one.ref.key != two.ref.key


def test_gray_of_16_bits_and_alpha_channels_are_read(store: Store, tmp_path: Path) -> None:
    wide = {n: mask(n).astype(np.uint16) * 257 for n in range(30)}
    entries = {f"Tom/{100 + n}.png": png(wide[n]) for n in range(15)}
    for n in range(15, 30):
        picture = np.full((96, 128, 4), 90, np.uint8)
        picture[:, :, 3] = mask(n)
        entries[f"Tom/{100 + n}.png"] = png(picture)
    made = run(store, tmp_path / "x", write_zip(tmp_path / "a.zip", entries))
    plain = run(store, tmp_path / "x", write_zip(tmp_path / "b.zip", tom_entries()))
    assert np.array_equal(
        *(read_masks(one.ref.folder / only_row(one)["file"]) for one in (made, plain))
    )


@pytest.mark.parametrize(
    ("entries", "index", "message"),
    [
        ({"Tom/0100.png": b""}, None, "0 files masks.json"),
        ({"Tom/0100.png": b""}, {"rate": "fast"}, "key rate.*frame rate"),
        ({"Tom/0100.png": b""}, {"first": 1}, "key rate"),
        ({}, INDEX, "no image"),
        ({"Spike/0100.png": b""}, INDEX, "no character 'Spike'"),
        ({"Tom/x.png": b""}, INDEX, "CHARACTER/NUMBER.png"),
        ({"Tom/0100.tif": b""}, INDEX, "CHARACTER/NUMBER.png"),
        ({"Tom/0099.png": b""}, INDEX, "before the first frame"),
        ({"Tom/0100.png": b"", "the cat/0100.png": b""}, INDEX, "both frame 100 of Tom"),
    ],
)
def test_a_masks_file_that_cannot_be_meant_is_refused(
    tmp_path: Path, entries: dict[str, bytes], index: object, message: str
) -> None:
    path = write_zip(tmp_path / "a.zip", entries, index)
    with pytest.raises(BadInput, match=message) as caught:
        load_episode_masks(file_ref(path), NAMES)
    assert str(path) in str(caught.value)


def test_what_is_no_zip_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"not a zip")
    with pytest.raises(BadInput, match="not readable as a zip file"):
        load_episode_masks(file_ref(path), NAMES)


def test_files_that_macos_adds_do_not_count(tmp_path: Path) -> None:
    extra = {"__MACOSX/pilot/the cat/._roto.0100.png": b"", "pilot/.DS_Store": b""}
    path = write_zip(tmp_path / "a.zip", tom_entries() | extra)
    assert read_mask_names(file_ref(path), NAMES) == {"the cat": "Tom"}


@pytest.mark.parametrize(
    ("entries", "index", "message"),
    [
        ({"Tom/0110.png": b"nothing, but long enough for a header"}, INDEX, "is not a PNG image"),
        ({"Tom/0110.png": png(mask(0)[::2])}, INDEX, "128x48 pixels, not the 128x96"),
        ({"Tom/0110.png": png(mask(0)) + bytes(2**21)}, INDEX, "longer than any image of its size"),
        ({"Tom/0110.png": png(mask(0))[:200]}, INDEX, "broken"),
        (
            {"Tom/0110.png": png(np.dstack([mask(0), mask(0), mask(9)]))},
            INDEX,
            "neither gray nor has an alpha",
        ),
        ({"Tom/0110.png": png(mask(0))}, {"rate": 25, "first": 100}, "rate is not that of"),
        (None, None, "the episode has no masks file"),
    ],
)
def test_what_cannot_be_used_for_a_clip_fails_its_row(
    store: Store,
    tmp_path: Path,
    entries: dict[str, bytes] | None,
    index: object,
    message: str,
) -> None:
    path = None if entries is None else write_zip(tmp_path / "a.zip", entries, index)
    row = only_row(run(store, tmp_path / "x", path))
    assert (row["status"], row["reason"]) == ("failed", "segment_failed")
    assert message in row["detail"]


def test_a_character_without_images_has_no_mask(store: Store, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"Jerry/0110.png": png(mask(0))})
    row = only_row(run(store, tmp_path / "x", path))
    assert (row["status"], row["reason"]) == ("rejected", "mask_absent")
