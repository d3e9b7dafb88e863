"""Locating before a run: what doctor and the preview say, and which locator a library gets."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from flows.cli import app
from mimix_core.characters.bank import UNCALIBRATED_LIMIT
from mimix_core.domain.library import load_library
from mimix_core.settings import CutoutSettings
from mimix_core.settings.locator_settings import FaceLocatorSettings
from mimix_core.stages.cutouts.locate import load_box_annotations
from mimix_core.stages.cutouts.locate.face_locator import describe_match
from mimix_core.stages.cutouts.locate.reference_bank import measure_references
from tasks.cutouts import show_locator
from tests.factories import clip
from tests.media_factory import Shot, write_video

CAT, DOG = (230, 60, 40), (40, 80, 220)


def draw_cat(image: np.ndarray, number: int) -> None:
    """A large red figure with a face, in front of a plain wall."""
    image[:] = (120, 140, 120)
    image[40:240, 150:270] = CAT
    cv2.circle(image, (210, 90), 30, (250, 230, 60), -1)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cartoon show with references of two characters, and one live-action show without."""
    folder = tmp_path_factory.mktemp("locating")
    for name in ("a", "b"):
        write_video(folder / f"{name}.mp4", [Shot(48)], size=(432, 240), draw=draw_cat)
    frame = np.zeros((240, 432, 3), np.uint8)
    draw_cat(frame, 0)
    Image.fromarray(frame[40:240, 150:270]).save(folder / "cat.png")
    dog = np.full((200, 120, 3), DOG, np.uint8)
    dog[::12] = 255
    Image.fromarray(dog).save(folder / "dog.png")
    (folder / "library.yaml").write_text(
        "shows:\n"
        "  - {id: toons, title: Toons, style: cartoon, episodes: [{path: a.mp4}], characters:\n"
        "     [{name: Cat, references: [cat.png]}, {name: Dog, references: [dog.png]}]}\n"
        "  - {id: people, title: People, style: realistic, episodes: [{path: b.mp4}],\n"
        "     characters: [{name: Clara}]}\n"
    )
    (folder / "mimix.yaml").write_text("library: library.yaml\nclips: {height: 240, width: 432}\n")
    return folder / "mimix.yaml"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "400"})


def test_the_default_locator_follows_what_the_library_has(project: Path) -> None:
    shows = load_library(project.parent / "library.yaml").shows
    assert [show_locator(CutoutSettings(), show) for show in shows] == ["embedding", "boxes"]
    manual = CutoutSettings(locator_cartoon="boxes")
    assert show_locator(manual, shows[0]) == "boxes"
    filmed = shows[0].model_copy(update={"style": "realistic"})
    assert show_locator(CutoutSettings(), filmed) == "face"


def test_doctor_says_what_will_not_be_located(project: Path) -> None:
    result = call("doctor", project)
    assert result.exit_code == 1
    rows = {line.split("│")[1].strip(): line for line in result.output.splitlines() if "│" in line}
    assert "2 shows, 2 episodes" in rows["library"]
    assert "Cat 1, Dog 1" in rows["references of toons"]
    assert "3 or more images" in rows["references of toons"]
    assert re.search(
        r"│ no +│ boxes; 1 of 1 episodes have no boxes file", rows["locator of people"]
    )
    assert "Add reference images" in rows["locator of people"]
    assert "embedding; 1 of 1" in rows["locator of toons"]
    assert "Cat" in rows["frames of toons"]
    assert "is calibrated from the exemplars" in rows["thresholds of toons"]
    assert not (project.parent / "workspace").exists(), "doctor writes nothing"


def test_doctor_names_a_broken_library(project: Path, tmp_path: Path) -> None:
    (tmp_path / "library.yaml").write_text("shows: [{id: a}]\n")
    (tmp_path / "mimix.yaml").write_text("library: library.yaml\n")
    result = call("doctor", tmp_path / "mimix.yaml")
    assert result.exit_code == 1
    assert "this key is missing" in result.output


def test_the_preview_shows_boxes_and_similarities(project: Path, tmp_path: Path) -> None:
    result = call("locate", "preview", project, "--frames", "2", "--workspace", tmp_path)
    assert result.exit_code == 0, result.output
    found = re.findall(r"Cat (0\.\d\d)(?=;|$)", result.output, re.MULTILINE)
    assert len(found) == 2, result.output
    assert all(float(value) >= UNCALIBRATED_LIMIT for value in found)
    assert "Dog" in result.output
    assert "wanted (cutouts.embedding." in result.output, "and by how much the others miss"
    assert "b.mp4" in result.output
    assert "no boxes file and the show no reference images" in result.output
    sheet = Image.open(tmp_path / "locate" / "toons-a.jpg")
    assert sheet.width == 2 * 416
    unknown = call("locate", "preview", project, "c")
    assert unknown.exit_code == 2
    assert "Episodes: a, b" in unknown.output


def test_a_threshold_is_proposed_between_one_character_and_others() -> None:
    points = {"A": [0.0, 0.2, 0.3], "B": [1.0, 1.1]}
    measured = measure_references(points, lambda one, two: abs(one - two))
    assert (max(measured.within), min(measured.between)) == pytest.approx((0.3, 0.7))
    assert measured.proposed_threshold() == pytest.approx(0.5)
    assert measured.too_few() == ["B"]
    overlapping = measure_references({"A": [0.0, 1.0], "B": [0.5]}, lambda a, b: abs(a - b))
    assert overlapping.proposed_threshold() is None
    similar = measure_references(points, lambda a, b: 1 - abs(a - b), similarity=True)
    assert similar.proposed_threshold() == pytest.approx(0.5)


def test_a_face_that_is_not_accepted_says_what_it_lacks() -> None:
    settings = FaceLocatorSettings(max_distance=0.5, min_margin=0.1)

    def problem(**distances: float) -> str:
        return describe_match(distances, "Tom", settings)[1]

    assert problem(Tom=0.45, Jerry=0.8) == ""
    assert problem(Tom=0.63, Jerry=0.8).startswith("at most 0.50 wanted")
    assert problem(Tom=0.45, Jerry=0.4) == "it is nearer to Jerry at 0.40"
    assert problem(Tom=0.45, Jerry=0.5).startswith("Jerry is only 0.05 farther, at least 0.10")
    shown, lacks = describe_match({"Tom": 0.5012, "Jerry": 0.8}, "Tom", settings)
    assert f"{shown}: {lacks}".startswith("0.501: at most 0.50 wanted")
    shown, lacks = describe_match({"Tom": 0.4521234, "Jerry": 0.4483456}, "Tom", settings)
    assert f"{shown}: {lacks}" == "0.452: it is nearer to Jerry at 0.448"
    assert problem(Tom=0.4, Jerry=0.49987).startswith("Jerry is only 0.0999 farther, at least 0.10")


def test_an_episode_without_boxes_says_so_in_its_rows() -> None:
    row = clip("a")
    track = load_box_annotations(None, {}).locate(row, ["Tom"])["Tom"]
    assert "no boxes file" in track.evidence
    assert track.boxes == [None] * row["frames"]


def test_frames_with_a_grid_are_those_of_the_times_in_their_names(tmp_path: Path) -> None:
    """The video's gray level is twice the frame's number; one box is annotated, up to 2 s."""

    def draw_level(image: np.ndarray, number: int) -> None:
        image[:] = 2 * number

    write_video(tmp_path / "a.mp4", [Shot(96)], size=(160, 90), draw=draw_level)
    (tmp_path / "a.boxes.yaml").write_text(
        'boxes:\n  - {time: "0", character: Tom, box: [0.25, 0.5, 0.75, 0.9]}\n'
        '  - {time: "2", character: Tom, box: [0.25, 0.5, 0.75, 0.9]}\n'
    )
    (tmp_path / "library.yaml").write_text(
        "shows:\n  - {id: toons, title: Toons, style: cartoon, episodes: [{path: a.mp4}], "
        "characters: [{name: Tom}]}\n"
    )
    settings = tmp_path / "mimix.yaml"
    settings.write_text("library: library.yaml\nworkspace: workspace\n")
    result = call(
        "locate", "frames", settings, "a", "--start", "0:01", "--end", "3.5", "--every", "1"
    )
    assert result.exit_code == 0, result.output
    folder = tmp_path / "workspace" / "locate" / "toons-a"
    assert f"3 frames of a.mp4 are in {folder}" in result.output
    assert sorted(path.name for path in folder.iterdir()) == [
        f"0000{second}.000.jpg" for second in (1, 2, 3)
    ]
    for second in (1, 2, 3):
        picture = np.asarray(Image.open(folder / f"0000{second}.000.jpg")).astype(int)
        assert picture.shape == (720, 1280, 3)
        level = float(np.median(picture))
        assert level == pytest.approx(48 * second, abs=4)
        rows = slice(400, 470)  # without texts
        for tenth in range(1, 10):
            assert picture[rows, 128 * tenth].mean() > level + 60
        green = picture[rows, 320, 1] - picture[rows, 320, 0]
        assert (green.mean() > 80) == (second < 3), "the box, between its keyframes"
    for wrong, words in ((["--every", "0"], "no interval"), (["--start", "x"], "not a time")):
        result = call("locate", "frames", settings, "a", *wrong)
        assert result.exit_code == 2
        assert words in result.output
    assert "no frame from 9" in call("locate", "frames", settings, "a", "--start", "9").output
