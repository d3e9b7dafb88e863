from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from mimix_core import tables
from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.settings import CutoutSettings
from mimix_core.settings.locator_settings import Sam3LocatorSettings
from mimix_core.settings.segmenter_settings import Sam3Settings
from mimix_core.stages.cutouts.locate import (
    LOCATIONS_FILE,
    BoxTrack,
    CharacterReference,
    Sam3LocatorInputs,
    load_locations,
)
from mimix_core.stages.cutouts.sam2.preprocess import plan_padded_resize
from mimix_core.stages.cutouts.sam2.visual_prompts import NEGATIVE_POINT, VisualPrompt
from mimix_core.stages.cutouts.sam3.sam3_segmenter import (
    Sam3Segmenter,
    create_sam3_segmenter,
    track_boxes,
)
from mimix_core.stages.cutouts.stage import STAGE, CutoutInputs, captioned_characters
from tests.factories import caption, clip, table_ref, video
from tests.stages.cutouts.moving_figures import moving_figures
from tests.stages.cutouts.tiny_sam3 import IMAGE_SIZE, save_tiny_sam3

SETTINGS = Sam3Settings(precision="fp32", device="cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sam3(tmp_path_factory.mktemp("tiny-random-sam3"))


def segmenter(weights: Path, *, sees: bool = False, **settings: Any) -> Sam3Segmenter:
    """Random weights; ``sees``: that take every character for present, with clear outlines."""
    made = create_sam3_segmenter(SETTINGS.model_copy(update=settings), weights)
    if sees:
        with torch.no_grad():
            made.model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(20.0)
            made.model.mask_decoder.upscale_conv2.weight.mul_(1e5)
    return made


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_character_gets_alphas_and_scores_and_no_pixel_has_two(
    weights: Path, precision: str
) -> None:
    pictures, located = moving_figures(8, 48, 80)
    located["Nobody"] = BoxTrack([None] * 8, [0.0] * 8)
    found = segmenter(weights, sees=True, precision=precision).segment(pictures, located)
    assert list(found) == ["Red", "Blue", "Nobody"]
    assert not found["Nobody"].alpha_NHW.any()
    assert found["Nobody"].scores == [0.0] * 8
    for segmented in found.values():
        assert segmented.alpha_NHW.shape == pictures.shape[:3]
        assert segmented.alpha_NHW.dtype == np.uint8
        assert len(segmented.scores) == len(pictures)
        assert all(0 <= score <= 1 for score in segmented.scores)
    assert max(found["Red"].scores) > 0
    total = sum(each.alpha_NHW.astype(int) for each in found.values())
    assert 128 <= int(total.max()) <= 255


def test_the_same_frames_give_the_same_alphas(weights: Path) -> None:
    pictures, located = moving_figures(6, 48, 80)
    first, second = (segmenter(weights, sees=True).segment(pictures, located) for _ in range(2))
    for name in located:
        assert np.array_equal(first[name].alpha_NHW, second[name].alpha_NHW)
        assert first[name].scores == second[name].scores


def test_shared_features_leave_each_character_as_alone(weights: Path) -> None:
    """Every frame has masks, whether before or after the prompt's, and prompts matter."""
    pictures, _ = moving_figures(7, 48, 80)
    model = segmenter(weights, sees=True).model
    resize = plan_padded_resize(48, 80, 0.05, IMAGE_SIZE)
    prompts = [
        VisualPrompt(3, (12.0, 10.0, 30.0, 40.0)),
        VisualPrompt(5, (50.0, 10.0, 70.0, 40.0), ((60.0, 20.0, NEGATIVE_POINT),)),
        VisualPrompt(0, (2.0, 2.0, 70.0, 40.0)),
    ]
    together = track_boxes(model, pictures, prompts, resize)
    for prompt, tracked in zip(prompts, together, strict=True):
        (alone,) = track_boxes(model, pictures, [prompt], resize)
        assert torch.equal(tracked.logits_Nhw, alone.logits_Nhw)
        assert tracked.logits_Nhw.shape == (7, 32, 32)
        assert tracked.present_N.tolist() == pytest.approx([1.0] * 7)
        assert torch.isfinite(tracked.logits_Nhw).all()
        # No two frames are the same: none was left out and filled with another.
        flat = tracked.logits_Nhw.flatten(1)
        assert torch.cdist(flat, flat).fill_diagonal_(1).min() > 0
    assert not torch.equal(together[0].logits_Nhw, together[1].logits_Nhw)


def test_random_weights_run_through_the_stage(weights: Path, tmp_path: Path, store: Store) -> None:
    """Locator and segmenter from one folder: tracks become rows and boxes, or nobody."""
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 256, (1, 96, 160, 3)), 20, axis=0).astype(np.uint8)
    row = clip(
        "a", sha256=video(tmp_path / "in/clips/a.mp4", frames), width=160, height=96, frames=20
    )
    # Random weights are sure of nothing: take all that they detect, for whoever is nearest.
    eager = tmp_path / "eager"
    eager.mkdir()
    for file in weights.iterdir():
        (eager / file.name).write_bytes(file.read_bytes())
    config = (eager / "config.json").read_text()
    for threshold in ('"score_threshold_detection": 0.5', '"new_det_thresh": 0.7'):
        assert threshold in config
        config = config.replace(threshold, f"{threshold.rsplit(' ', 1)[0]} 0.0")
    (eager / "config.json").write_text(config)
    captions = table_ref(tmp_path / "captions", tables.CAPTIONS, [caption("a")])
    cv2.imwrite(str(tmp_path / "tom.png"), frames[0])
    reference = file_ref(tmp_path / "tom.png")

    def run(folder: Path) -> tuple[dict[str, Any], list[Any]]:
        locator = Sam3LocatorInputs(
            characters=(CharacterReference(name="Tom", noun="cat", references=(reference,)),),
            settings=Sam3LocatorSettings(
                frame_stride=4, min_similarity=0.001, precision="fp32", device="cpu"
            ),
            weights=file_ref(folder),
        )
        inputs = CutoutInputs(
            unit="pilot",
            roster=("Tom",),
            clips=table_ref(tmp_path / "in", tables.CLIPS, [row]),
            captions=captions,
            captioned=captioned_characters(captions),
            locator=locator,
            weights=file_ref(folder),
        )
        made = run_stage(store, STAGE, inputs, CutoutSettings(backend="sam3", sam3=SETTINGS))
        (found,) = tables.read(made.ref.path, tables.CUTOUTS)
        return dict(found), list(load_locations(made.ref.folder / LOCATIONS_FILE))

    found, boxes = run(weights)
    assert (found["locator"], found["backend"]) == ("sam3/efficientnet-lite0", "sam3")
    assert (found["status"], found["reason"]) == ("rejected", "not_located")
    assert "0 figures found as 'cat'" in found["detail"]
    assert boxes == []
    found, boxes = run(eager)
    assert found["status"] == "rejected", found["detail"]
    assert {one["character"] for one in boxes} == {"Tom"}, found["detail"]
    assert all(0 <= one["x0"] < one["x1"] <= 160 and 0 < one["score"] <= 1 for one in boxes)
