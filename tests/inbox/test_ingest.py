"""``ingest``: whole, once, videos only, and nothing that is there is replaced."""

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
from mimix_core.domain.library import episode_files, load_library
from mimix_core.errors import BadInput
from mimix_core.inbox import Arrival, How, Outcome, ingest, video_probe
from mimix_core.inbox.atomic_copy import LOCK, PART
from mimix_core.inbox.candidates import candidates, sidecars
from mimix_core.settings import Config, load_config
from tests.media_factory import Shot, write_video

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

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Three short videos that differ."""
    folder = tmp_path_factory.mktemp("videos")
    return [
        write_video(folder / f"{n}.mp4", [Shot(20 + n)], size=(96, 64)).path.read_bytes()
        for n in range(3)
    ]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "library.yaml").write_text(LIBRARY)
    (tmp_path / "mimix.yaml").write_text("library: library.yaml\n")
    (tmp_path / "in").mkdir()
    return load_config(tmp_path / "mimix.yaml")


def put(folder: Path, name: str, data: bytes, age: float = 60) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (time.time() - age,) * 2)
    return path


def outcomes(arrivals: list[Arrival]) -> dict[str, Outcome]:
    return {arrival.path.name: arrival.outcome for arrival in arrivals}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK)


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
        "a.mp4": Outcome.TAKEN,
        "b.mp4": Outcome.TAKEN,
        "poster.jpg": Outcome.REFUSED,
        "nowhere*": Outcome.REFUSED,
    }
    toons = tmp_path / "toons"
    assert names(toons) == ["a.de.srt", "a.mp4", "a.srt", "a.yaml", "b.mp4"]
    assert (toons / "a.mp4").read_bytes() == videos[0]
    assert [e.path.name for e in episodes(config, "toons")] == ["a.mp4", "b.mp4"]
    assert (inbox / "b.mp4").exists(), "a copy leaves what came"


def episodes(config: Config, show: str) -> list:
    """What a run would find; the other shows' episodes are put there first."""
    put(config.library.parent, "one.mp4", b"one")
    put(config.library.parent / "bean", "bean.mp4", b"bean")
    put(config.library.parent / "toons", "other.mkv", b"other")
    found = load_library(config.library).show(show).episodes
    return [episode for episode in found if episode.path.name != "other.mkv"]


def test_the_same_episode_under_another_name_is_known(
    config: Config, tmp_path: Path, videos: list[bytes]
) -> None:
    inbox = tmp_path / "in"
    first = put(inbox, "first.mp4", videos[0])
    again = put(inbox, "again.mkv", videos[0])
    both = ingest(config, "toons", [first, again, first])
    assert [(a.path.name, a.outcome) for a in both] == [
        ("first.mp4", Outcome.TAKEN),
        ("again.mkv", Outcome.KNOWN),
    ]
    assert "first.mp4" in both[1].detail
    later = put(inbox, "later.mp4", videos[0])
    [arrival] = ingest(config, "toons", [later])
    assert (arrival.outcome, arrival.target) == (Outcome.KNOWN, tmp_path / "toons" / "first.mp4")
    [there] = ingest(config, "toons", [tmp_path / "toons"])
    assert there.outcome is Outcome.KNOWN
    assert "in its place" in there.detail
    [other_show] = ingest(config, "bean", [later])
    assert other_show.outcome is Outcome.REFUSED
    assert "first.mp4 of show toons" in other_show.detail
    assert names(tmp_path / "bean") == []


def test_nothing_is_replaced(config: Config, tmp_path: Path, videos: list[bytes]) -> None:
    put(tmp_path / "toons", "a.mp4", videos[0])
    new = put(tmp_path / "in", "a.mp4", videos[1])
    [refused] = ingest(config, "toons", [new])
    assert refused.outcome is Outcome.REFUSED
    assert "--rename" in refused.detail
    [taken] = ingest(config, "toons", [new], rename=True)
    assert taken.outcome is Outcome.TAKEN
    assert taken.target is not None
    assert taken.target.name.startswith("a-")
    assert (tmp_path / "toons" / "a.mp4").read_bytes() == videos[0]
    assert taken.target.read_bytes() == videos[1]
    # Neither are sidecars: those of the new one would speak for the old one.
    third = put(tmp_path / "in", "c.mp4", videos[2])
    put(tmp_path / "in", "c.srt", b"new")
    put(tmp_path / "toons", "c.srt", b"old")
    [refused] = ingest(config, "toons", [third])
    assert "c.srt is there with other content" in refused.detail
    assert (tmp_path / "toons" / "c.srt").read_bytes() == b"old"
    assert not (tmp_path / "toons" / "c.mp4").exists()


def test_what_is_no_video_is_refused_with_its_reason(config: Config, tmp_path: Path) -> None:
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
    assert {a.outcome for a in arrivals} == {Outcome.REFUSED}
    said = {a.path.name: a.detail for a in arrivals}
    assert "not readable as a video" in said["empty.mp4"]
    assert "not readable as a video" in said["page.mp4"]
    assert "control characters" in said["two\nlines.mp4"]
    assert said["pipe.mp4"] == said["plug.mp4"] == "is not a regular file"
    assert "No such file" in said["gone.mp4"]
    assert "symbolic links" in said["loop.mp4"]
    assert "comes along" in said["lone.srt"]
    assert names(tmp_path / "toons") == []


def test_a_name_that_no_glob_fits(config: Config, tmp_path: Path, videos: list[bytes]) -> None:
    new = put(tmp_path / "in", "a.avi", videos[0])
    [refused] = ingest(config, "toons", [new])
    assert "- path: toons/*.avi" in refused.detail
    with pytest.raises(BadInput, match=r"- path: episodes/one/\*\.mp4"):
        ingest(config, "one", [new])
    with pytest.raises(BadInput, match="There are: toons, bean, one"):
        ingest(config, "tones", [new])
    assert not (tmp_path / "episodes").exists()


def test_what_is_still_written_is_left_for_later(
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
        "growing.mp4": Outcome.BUSY,
        "held.mp4": Outcome.BUSY,
        "fresh.mp4": Outcome.TAKEN,
    }
    again = ingest(config, "toons", [growing, held], settle_seconds=0.2)
    assert set(outcomes(again).values()) == {Outcome.TAKEN}


@pytest.mark.parametrize("how", How)
def test_copied_moved_or_linked(
    config: Config, tmp_path: Path, videos: list[bytes], how: How
) -> None:
    source = put(tmp_path / "in", "a.mp4", videos[0])
    put(tmp_path / "in", "a.srt", b"1\n")
    [taken] = ingest(config, "toons", [source], how=how)
    target = tmp_path / "toons" / "a.mp4"
    assert taken.outcome is Outcome.TAKEN
    assert target.read_bytes() == videos[0]
    assert (tmp_path / "toons" / "a.srt").read_bytes() == b"1\n"
    assert target.is_symlink() == (how is How.LINK)
    assert source.exists() == (how is not How.MOVE)
    if how is How.COPY:
        source.write_bytes(b"changed")
        assert target.read_bytes() == videos[0]


def test_a_dry_run_changes_nothing(config: Config, tmp_path: Path, videos: list[bytes]) -> None:
    source = put(tmp_path / "in", "a.mp4", videos[0])
    twin = put(tmp_path / "in", "b.mp4", videos[0])
    arrivals = ingest(config, "toons", [source, twin], how=How.MOVE, dry_run=True)
    assert [a.outcome for a in arrivals] == [Outcome.TAKEN, Outcome.KNOWN]
    assert not (tmp_path / "toons").exists()
    assert source.exists()


INGEST = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from mimix_core.inbox import ingest, place
    from mimix_core.settings import load_config
    place._BLOCK = int(sys.argv[3])
    for arrival in ingest(load_config(Path(sys.argv[1])), "toons", [sys.argv[2]]):
        print(arrival.outcome.value)
    """
)


def start(config: Config, source: Path, block: int = 1 << 22) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", INGEST, config.library.parent / "mimix.yaml", source, block]
    return subprocess.Popen(
        [str(word) for word in words], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_two_at_once_take_it_once(config: Config, tmp_path: Path, videos: list[bytes]) -> None:
    first = put(tmp_path / "in", "a.mp4", videos[0])
    second = put(tmp_path / "in", "b.mp4", videos[0])
    runs = [start(config, first), start(config, second)]
    said = sorted(run.communicate(timeout=60)[0].strip() for run in runs)
    assert said == ["known", "taken"]
    assert len(names(tmp_path / "toons")) == 1


def test_killed_while_it_copies_it_leaves_nothing_a_glob_would_catch(
    config: Config, tmp_path: Path, videos: list[bytes]
) -> None:
    source = put(tmp_path / "in", "a.mp4", videos[0] + bytes(30_000_000))
    run = start(config, source, block=64)
    deadline = time.monotonic() + 60
    while not any(p.stat().st_size for p in tmp_path.glob(f"toons/{PART}*")):
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.005)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert any(name.startswith(PART) for name in names(tmp_path / "toons"))
    assert episode_files(tmp_path, Path("toons/*")) == []
    [taken] = ingest(config, "toons", [source])
    assert taken.outcome is Outcome.TAKEN
    assert names(tmp_path / "toons") == ["a.mp4"], "what was left half written is gone"
    assert (tmp_path / "toons" / "a.mp4").stat().st_size == source.stat().st_size


def test_a_file_that_hangs_the_reader_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "not there after 3 s" in video_probe.problem(tmp_path / "pipe.mp4", seconds=3)


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
    for sidecar, rest in sidecars(video):
        assert sidecar.name == f"ep{rest}"
        assert rest.startswith(".")
        assert sidecar != video
    assert candidates([folder])[0].count(video) == 1


def test_the_command(config: Config, tmp_path: Path, videos: list[bytes]) -> None:
    settings_file = str(tmp_path / "mimix.yaml")
    put(tmp_path / "in", "[red]a.mp4", videos[0])
    put(tmp_path / "in", "b.mp4", videos[0])
    good = CliRunner().invoke(
        app, ["ingest", settings_file, "--show", "toons", str(tmp_path / "in")]
    )
    assert good.exit_code == 0, good.output
    assert "taken    [red]a.mp4" in good.output
    assert "known    b.mp4  came before as [red]a.mp4" in good.output
    assert "toons: 1 taken, 1 known, 0 busy, 0 refused" in good.output
    put(tmp_path / "in", "c.mp4", b"no video")
    bad = CliRunner().invoke(
        app, ["ingest", settings_file, "--show", "toons", str(tmp_path / "in")]
    )
    assert bad.exit_code == 1
    assert "refused  c.mp4" in bad.output
    wrong = CliRunner().invoke(app, ["ingest", settings_file, "--show", "x", str(tmp_path / "in")])
    assert wrong.exit_code == 2
