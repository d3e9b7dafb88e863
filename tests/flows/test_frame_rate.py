"""A project of 24 frames per second: every video that it makes has them, and says so."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.augment import augment_stages
from flows.curate import curate_stages
from flows.train import train_stages
from mimix_core import media, tables
from mimix_core.domain.timeline import CLIP_RATE, grid_times, preceding_frame_indices
from mimix_core.engine import registry
from mimix_core.engine.artifacts import TableRef
from mimix_core.media.decode import read_rate
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import Config, load_config
from mimix_core.studio.studio_items import ItemReader
from tasks.evaluation import generate_samples
from tests.flows.small_project import Counting, Project

RATE = 24
FRAMES = 121
SETTINGS = """\
backbone: {name: tiny-random-wan, accept_clip_rate: true}
latents: {width: 64, height: 32}
lora:
  {rank: 2, alpha: 2, epochs: 1, global_batch_size: 2, precision: fp32, validation_interval: 50,
   validation_quantiles: 1, checkpoint_interval: 50, threads: 1, preview_interval: 50,
   preview_prompts: ["Tom walks."], preview_width: 32, preview_height: 32, preview_num_frames: 5,
   preview_num_inference_steps: 1}
samples: {prompts: prompts.yaml, width: 32, height: 32, num_frames: 9, num_inference_steps: 1}
"""
PROMPT = {
    "id": "walk",
    "category": "single",
    "characters": ["Tom"],
    "actions": [{"name": "Tom", "action": "walks"}],
    "style": "cartoon",
}


def write_project(folder: Path, more: str = SETTINGS) -> Project:
    """Two shows of one episode each, in clips of five seconds."""
    project = Project(folder)
    settings = project.settings.read_text()
    clips = f"clips: {{frame_rate: {RATE}, frames: {FRAMES}, "
    project.settings.write_text(settings.replace("clips: {", clips) + more)
    (folder / "prompts.yaml").write_text(yaml.safe_dump({"prompts": [PROMPT]}))
    project.add_show("toons", "cartoon", "Tom", acts=True, seed=1, clips=2)
    project.add_show("people", "realistic", "Clara", acts=True, seed=2, clips=2)
    return project


def run_all(config: Config) -> dict[str, list[TableRef]]:
    """Run every stage up to the generated videos in this process."""
    run = Counting(open_workspace(config))
    curated = curate_stages(run)
    augmented = augment_stages(run, curated)
    trained = train_stages(run, curated, augmented)
    generate_samples(run, trained.backbone, trained.lora, trained.layout_sources)
    refs: dict[str, list[TableRef]] = {}
    for ref in run.refs["computed"]:
        refs.setdefault(ref.stage, []).append(ref)
    return refs


def usable(refs: dict[str, list[TableRef]], stage: str) -> list[tuple[TableRef, dict[str, Any]]]:
    table = registry.get_stage(stage).table
    return [
        (ref, dict(row))
        for ref in refs[stage]
        for row in tables.usable(tables.read(ref.path, table))
    ]


@pytest.mark.e2e
def test_every_video_of_a_project_has_its_frame_rate(tmp_path: Path) -> None:
    project = write_project(tmp_path)
    refs = run_all(load_config(project.settings))
    clips = usable(refs, "clips")
    assert len(clips) == 4
    for ref, row in clips:
        assert (row["frames"], row["rate_num"], row["rate_den"]) == (FRAMES, RATE, 1)
        assert len(row["source_pts"]) == FRAMES
        media.verify_clip(ref.folder / row["file"], 160, 96, frames=FRAMES, rate=Fraction(RATE))
        base = Fraction(row["time_base_num"], row["time_base_den"])
        start = Fraction(row["start_num"], row["start_den"])
        # The source has 24 frames per second as well: each clip frame is another one.
        wanted = grid_times(start, FRAMES, Fraction(RATE))
        pts = sorted(set(row["source_pts"]))
        assert len(pts) == FRAMES
        assert preceding_frame_indices(pts, base, wanted) == list(range(FRAMES))
    composites = usable(refs, "composites")
    assert composites
    for ref, row in composites:
        media.verify_clip(ref.folder / row["file"], 160, 96, frames=FRAMES, rate=Fraction(RATE))
    assert {
        (row["kind"], row["rate_num"], row["rate_den"]) for _, row in usable(refs, "dataset")
    } == {("original", RATE, 1), ("composite", RATE, 1)}
    for ref, row in usable(refs, "samples"):
        assert read_rate(ref.folder / row["file"]) == RATE
    [lora] = refs["lora"]
    previews = sorted(lora.folder.rglob("*.mp4"))
    assert previews and {read_rate(path) for path in previews} == {Fraction(RATE)}
    # The studio plays and exports them at that rate.
    workspace = open_workspace(load_config(project.settings))
    reader = ItemReader(workspace.store.root.resolve(), refs, frame_rate=RATE)
    items = [item for item in reader.items() if item.kind in ("clip", "composite", "video")]
    assert {item.kind for item in items} == {"clip", "composite", "video"}
    assert {item.data["rate"] for item in items} == {RATE}


def test_the_usual_rate_changes_no_key() -> None:
    """Results from before there was a setting stay valid."""
    from mimix_core.engine.cache_key import canonical_json
    from mimix_core.settings import ClipSettings

    assert ClipSettings().frame_rate == CLIP_RATE
    assert "frame_rate" not in canonical_json(ClipSettings())
    assert canonical_json(ClipSettings(frame_rate=24))["frame_rate"] == 24
