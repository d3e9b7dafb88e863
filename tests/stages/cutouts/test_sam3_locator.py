"""The locator sam3: figures by their nouns, and who they are by the character bank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from mimix_core.characters.bank import Floats, encode_exemplar
from mimix_core.engine.artifacts import file_ref
from mimix_core.networks.efficientnet import load_network
from mimix_core.settings.locator_settings import Sam3LocatorSettings
from mimix_core.stages.cutouts.locate import Box, CharacterReference, Sam3LocatorInputs
from mimix_core.stages.cutouts.locate.box_track import BoxDetection, box_iou
from mimix_core.stages.cutouts.sam3.concept_tracks import (
    ConceptTrack,
    ConceptTracker,
    mask_box,
    square_frames,
)
from mimix_core.stages.cutouts.sam3.sam3_locator import Sam3Locator, create_sam3_locator
from mimix_core.stages.cutouts.sam3.track_naming import (
    NamedTrack,
    TrackNaming,
    join_tracks,
)
from tests.factories import clip, video
from tests.paths import DEMO
from tests.stages.cutouts.tiny_sam3 import save_tiny_sam3

REFERENCES = DEMO / "references"
FRAMES, HEIGHT, WIDTH = 12, 240, 416


def picture(name: str, height: int) -> NDArray[np.uint8]:
    """A reference image as RGB, resized to a height."""
    image = cv2.cvtColor(cv2.imread(str(REFERENCES / name)), cv2.COLOR_BGR2RGB)
    width = round(image.shape[1] * height / image.shape[0])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)


def scene(folder: Path, shown: Mapping[str, int]) -> dict[str, dict[int, BoxDetection]]:
    """Write clip ``a``: pictures that move to the right over noise, from an x each; return boxes.

    ``shown``: by file of a reference image.
    """
    rng = np.random.default_rng(0)
    meadow = cv2.resize(rng.integers(60, 160, (15, 26, 3)).astype(np.uint8), (WIDTH, HEIGHT))
    frames = np.repeat(meadow[None], FRAMES, axis=0)
    boxes: dict[str, dict[int, BoxDetection]] = {}
    for name, left in shown.items():
        figure = picture(name, 160)
        high, wide = figure.shape[:2]
        for n in range(FRAMES):
            x = left + 3 * n
            frames[n, 60 : 60 + high, x : x + wide] = figure
            box: Box = (float(x), 60.0, float(x + wide), float(60 + high))
            boxes.setdefault(name, {})[n] = BoxDetection(box, 0.9)
    video(folder / "clips" / "a.mp4", frames)
    return boxes


ROW = clip("a", width=WIDTH, height=HEIGHT, frames=FRAMES)
NOUNS = {"Bunny": "rabbit", "Frank": "flying squirrel", "Gamera": "chinchilla"}


@dataclass
class PlantedTracker:
    """Find given tracks, in place of a network that would have to know what a rabbit is."""

    tracks: Sequence[ConceptTrack]
    asked: list[tuple[int, list[str]]] = field(default_factory=list)

    def track(self, frames_NHWC: NDArray[np.uint8], nouns: Sequence[str], /) -> list[ConceptTrack]:
        self.asked.append((len(frames_NHWC), list(nouns)))
        return [one for one in self.tracks if one.noun in nouns]


def characters(nouns: Mapping[str, str]) -> tuple[CharacterReference, ...]:
    """Characters with all their exemplars except those that ``scene`` shows."""
    return tuple(
        CharacterReference(
            name=name,
            noun=noun,
            references=tuple(file_ref(p) for p in sorted(REFERENCES.glob(f"{name.lower()}-*.jpg"))),
        )
        for name, noun in nouns.items()
    )


@cache
def encode(name: str) -> list[Floats]:
    (one,) = characters({name: ""})
    return [encode_exemplar(load_network(), file.path) for file in one.references]


def locator(
    folder: Path,
    *tracks: ConceptTrack,
    nouns: Mapping[str, str] = NOUNS,
    **settings: Any,
) -> tuple[Sam3Locator, PlantedTracker]:
    """The locator with the bank's exemplars and a tracker that finds the given tracks."""
    chosen = Sam3LocatorSettings(**settings)
    exemplars = {name: encode(name) for name in nouns}
    tracker = PlantedTracker(tracks)
    naming = TrackNaming(load_network(), exemplars, chosen)
    return Sam3Locator(tracker, naming, nouns, chosen, folder), tracker


def test_tracks_are_named_by_the_bank_or_are_nobody(tmp_path: Path) -> None:
    boxes = scene(tmp_path, {"bunny.png": 0, "frank.png": 105, "clara.png": 215})
    locating, tracker = locator(
        tmp_path,
        ConceptTrack("rabbit", boxes["bunny.png"]),
        ConceptTrack("flying squirrel", boxes["frank.png"]),
        # A woman whom the detector took for a chinchilla: nobody of the bank.
        ConceptTrack("chinchilla", boxes["clara.png"]),
    )
    found = locating.locate(ROW, ["Bunny", "Frank", "Gamera", "Tom"])
    assert tracker.asked == [(FRAMES, list(NOUNS.values()))]
    for name, file in (("Bunny", "bunny.png"), ("Frank", "frank.png")):
        assert found[name].boxes == [boxes[file][n].box for n in range(FRAMES)]
        assert set(found[name].scores) == {0.9}
        assert f"frames {name}" in found[name].evidence
    assert found["Gamera"].boxes == [None] * FRAMES
    assert "1 figure found as 'chinchilla'" in found["Gamera"].evidence
    assert "wanted" in found["Gamera"].evidence
    assert found["Tom"].evidence == "Tom has no reference image"


def test_one_noun_for_all_is_told_apart_by_the_bank_alone(tmp_path: Path) -> None:
    boxes = scene(tmp_path, {"bunny.png": 10, "gamera.png": 200})
    noun = "cartoon character"
    tracks = [ConceptTrack(noun, one) for one in boxes.values()]
    meadow = ConceptTrack(noun, {0: BoxDetection((0, 0, 60, 50), 1)})
    locating, _ = locator(tmp_path, *tracks, meadow, nouns=dict.fromkeys(NOUNS, noun))
    found = locating.locate(ROW, ["Bunny", "Frank", "Gamera"])
    assert found["Bunny"].boxes[5] == boxes["bunny.png"][5].box
    assert found["Gamera"].boxes[5] == boxes["gamera.png"][5].box
    assert found["Frank"].boxes == [None] * FRAMES


def test_a_look_under_another_noun_is_nobody(tmp_path: Path) -> None:
    boxes = scene(tmp_path, {"bunny.png": 10})
    locating, _ = locator(tmp_path, ConceptTrack("chinchilla", boxes["bunny.png"]))
    found = locating.locate(ROW, ["Bunny", "Gamera"])
    assert found["Bunny"].boxes == found["Gamera"].boxes == [None] * FRAMES
    assert "looks like Bunny, but was found as 'chinchilla'" in found["Gamera"].evidence


def test_a_track_that_switches_to_another_figure_has_no_majority(tmp_path: Path) -> None:
    """Identity switches are what SAM 3's tracker does wrong: the vote has to notice."""
    boxes = scene(tmp_path, {"bunny.png": 10, "frank.png": 200})
    switched = {n: boxes["bunny.png" if n < 6 else "frank.png"][n] for n in range(FRAMES)}
    nouns = dict.fromkeys(NOUNS, "animal")
    locating, _ = locator(tmp_path, ConceptTrack("animal", switched), nouns=nouns, min_votes=0.6)
    found = locating.locate(ROW, ["Bunny", "Frank"])
    assert found["Bunny"].boxes == found["Frank"].boxes == [None] * FRAMES
    assert "at least 60% wanted (cutouts.sam3_locator.min_votes)" in found["Bunny"].evidence


def test_between_strided_frames_boxes_are_interpolated(tmp_path: Path) -> None:
    boxes = scene(tmp_path, {"bunny.png": 10})["bunny.png"]
    # Frames 0, 4, 8 and 11 of the clip.
    track = ConceptTrack("rabbit", {i: boxes[n] for i, n in enumerate((0, 4, 8, 11))})
    locating, tracker = locator(tmp_path, track, frame_stride=4)
    found = locating.locate(ROW, ["Bunny"])["Bunny"]
    assert tracker.asked == [(4, ["rabbit"])]
    for n, box in enumerate(found.boxes):
        assert box == pytest.approx(boxes[n].box)


def test_two_tracks_of_one_character_are_one_figure_or_nobody() -> None:
    def named(boxes: Mapping[int, Box], similarity: float) -> NamedTrack:
        detections = {n: BoxDetection(box, similarity) for n, box in boxes.items()}
        return NamedTrack(ConceptTrack("cat", detections), "Tom", similarity, 8, 8)

    here, near, far = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 9.0), (30.0, 0.0, 40.0, 10.0)
    one = named({0: here, 1: here, 2: here}, 0.6)
    two = named({1: near, 2: far, 3: far}, 0.5)
    joined = join_tracks([two, one], range(4), 4, 24)
    assert joined.boxes == [here, here, None, far]
    assert joined.scores == [0.6, 0.6, 0.0, 0.5]


def test_an_unreadable_clip_gives_an_error(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"no video")
    found = locator(tmp_path)[0].locate(ROW, ["Bunny"])
    assert found["Bunny"].error
    assert found["Bunny"].boxes == [None] * FRAMES


def test_the_box_of_a_mask_leaves_out_specks() -> None:
    mask = np.zeros((32, 32), bool)
    mask[8:24, 4:12] = True
    mask[30, 30] = True
    assert mask_box(mask, 320, 160) == (40.0, 40.0, 120.0, 120.0)
    assert mask_box(np.zeros((32, 32), bool), 320, 160) is None


def test_frames_are_made_square_as_sam3_was_trained() -> None:
    frame = np.zeros((1, 4, 8, 3), np.uint8)
    frame[..., 0], frame[:, :2, :, 1] = 255, 255
    square = square_frames(torch.from_numpy(frame), 4)
    assert square.shape == (1, 3, 4, 4)
    assert square[0, 0].tolist() == [[1.0] * 4] * 4
    assert square[0, 1].tolist() == [[1.0] * 4] * 2 + [[-1.0] * 4] * 2
    assert square_frames(torch.from_numpy(frame), 6, 1)[0, 2].tolist() == [[-1.0] * 6] * 6


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> ConceptTracker:
    """The real tracker with tiny random weights."""
    weights = save_tiny_sam3(tmp_path_factory.mktemp("tiny-random-sam3"))
    settings = Sam3LocatorSettings(weights=weights, precision="fp32", device="cpu")
    inputs = Sam3LocatorInputs(
        characters=characters({"Gamera": "chinchilla"}),
        settings=settings,
        weights=file_ref(weights),
    )
    locating = create_sam3_locator(inputs, Path())
    assert isinstance(locating.tracker, ConceptTracker)
    return locating.tracker


def noise(frames: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (frames, HEIGHT, WIDTH, 3)).astype(np.uint8)


def test_random_weights_are_sure_of_nothing(tracker: ConceptTracker) -> None:
    assert tracker.track(noise(3), ["rabbit"]) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_detections_become_tracks_of_their_nouns(
    tracker: ConceptTracker, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """Masks planted in the first frame, one of them twice, go through the model's association."""
    cells = {"rabbit": [(4, 8, 12, 20), (4, 8, 12, 21)], "chinchilla": [(20, 2, 30, 30)]}

    frames: list[int] = []

    def detect(model: Any, session: Any, vision_embeds: Any) -> dict[int, Any]:
        found = {}
        frames.append(len(frames))
        for prompt, noun in session.prompts.items():
            planted = [] if frames[-1] else cells[noun]
            masks = torch.full((len(planted), 32, 32), -8.0, dtype=dtype)
            for mask, (x0, y0, x1, y1) in zip(masks, planted, strict=True):
                mask[y0:y1, x0:x1] = 8.0
            scores = torch.tensor([0.9, 0.8][: len(masks)], dtype=dtype)
            found[prompt] = {"mask": masks, "scores": scores, "bbox": torch.zeros(len(masks), 4)}
        return found

    monkeypatch.setattr(transformers.Sam3VideoModel, "run_detection", detect)
    model = tracker.model.to(dtype)
    tracks = tracker.track(noise(5), list(cells))
    assert len(frames) == 5
    # No later detection confirms them: with eight frames or more, the model takes them back.
    frames.clear()
    assert tracker.track(noise(12), list(cells)) == []
    model.to(torch.float32)
    assert [track.noun for track in tracks] == ["rabbit", "chinchilla"]
    for track, (x0, y0, x1, y1) in zip(tracks, (cells[t.noun][0] for t in tracks), strict=True):
        first = track.detections[0]
        assert first.score == pytest.approx(0.9, abs=0.01)
        box = (x0 * 13, y0 * 7.5, x1 * 13, y1 * 7.5)
        assert first.box == box, "of 32 cells of 416 x 240 pixels"
        # Where the random tracker sees it afterwards has no meaning, but is in the frame.
        for detection in track.detections.values():
            assert 0 <= detection.score <= 1
            assert box_iou(detection.box, (0, 0, WIDTH, HEIGHT)) > 0
