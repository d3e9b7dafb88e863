"""``ingest`` adds only complete videos, each once, and replaces no file."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from flows.cli import app
from mimix_core.domain.episode_files import find_episode_files
from mimix_core.domain.library import load_library
from mimix_core.errors import BadInput
from mimix_core.inbox import IngestOutcome, IngestResult, TransferMode, ingest, video_probe
from mimix_core.inbox.atomic_copy import LOCK_FILE, PART_PREFIX
from mimix_core.inbox.candidates import find_candidates, find_sidecars
from mimix_core.settings import Config, load_config
from tests.media_factory import Shot, write_video
from tests.paths import ROOT

LIBRARY = """\
shows:
  - id: toons
    title: Toons
    style: cartoon
    characters: [{name: Tom}]
    episodes: [{path: toons/*.mp4}, {path: toons/*.mkv}]
  - id: bean
    title: Bean
    style: realistic
    characters: [{name: Mr. Bean}]
    episodes: [{path: bean/**/*.mp4}]
  - id: one
    title: One
    style: realistic
    characters: [{name: Clara}]
    episodes: [{path: one.mp4}]
"""


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Return the bytes of three different short videos."""
    folder = tmp_path_factory.mktemp("videos")
    return [
        write_video(folder / f"{n}.mp4", [Shot(20 + n)], size=(96, 64)).path.read_bytes()
        for n in range(3)
    ]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "library.yaml").write_text(LIBRARY)
    (tmp_path / "mimix.yaml").write_text("library: library.yaml\ninbox_settle_seconds: 0.05\n")
    (tmp_path / "in").mkdir()
    return load_config(tmp_path / "mimix.yaml")


def put(folder: Path, name: str, data: bytes, age: float = 60) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (time.time() - age,) * 2)
    return path


def outcomes(arrivals: list[IngestResult]) -> dict[str, IngestOutcome]:
    return {arrival.path.name: arrival.outcome for arrival in arrivals}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK_FILE)


def test_folders_globs_and_files(config: Config, tmp_path: Path, videos: list[bytes]) -> None:
    inbox = tmp_path / "in"
    put(inbox / "season" / "deep", "a.mp4", videos[0])
    put(inbox, "a.en.srt", b"x")
    put(inbox / "season" / "deep", "a.srt", b"1\n00:00:01,000 --> 00:00:02,000\nHi.\n")
    put(inbox / "season" / "deep", "a.de.srt", b"1\n00:00:01,000 --> 00:00:02,000\nHallo.\n")
    put(inbox / "season" / "deep", "a.yaml", b"scenes: []\n")
    put(inbox / "season" / "deep", "ab.srt", b"of another")
    put(inbox, "b.mp4", videos[1])
    put(inbox, ".hidden.mp4", videos[2])
    put(inbox, "poster.jpg", b"\xff\xd8\xff\xe0")
    arrivals = ingest(
        config, "toons", [inbox / "season", str(inbox / "*.mp4"), inbox / "poster.jpg", "nowhere*"]
    )
    assert outcomes(arrivals) == {
        "a.mp4": IngestOutcome.ADDED,
        "b.mp4": IngestOutcome.ADDED,
        "poster.jpg": IngestOutcome.REJECTED,
        "nowhere*": IngestOutcome.REJECTED,
    }
    toons = tmp_path / "toons"
    assert names(toons) == ["a.de.srt", "a.mp4", "a.srt", "a.yaml", "b.mp4"]
    assert (toons / "a.mp4").read_bytes() == videos[0]
    assert [e.path.name for e in episodes(config, "toons")] == ["a.mp4", "b.mp4"]
    assert (inbox / "b.mp4").exists(), "copying keeps the source"


def episodes(config: Config, show: str) -> list:
    """Return the episodes that a run would find; the other shows' episodes are created first."""
    put(config.library.parent, "one.mp4", b"one")
    put(config.library.parent / "bean", "bean.mp4", b"bean")
    put(config.library.parent / "toons", "other.mkv", b"other")
    found = load_library(config.library).get_show(show).episodes
    return [episode for episode in found if episode.path.name != "other.mkv"]


def test_the_same_episode_under_another_name_is_a_duplicate(
    config: Config, tmp_path: Path, videos: list[bytes]
) -> None:
    inbox = tmp_path / "in"
    first = put(inbox, "first.mp4", videos[0])
    again = put(inbox, "again.mkv", videos[0])
    both = ingest(config, "toons", [first, again, first])
    assert [(a.path.name, a.outcome) for a in both] == [
        ("first.mp4", IngestOutcome.ADDED),
        ("again.mkv", IngestOutcome.DUPLICATE),
    ]
    assert "first.mp4" in both[1].detail
    later = put(inbox, "later.mp4", videos[0])
    [arrival] = ingest(config, "toons", [later])
    assert (arrival.outcome, arrival.target) == (
        IngestOutcome.DUPLICATE,
        tmp_path / "toons" / "first.mp4",
    )
    [there] = ingest(config, "toons", [tmp_path / "toons"])
    assert there.outcome is IngestOutcome.DUPLICATE
    assert "already in the library" in there.detail
    [other_show] = ingest(config, "bean", [later])
    assert other_show.outcome is IngestOutcome.REJECTED
    assert "first.mp4 of show toons" in other_show.detail
    assert names(tmp_path / "bean") == []


def test_no_file_is_replaced(config: Config, tmp_path: Path, videos: list[bytes]) -> None:
    put(tmp_path / "toons", "a.mp4", videos[0])
    new = put(tmp_path / "in", "a.mp4", videos[1])
    [rejected] = ingest(config, "toons", [new])
    assert rejected.outcome is IngestOutcome.REJECTED
    assert "--rename" in rejected.detail
    [added] = ingest(config, "toons", [new], rename=True)
    assert added.outcome is IngestOutcome.ADDED
    assert added.target is not None
    assert added.target.name.startswith("a-")
    assert (tmp_path / "toons" / "a.mp4").read_bytes() == videos[0]
    assert added.target.read_bytes() == videos[1]
    # Nor are sidecars: the new video's would be used for the old one.
    third = put(tmp_path / "in", "c.mp4", videos[2])
    put(tmp_path / "in", "c.srt", b"new")
    put(tmp_path / "toons", "c.srt", b"old")
    [rejected] = ingest(config, "toons", [third])
    assert "c.srt exists with other content" in rejected.detail
    assert (tmp_path / "toons" / "c.srt").read_bytes() == b"old"
    assert not (tmp_path / "toons" / "c.mp4").exists()


def test_a_file_that_is_not_a_video_is_rejected_with_the_reason(
    config: Config, tmp_path: Path
) -> None:
    inbox = tmp_path / "in"
    put(inbox, "empty.mp4", b"")
    put(inbox, "page.mp4", b"<html>404</html>")
    put(inbox, "two\nlines.mp4", b"x")
    os.mkfifo(inbox / "pipe.mp4")
    (inbox / "gone.mp4").symlink_to(inbox / "nothing")
    (inbox / "loop.mp4").symlink_to(inbox / "loop.mp4")
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind(str(inbox / "plug.mp4"))
        arrivals = ingest(
            config,
            "toons",
            [inbox, put(inbox, "lone.srt", b"x"), b"\xff.mp4".decode(errors="surrogateescape")],
        )
    assert {a.outcome for a in arrivals} == {IngestOutcome.REJECTED}
    details = {a.path.name: a.detail for a in arrivals}
    assert "not readable as a video" in details["empty.mp4"]
    assert "not readable as a video" in details["page.mp4"]
    assert "control characters" in details["two\nlines.mp4"]
    assert details["pipe.mp4"] == details["plug.mp4"] == "is not a regular file"
    assert "No such file" in details["gone.mp4"]
    assert "symbolic links" in details["loop.mp4"]
    assert "is a sidecar" in details["lone.srt"]
    assert names(tmp_path / "toons") == []


def test_a_name_that_matches_no_glob_is_rejected(
    config: Config, tmp_path: Path, videos: list[bytes]
) -> None:
    new = put(tmp_path / "in", "a.avi", videos[0])
    [rejected] = ingest(config, "toons", [new])
    assert "- path: toons/*.avi" in rejected.detail
    with pytest.raises(BadInput, match=r"- path: episodes/one/\*\.mp4"):
        ingest(config, "one", [new])
    with pytest.raises(BadInput, match="The shows are: toons, bean, one"):
        ingest(config, "tones", [new])
    assert not (tmp_path / "episodes").exists()


def test_a_file_that_is_still_being_written_is_incomplete(
    config: Config, tmp_path: Path, videos: list[bytes]
) -> None:
    growing = put(tmp_path / "in", "growing.mp4", videos[0][:1000], age=0)
    held = put(tmp_path / "in", "held.mp4", videos[1])
    fresh = put(tmp_path / "in", "fresh.mp4", videos[2], age=0)
    timer = threading.Timer(0.5, lambda: growing.write_bytes(videos[0]))
    timer.start()
    with held.open("ab"):
        arrivals = ingest(config, "toons", [growing, held, fresh], settle_seconds=1.0)
    timer.join()
    assert outcomes(arrivals) == {
        "growing.mp4": IngestOutcome.INCOMPLETE,
        "held.mp4": IngestOutcome.INCOMPLETE,
        "fresh.mp4": IngestOutcome.ADDED,
    }
    again = ingest(config, "toons", [growing, held], settle_seconds=0.2)
    assert set(outcomes(again).values()) == {IngestOutcome.ADDED}


@pytest.mark.parametrize("mode", TransferMode)
def test_a_file_is_copied_moved_or_linked(
    config: Config, tmp_path: Path, videos: list[bytes], mode: TransferMode
) -> None:
    source = put(tmp_path / "in", "a.mp4", videos[0])
    put(tmp_path / "in", "a.srt", b"1\n")
    [added] = ingest(config, "toons", [source], mode=mode)
    target = tmp_path / "toons" / "a.mp4"
    assert added.outcome is IngestOutcome.ADDED
    assert target.read_bytes() == videos[0]
    assert (tmp_path / "toons" / "a.srt").read_bytes() == b"1\n"
    assert target.is_symlink() == (mode is TransferMode.LINK)
    assert source.exists() == (mode is not TransferMode.MOVE)
    if mode is TransferMode.COPY:
        source.write_bytes(b"changed")
        assert target.read_bytes() == videos[0]


def test_a_dry_run_changes_nothing(config: Config, tmp_path: Path, videos: list[bytes]) -> None:
    source = put(tmp_path / "in", "a.mp4", videos[0])
    copy = put(tmp_path / "in", "b.mp4", videos[0])
    arrivals = ingest(config, "toons", [source, copy], mode=TransferMode.MOVE, dry_run=True)
    assert [a.outcome for a in arrivals] == [IngestOutcome.ADDED, IngestOutcome.DUPLICATE]
    assert not (tmp_path / "toons").exists()
    assert source.exists()


INGEST = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from mimix_core.inbox import atomic_copy, ingest
    from mimix_core.settings import load_config
    atomic_copy._BLOCK_BYTES = int(sys.argv[3])
    for arrival in ingest(load_config(Path(sys.argv[1])), "toons", [sys.argv[2]]):
        print(arrival.outcome.value)
    """
)


def start(config: Config, source: Path, block: int = 1 << 22) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", INGEST, config.library.parent / "mimix.yaml", source, block]
    return subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_concurrent_calls_add_a_video_once(
    config: Config, tmp_path: Path, videos: list[bytes]
) -> None:
    first = put(tmp_path / "in", "a.mp4", videos[0])
    second = put(tmp_path / "in", "b.mp4", videos[0])
    runs = [start(config, first), start(config, second)]
    outputs = sorted(run.communicate(timeout=60)[0].strip() for run in runs)
    assert outputs == ["added", "duplicate"]
    assert len(names(tmp_path / "toons")) == 1


def test_a_copy_that_is_killed_leaves_no_file_that_a_glob_matches(
    config: Config, tmp_path: Path, videos: list[bytes]
) -> None:
    source = put(tmp_path / "in", "a.mp4", videos[0] + bytes(30_000_000))
    run = start(config, source, block=64)
    deadline = time.monotonic() + 60
    while not any(p.stat().st_size for p in tmp_path.glob(f"toons/{PART_PREFIX}*")):
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.005)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert any(name.startswith(PART_PREFIX) for name in names(tmp_path / "toons"))
    assert find_episode_files(tmp_path, Path("toons/*")) == []
    [added] = ingest(config, "toons", [source])
    assert added.outcome is IngestOutcome.ADDED
    assert names(tmp_path / "toons") == ["a.mp4"], "the partial copy is removed"
    assert (tmp_path / "toons" / "a.mp4").stat().st_size == source.stat().st_size


def test_a_file_that_blocks_its_reader_is_rejected(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "not decoded within 3 s" in video_probe.probe_error(tmp_path / "pipe.mp4", seconds=3)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1),
        max_size=4,
    )
)
def test_sidecars_are_files_of_the_videos_name(
    tmp_path_factory: pytest.TempPathFactory, ends: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("s")
    video = put(folder, "ep.mp4", b"")
    for end in ends:
        if len(end.encode()) < 200:
            put(folder, f"ep{end}", b"x")
    for sidecar, rest in find_sidecars(video):
        assert sidecar.name == f"ep{rest}"
        assert rest.startswith(".")
        assert sidecar != video
    assert find_candidates([folder])[0].count(video) == 1


def test_the_ingest_command(config: Config, tmp_path: Path, videos: list[bytes]) -> None:
    settings_file = str(tmp_path / "mimix.yaml")
    put(tmp_path / "in", "[red]a.mp4", videos[0])
    put(tmp_path / "in", "b.mp4", videos[0])
    good = CliRunner().invoke(
        app, ["ingest", settings_file, "--show", "toons", str(tmp_path / "in")]
    )
    assert good.exit_code == 0, good.output
    assert "added      [red]a.mp4" in good.output
    assert "duplicate  b.mp4  was added before as [red]a.mp4" in good.output
    assert "toons: 1 added, 1 duplicate, 0 incomplete, 0 rejected" in good.output
    put(tmp_path / "in", "c.mp4", b"no video")
    bad = CliRunner().invoke(
        app, ["ingest", settings_file, "--show", "toons", str(tmp_path / "in")]
    )
    assert bad.exit_code == 1
    assert "rejected   c.mp4" in bad.output
    wrong = CliRunner().invoke(app, ["ingest", settings_file, "--show", "x", str(tmp_path / "in")])
    assert wrong.exit_code == 2
