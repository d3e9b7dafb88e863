from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mimix_core.characters.bank import normalize
from mimix_core.engine.artifacts import file_ref
from mimix_core.media.images import RgbImage
from mimix_core.networks.efficientnet import (
    STRIDE,
    extract_features,
    load_network,
    typical_features,
)
from mimix_core.settings.locator_settings import EmbeddingLocatorSettings
from mimix_core.stages.cutouts.locate import CharacterReference, EmbeddingLocatorInputs
from mimix_core.stages.cutouts.locate.box_track import Box, box_iou
from mimix_core.stages.cutouts.locate.embedding_locator import (
    Candidate,
    EmbeddingLocator,
    WindowSimilarities,
    find_best_path,
)
from mimix_core.stages.cutouts.locate.figure_exemplars import FigureExemplars
from mimix_core.stages.cutouts.locate.window_grid import build_window_grid
from tests.factories import clip, video
from tests.paths import DEMO

REFERENCES = DEMO / "references"
SETTINGS = EmbeddingLocatorSettings(min_margin=0.1)


def test_windows_have_all_sizes_and_reach_all_borders() -> None:
    grid = build_window_grid(15, 26)
    x0, y0, x1, y1 = grid.cells_W4.T
    assert x0.min() == y0.min() == 0
    assert x1.max() == 26
    assert y1.max() == 15
    assert {4, 15} <= set(y1 - y0)
    # A row of weights averages a map over its window.
    cells = np.random.default_rng(0).random((15, 26))
    window = len(grid.cells_W4) // 2
    a, b, c, d = grid.cells_W4[window]
    assert grid.mean_WN[window] @ cells.reshape(-1) == pytest.approx(cells[b:d, a:c].mean())


def test_a_part_as_similar_to_another_character_shows_neither() -> None:
    """Two windows side by side; in the first lies a smaller one that looks like Tom."""
    cells = np.array([[0, 0, 6, 6], [10, 0, 16, 6], [1, 1, 4, 4]])
    similarities = WindowSimilarities(
        similarity={"Tom": np.array([0.4, 0.7, 0.8]), "Jerry": np.array([0.1, 0.65, 0.2])},
        figure={"Tom": np.array([0.6, 0.5, 0.3]), "Jerry": np.array([0.1, 0.2, 0.1])},
        limits={"Tom": 0.5, "Jerry": 0.7},
        cells_W4=cells,
        cell=(32.0, 32.0),
        size=(832, 480),
    )
    assert similarities.candidates("Tom")[0].window == 0, "the whole figure decides where it is"
    tom = similarities.judge("Tom", 0, SETTINGS)
    assert (tom.problem, tom.value) == ("", 0.8), "and its most similar part who it is"
    assert "compared with Jerry" in similarities.judge("Tom", 1, SETTINGS).problem
    assert "0.70 wanted" in similarities.judge("Jerry", 1, SETTINGS).problem


def test_the_path_prefers_static_over_jumping_windows() -> None:
    here, there = (0.0, 0.0, 100.0, 100.0), (600.0, 0.0, 700.0, 100.0)
    steady = [Candidate(1, here, 0.70)]
    jumpy = [Candidate(2, there, 0.72), Candidate(1, here, 0.68)]
    assert find_best_path([steady, jumpy, steady]) == [1, 1, 1]
    assert find_best_path([jumpy]) == [2]
    assert find_best_path([steady, [Candidate(2, there, 0.95), *steady], steady]) == [1, 2, 1]


def inputs(*names: str) -> EmbeddingLocatorInputs:
    return EmbeddingLocatorInputs(
        characters=tuple(
            CharacterReference(
                name=name.title(), references=(file_ref(REFERENCES / f"{name}.png"),)
            )
            for name in names
        ),
        settings=EmbeddingLocatorSettings(),
    )


def paste_on_noise(name: str, height: int) -> tuple[RgbImage, Box]:
    """Paste a character's reference image, scaled to a height, over noise; also return its box."""
    picture = cv2.cvtColor(cv2.imread(str(REFERENCES / f"{name}.png")), cv2.COLOR_BGR2RGB)
    width = round(picture.shape[1] / picture.shape[0] * height)
    noise = np.random.default_rng(0).integers(60, 160, (30, 52, 3)).astype(np.uint8)
    frame = np.asarray(cv2.resize(noise, (832, 480)), np.uint8)
    left, top = min(832 - width, 330), min(480 - height, 250)
    size = (width, height)
    scaled = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    frame[top : top + height, left : left + width] = scaled
    return frame, (left, top, left + width, top + height)


@pytest.mark.slow
def test_the_second_look_fits_a_small_figure_and_keeps_one_that_fills_the_frame(
    tmp_path: Path,
) -> None:
    locator = EmbeddingLocator(inputs("bunny", "frank", "rinky", "gamera"), tmp_path)
    for name, height, least in (("frank", 110, 0.6), ("gamera", 478, 0.7)):
        frame, truth = paste_on_noise(name, height)
        (match,) = locator.propose([frame], name.title())
        assert not match.problem
        assert box_iou(match.box, truth) > least


@pytest.mark.slow
def test_a_figure_is_most_like_its_picture_of_the_same_height() -> None:
    network = load_network()
    picture = cv2.cvtColor(cv2.imread(str(REFERENCES / "bunny.png")), cv2.COLOR_BGR2RGB)
    encoded = []
    for rows in (4, 15):
        columns = round(picture.shape[1] / picture.shape[0] * rows)
        resized = cv2.resize(
            picture, (columns * STRIDE, rows * STRIDE), interpolation=cv2.INTER_AREA
        )
        encoded.append(extract_features(network, resized.astype(np.uint8)).mean(axis=(0, 1)))
    center = typical_features(network)
    unit_WD = normalize(np.stack(encoded) - center)
    figures = FigureExemplars(network, {"Bunny": picture.astype(np.uint8)})
    small, large = figures.similarity("Bunny", unit_WD, center, np.array([4, 15]))
    assert (small, large) == (1.0, 1.0)
    crossed = figures.similarity("Bunny", unit_WD, center, np.array([15, 4]))
    assert crossed.max() < 0.95


@pytest.mark.slow
def test_only_the_character_that_is_present_is_located(tmp_path: Path) -> None:
    """Bunny's reference image moves over noise; the other characters are absent."""
    bunny = cv2.cvtColor(cv2.imread(str(REFERENCES / "bunny.png")), cv2.COLOR_BGR2RGB)
    rng = np.random.default_rng(0)
    meadow = cv2.resize(rng.integers(60, 160, (30, 52, 3)).astype(np.uint8), (832, 480))
    frames = np.repeat(meadow[None], 9, axis=0)
    for n, frame in enumerate(frames):
        frame[120:440, 300 + 12 * n : 503 + 12 * n] = bunny
    video(tmp_path / "clips" / "a.mp4", frames)
    row = clip("a", width=832, height=480, frames=9)
    locator = EmbeddingLocator(inputs("bunny", "frank", "rinky", "gamera"), tmp_path)
    found = locator.locate(row, ["Bunny", "Frank", "Rinky", "Gamera"])
    for n, box in enumerate(found["Bunny"].boxes):
        assert box is not None
        assert box_iou(box, (300 + 12 * n, 120, 503 + 12 * n, 440)) > 0.5
    for other in ("Frank", "Rinky", "Gamera"):
        assert found[other].boxes == [None] * 9


def test_an_unreadable_clip_gives_an_error(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"no video")
    found = EmbeddingLocator(inputs("bunny"), tmp_path).locate(clip("a"), ["Bunny", "Tom"])
    assert found["Bunny"].error
    assert found["Bunny"].boxes == [None] * 81
