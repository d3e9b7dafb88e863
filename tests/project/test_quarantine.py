"""Files that no decoder survives: failed rows with their reasons, and how they get another try."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from mimix_core import tables
from mimix_core.engine.stage import commit_failed_unit, run_stage
from mimix_core.engine.store import Store
from mimix_core.engine.worker import build_request
from mimix_core.errors import BadInput
from mimix_core.project.quarantine import find_quarantined_units, release_units
from mimix_core.project.workspace import Workspace, open_workspace
from mimix_core.settings import load_config
from mimix_core.stages import scenes
from mimix_core.tables import Reason
from tasks.subprocess_runner import run_in_subprocess, stop_idle_units
from tests.hostile_files import detect_outside_access, write_corpus
from tests.hostile_sources import SourceFiles

HERE = (
    "cut-at-50-percent.mp4",
    "cut-at-98-percent-no-index.mp4",
    "cut.mkv",
    "cut-inside-the-index.mp4",
    "damaged-1-in-100.mp4",
    "never-downloaded-tail.mp4",
    "all-media-noise.mp4",
    "sound-m4a.mp4",
    "cover-picture-only.mp4",
    "subtitles-only.mkv",
    "null-packets.ts",
    "empty.mp4",
    "noise.mp4",
    "html.mp4",
    "jpeg.mp4",
    "playlist-of-the-web.mp4",
    "playlist-of-a-secret.mp4",
    "concat.mp4",
    "media-in-another-file.mp4",
    "codec-unknown.mp4",
    "65520-pixels-wide.mp4",
    "picture-bomb.mov",
    "twenty-million-frames.mp4",
    "encrypted.mp4",
    "all-frames-at-once.mp4",
    "clock-starts-again.ts",
    "size-changes.ts",
    "seeks-to-itself.mkv",
)
"""Of each kind some; ``tests/e2e/test_hostile.py`` has all, in a whole run."""


def test_hostile_files_fail_each_with_its_reason_and_touch_nothing_else(
    store: Store, tmp_path: Path
) -> None:
    with detect_outside_access(tmp_path) as (web, secret, touched):
        corpus = write_corpus(SourceFiles(tmp_path / "kit", web, secret), tmp_path / "corpus")
        config = load_config(project(tmp_path))
        wrong = []
        for name in HERE:
            path = tmp_path / "corpus" / name
            inputs = scenes.SceneInputs(
                unit=name, show="night", style="cartoon", video=store.source_ref(path)
            )
            log = tmp_path / "logs" / f"{name}.log"
            asked = build_request(
                scenes.STAGE, store, inputs, config.scenes, log, memory_bytes=1_500_000_000
            )
            reply = run_in_subprocess(asked, timeout_seconds=60, on_progress=lambda *said: None)
            assert reply.ref is not None
            rows = tables.read(reply.ref.path, tables.SCENES)
            found = {row["reason"] for row in rows if row["reason"] is not None}
            if not (found & corpus[path] if corpus[path] else any(tables.usable(rows))):
                wrong.append((name, found, corpus[path]))
            assert all(row["detail"] for row in rows if row["reason"] is not None)
            assert not any(str(tmp_path) in (row["detail"] or "") for row in rows)
        stop_idle_units("scenes")
        assert wrong == []
        assert touched == []


def project(folder: Path, episodes: str = "corpus/*") -> Path:
    (folder / "corpus").mkdir(exist_ok=True)
    (folder / "library.yaml").write_text(
        "shows:\n  - {id: night, title: Night, style: cartoon, characters: [{name: Tom}],\n"
        f"     episodes: [{{path: '{episodes}'}}]}}\n"
        "  - {id: day, title: Day, style: realistic, characters: [{name: Clara}],\n"
        "     episodes: [{path: 'day/*.mp4'}]}\n"
    )
    (folder / "day").mkdir(exist_ok=True)
    (folder / "day" / "good.mp4").write_bytes(b"of the day")
    (folder / "mimix.yaml").write_text("library: library.yaml\n")
    return folder / "mimix.yaml"


def opened(folder: Path) -> Workspace:
    return open_workspace(load_config(folder / "mimix.yaml"))


def test_what_a_glob_catches_and_cannot_use_is_left_out_with_a_notice(tmp_path: Path) -> None:
    project(tmp_path)
    folder = tmp_path / "corpus"
    (folder / "good.mp4").write_bytes(b"x")
    (folder / "a-again.mkv").write_bytes(b"x")
    (folder / "empty-1.mp4").write_bytes(b"")
    (folder / "empty-2.mp4").write_bytes(b"")
    (tmp_path / "day" / "empty.mp4").write_bytes(b"")
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    (folder / "gone.mp4").symlink_to(tmp_path / "nothing")
    (folder / "terminal.mp4").symlink_to("/dev/zero")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.mp4")).write_bytes(b"y")
    (folder / ".hidden.mp4").write_bytes(b"z")
    (folder / "good.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nHello.\n")
    work = opened(tmp_path)
    assert [(e.name, e.show.id) for e in work.episodes] == [
        ("night/good.mp4", "night"),  # the one of the two that has subtitles beside it
        ("empty-1", "night"),
        ("empty", "day"),
        ("day/good.mp4", "day"),
    ]
    said = {Path(n.split(" ")[0]).name: n.split(" ", 1)[1] for n in work.notices}
    assert said == {
        "a-again.mkv": f"is the same video as {folder / 'good.mp4'}: left out",
        "empty-2.mp4": f"is the same video as {folder / 'empty-1.mp4'}: left out",
        "folder.mp4": "is not a regular file: left out",
        "pipe.mp4": "is not a regular file: left out",
        "loop.mp4": "cannot be read (Too many levels of symbolic links): left out",
        "gone.mp4": "cannot be read (No such file or directory): left out",
        "terminal.mp4": "is not a regular file: left out",
        "\\udcff.mp4": "has a name that is not UTF-8: left out",
    }


def test_what_the_library_names_is_an_error_before_any_work(tmp_path: Path) -> None:
    project(tmp_path, episodes="corpus/pipe.mp4")
    os.mkfifo(tmp_path / "corpus" / "pipe.mp4")
    with pytest.raises(BadInput, match=r"no file .*pipe.mp4"):
        opened(tmp_path)


def test_the_same_video_in_two_shows_is_an_error(tmp_path: Path) -> None:
    project(tmp_path)
    (tmp_path / "corpus" / "a.mp4").write_bytes(b"of the day")
    with pytest.raises(BadInput, match="are the same video"):
        opened(tmp_path)


def test_episodes_of_one_name_are_told_apart(tmp_path: Path) -> None:
    project(tmp_path)
    for name in ("good.mp4", "good.mkv", "one.avi"):
        (tmp_path / "corpus" / name).write_bytes(name.encode())
    names = [episode.name for episode in opened(tmp_path).episodes]
    assert names == ["good.mkv", "night/good.mp4", "one", "day/good.mp4"]


def test_a_glob_that_caught_nothing_usable_is_an_error(tmp_path: Path) -> None:
    project(tmp_path)
    (tmp_path / "corpus" / "folder.mp4").mkdir()
    (tmp_path / "day" / "good.mp4").unlink()
    (tmp_path / "day" / "other.mp4").mkdir()
    with pytest.raises(BadInput, match="no usable episode"):
        opened(tmp_path)


def scene_stage_inputs(work: Workspace, unit: str) -> tuple[scenes.SceneInputs, object]:
    episode = next(e for e in work.episodes if e.name == unit)
    inputs = scenes.SceneInputs(
        unit=unit, show=episode.show.id, style=episode.show.style, video=episode.video
    )
    return inputs, work.config.scenes


@pytest.mark.parametrize("reason", [Reason.DECODER_CRASHED, Reason.UNFORESEEN_ERROR])
def test_quarantine_lists_and_retry_tries_again(tmp_path: Path, reason: Reason) -> None:
    settings = str(project(tmp_path))
    for name in ("page.mp4", "crashes.mp4", "renamed.mp4"):
        (tmp_path / "corpus" / name).write_bytes(f"<html>{name}</html>".encode())
    work = opened(tmp_path)
    assert find_quarantined_units(work.store, work.episodes) == []
    for unit in ("page", "renamed"):
        run_stage(work.store, scenes.STAGE, *scene_stage_inputs(work, unit))
    inputs, stage_settings = scene_stage_inputs(work, "crashes")
    died = "the process that read the file ended by signal SIGSEGV"
    commit_failed_unit(work.store, scenes.STAGE, inputs, stage_settings, reason, died)
    (tmp_path / "corpus" / "renamed.mp4").rename(tmp_path / "corpus" / "by-another-name.mp4")
    work = opened(tmp_path)
    found = find_quarantined_units(work.store, work.episodes)
    assert [(unit.unit, unit.reason) for unit in found] == [
        ("by-another-name", "unreadable_video"),
        ("crashes", reason),
        ("page", "unreadable_video"),
    ]
    assert found[1].detail == died

    listed = CliRunner().invoke(app, ["quarantine", settings], env={"COLUMNS": "400"})
    assert listed.exit_code == 0
    assert Counter(listed.output.split())["unreadable_video"] == 2
    assert died in listed.output

    with pytest.raises(BadInput, match="not in quarantine: good"):
        release_units(work.store, found, ["good"])
    with work.store.in_use(), work.store.in_use():  # two runs
        refused = CliRunner().invoke(app, ["retry", settings], env={"COLUMNS": "400"})
    assert refused.exit_code == 2
    assert "Try again when it has ended" in refused.output
    again = CliRunner().invoke(app, ["retry", settings, "crashes"])
    assert again.exit_code == 0
    assert "crashes: scenes will run again" in again.output
    assert [unit.unit for unit in find_quarantined_units(work.store, work.episodes)] == [
        "by-another-name",
        "page",
    ]
    result = run_stage(work.store, scenes.STAGE, inputs, stage_settings)
    assert result.computed
    assert (
        len(release_units(work.store, find_quarantined_units(work.store, work.episodes), [])) == 3
    )
    assert list(work.store.records()) == []


def test_failed_rows_must_have_status_failed(store: Store) -> None:
    from dataclasses import replace

    from mimix_core.engine.stage import StageReport
    from mimix_core.errors import StageFailed
    from tests.tasks.fake_stage import STAGE, FakeInputs, FakeSettings

    def ok_rows(
        inputs: FakeInputs, settings: FakeSettings, reason: Reason, detail: str
    ) -> StageReport:
        return StageReport([tables.ok(page="p", file="")], rows_in=1)

    for failed_rows, message in ((ok_rows, "not all rows"), (None, "stalled")):
        stage = replace(STAGE, failed_rows=failed_rows)
        with pytest.raises(StageFailed, match=message):
            commit_failed_unit(
                store, stage, FakeInputs(), FakeSettings(), Reason.DECODER_HUNG, "stalled"
            )
    assert list(store.records()) == []
