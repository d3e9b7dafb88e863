"""``mimix characters``: from a track that is not recognized to exemplars that recognize it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from flows.cli import app
from flows.locator_trial import trial_workspace
from mimix_core.characters.bank import LookAlike
from mimix_core.project.item_decisions import read_item_decisions
from mimix_core.settings.config import load_config
from tasks.cutouts import build_locator_inputs
from tests.media_factory import Shot, write_video

pytestmark = pytest.mark.e2e


def draw(image: np.ndarray, number: int) -> None:
    """A large red figure with a face, in front of a plain wall."""
    image[:] = (120, 140, 120)
    image[40:240, 150:270] = (230, 60, 40)
    cv2.circle(image, (210, 90), 30, (250, 230, 60), -1)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_video(tmp_path / "a.mp4", [Shot(48)], size=(432, 240), draw=draw)
    frame = np.zeros((240, 432, 3), np.uint8)
    draw(frame, 0)
    Image.fromarray(frame[40:240, 150:270]).save(tmp_path / "cat.png")
    Image.fromarray(frame[40:140, 150:270]).save(tmp_path / "twin.png")
    striped = np.full((200, 120, 3), (40, 80, 220), np.uint8)
    striped[::12] = 255
    Image.fromarray(striped).save(tmp_path / "dog.png")
    (tmp_path / "library.yaml").write_text(
        "shows:\n"
        "  - {id: toons, title: Toons, style: cartoon, episodes: [{path: a.mp4}], characters:\n"
        "     [{name: Cat, references: [cat.png]}, {name: Dog, references: [dog.png]},\n"
        "      {name: Twin, references: [twin.png, dog.png]}]}\n"
    )
    # A limit that nothing reaches: tracks are near misses.
    (tmp_path / "mimix.yaml").write_text(
        "library: library.yaml\nclips: {height: 240, width: 432}\n"
        "cutouts: {embedding: {min_similarity: 0.65}}\n"
    )
    return tmp_path / "mimix.yaml"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "400"})


def test_doctor_has_the_alarm_for_look_alikes(project: Path) -> None:
    shown = call("doctor", project)
    [line] = [text for text in shown.output.splitlines() if "look-alikes" in text]
    assert "limited" in line
    # Two of the exemplars are one picture, and Twin's own two are unlike.
    assert "Dog and Twin 1.00 (Twin to itself 0." in line
    assert "more composites of the pair" in line
    assert "Cat and Dog" not in line


def test_a_named_track_becomes_exemplars_of_its_character_alone(project: Path) -> None:
    shown = call("characters", "show", project)
    assert "Cat: 1 exemplar, limit 0.40" in shown.output
    assert "Twin: 2 exemplars" in shown.output
    assert call("characters", "name", project, "toons/1", "--as", "Cat").exit_code == 2

    proposed = call("characters", "propose", project, "--places", "1")
    assert proposed.exit_code == 0, proposed.output
    folder = project.parent / "workspace" / "characters" / "proposals"
    tracks = {one["guess"]: one for one in json.loads((folder / "proposals.json").read_text())}
    assert "Cat" in tracks, proposed.output
    cat = tracks["Cat"]
    assert f"{cat['track_id']}  Cat? {cat['similarity']:.2f}" in proposed.output
    picture = np.asarray(Image.open(folder / cat["picture"]).convert("RGB")).astype(int)
    assert (picture[..., 0] - picture[..., 1:].max(axis=2) > 120).any(), "the box is drawn in red"

    stranger = call("characters", "name", project, cat["track_id"], "--as", "Bird")
    assert "Known: Cat, Dog, Twin" in stranger.output
    assert "--no-one" in call("characters", "name", project, cat["track_id"]).output
    pictures = {(folder / crop).read_bytes() for crop in cat["crops"]}
    before = locator_files(project, "Cat"), locator_files(project, "Dog")
    named = call("characters", "name", project, cat["track_id"], "--as", "cat")
    assert "1 tracks of toons show Cat" in named.output
    assert len(locator_files(project, "Cat")) == len(before[0]) + len(pictures)
    assert locator_files(project, "Dog") == before[1], "another character's cutouts stay as is"
    shown = call("characters", "show", project)
    assert f"Cat: {1 + len(pictures)} exemplars" in shown.output
    again = call("characters", "propose", project, "--places", "1")
    assert cat["track_id"] not in again.output, "what was decided is not asked again"
    config = load_config(project)
    [decision] = read_item_decisions(config.decisions).by_id.values()
    assert (decision.kind, decision.action, decision.character) == ("track", "name", "Cat")


def test_look_alikes_are_named_before_training(project: Path, tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    result = call("characters", "look-alikes", project, "--csv", table)
    assert result.exit_code == 0, result.output
    with table.open() as file:
        pairs = {(row["first"], row["second"]): row for row in csv.DictReader(file)}
    assert len(pairs) == 3
    twins = pairs["Dog", "Twin"]
    assert (float(twins["similarity"]), twins["alarm"]) == (1.0, "1"), "they share a picture"
    assert pairs["Cat", "Dog"]["alarm"] == "0"
    assert "In red" in result.output


def locator_files(project: Path, name: str) -> list[str]:
    """The digests of the pictures that the cutouts of an episode depend on."""
    with trial_workspace(load_config(project)) as trial:
        inputs = build_locator_inputs(trial, trial.library.shows[0], {name})
    assert inputs is not None
    return [file.sha256 for one in inputs.characters for file in one.references]


def test_a_training_warns_of_look_alikes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks import training
    from tasks.base import Run

    said: list[str] = []
    with trial_workspace(load_config(project)) as trial:
        run = Run(trial)
        monkeypatch.setattr(run.console, "warn", said.append)
        training._warn_of_look_alikes(run)
    assert said[0].startswith("look-alikes: Dog and Twin 1.00 (Twin to itself 0.")
    assert not any("Cat and Dog" in text for text in said)
    assert "more composites of the pair" in said[0]


def test_a_training_warns_once_of_all_look_alikes(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks import training
    from tasks.base import Run

    pairs = [LookAlike("Tom", other, 0.7, (0.5, 0.6)) for other in ("Spike", "Butch")]
    said: list[str] = []
    with trial_workspace(load_config(project)) as trial:
        run = Run(trial)
        monkeypatch.setattr(run.console, "warn", said.append)
        monkeypatch.setattr(training, "alarming_pairs", lambda bank: pairs)
        training._warn_of_look_alikes(run)
    [text] = said
    assert "Tom and Spike 0.70 (to themselves 0.50 and 0.60); Tom and Butch 0.70" in text
