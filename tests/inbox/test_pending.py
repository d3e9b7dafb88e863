"""The inbox folder: finding pending files, notifying of them, ingesting them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.errors import BadInput
from mimix_core.inbox import IngestOutcome, PendingFile, find_pending, ingest_pending
from mimix_core.inbox.notification_backoff import (
    INITIAL_INTERVAL_SECONDS,
    MAX_INTERVAL_SECONDS,
    NotificationBackoff,
)
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import Config, load_config
from tests.deployments.project_factory import write_episode, write_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inbox")
    write_project(folder)
    write_episode(folder / "new.mp4", 24 * 6 + 30)
    return folder


@pytest.fixture
def config(project: Path, tmp_path: Path) -> Config:
    shutil.copytree(project, tmp_path / "p")
    return load_config(tmp_path / "p" / "mimix.yaml")


def inbox(config: Config) -> Path:
    assert config.inbox is not None
    return config.inbox


def put(config: Config, source: str, name: str, *, age: float = 60) -> Path:
    """Copy a file into the inbox of show toons, last modified ``age`` seconds ago."""
    path = inbox(config) / "toons" / name
    path.parent.mkdir(exist_ok=True)
    shutil.copyfile(config.library.parent / source, path)
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    return path


def pending_names(config: Config) -> list[str]:
    return [one.path.name for one in find_pending(config, settle_seconds=0.05)]


def test_a_complete_new_file_is_pending_and_ingested_once(config: Config) -> None:
    put(config, "new.mp4", "new.mp4")
    assert pending_names(config) == ["new.mp4"]
    [result] = ingest_pending(config, settle_seconds=0.05)
    assert result.outcome is IngestOutcome.ADDED
    assert not list((inbox(config) / "toons").iterdir())
    assert "new.mp4" in {e.video.path.name for e in open_workspace(config).episodes}
    put(config, "toons/new.mp4", "again.mp4")
    assert pending_names(config) == []
    assert [a.outcome for a in ingest_pending(config, settle_seconds=0.05)] == [
        IngestOutcome.DUPLICATE
    ]


def test_a_file_under_two_names_is_pending_once(config: Config) -> None:
    put(config, "new.mp4", "one.mp4")
    put(config, "new.mp4", "two.mp4")
    assert pending_names(config) == ["one.mp4"]


def test_a_file_that_is_being_written_is_not_pending(config: Config) -> None:
    path = put(config, "new.mp4", "new.mp4")
    with path.open("ab") as copy:
        assert pending_names(config) == []
        assert [a.outcome for a in ingest_pending(config, settle_seconds=0.05)] == [
            IngestOutcome.INCOMPLETE
        ]
        copy.flush()
    assert pending_names(config) == ["new.mp4"]


def test_a_rejected_file_stays_with_its_reason(config: Config) -> None:
    put(config, "library.yaml", "notes.mp4")
    (inbox(config) / "no-show").mkdir()
    results = {a.path.name: a for a in ingest_pending(config, settle_seconds=0.05)}
    assert {a.outcome for a in results.values()} == {IngestOutcome.REJECTED}
    assert "toons" in results["no-show"].detail
    assert (inbox(config) / "toons" / "notes.mp4").exists()


def test_without_an_inbox_the_settings_are_wrong(config: Config) -> None:
    with pytest.raises(BadInput, match="key inbox"):
        find_pending(config.model_copy(update={"inbox": None}))
    with pytest.raises(BadInput, match="no folder"):
        ingest_pending(config.model_copy(update={"inbox": inbox(config) / "gone"}))


def file(name: int) -> PendingFile:
    return PendingFile("toons", Path(f"{name}.mp4"), f"{name:064d}", 1)


@given(
    st.lists(st.tuples(st.floats(0.5, 500), st.sets(st.integers(0, 4)), st.booleans()), max_size=60)
)
def test_notifications_are_sent_at_once_and_repeated_with_growing_intervals(
    checks: list[tuple[float, set[int], bool]],
) -> None:
    backoff, now = NotificationBackoff(), 0.0
    sent: dict[int, list[float]] = {}
    for wait, names, delivered in checks:
        now += wait
        sent = {name: times for name, times in sent.items() if name in names}
        due = backoff.due([file(name) for name in sorted(names)], now)
        notified = {int(one.sha256) for one in due}
        assert {name for name in names if name not in sent} <= notified
        if not delivered:
            continue
        backoff.mark_sent(due, now)
        for name in notified:
            times = sent.setdefault(name, [])
            if times:
                pause = min(INITIAL_INTERVAL_SECONDS * 2 ** (len(times) - 1), MAX_INTERVAL_SECONDS)
                assert now - times[-1] >= pause
            times.append(now)
    longest = MAX_INTERVAL_SECONDS + 1
    assert len(backoff.due([file(name) for name in sent], now + longest)) == len(sent)
