"""The inbox as a folder: what waits in it, when it is told of, how it is emptied."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.errors import BadInput
from mimix_core.inbox import Outcome, Waiting, pending, take_in
from mimix_core.inbox.notification_backoff import FIRST_SECONDS, LAST_SECONDS, Announcer
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import Config, load_config
from tests.deployments.project_factory import write_project, write_episode


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inbox")
    write_project(folder)
    write_episode(folder / "new.mp4", 24 * 6 + 30)
    return folder


@pytest.fixture
def config(made: Path, tmp_path: Path) -> Config:
    shutil.copytree(made, tmp_path / "p")
    return load_config(tmp_path / "p" / "mimix.yaml")


def inbox(config: Config) -> Path:
    assert config.inbox is not None
    return config.inbox


def put(config: Config, source: str, name: str, *, age: float = 60) -> Path:
    """A file in the inbox of show toons that was last written to ``age`` seconds ago."""
    path = inbox(config) / "toons" / name
    path.parent.mkdir(exist_ok=True)
    shutil.copyfile(config.library.parent / source, path)
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    return path


def found(config: Config) -> list[str]:
    return [one.path.name for one in pending(config, settle_seconds=0.05)]


def test_a_whole_new_file_waits_and_is_taken_in_once(config: Config) -> None:
    put(config, "new.mp4", "new.mp4")
    assert found(config) == ["new.mp4"]
    [arrival] = take_in(config, settle_seconds=0.05)
    assert arrival.outcome is Outcome.TAKEN
    assert not list((inbox(config) / "toons").iterdir())
    assert "new.mp4" in {e.video.path.name for e in open_workspace(config).episodes}
    put(config, "toons/new.mp4", "again.mp4")
    assert found(config) == []
    assert [a.outcome for a in take_in(config, settle_seconds=0.05)] == [Outcome.KNOWN]


def test_the_same_file_under_two_names_waits_once(config: Config) -> None:
    put(config, "new.mp4", "one.mp4")
    put(config, "new.mp4", "two.mp4")
    assert found(config) == ["one.mp4"]


def test_a_file_that_is_being_written_does_not_wait_yet(config: Config) -> None:
    path = put(config, "new.mp4", "new.mp4")
    with path.open("ab") as copy:
        assert found(config) == []
        assert [a.outcome for a in take_in(config, settle_seconds=0.05)] == [Outcome.BUSY]
        copy.flush()
    assert found(config) == ["new.mp4"]


def test_what_cannot_come_in_stays_and_says_why(config: Config) -> None:
    put(config, "library.yaml", "notes.mp4")
    (inbox(config) / "no-show").mkdir()
    said = {a.path.name: a for a in take_in(config, settle_seconds=0.05)}
    assert {a.outcome for a in said.values()} == {Outcome.REFUSED}
    assert "toons" in said["no-show"].detail
    assert (inbox(config) / "toons" / "notes.mp4").exists()


def test_without_an_inbox_the_settings_are_wrong(config: Config) -> None:
    with pytest.raises(BadInput, match="key inbox"):
        pending(config.model_copy(update={"inbox": None}))
    with pytest.raises(BadInput, match="no folder"):
        take_in(config.model_copy(update={"inbox": inbox(config) / "gone"}))


def file(name: int) -> Waiting:
    return Waiting("toons", Path(f"{name}.mp4"), f"{name:064d}", 1)


@given(
    st.lists(st.tuples(st.floats(0.5, 500), st.sets(st.integers(0, 4)), st.booleans()), max_size=60)
)
def test_every_file_that_stays_is_told_of_at_once_and_again_but_ever_less(
    looks: list[tuple[float, set[int], bool]],
) -> None:
    announcer, now = Announcer(), 0.0
    told: dict[int, list[float]] = {}
    for wait, names, heard in looks:
        now += wait
        told = {name: times for name, times in told.items() if name in names}
        due = announcer.due([file(name) for name in sorted(names)], now)
        spoken = {int(one.sha256) for one in due}
        assert {name for name in names if name not in told} <= spoken
        if not heard:
            continue
        announcer.told(due, now)
        for name in spoken:
            times = told.setdefault(name, [])
            if times:
                pause = min(FIRST_SECONDS * 2 ** (len(times) - 1), LAST_SECONDS)
                assert now - times[-1] >= pause
            times.append(now)
    silent = LAST_SECONDS + 1
    assert len(announcer.due([file(name) for name in told], now + silent)) == len(told)
