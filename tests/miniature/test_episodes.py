"""Episodes of the miniature: who meets whom, where shots are, and what MiMix makes of them."""

from __future__ import annotations

import hashlib
import json
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from flows.augment import augment_stages
from flows.curate import curate_stages
from mimix_core import tables
from mimix_core.domain.library import load_library
from mimix_core.engine.artifacts import file_ref
from mimix_core.media import read_rgb
from mimix_core.media.masks import read_masks
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import load_config
from mimix_core.stages.captions.action_script import ActionScriptFile
from mimix_core.stages.cutouts.backends.episode_masks import load_episode_masks
from mimix_core.stages.cutouts.locate.box_annotations import load_box_annotations
from miniature import episode_files, episode_plan, episodes, renderer, scenes
from miniature.figures import CASTS, STYLES
from miniature.scenes import ALONE, FRAMES, TOGETHER
from tests.flows.small_project import Counting


def plans(style: str, count: int = 8, shots: int = 24, seed: int = 0) -> list[list[Any]]:
    return list(episode_plan.plan_episodes(style, count, shots, seed))


@pytest.mark.parametrize("style", STYLES)
def test_all_pairs_of_a_show_meet_in_every_way_and_nobody_of_the_other_show(style: str) -> None:
    shots = [shot for plan in plans(style) for shot in plan]
    names = {figure.name for figure in CASTS[style]}
    assert {figure.name for shot in shots for figure in shot.scene.cast} == names
    assert {shot.scene.style for shot in shots} == {style}
    met = {
        (frozenset(figure.name for figure in shot.scene.cast), shot.scene.together)
        for shot in shots
        if len(shot.scene.cast) == 2
    }
    assert met == {(frozenset(pair), act) for pair in combinations(names, 2) for act in TOGETHER}
    alone = {ALONE[shot.scene.alone[0]] for shot in shots if len(shot.scene.cast) == 1}
    assert alone == set(ALONE)


def test_more_episodes_begin_with_the_same_ones_and_another_seed_has_others() -> None:
    assert plans("cartoon", 3) == plans("cartoon", 5)[:3]
    assert plans("cartoon", 1) != plans("cartoon", 1, seed=1)


def test_shots_follow_each_other_by_cuts_and_some_dissolves_and_hold_a_whole_scene() -> None:
    for plan in plans("realistic"):
        assert plan[0].first == plan[0].fade_in == plan[-1].fade_out == 0
        for shot, following in pairwise(plan):
            assert shot.fade_out == following.fade_in
            assert following.first == shot.end - shot.fade_out
        for shot in plan:
            assert shot.before + FRAMES + shot.after == shot.end - shot.first
            assert shot.clear[1] - shot.clear[0] >= FRAMES + 2 * episode_plan.LEAD_FRAMES
    fades = [shot.fade_in > 0 for plan in plans("realistic") for shot in plan[1:]]
    assert 0.1 < np.mean(fades) < 0.3


def test_frames_before_and_after_a_scene_leave_the_scene_as_it_is() -> None:
    drawn = [shot.scene for shot in plans("cartoon", 1)[0]]
    alone, longer = scenes.to_tensors(drawn), scenes.to_tensors(drawn, before=3, after=5)
    assert longer.pose_BFTP.shape[2] == 3 + FRAMES + 5
    assert torch.equal(longer.pose_BFTP[:, :, 3 : 3 + FRAMES], alone.pose_BFTP)
    assert torch.equal(longer.ball_BT3[:, 3 : 3 + FRAMES], alone.ball_BT3)


def test_the_files_of_a_project_are_those_that_mimix_reads(tmp_path: Path) -> None:
    """Without a rendered frame: the figures of each are a rectangle."""
    for style in STYLES:
        stem = tmp_path / episode_files.show_id(style) / "one"
        stem.parent.mkdir()
        stem.with_suffix(".mp4").write_bytes(b"video")
        plan = plans(style, 1, 4)[0]
        truth = episode_files.EpisodeTruth(plan)
        with episode_files.MasksWriter(Path(f"{stem}.masks.zip")) as masks:
            for shot in plan:
                alpha = np.zeros((80, 128), np.uint8)
                alpha[30:70, 20:60] = 255
                alphas = {figure.name: alpha for figure in shot.scene.cast}
                masks.write(shot.first, alphas)
                truth.add_frame(shot.first, alphas)
        truth.write(stem)
    episode_files.write_library(tmp_path / "library.yaml", STYLES)
    episode_files.write_settings(tmp_path / "mimix.yaml")
    config = load_config(tmp_path / "mimix.yaml")
    assert (config.clips.frames, config.cutouts.backend) == (FRAMES, "masks")
    for show in load_library(config.library).shows:
        (episode,) = show.episodes
        names = {name.casefold(): name for name in show.roster()}
        assert episode.subtitles
        assert episode.script
        script = ActionScriptFile.model_validate(yaml.safe_load(episode.script.read_text()))
        plan = plans(show.style, 1, 4)[0]
        assert [(a.character, a.action) for a in script.actions] == [
            done
            for shot in plan
            for done in zip((f.name for f in shot.scene.cast), shot.scene.phrases(), strict=True)
        ]
        boxes = load_box_annotations(file_ref(episode.boxes), names).keyframes
        found = {frame.box for track in boxes.values() for frame in track}
        assert found == {(0.15625, 0.375, 0.46875, 0.875)}
        masks_file = load_episode_masks(file_ref(episode.masks), names)
        assert masks_file is not None
        assert set(masks_file.images) == {f.name for shot in plan for f in shot.scene.cast}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("miniature")
    episodes.write_project(folder, episodes=1, shots=6, seed=18)
    return folder


@pytest.mark.e2e
def test_the_same_seed_writes_the_same_bytes(project: Path, tmp_path: Path) -> None:
    episodes.write_project(tmp_path, episodes=1, shots=6, seed=18, styles=["cartoon"])
    stem = "flat-friends/flat-friends-01"
    for ending in (".mp4", ".srt", ".yaml", ".boxes.yaml", ".masks.zip", ".truth.json"):
        one, two = (
            hashlib.sha256((folder / f"{stem}{ending}").read_bytes()).hexdigest()
            for folder in (project, tmp_path)
        )
        assert one == two, ending


@pytest.mark.e2e
def test_mimix_finds_the_true_shots_captions_and_masks(project: Path) -> None:
    made = augment(project)
    for style in STYLES:
        show = episode_files.show_id(style)
        plan = plans(style, 1, 6, seed=18)[0]
        truth = json.loads((project / show / f"{show}-01.truth.json").read_text())["shots"]
        assert [shot["first"] for shot in truth] == [shot.first for shot in plan]
        found = [row for _, row in made["scenes"] if row["show"] == show and not row["reason"]]
        starts = {frame_of(row, row["start_pts"]) for row in found}
        assert {shot.first for shot in plan if not shot.fade_in} <= starts
        assert len(found) == len(plan)
        clips = {
            frame_of(row, row["source_pts"][0]): (folder / row["file"], row)
            for folder, row in made["clips"]
            if row["show"] == show and row["status"] == "ok"
        }
        assert len(clips) == len(plan)
        captions = {row["clip_id"]: row for _, row in made["captions"]}
        cutouts = {
            (row["clip_id"], row["character"]): folder / row["file"]
            for folder, row in made["cutouts"]
            if row["status"] == "ok"
        }
        for shot in plan:
            first = shot.first + shot.before
            start = min(clips, key=lambda frame: abs(frame - first))
            file, row = clips[start]
            assert abs(start - first) <= (2 if shot.fade_in else 0)
            caption = captions[row["clip_id"]]
            assert [(a["name"], a["action"]) for a in caption["actions"]] == list(
                zip((f.name for f in shot.scene.cast), shot.scene.phrases(), strict=True)
            )
            assert caption["style"] == style
            if start != first or row["crop"] != [0, 0, scenes.WIDTH, scenes.HEIGHT]:
                continue
            drawn = renderer.render(scenes.to_tensors([shot.scene]))
            picture = drawn.frames_BCTHW[0].permute(1, 2, 3, 0).numpy() * 255
            assert np.abs(read_rgb(file).astype(float) - picture).mean() < 6
            for place, figure in enumerate(shot.scene.cast):
                alphas = read_masks(cutouts[row["clip_id"], figure.name])
                true = drawn.masks_BFTHW[0, place].numpy() * 255
                assert np.abs(alphas.astype(float) - true).max() <= 1
    mixed = [row for _, row in made["composites"] if row["status"] == "ok"]
    assert mixed


def augment(project: Path, settings: str = "mimix.yaml") -> dict[str, list[tuple[Path, Any]]]:
    """Run everything up to the dataset; return rows by stage, with their table's folder."""
    run = Counting(open_workspace(load_config(project / settings)))
    curated = curate_stages(run)
    augmented = augment_stages(run, curated)
    rows: dict[str, list[tuple[Path, Any]]] = {}
    for reference in (
        *curated.scenes,
        *curated.clips,
        *curated.captions,
        *augmented.cutouts,
        augmented.composites,
        augmented.dataset,
    ):
        table = getattr(tables, reference.stage.upper())
        entries = [(reference.folder, row) for row in tables.read(reference.path, table)]
        rows.setdefault(reference.stage, []).extend(entries)
    return rows


def frame_of(row: Any, pts: int) -> int:
    return round((pts - row["origin_pts"]) * row["time_base_num"] / row["time_base_den"] * 16)
