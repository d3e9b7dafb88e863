"""Films in which characters of both shows meet: who is in them, and what MiMix makes of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml

from mimix_core import tables
from mimix_core.domain.splits import Split
from mimix_core.errors import BadInput
from mimix_core.settings import load_config
from miniature import crossovers, episodes
from miniature.episode_plan import Shot
from miniature.figures import STYLES
from miniature.study.arms import ARMS, Place, Training, write_settings
from miniature.study.prompts import COMPOSITED_PAIRS, HELD_OUT_PAIRS, study_prompts
from tests.miniature.test_episodes import augment


def plan(style: str, *, meet: bool) -> list[Shot]:
    films = list(crossovers.plan_crossovers(style, 4, 24, 0, meet=meet))
    assert [len(film) for film in films] == [24] * 4
    return [shot for film in films for shot in film]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("meet", [False, True])
def test_each_composited_pair_meets_equally_often_and_no_other(style: str, meet: bool) -> None:
    shots = plan(style, meet=meet)
    assert {shot.scene.style for shot in shots} == {style}
    for shot in shots:
        assert {figure.style for figure in shot.scene.cast} == set(STYLES)
        assert (shot.scene.together is not None) == meet
        # As in a composite: whoever the scene belongs to is named first.
        assert meet or shot.scene.cast[0].style == style
    pairs = Counter(frozenset(figure.name for figure in shot.scene.cast) for shot in shots)
    assert pairs == dict.fromkeys(map(frozenset, COMPOSITED_PAIRS), 12)
    assert not pairs.keys() & set(map(frozenset, HELD_OUT_PAIRS))


def test_films_without_a_project_and_an_arm_without_films_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no library"):
        crossovers.write_crossovers(tmp_path, films=1, shots=1)
    (tmp_path / "mimix.yaml").write_text("library: library.yaml\nworkspace: workspace\n")
    (tmp_path / "library.yaml").write_text("")
    oracle = [arm for arm in ARMS if arm.crossovers]
    with pytest.raises(BadInput, match="the arm joint-renders needs"):
        write_settings(Place(tmp_path), tmp_path, oracle, (0,), Training(), study_prompts())


@pytest.mark.e2e
def test_mimix_trains_on_joint_scenes_as_they_are(tmp_path: Path) -> None:
    """All of them are in the training split, and composites are those without them."""
    episodes.write_project(tmp_path, episodes=1, shots=5, seed=18)
    crossovers.write_crossovers(tmp_path, films=1, shots=4, seed=1)
    composites = augment(tmp_path)["composites"]
    settings = yaml.safe_load((tmp_path / "mimix.yaml").read_text())
    settings["library"] = "library-joint-renders.yaml"
    (tmp_path / "joint.yaml").write_text(yaml.safe_dump(settings))
    made = augment(tmp_path, "joint.yaml")
    assert load_config(tmp_path / "joint.yaml").library.name == "library-joint-renders.yaml"
    assert made["composites"] == composites
    rows = [row for _, row in made["dataset"] if row["show"].startswith("joint-renders")]
    assert {row["split"] for row in rows} == {Split.TRAIN.value}
    assert {row["status"] for row in rows} == {tables.Status.OK}
    for style in STYLES:
        (film,) = crossovers.plan_crossovers(style, 1, 4, 1, meet=False)
        wanted = sorted(
            [(f.name, p) for f, p in zip(shot.scene.cast, shot.scene.phrases(), strict=True)]
            for shot in film
        )
        captions = [
            row
            for _, row in made["captions"]
            if row["clip_id"].startswith(f"joint-renders-{style}")
        ]
        assert (
            sorted([(a["name"], a["action"]) for a in row["actions"]] for row in captions) == wanted
        )
        assert {row["style"] for row in captions} == {style}
