"""The locator an episode gets from the settings, and what the stage key depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mimix_core import tables
from mimix_core.diagnostics.model_requirements import required_models
from mimix_core.domain.character import Character
from mimix_core.domain.library import load_library
from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.cache_key import canonical_json
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput, MissingModel
from mimix_core.project.workspace import Workspace
from mimix_core.settings import Config, CutoutSettings
from mimix_core.settings.locator_settings import EmbeddingLocatorSettings, VlmLocatorSettings
from mimix_core.stages.cutouts.locate import (
    LOCATIONS_FILE,
    BoxAnnotationLocator,
    CharacterReference,
    EmbeddingLocatorInputs,
    LocatorInputs,
    Sam3LocatorInputs,
    VlmLocatorInputs,
    create_locator,
    load_locations,
)
from mimix_core.stages.cutouts.stage import STAGE, CutoutInputs, captioned_characters
from tasks.cutouts import build_locator_inputs, load_locator_key
from tests.factories import caption, clip, table_ref, video
from tests.paths import DEMO
from tests.vlm.fake_provider import KEY, KEY_NAME, run_fake_provider


def episode(folder: Path, **values: Any) -> CutoutInputs:
    """Clip ``a``: a red figure in the left half of 64 x 48 pixels."""
    frames = np.full((81, 48, 64, 3), (40, 130, 60), np.uint8)
    frames[:, 14:, 8:30] = (220, 60, 40)
    digest = video(folder / "in" / "clips" / "a.mp4", frames)
    return CutoutInputs(
        unit="pilot",
        roster=("Tom", "Jerry"),
        clips=table_ref(folder / "in", tables.CLIPS, [clip("a", sha256=digest)]),
        captions=(captions := table_ref(folder / "captions", tables.CAPTIONS, [caption("a")])),
        captioned=captioned_characters(captions),
        **values,
    )


def test_a_models_boxes_are_segmented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_NAME, KEY)
    box = {"character": "Tom", "left": 0.05, "top": 0.2, "right": 0.6, "bottom": 1, "certainty": 95}
    with run_fake_provider() as server:
        server.control(answers={"red": {"boxes": [{"frame": n, **box} for n in range(1, 12)]}})
        inputs = episode(
            tmp_path,
            locator=VlmLocatorInputs(
                characters=(CharacterReference(name="Tom", description="A red cat [[red]]"),),
                settings=VlmLocatorSettings(vlm=server.settings()),
                response_cache=tmp_path / "answers",
            ),
        )
        made = run_stage(
            Store(tmp_path / "store"), STAGE, inputs, CutoutSettings(backend="grabcut")
        )
    (row,) = tables.read(made.ref.path, tables.CUTOUTS)
    assert (row["character"], row["locator"]) == ("Tom", "vlm/openai")
    assert row["status"] == "ok", row["detail"]
    boxes = load_locations(made.ref.folder / LOCATIONS_FILE)
    assert [one["frame"] for one in boxes] == list(range(81))
    assert boxes[40]["x1"] == pytest.approx(0.6 * 64)
    assert {one["score"] for one in boxes} == {0.95}


def test_a_refusal_fails_the_row_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_NAME, KEY)
    with run_fake_provider() as server:
        server.control(script={"shy": ["refused"]})
        inputs = episode(
            tmp_path,
            locator=VlmLocatorInputs(
                characters=(CharacterReference(name="Tom", description="[[shy]]"),),
                settings=VlmLocatorSettings(vlm=server.settings()),
                response_cache=tmp_path / "answers",
            ),
        )
        made = run_stage(
            Store(tmp_path / "store"), STAGE, inputs, CutoutSettings(backend="grabcut")
        )
    (row,) = tables.read(made.ref.path, tables.CUTOUTS)
    assert (row["status"], row["reason"]) == ("failed", "locate_failed")


def test_manual_boxes_take_precedence_over_any_locator(tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.yaml"
    boxes.write_text('boxes:\n  - {time: "1", character: Tom, box: [0, 0, 1, 1]}\n')
    vlm_inputs = VlmLocatorInputs(
        characters=(), settings=VlmLocatorSettings(), response_cache=tmp_path / "answers"
    )
    names = {"tom": "Tom"}
    manual = create_locator(file_ref(boxes), vlm_inputs, names, tmp_path, [])
    assert isinstance(manual, BoxAnnotationLocator)
    assert set(manual.keyframes) == {"Tom"}
    assert create_locator(None, None, names, tmp_path, []).name == "boxes"
    assert create_locator(None, vlm_inputs, names, tmp_path, []).name == "vlm/openai"


def test_the_stage_key_depends_only_on_the_locator_in_use(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "tom.png"), np.zeros((8, 8, 3), np.uint8))
    references = (file_ref(tmp_path / "tom.png"),)

    def key(inputs: LocatorInputs | None, **settings: Any) -> str:
        changed = CutoutSettings.model_validate({"backend": "grabcut", **settings})
        return STAGE.key(episode(tmp_path, locator=inputs), changed)

    known = (CharacterReference(name="Tom", references=references),)
    plain = EmbeddingLocatorInputs(characters=known, settings=EmbeddingLocatorSettings())
    stricter = EmbeddingLocatorSettings(min_similarity=0.7)
    assert key(plain) == key(plain, vlm={"num_frames": 5}, locator_cartoon="embedding")
    assert key(plain) != key(plain.model_copy(update={"settings": stricter}))
    assert key(plain) != key(plain.model_copy(update={"characters": ()}))
    assert key(plain) != key(None)
    asked = VlmLocatorInputs(
        characters=known, settings=VlmLocatorSettings(), response_cache=tmp_path / "answers"
    )
    elsewhere = asked.model_copy(update={"answers": tmp_path / "other"})
    assert key(asked) == key(elsewhere)


def workspace(folder: Path, **cutouts: Any) -> Workspace:
    """The demo's library, with these settings of cutouts."""
    config = Config.model_validate(
        {"library": DEMO / "library.yaml", "workspace": folder, "cutouts": cutouts}
    )
    return Workspace(config, load_library(config.library), Store(folder / "store"), ())


def test_each_style_has_its_own_locator(tmp_path: Path) -> None:
    of_cartoons = workspace(tmp_path, locator_cartoon="embedding", locator_realistic="boxes")
    bunny, street = (
        build_locator_inputs(of_cartoons, show, show.roster()) for show in of_cartoons.library.shows
    )
    assert isinstance(bunny, EmbeddingLocatorInputs)
    assert {one.name: len(one.references) for one in bunny.characters} == {
        "Bunny": 7,
        "Frank": 7,
        "Rinky": 6,
        "Gamera": 6,
    }
    assert street is None
    asking = workspace(
        tmp_path, locator_cartoon="boxes", locator_realistic="vlm", vlm={"num_frames": 7}
    )
    bunny, street = (
        build_locator_inputs(asking, show, show.roster()) for show in asking.library.shows
    )
    assert bunny is None
    assert isinstance(street, VlmLocatorInputs)
    assert street.settings.num_frames == 7
    assert "young woman" in street.characters[0].description


def test_sam3_gets_nouns_and_the_folder_of_its_weights(tmp_path: Path) -> None:
    without = workspace(tmp_path, locator_cartoon="sam3")
    bunny, street = without.library.shows
    with pytest.raises(MissingModel, match=r"cutouts\.sam3_locator\.weights"):
        build_locator_inputs(without, bunny, bunny.roster())
    elsewhere = workspace(tmp_path, locator_cartoon="sam3", sam3_locator={"weights": "nowhere"})
    with pytest.raises(BadInput, match="no file or folder nowhere"):
        build_locator_inputs(elsewhere, bunny, bunny.roster())

    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    styles = {"locator_cartoon": "sam3", "locator_realistic": "sam3"}
    given = workspace(tmp_path, **styles, sam3_locator={"weights": folder, "num_crops": 5})
    first, *others = bunny.characters
    rabbit = first.model_copy(update={"noun": "rabbit"})
    named = bunny.model_copy(update={"characters": (rabbit, *others)})
    inputs = build_locator_inputs(given, named, named.roster())
    assert isinstance(inputs, Sam3LocatorInputs)
    assert inputs.weights == file_ref(folder)
    assert inputs.settings.num_crops == 5
    nouns = {one.name: one.noun for one in inputs.characters}
    assert nouns.pop(rabbit.name) == "rabbit"
    assert set(nouns.values()) == {"cartoon character"}
    assert all(one.references for one in inputs.characters)
    inputs = build_locator_inputs(given, street, street.roster())
    assert isinstance(inputs, Sam3LocatorInputs)
    assert {one.noun for one in inputs.characters} == {"person"}


def test_a_noun_and_unused_settings_of_sam3_change_no_other_result(tmp_path: Path) -> None:
    plain, noun = Character(name="Tom"), Character(name="Tom", noun="gray cat")
    assert canonical_json(plain) == canonical_json(noun), "the judge is not asked again"
    assert "noun" not in canonical_json(CharacterReference(name="Tom"))
    assert "sam3" not in canonical_json(CutoutSettings(backend="grabcut").effective())
    other = {"sam3": {"margin": 0.1}, "sam3_locator": {"num_crops": 3}, "locator_cartoon": "sam3"}
    one, two = (
        STAGE.key(episode(tmp_path), CutoutSettings.model_validate(values).effective())
        for values in ({"backend": "sam2"}, {"backend": "sam2", **other})
    )
    assert one == two
    used = CutoutSettings.model_validate({"backend": "sam3", **other}).effective()
    assert "sam3" in canonical_json(used)


def test_requirements_of_a_locator_are_checked_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    load_locator_key(CutoutSettings())
    with pytest.raises(BadInput, match="OPENAI_API_KEY"):
        load_locator_key(CutoutSettings(locator_cartoon="vlm"))

    def needed(**cutouts: Any) -> set[str]:
        config = workspace(tmp_path, backend="grabcut", **cutouts).config
        return {need.name for need in required_models(config, "augment") if need.stage == "cutouts"}

    assert needed() == set()
    assert needed(locator_realistic="face") == {"dlib", "dlib face models"}
    assert needed(locator_cartoon="embedding") == {"EfficientNet-Lite0 features"}
