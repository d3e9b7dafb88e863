"""The complete pipeline on two episodes of the demo: every stage, one step of everything.

The whole demo is checked by test_demo.py (`make e2e`).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from mimix_core import tables
from mimix_core.engine.registry import get_stage
from mimix_core.wan import lora_export
from mimix_core.wan.generation import provenance
from tests.e2e.conftest import FinishedDemo
from tests.e2e.demo import ROOT, Demo, stage_lines
from tests.e2e.short_demo import PROMPTS, write_short_demo
from tests.e2e.test_demo import STAGES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def short_run(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedDemo:
    """A run of the demo's settings with fewer episodes, prompts and steps."""
    folder = tmp_path_factory.mktemp("short")
    demo = Demo(folder, settings=write_short_demo(folder))
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


@pytest.mark.e2e
def test_a_backbone_of_two_experts_runs_to_the_report(
    short_run: FinishedDemo, tmp_path: Path
) -> None:
    """Both are trained, videos are made with both, and both are exported."""
    shutil.copytree(short_run.demo.workspace, tmp_path / "workspace", symlinks=True)
    path = short_run.demo.folder / "experts.yaml"
    settings = yaml.safe_load(short_run.demo.settings.read_text())
    settings["backbone"]["name"] = "tiny-random-wan-experts"
    settings["samples"] |= {"num_inference_steps": 4, "guidance_scale_low_noise": 3.0}
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    demo = Demo(tmp_path, settings=path)
    before = {record.key for record in demo.records("lora")}
    printed, _ = demo.run()
    units = {record.unit: record for record in demo.records("lora") if record.key not in before}
    assert set(units) == {"high-noise", "low-noise"}
    for unit, record in units.items():
        adapter = demo.store.folder("lora", record.key) / lora_export.ADAPTER_FILE
        assert lora_export.read_metadata(adapter)[0].expert == unit
    page = (demo.workspace / "report" / "index.html").read_text()
    assert "The high-noise expert" in page
    assert "The low-noise expert" in page
    videos = list(demo.workspace.glob("store/samples/*/samples/*.mp4"))
    made = [provenance.read_provenance(video) for video in videos]
    both = [one for one in made if one.low_noise_lora_sha256]
    assert len(both) == len(PROMPTS)
    words = [sys.executable, "-m", "flows.cli", "lora", "export", str(path), "--to"]
    words += [str(tmp_path / "x.safetensors"), "--workspace", str(demo.workspace)]
    done = subprocess.run(words, cwd=ROOT, env=demo.environment(), check=False)
    assert done.returncode == 0
    assert {one.name for one in tmp_path.glob("x*")} == {
        "x_high_noise.safetensors",
        "x_low_noise.safetensors",
    }
    printed, _ = demo.run()
    assert "Nothing to compute: every stage was cached." in printed


@pytest.mark.e2e
def test_another_architecture_with_images_runs_to_the_report(
    short_run: FinishedDemo, tmp_path: Path
) -> None:
    """LTX-Video is trained on clips and their middle frames, and generates with the adapter."""
    shutil.copytree(short_run.demo.workspace, tmp_path / "workspace", symlinks=True)
    path = short_run.demo.folder / "ltx.yaml"
    settings = yaml.safe_load(short_run.demo.settings.read_text())
    settings["backbone"]["name"] = "tiny-random-ltx"
    settings["latents"] = settings.get("latents", {}) | {"width": 96, "height": 64}
    settings["lora"] |= {"target_modules": [], "shift": 1.0, "image_ratio": 0.5}
    settings["lora"] |= {"preview_width": 96, "preview_height": 64}
    settings["samples"] |= {"width": 96, "height": 64, "num_frames": 9, "shift": 1.0}
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    demo = Demo(tmp_path, settings=path)
    before = {record.key for record in demo.records("lora")}
    demo.run()
    [record] = [one for one in demo.records("lora") if one.key not in before]
    assert "per epoch, of" in str(record.notes["images"])
    folder = demo.store.folder("lora", record.key)
    adapter, metadata = lora_export.read_adapter(folder / lora_export.ADAPTER_FILE)
    assert metadata.base == "tiny-random-ltx"
    assert any(up.any() for _, up in adapter.pairs.values())
    videos = list(demo.workspace.glob("store/samples/*/samples/*.mp4"))
    made = [provenance.read_provenance(video) for video in videos]
    assert len([one for one in made if one.backbone == "tiny-random-ltx"]) == len(PROMPTS)
    printed, _ = demo.run()
    assert "Nothing to compute: every stage was cached." in printed


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
