from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mimix_core.errors import MissingModel
from mimix_core.settings import CutoutSettings
from mimix_core.settings.segmenter_settings import Sam2Settings
from mimix_core.stages.cutouts import matting
from mimix_core.stages.cutouts.backends.grabcut import GrabCutSegmenter
from mimix_core.stages.cutouts.backends.selfie import SelfieSegmenter
from mimix_core.stages.cutouts.locate import Box, BoxTrack
from mimix_core.stages.cutouts.segmenter_factory import create_segmenter
from tests.paths import DEMO, ROOT

FRAMES, HEIGHT, WIDTH = 8, 120, 208


def moving_disc() -> tuple[NDArray[np.uint8], NDArray[np.bool_], list[Box | None]]:
    """Render an orange disc moving over noisy green; return frames, true masks and boxes."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    frames, masks, boxes = [], [], []
    for n in range(FRAMES):
        cx, cy, r = 60 + 6 * n, 62, 30
        mask = (x - cx) ** 2 + (y - cy) ** 2 < r**2
        ground = np.array([40, 120, 60]) + rng.integers(-20, 20, (HEIGHT, WIDTH, 1))
        figure = np.array([220, 130, 40]) + rng.integers(-20, 20, (HEIGHT, WIDTH, 1))
        frames.append(np.where(mask[..., None], figure, ground).astype(np.uint8))
        masks.append(mask)
        boxes.append((cx - r - 3.0, cy - r - 3.0, cx + r + 3.0, cy + r + 3.0))
    return np.stack(frames), np.stack(masks), list(boxes)


def at(boxes: list[Box | None]) -> dict[str, BoxTrack]:
    return {"Figure": BoxTrack(boxes, [0.0 if box is None else 1.0 for box in boxes])}


def iou(alpha: NDArray[np.uint8], truth: NDArray[np.bool_]) -> float:
    mask = alpha >= 128
    return float((mask & truth).sum() / (mask | truth).sum())


def test_grabcut_segments_a_figure_of_distinct_color() -> None:
    frames, truth, boxes = moving_disc()
    found = GrabCutSegmenter().segment(frames, at(boxes))["Figure"]
    alphas = found.alpha_NHW
    assert min(found.scores) > 0.7
    assert alphas.shape == truth.shape
    assert alphas.dtype == np.uint8
    for alpha, mask in zip(alphas, truth, strict=True):
        assert iou(alpha, mask) > 0.97


def test_the_same_frames_give_the_same_alphas() -> None:
    frames, _, boxes = moving_disc()
    first = GrabCutSegmenter().segment(frames, at(boxes))["Figure"]
    cv2.setRNGSeed(12345)
    second = GrabCutSegmenter().segment(frames, at(boxes))["Figure"]
    assert np.array_equal(first.alpha_NHW, second.alpha_NHW)
    assert first.scores == second.scores


def test_a_frame_without_a_box_has_no_mask() -> None:
    frames, truth, boxes = moving_disc()
    boxes[3] = None
    found = GrabCutSegmenter().segment(frames, at(boxes))["Figure"]
    alphas = found.alpha_NHW
    assert not alphas[3].any()
    assert found.scores[3] == 0
    assert iou(alphas[4], truth[4]) > 0.9


def test_nothing_outside_the_box_is_segmented() -> None:
    frames, _, boxes = moving_disc()
    frames[:, 10:50, 150:200] = (220, 130, 40)  # the same colour elsewhere
    alphas = GrabCutSegmenter().segment(frames, at(boxes))["Figure"].alpha_NHW
    assert not alphas[:, 10:50, 160:200].any()


def test_the_alpha_edge_follows_the_image() -> None:
    full = np.full((80, 80, 3), 30, np.uint8)
    full[:, 41:] = 220
    small = cv2.resize(full, (40, 40), interpolation=cv2.INTER_AREA)
    mask = np.zeros((40, 40), np.uint8)
    mask[:, 19:] = 1  # three pixels too far at full size
    alpha = matting.refine_edge(small, mask, full)
    assert alpha[:, :34].max() == 0
    assert alpha[:, 46:].min() == 1
    assert np.array_equal(alpha[10:70] >= 0.5, full[10:70, :, 0] == 220)


def test_specks_and_pinholes_are_removed_and_large_holes_stay() -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[5:45, 5:45] = 1
    mask[50:53, 50:53] = 1
    mask[10, 10] = 0
    mask[20:30, 20:30] = 0
    tidy = matting.remove_specks(mask)
    assert not tidy[50:53, 50:53].any()
    assert tidy[10, 10] == 1
    assert not tidy[20:30, 20:30].any()


def test_a_backend_without_weights_suggests_a_fix() -> None:
    with pytest.raises(MissingModel, match="grabcut"):
        create_segmenter(CutoutSettings(backend="selfie"), None)
    assert create_segmenter(CutoutSettings(backend="grabcut"), None).name == "grabcut"


def test_sam2_settings_do_not_affect_other_backends() -> None:
    small = Sam2Settings(model="small")
    for backend in ("selfie", "grabcut"):
        one = CutoutSettings.model_validate({"backend": backend, "sam2": small})
        assert one.effective() == CutoutSettings.model_validate({"backend": backend})
    used = CutoutSettings(backend="sam2", sam2=small)
    assert used.effective() == used


@pytest.fixture(scope="session")
def weights() -> Path:
    folder = DEMO / "models"
    subprocess.run([sys.executable, "demo/models.py", str(folder)], cwd=ROOT, check=True)
    return folder / "selfie_segmentation.tflite"


@pytest.mark.slow
def test_selfie_separates_a_person_from_the_background(weights: Path) -> None:
    portrait = cv2.cvtColor(cv2.imread(str(DEMO / "references" / "clara.png")), cv2.COLOR_BGR2RGB)
    height, width = portrait.shape[:2]
    frames = np.stack([portrait] * 3).astype(np.uint8)
    boxes: list[Box | None] = [(width * 0.05, 0.0, float(width), float(height))] * 3
    segmenter = SelfieSegmenter(weights)
    alphas = segmenter.segment(frames, at(boxes))["Figure"].alpha_NHW
    face = alphas[:, height // 3 : 2 * height // 3, 2 * width // 5 : 3 * width // 5]
    assert face.min() == 255
    assert alphas[:, : height // 8, : width // 12].max() == 0
    assert np.array_equal(alphas, segmenter.segment(frames, at(boxes))["Figure"].alpha_NHW)


def test_selfie_rejects_another_network(tmp_path: Path) -> None:
    (tmp_path / "other.tflite").write_bytes(b"not a network")
    with pytest.raises(MissingModel):
        SelfieSegmenter(tmp_path / "other.tflite")
