"""A run over a folder of broken and hostile files: all good files finish, nothing crashes.

The real command, its own Prefect server, every file of ``tests.hostile_files`` in one folder.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import av
import pytest

from mimix_core import tables
from mimix_core.engine import registry
from mimix_core.project.quarantine import find_quarantined_units
from mimix_core.project.workspace import SourceEpisode, Workspace, open_workspace
from mimix_core.settings import load_config
from mimix_core.tables import Row, Status
from tests.e2e.demo import ROOT, Demo, stage_lines
from tests.hostile_files import (
    HARMLESS,
    ODD_NAMES,
    WITH_CLIPS,
    WITHOUT_CLIPS,
    detect_outside_access,
    write_corpus,
)
from tests.hostile_sources import SourceFiles

pytestmark = pytest.mark.e2e

SETTINGS = """\
library: library.yaml
workspace: workspace
run: {max_workers: 2, stall_timeout_minutes: 1, memory_limit_gb: 2}
overlays: {backend: none}
clips: {width: 128, height: 80, preset: ultrafast}
"""

LIBRARY = """\
shows:
  - id: night
    title: Night
    style: cartoon
    characters: [{name: Tom}]
    episodes: [{path: episodes/*}]
"""

GOOD = ("good-1.mp4", "good-2.mp4", "good-3.mp4", *ODD_NAMES)

NO_EPISODES = (
    "a-folder.mp4",
    "a-pipe.mp4",
    "a-plug.mp4",
    "a-loop.mp4",
    "a-gap.mp4",
    "empty.mp4",  # the same bytes as empty-too.mkv
)


@dataclass(frozen=True)
class Night:
    """The run: what was expected of each file, what was printed, what was touched."""

    folder: Path
    expected: dict[Path, set[str]]
    printed: str
    seconds: float
    touched: list[str]
    work: Workspace

    def rows(self, stage: str, episode: SourceEpisode) -> list[Row]:
        return self.rows_of(stage, episode.name)

    def rows_of(self, stage: str, unit: str) -> list[Row]:
        """The rows of the stage for a unit, from the one result there is."""
        path = self.folder_of(stage, unit) / self.work.store.TABLE
        return tables.read(path, registry.get_stage(stage).table)

    def folder_of(self, stage: str, unit: str) -> Path:
        keys = self.keys[stage, unit]
        assert len(keys) == 1, f"{len(keys)} results of {stage} for {unit}"
        return self.work.store.folder(stage, keys[0])

    @cached_property
    def keys(self) -> dict[tuple[str, str], list[str]]:
        found: dict[tuple[str, str], list[str]] = {}
        for record in self.work.store.records():
            found.setdefault((record.stage, record.unit), []).append(record.key)
        return found

    def episode(self, name: str) -> SourceEpisode:
        return next(e for e in self.work.episodes if e.video.path.name == name)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    folder = tmp_path_factory.mktemp("night")
    episodes = folder / "episodes"
    (folder / "library.yaml").write_text(LIBRARY)
    (folder / "mimix.yaml").write_text(SETTINGS)
    with (
        detect_outside_access(folder) as (web, secret, touched),
        socket.socket(socket.AF_UNIX) as plug,
    ):
        sources = SourceFiles(folder / "kit", web, secret)
        expected = write_corpus(sources, episodes)
        for number, name in enumerate(GOOD):
            expected[sources.good(episodes / name, first_shot=number + 1)] = set()
        (episodes / "a-folder.mp4").mkdir()
        os.mkfifo(episodes / "a-pipe.mp4")
        (episodes / "a-loop.mp4").symlink_to(episodes / "a-loop.mp4")
        (episodes / "a-gap.mp4").symlink_to(folder / "nothing")
        # The name of a socket must be short, wherever the folder is.
        short = Path(os.path.relpath(episodes))
        plug.bind(str(min(short, episodes, key=lambda path: len(str(path))) / "a-plug.mp4"))
        demo = Demo(folder, folder / "mimix.yaml", "curate")
        started = time.monotonic()
        done = subprocess.run(
            demo.words(),
            cwd=ROOT,
            env=demo.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        seconds = time.monotonic() - started
        # Most of the files are broken: the run finishes, and does not exit as if all were well.
        assert done.returncode == 1, done.stdout
        assert "failed scenes: " in done.stdout
        work = open_workspace(load_config(folder / "mimix.yaml"))
    return Night(folder, expected, done.stdout, seconds, touched, work)


def test_the_corpus_is_as_large_as_it_claims(night: Night) -> None:
    broken = [path for path, reasons in night.expected.items() if reasons]
    assert len(broken) >= 100
    assert night.seconds < 240


def test_every_broken_file_has_a_reason(night: Night) -> None:
    wrong = []
    for path, reasons in night.expected.items():
        if not reasons or path.name in NO_EPISODES or path.name in WITHOUT_CLIPS:
            continue
        rows = night.rows("scenes", night.episode(path.name))
        found = {row["reason"] for row in rows if row["status"] != Status.OK}
        if not found & reasons:
            wrong.append((path.name, found, reasons))
        for row in rows:
            if row["status"] != Status.OK:
                assert len(row["detail"]) >= 10, (path.name, row["detail"])
                assert str(night.folder) not in row["detail"]
    assert wrong == []


def test_no_broken_file_produces_a_clip(night: Night) -> None:
    for path, reasons in night.expected.items():
        if reasons and path.name not in (*NO_EPISODES, *WITH_CLIPS):
            clips = night.rows("clips", night.episode(path.name))
            assert [row["clip_id"] for row in tables.usable(clips)] == [], path.name


@pytest.mark.parametrize("name", sorted(WITHOUT_CLIPS))
def test_files_without_a_clip_have_a_reason(night: Night, name: str) -> None:
    episode = night.episode(name)
    rows = [*night.rows("scenes", episode), *night.rows("clips", episode)]
    assert not list(tables.usable(night.rows("clips", episode)))
    assert any(row["status"] != Status.OK and row["detail"] for row in rows)


@pytest.mark.parametrize("name", sorted({*GOOD, *HARMLESS}))
def test_every_good_file_produces_its_clip(night: Night, name: str) -> None:
    episode = night.episode(name)
    clips = list(tables.usable(night.rows("clips", episode)))
    assert clips
    for clip in clips:
        file = night.folder_of("clips", episode.name) / clip["file"]
        with av.open(str(file)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 81
    # Some of them show the same pictures: the stage that knows lets one of those through.
    judged = {row["clip_id"] for row in night.rows_of("duplicates", "all")}
    assert {clip["clip_id"] for clip in clips} <= judged
    if name in GOOD[:3]:
        assert night.rows("captions", episode)


def test_nothing_but_the_files_was_touched(night: Night) -> None:
    assert night.touched == []


def test_files_that_cannot_be_episodes_are_left_out_with_a_notice(night: Night) -> None:
    said = " ".join(night.printed.split())
    for name in NO_EPISODES:
        assert re.search(rf"{re.escape(name)} \S.*: left out", said), name
    assert len(night.work.notices) == len(NO_EPISODES)


def test_the_run_and_the_quarantine_list_every_failure(night: Night) -> None:
    lines = stage_lines(night.printed)
    assert "captions" in lines
    found = find_quarantined_units(night.work.store, night.work.episodes)
    listed = {one.file for one in found if one.stage == "scenes"}
    failed = {
        path.resolve()
        for path, reasons in night.expected.items()
        if reasons and path.name not in NO_EPISODES and path.name not in WITHOUT_CLIPS
    }
    rejected_only = {
        path
        for path in failed
        if not any(
            row["status"] == Status.FAILED for row in night.rows("scenes", night.episode(path.name))
        )
    }
    assert listed == failed - rejected_only
