"""The complete pipeline end to end: the results of `make demo`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import pytest
import yaml

from mimix_core import tables
from mimix_core.domain.splits import composite_count
from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.registry import get_stage, stage_names
from tests.e2e.conftest import FinishedDemo
from tests.e2e.demo import ROOT, Demo, stage_lines

pytestmark = pytest.mark.e2e


def rows(demo: Demo, name: str) -> list[tables.Row]:
    table = get_stage(name).table
    return [
        row
        for record in demo.records(name)
        for row in tables.read(demo.store.folder(name, record.key) / demo.store.TABLE, table)
    ]


def usable(demo: Demo, name: str) -> list[tables.Row]:
    return list(tables.usable(rows(demo, name)))


def test_every_stage_runs_and_is_reported(finished: FinishedDemo) -> None:
    lines = stage_lines(finished.printed)
    assert list(lines) == STAGES
    assert not any("cached" in line for line in lines.values())
    assert f"Report: {finished.demo.workspace / 'report' / 'index.html'}" in finished.printed
    assert (finished.demo.workspace / "report" / "index.html").stat().st_size > 10_000


def test_every_clip_decodes_to_81_frames_at_16(finished: FinishedDemo) -> None:
    clips = 0
    for name in ("clips", "composites"):
        for record in finished.demo.records(name):
            folder = finished.demo.store.folder(name, record.key)
            for row in tables.usable(tables.read(folder / "table.parquet", get_stage(name).table)):
                with av.open(str(folder / row["file"])) as container:
                    stream = container.streams.video[0]
                    times = [
                        frame.pts * stream.time_base
                        for packet in container.demux(stream)
                        for frame in packet.decode()
                    ]
                    assert stream.average_rate == Fraction(16)
                assert [time - times[0] for time in times] == [Fraction(k, 16) for k in range(81)]
                assert row["frames"] == 81
                clips += 1
    assert clips >= 18


@pytest.mark.parametrize("name", stage_names())
def test_no_row_is_lost(finished: FinishedDemo, name: str) -> None:
    for record in finished.demo.records(name):
        folder = finished.demo.store.folder(name, record.key)
        found = Counter(
            row["status"] for row in tables.read(folder / "table.parquet", get_stage(name).table)
        )
        counts = record.counts
        assert counts.rows_in == counts.ok + counts.rejected + counts.failed
        assert (found["ok"], found["rejected"], found["failed"]) == (
            counts.ok,
            counts.rejected,
            counts.failed,
        )


@pytest.mark.parametrize(
    ("upstream", "column", "downstream", "parent"),
    [
        ("scenes", "scene_id", "overlays", "scene_id"),
        ("scenes", "scene_id", "clips", "scene_id"),
        ("clips", "clip_id", "duplicates", "clip_id"),
        ("duplicates", "clip_id", "transcripts", "clip_id"),
        ("duplicates", "clip_id", "captions", "clip_id"),
        ("captions", "clip_id", "cutouts", "clip_id"),
        ("cutouts", "cutout_id", "composites", "cutout_id"),
        ("composites", "composite_id", "recaptions", "clip_id"),
        ("duplicates", "clip_id", "dataset", "sample_id"),
        ("duplicates", "clip_id", "latents", "sample_id"),
        ("captions", "clip_id", "embeddings", "sample_id"),
        ("dataset", "sample_id", "lora", "sample_id"),
        ("samples", "prompt_id", "scores", "video_id"),
    ],
)
def test_every_usable_upstream_row_has_a_downstream_row(
    finished: FinishedDemo, upstream: str, column: str, downstream: str, parent: str
) -> None:
    """The counts of one stage could agree and rows still be lost between two stages."""
    given = {row[column] for row in usable(finished.demo, upstream)}
    judged = {row[parent] for row in rows(finished.demo, downstream)}
    assert given
    assert given <= judged
    if downstream not in ("dataset", "latents", "embeddings", "scores"):  # several upstreams
        assert judged <= given


def test_every_episode_is_in_the_tables(finished: FinishedDemo) -> None:
    library = yaml.safe_load((ROOT / "demo" / "library.yaml").read_text())
    episodes = sum(len(show["episodes"]) for show in library["shows"])
    assert len({row["episode_id"] for row in rows(finished.demo, "scenes")}) == episodes


def test_only_the_burned_in_subtitles_are_cropped(finished: FinishedDemo) -> None:
    cropped = {}
    for record in finished.demo.records("overlays"):
        table = finished.demo.store.folder("overlays", record.key) / "table.parquet"
        heights = {
            row["crop_height"] / row["height"] for row in tables.read(table, tables.OVERLAYS)
        }
        if heights:
            [cropped[record.unit]] = heights
    assert 0.75 <= cropped.pop("bbb-forest") < 0.92
    assert len(cropped) >= 4
    assert set(cropped.values()) == {1.0}


def test_captions_are_checked_against_who_was_located(finished: FinishedDemo) -> None:
    wanted = set()
    for record in finished.demo.records("cutouts"):
        folder = finished.demo.store.folder("cutouts", record.key)
        looked_for = tables.read(folder / "table.parquet", tables.CUTOUTS)
        missed = [row for row in looked_for if row["reason"] == tables.Reason.NOT_LOCATED]
        if len(missed) < len(looked_for):  # else nobody looked
            wanted |= {(row["clip_id"], row["character"]) for row in missed}
    assert wanted
    checked = subprocess.run(
        [*finished.demo.words()[:3], "captions", "check", *finished.demo.words()[4:]],
        cwd=ROOT,
        env=finished.demo.environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert checked.returncode == 1
    lines = [line.strip().split(": ", 1) for line in checked.stdout.splitlines()]
    said = {(line[0], found) for line in lines for found in re.findall("'(.*?)' was not", line[1])}
    assert said == wanted


def test_composites_go_both_ways_at_the_exact_ratio(finished: FinishedDemo) -> None:
    composites = usable(finished.demo, "composites")
    assert {row["style"] for row in composites} == {"cartoon", "realistic"}
    assert all(row["style"] != row["character_style"] for row in composites)
    train = [row for row in usable(finished.demo, "dataset") if row["split"] == "train"]
    originals = sum(row["kind"] == "original" for row in train)
    pasted = sum(row["kind"] == "composite" for row in train)
    assert pasted == composite_count(originals, Fraction(1, 5)) >= 2
    split_of = {
        row["sample_id"]: row["split"]
        for row in usable(finished.demo, "dataset")
        if row["kind"] == "original"
    }
    assert "val" in split_of.values()
    for row in composites:
        assert split_of[row["source_clip_id"]] == split_of[row["background_clip_id"]] == "train"


def test_the_held_out_loss_falls(finished: FinishedDemo) -> None:
    [record] = finished.demo.records("lora")
    folder = finished.demo.store.folder("lora", record.key)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    validated = [row for row in log if "val_loss" in row]
    first, last = (
        {row["quantile"]: row["val_loss"] for row in validated if row["step"] == step}
        for step in (validated[0]["step"], validated[-1]["step"])
    )
    assert len(first) >= 5
    assert sum(last.values()) < 0.95 * sum(first.values())
    assert sum(last[q] < first[q] for q in first) >= 0.8 * len(first)


def test_scores_are_named_by_their_backends(finished: FinishedDemo) -> None:
    scored = usable(finished.demo, "scores")
    assert all(re.fullmatch(r"[a-z_]+/[a-z0-9-]+", row["metric"]) for row in scored)
    assert {row["kind"] for row in scored} == {"sample", "clip"}


def test_the_stand_in_has_its_own_name(finished: FinishedDemo) -> None:
    for name in ("backbone", "latents", "embeddings", "samples"):
        assert {row["backbone"] for row in usable(finished.demo, name)} == {"tiny-random-wan"}


def test_a_second_run_computes_nothing_and_reports_it(
    finished: FinishedDemo, tmp_path: Path
) -> None:
    demo = finished.demo.copy(tmp_path / "copy")
    before = demo.digests()
    printed, _ = demo.run()
    lines = stage_lines(printed)
    assert list(lines) == STAGES
    assert all("cached" in line for line in lines.values())
    assert "Nothing to compute: every stage was cached." in printed
    assert demo.digests() == before


STAGES = [
    "scenes",
    "overlays",
    "clips",
    "duplicates",
    "transcripts",
    "captions",
    "cutouts",
    "composites",
    "recaptions",
    "dataset",
    "backbone",
    "latents",
    "embeddings",
    "lora",
    "videos",
    "samples",
    "scores",
    "report",
]
"""Stages that the demo does not run, since no judge is available."""

OF_EPISODES = ("scenes", "overlays", "clips", "transcripts", "captions", "cutouts")


@pytest.mark.e2e
def test_one_more_episode_computes_its_own_stages_only(
    finished: FinishedDemo, footage: Path, tmp_path: Path
) -> None:
    """Per-episode stages stay cached; stages that join episodes are computed again."""
    settings = project_with_one_more_episode(tmp_path / "project")
    demo = finished.demo.copy(tmp_path / "copy", settings=settings, command="augment")
    had = {(r.stage, r.key) for r in demo.store.records()}
    printed, _ = demo.run()
    new = {(r.stage, r.unit) for r in demo.store.records() if (r.stage, r.key) not in had}
    assert new == {
        *((name, "bbb-kite") for name in OF_EPISODES),
        ("duplicates", "all"),
        ("composites", "all"),
        # The same composites, though drawn from more clips, have their captions already.
        *([("recaptions", "all")] if len(rendered_composites(demo)) > 1 else []),
        ("dataset", "all"),
    }
    assert "6 of 7 cached" in stage_lines(printed)["clips"]
    kite = file_ref(footage / "extra" / "bbb-kite.mp4").sha256[:10]
    captioned = {row["clip_id"] for row in usable(demo, "captions")}
    assert any(clip.startswith(f"big-buck-bunny-{kite}") for clip in captioned)


@pytest.mark.drill
def test_one_more_episode_computes_no_other_latents(
    finished: FinishedDemo, footage: Path, tmp_path: Path
) -> None:
    settings = project_with_one_more_episode(tmp_path / "project")
    demo = finished.demo.copy(tmp_path / "copy", settings=settings)
    had = {(r.stage, r.key) for r in demo.store.records()}
    demo.run()
    new = {r.unit for r in demo.records("latents") if (r.stage, r.key) not in had}
    of_composites = {"all"} if len(rendered_composites(demo)) > 1 else set()
    assert new == {"bbb-kite"} | of_composites, "its own, and those of composites that changed"


def rendered_composites(demo: Demo) -> set[frozenset[str]]:
    """Return the digests of the videos of each result of the stage composites."""
    return {
        frozenset(file.sha256 for file in record.files if file.path.endswith(".mp4"))
        for record in demo.records("composites")
    }


def project_with_one_more_episode(folder: Path) -> Path:
    """Create the demo's project with one more episode; return its settings file."""
    library = yaml.safe_load((ROOT / "demo" / "library.yaml").read_text())
    library["shows"][0]["episodes"].append(
        {"path": "footage/extra/bbb-kite.mp4", "script": "scripts/bbb-kite.yaml"}
    )
    folder.mkdir()
    for name in ("scripts", "references", "models", "footage"):
        (folder / name).symlink_to(ROOT / "demo" / name)
    for name in ("mimix.yaml", "prompts.yaml"):
        shutil.copy(ROOT / "demo" / name, folder)
    (folder / "library.yaml").write_text(yaml.safe_dump(library, sort_keys=False))
    return folder / "mimix.yaml"
