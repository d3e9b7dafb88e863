"""The complete pipeline on two episodes of the demo: every stage, one step of everything.

The whole demo is checked by test_demo.py (`make e2e`).
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml

from mimix_core import tables
from mimix_core.engine.registry import get_stage
from tests.e2e.conftest import FinishedDemo
from tests.e2e.demo import ROOT, Demo, stage_lines
from tests.e2e.test_demo import STAGES

pytestmark = pytest.mark.slow

EPISODES = {"bbb-meadow", "portrait-smile"}
PROMPTS = {"single-bunny-butterfly", "single-clara-laughs"}


@pytest.fixture(scope="module")
def short_run(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedDemo:
    """A run of the demo's settings with fewer episodes, prompts and steps."""
    folder = tmp_path_factory.mktemp("short")
    for name in ("scripts", "references", "models", "footage"):
        (folder / name).symlink_to(ROOT / "demo" / name)
    library = yaml.safe_load((ROOT / "demo" / "library.yaml").read_text())
    for show in library["shows"]:
        show["episodes"] = [one for one in show["episodes"] if Path(one["path"]).stem in EPISODES]
    (folder / "library.yaml").write_text(yaml.safe_dump(library, sort_keys=False))
    prompts = yaml.safe_load((ROOT / "demo" / "prompts.yaml").read_text())
    prompts["prompts"] = [one for one in prompts["prompts"] if one["id"] in PROMPTS]
    (folder / "prompts.yaml").write_text(yaml.safe_dump(prompts, sort_keys=False))
    settings = yaml.safe_load((ROOT / "demo" / "mimix.yaml").read_text())
    settings["overlays"] = {"sampled_frames": 4}
    settings["clips"] = {"width": 320, "height": 192}
    settings["composites"] = {"ratio": "0.30"}
    settings["latents"] = {"width": 64, "height": 32}
    settings["lora"] |= {"epochs": 1, "validation_interval": 2, "validation_quantiles": 2}
    settings["samples"] |= {"num_frames": 5, "num_inference_steps": 2}
    (folder / "mimix.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    demo = Demo(folder, settings=folder / "mimix.yaml")
    printed, seconds = demo.run()
    return FinishedDemo(demo, printed, seconds)


def test_every_stage_runs_loses_no_row_and_is_reported(short_run: FinishedDemo) -> None:
    lines = stage_lines(short_run.printed)
    assert list(lines) == STAGES
    assert not any("cached" in line for line in lines.values())
    page = short_run.demo.workspace / "report" / "index.html"
    assert f"Report: {page}" in short_run.printed
    assert page.stat().st_size > 10_000
    for record in short_run.demo.store.records():
        table = short_run.demo.store.folder(record.stage, record.key) / "table.parquet"
        rows = tables.read(table, get_stage(record.stage).table)
        found = Counter(row["status"] for row in rows)
        counts = record.counts
        assert counts.rows_in == counts.ok + counts.rejected + counts.failed
        assert (found["ok"], found["rejected"], found["failed"]) == (
            counts.ok,
            counts.rejected,
            counts.failed,
        )
    usable = {name: _usable(short_run.demo, name) for name in ("composites", "dataset", "samples")}
    assert all(usable.values()), {name: len(rows) for name, rows in usable.items()}


def test_a_second_run_computes_nothing_and_reports_it(
    short_run: FinishedDemo, tmp_path: Path
) -> None:
    shutil.copytree(short_run.demo.workspace, tmp_path / "workspace", symlinks=True)
    demo = Demo(tmp_path, settings=short_run.demo.settings)
    before = demo.digests()
    printed, _ = demo.run()
    lines = stage_lines(printed)
    assert list(lines) == STAGES
    assert all("cached" in line for line in lines.values())
    assert "Nothing to compute: every stage was cached." in printed
    assert demo.digests() == before


def _usable(demo: Demo, name: str) -> list[tables.Row]:
    return [
        row
        for record in demo.records(name)
        for row in tables.usable(
            tables.read(
                demo.store.folder(name, record.key) / "table.parquet", get_stage(name).table
            )
        )
    ]
