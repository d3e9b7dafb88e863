"""Imported clips go through curation like episodes: cut on the grid, measured, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.augment import augment_stages
from flows.cli import app
from flows.curate import curate_stages
from mimix_core import tables
from mimix_core.media import verify_clip
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import load_config
from tests.factories import video
from tests.flows.small_project import Counting
from tests.media_factory import Shot, write_video

SETTINGS = """\
library: library.yaml
workspace: workspace
overlays: {backend: none}
clips: {width: 160, height: 96, preset: ultrafast, min_motion: 0.0001, min_sharpness: 0}
cutouts: {backend: grabcut, locator_cartoon: boxes, locator_realistic: boxes}
composites: {ratio: "0"}
dataset: {val_share: 0.4}
"""
LIBRARY = """\
shows:
  - id: toons
    title: Toons
    style: cartoon
    characters: [{name: Jürgen}, {name: "O'Neil"}]
    clips: clips/toons
"""
SIZE = (160, 96)


def walker(seed: int) -> Callable[[np.ndarray, int], None]:
    """Draw a figure that sways before a wall; each seed has its own wall and pace."""
    wall = np.random.default_rng(seed).integers(40, 160, (6, 10, 3)).repeat(16, 0).repeat(16, 1)

    def draw(image: np.ndarray, number: int) -> None:
        image[:] = wall
        left = round(68 + 40 * np.sin(number / (4 + 3 * seed)))
        image[24:92, left : left + 24] = (230, 80 + 20 * seed, 50)

    return draw


def moving(frames: int, seed: int) -> np.ndarray:
    """Frames with a figure that moves on its own path, as uint8 RGB [frames, height, width, 3]."""
    draw = walker(seed)
    images = np.zeros((frames, SIZE[1], SIZE[0], 3), np.uint8)
    for number, image in enumerate(images):
        draw(image, number)
    return images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of clips as others make them: good ones, and one for each way to be refused."""
    made = tmp_path / "made"
    made.mkdir()
    rows = []

    def add(name: str, caption: str, group: str, **more: object) -> None:
        rows.append({"file_name": name, "caption": caption, "group": group, **more})

    video(made / "exact 🎬.mp4", moving(81, 0))
    add("exact 🎬.mp4", "Jürgen walks along the wall.", "a", characters=["Jürgen"])
    write_video(made / "faster.mp4", [Shot(24 * 6)], size=SIZE, draw=walker(1))
    tagged = "[Character: O'Neil], waves. [scene-style:cartoon]"
    add("faster.mp4", tagged, "b")
    video(made / "short.mp4", moving(77, 2))
    add("short.mp4", tagged, "a")
    video(made / "small.mp4", moving(81, 3)[:, :64, :96])
    add("small.mp4", tagged, "a")
    video(made / "again.mp4", moving(81, 0))
    (made / "again.mp4").write_bytes((made / "again.mp4").read_bytes() + b"\0\0\0\x08free")
    add("again.mp4", tagged, "a")
    video(made / "still.mp4", np.repeat(moving(1, 4), 81, axis=0))
    add("still.mp4", tagged, "a")
    write_video(made / "two.mp4", [Shot(24 * 11)], size=SIZE, draw=walker(5))
    add("two.mp4", tagged, "a")
    (made / "broken.mp4").write_bytes(b"no video")
    add("broken.mp4", tagged, "a")
    video(made / "whose.mp4", moving(81, 6))
    add("whose.mp4", "Somebody walks.", "a")
    (made / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mimix.yaml").write_text(SETTINGS)
    (tmp_path / "library.yaml").write_text(LIBRARY)
    return tmp_path


@pytest.mark.e2e
def test_clips_made_elsewhere_are_curated_like_ours(folder: Path) -> None:
    command = ["dataset", "import", str(folder / "mimix.yaml"), str(folder / "made")]
    result = CliRunner().invoke(app, [*command, "--show", "toons"])
    assert result.exit_code == 0, result.output
    run = Counting(open_workspace(load_config(folder / "mimix.yaml")))
    curated = curate_stages(run)
    names = {
        episode.id: episode.imported.name
        for episode in run.workspace.episodes
        if episode.imported is not None
    }
    scenes = [row for ref in curated.scenes for row in tables.read(ref.path, tables.SCENES)]
    clips = [(ref, row) for ref in curated.clips for row in tables.read(ref.path, tables.CLIPS)]
    found: dict[str, list[str]] = {}
    for row in scenes:
        if row["status"] != "ok":
            found.setdefault(names[row["episode_id"]], []).append(row["reason"] or "")
    for _, row in clips:
        found.setdefault(names[row["episode_id"]], []).append(row["reason"] or row["status"])
    assert found == {
        "exact 🎬.mp4": ["ok"],
        "faster.mp4": ["ok"],
        "short.mp4": ["scene_too_short"],
        "small.mp4": ["source_too_small"],
        "again.mp4": ["near_duplicate"],
        "still.mp4": ["scene_frozen"],
        "two.mp4": ["ok", "ok"],
        "broken.mp4": ["unreadable_video"],
        "whose.mp4": ["ok"],
    }
    for ref, row in clips:
        if row["status"] == "ok":
            verify_clip(ref.path.parent / row["file"], *SIZE, frames=81)
            assert row["motion"] > 0 and len(row["source_pts"]) == 81
    captions = {
        names[row["clip_id"].rpartition("-c")[0]]: row
        for ref in curated.captions
        for row in tables.read(ref.path, tables.CAPTIONS)
    }
    assert captions["exact 🎬.mp4"]["caption"] == (
        "[Character: Jürgen], walks along the wall. [scene-style:cartoon]"
    )
    assert captions["faster.mp4"]["backend"] == "imported"
    assert "a video that gave 2 clips" in (captions["two.mp4"]["detail"] or "")
    assert "not known which character" in (captions["whose.mp4"]["detail"] or "")
    rows = tables.read(augment_stages(run, curated).dataset.path, tables.DATASET)
    splits = {names[row["episode_id"]]: row["split"] for row in rows if row["status"] == "ok"}
    assert set(splits) == {"exact 🎬.mp4", "faster.mp4"}
    assert set(splits.values()) == {"train", "val"}
    for command, tool, videos in (("dataset export", "musubi", 2), ("export", "labelstudio", 6)):
        asked = [*command.split(), tool, str(folder / "mimix.yaml"), str(folder / tool)]
        result = CliRunner().invoke(app, asked)
        assert result.exit_code == 0, result.output
        assert len(list((folder / tool).rglob("*.mp4"))) == videos


@pytest.mark.slow
def test_one_more_clip_computes_only_itself(folder: Path) -> None:
    """Append-only: what was imported before keeps its ids and its results."""
    made = folder / "made"
    command = ["dataset", "import", str(folder / "mimix.yaml"), str(made), "--show", "toons"]
    for name in ("short.mp4", "two.mp4", "still.mp4", "broken.mp4", "whose.mp4", "small.mp4"):
        (made / name).unlink()
    CliRunner().invoke(app, command)
    first = Counting(open_workspace(load_config(folder / "mimix.yaml")))
    curate_stages(first)
    before = {episode.id for episode in first.workspace.episodes}
    video(made / "new.mp4", moving(81, 7))
    with (made / "metadata.jsonl").open("a") as file:
        file.write(json.dumps({"file_name": "new.mp4", "characters": "Jürgen"}) + "\n")
    CliRunner().invoke(app, command)
    second = Counting(open_workspace(load_config(folder / "mimix.yaml")))
    curate_stages(second)
    (new,) = {episode.id for episode in second.workspace.episodes} - before
    units = {
        (ref.stage, row["episode_id"])
        for ref in second.refs["computed"]
        if ref.stage == "clips"
        for row in tables.read(ref.path, tables.CLIPS)
    }
    assert units == {("clips", new)}
    computed = [ref.stage for ref in second.refs["computed"]]
    assert all(computed.count(stage) == 1 for stage in ("scenes", "overlays", "captions"))
