"""The locators that ask nobody, on clips of the demo's footage, against masks drawn by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mimix_core.domain.library import load_library
from mimix_core.domain.timeline import grid_times, preceding_frame_indices
from mimix_core.engine.artifacts import file_ref
from mimix_core.media import ClipWriter, CropResize, FrameResizer, Rect, open_video
from mimix_core.settings.locator_settings import EmbeddingLocatorSettings, FaceLocatorSettings
from mimix_core.stages.cutouts.locate import (
    BoxTrack,
    CharacterReference,
    EmbeddingLocatorInputs,
    FaceLocatorInputs,
    Locator,
)
from mimix_core.stages.cutouts.locate.box_track import Box, box_iou
from mimix_core.stages.cutouts.locate.embedding_locator import EmbeddingLocator
from mimix_core.stages.cutouts.locate.face_encoder import face_model_paths, face_models_installed
from mimix_core.stages.cutouts.locate.face_locator import FaceLocator
from mimix_core.stages.cutouts.stage import MIN_LOCATED_SHARE
from tests.factories import clip
from tests.paths import DEMO
from tests.stages.cutouts.manual_masks import ManualMasks, Mask, load_manual_masks

pytestmark = pytest.mark.e2e


def cast(style: str) -> tuple[CharacterReference, ...]:
    show = next(s for s in load_library(DEMO / "library.yaml").shows if s.style == style)
    return tuple(
        CharacterReference(
            name=one.name, references=tuple(file_ref(path) for path in one.references)
        )
        for one in show.characters
    )


def made(one: ManualMasks, folder: Path) -> None:
    """The clip of a drawn file, cut again out of the demo's footage."""
    with open_video(DEMO / "footage" / "episodes" / f"{one.episode}.mp4") as source:
        frames = list(source.frames())
        pts = [frame.pts for frame in frames]
        start = pts[0] * source.info.time_base + one.start
        x, y, width, height = one.crop
        shaper = FrameResizer(
            source.info, CropResize(Rect(x, y, width, height), 832, 480, 832, 480)
        )
        (folder / "clips").mkdir()
        numbers = preceding_frame_indices(pts, source.info.time_base, grid_times(start))
        with ClipWriter(folder / "clips" / "a.mp4", 832, 480, crf=16, preset="fast") as writer:
            for number in numbers:
                writer.write_rgb(shaper(frames[number]).to_ndarray(format="rgb24"))


def box_of(mask: Mask) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def located(locator: Locator, names: list[str]) -> dict[str, BoxTrack]:
    return locator.locate(clip("a", width=832, height=480), names)


def agree(one: ManualMasks, found: BoxTrack, least: float) -> None:
    for frame, mask in one.masks.items():
        box = found.boxes[frame]
        assert box is not None, (one.clip_id, frame)
        assert box_iou(box, box_of(mask)) > least, (one.clip_id, frame, box)


@pytest.mark.skipif(not face_models_installed(), reason="dlib-bin and its models are not installed")
def test_clara_is_found_crying_behind_her_hand(tmp_path: Path) -> None:
    one = next(d for d in load_manual_masks() if d.episode == "portrait-tears")
    made(one, tmp_path)
    landmarks, network = (file_ref(path) for path in face_model_paths())
    inputs = FaceLocatorInputs(
        characters=cast("realistic"),
        settings=FaceLocatorSettings(),
        landmarks=landmarks,
        network=network,
    )
    agree(one, located(FaceLocator(inputs, tmp_path), ["Clara"])["Clara"], 0.75)


def test_bunny_is_found_in_the_meadow_and_no_one_else_is_cut_out(tmp_path: Path) -> None:
    one = next(d for d in load_manual_masks() if d.episode == "bbb-meadow")
    made(one, tmp_path)
    inputs = EmbeddingLocatorInputs(characters=cast("cartoon"), settings=EmbeddingLocatorSettings())
    names = [known.name for known in inputs.characters]
    found = located(EmbeddingLocator(inputs, tmp_path), names)
    agree(one, found["Bunny"], 0.6)
    # In a few frames somebody absent is seen in a part of Bunny; too few for a cutout.
    shares = {
        name: sum(box is not None for box in found[name].boxes) / 81
        for name in ("Frank", "Rinky", "Gamera")
    }
    assert max(shares.values()) < MIN_LOCATED_SHARE / 2, shares
