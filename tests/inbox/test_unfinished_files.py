"""No file enters the library before its writer has finished it, whoever the writer is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mimix_core.inbox import (
    IngestOutcome,
    find_pending,
    ingest,
    ingest_pending,
    unfinished_files,
)
from mimix_core.inbox.container_end import find_missing_end
from mimix_core.inbox.unfinished_files import find_unfinished
from mimix_core.settings import Config, load_config

CONTAINERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "plain.mp4": ("mp4", "libx264", {}),
    "faststart.mp4": ("mp4", "libx264", {"movflags": "+faststart"}),
    "fragmented.mp4": ("mp4", "libx264", {"movflags": "+frag_keyframe+empty_moov"}),
    "film.mov": ("mov", "libx264", {}),
    "film.mkv": ("matroska", "libx264", {}),
    "film.webm": ("webm", "libvpx", {}),
    "film.avi": ("avi", "mpeg4", {}),
    "film.flv": ("flv", "flv1", {}),
    "film.wmv": ("asf", "wmv2", {}),
    "film.rm": ("rm", "rv10", {}),
}
SIZE = (96, 64)
FRAMES = 60


def write_film(path: Path, before_close: Callable[[bytes], None] = lambda content: None) -> Path:
    """Write noise, so that a film has some size; pass on what is on disk before it is closed."""
    container, codec, options = CONTAINERS[path.name]
    rng = np.random.default_rng(0)
    with av.open(
        str(path), "w", format=container, options={**options, "flush_packets": "1"}
    ) as out:
        stream = out.add_stream(codec, rate=Fraction(25))
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 12
        for number in range(FRAMES):
            image = rng.integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        before_close(path.read_bytes())
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, bytes]]:
    """Each container's complete bytes, and those on disk before its muxer finished."""
    folder = tmp_path_factory.mktemp("films")
    found = {}
    for name in CONTAINERS:
        early: list[bytes] = []
        whole = write_film(folder / name, early.append).read_bytes()
        found[name] = (whole, early[0])
    return found


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_film_without_its_end_is_recognized_in_every_container(
    films: dict[str, tuple[bytes, bytes]], tmp_path: Path, name: str
) -> None:
    whole, _ = films[name]
    path = tmp_path / name
    path.write_bytes(whole)
    assert find_missing_end(path) == ""
    last = [] if name == "film.rm" else [len(whole) * 99 // 100, len(whole) - 1]
    for size in [len(whole) * part // 100 for part in (3, 10, 30, 50, 70, 90)] + last:
        path.write_bytes(whole[:size])
        assert find_missing_end(path), f"{size} of {len(whole)} bytes"


@pytest.mark.parametrize("name", ["plain.mp4", "film.mov", "film.mkv", "film.webm", "film.avi"])
def test_a_film_whose_muxer_has_not_finished_is_recognized(
    films: dict[str, tuple[bytes, bytes]], tmp_path: Path, name: str
) -> None:
    whole, early = films[name]
    assert len(early) > 0 and early != whole
    path = tmp_path / name
    path.write_bytes(early)
    assert "still being written" in find_missing_end(path)


def test_bytes_after_the_film_and_unknown_formats_are_accepted(
    films: dict[str, tuple[bytes, bytes]], tmp_path: Path
) -> None:
    path = tmp_path / "film.mp4"
    for tail in (b"\0" * 500, b"TAG" + bytes(125), b"\xff\xd8\xff"):
        path.write_bytes(films["plain.mp4"][0] + tail)
        assert find_missing_end(path) == ""
    (tmp_path / "film.ts").write_bytes(b"\x47" * 1000)
    assert find_missing_end(tmp_path / "film.ts") == ""


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_piece_of_a_film_is_never_ingested_even_without_any_wait(
    films: dict[str, tuple[bytes, bytes]], config: Config, name: str
) -> None:
    whole, _ = films[name]
    path = inbox(config) / "toons" / name
    for size in (len(whole) // 2, len(whole) * 9 // 10):
        path.write_bytes(whole[:size])
        [result] = ingest_pending(config, settle_seconds=0)
        assert result.outcome is IngestOutcome.INCOMPLETE
        assert find_pending(config, settle_seconds=0) == []
    path.write_bytes(whole)
    if name != "film.rm":  # the test's RealMedia has no frames that FFmpeg decodes
        assert [file.path.name for file in find_pending(config, settle_seconds=0)] == [name]
        [result] = ingest_pending(config, settle_seconds=0)
        assert result.outcome is IngestOutcome.ADDED, result.detail
        assert result.target is not None
        assert result.target.read_bytes() == whole


LIBRARY = """\
shows:
  - id: toons
    title: Toons
    style: cartoon
    characters: [{name: Tom}]
    episodes:
""" + "".join(
    f"      - path: toons/*.{end}\n"
    for end in ("mp4", "mov", "mkv", "webm", "avi", "flv", "wmv", "rm", "ts")
)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "library.yaml").write_text(LIBRARY)
    (tmp_path / "mimix.yaml").write_text("library: library.yaml\ninbox: in\n")
    (tmp_path / "in" / "toons").mkdir(parents=True)
    return load_config(tmp_path / "mimix.yaml")


def inbox(config: Config) -> Path:
    assert config.inbox is not None
    return config.inbox


def test_a_stream_that_is_written_in_pieces_waits_for_the_longest_pause(
    config: Config, tmp_path: Path, films: dict[str, tuple[bytes, bytes]]
) -> None:
    source = tmp_path / "film.mkv"
    source.write_bytes(films["film.mkv"][0])
    stream = tmp_path / "film.ts"
    with av.open(str(source)) as given, av.open(str(stream), "w", format="mpegts") as out:
        copy = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    whole = stream.read_bytes()
    target = inbox(config) / "toons" / "film.ts"
    target.write_bytes(whole[: len(whole) // 4])

    def write_the_rest() -> None:
        for part in range(1, 4):
            time.sleep(0.4)
            with target.open("ab") as file:
                file.write(whole[len(whole) * part // 4 : len(whole) * (part + 1) // 4])
            # As programs do that set the time of the original; it does not hide the change.
            os.utime(target, (1e9, 1e9))

    writer = threading.Thread(target=write_the_rest)
    writer.start()
    outcomes: list[IngestOutcome] = []
    while IngestOutcome.ADDED not in outcomes and len(outcomes) < 20:
        outcomes += [result.outcome for result in ingest_pending(config, settle_seconds=0.9)]
    writer.join()
    assert outcomes[-1] is IngestOutcome.ADDED
    assert outcomes[0] is IngestOutcome.INCOMPLETE
    assert (config.library.parent / "toons" / "film.ts").read_bytes() == whole


HOLD = """\
import sys, time
with open(sys.argv[1], "ab"):
    print("open", flush=True)
    time.sleep(60)
"""


def test_a_file_that_another_container_has_open_is_unfinished(
    tmp_path: Path, films: dict[str, tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(films["plain.mp4"][0])
    # Processes of other containers are not listed in /proc.
    monkeypatch.setattr(unfinished_files, "_open_for_writing", set)
    assert find_unfinished([path], 0, {}) == {}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert "open for writing" in find_unfinished([path], 0, {})[path]
    finally:
        holder.kill()
        holder.wait()
    assert find_unfinished([path], 0, {}) == {}


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("film.mp4.part", ""),
        ("film.mp4.crdownload", ""),
        ("film.mkv.!qB", ""),
        ("film.mp4.filepart", ""),
        ("Film.MP4.PART", ""),
        ("film.mp4", "film.mp4.part"),
        ("film.mp4", "film.mp4.aria2"),
    ],
)
def test_names_of_unfinished_downloads(
    config: Config, films: dict[str, tuple[bytes, bytes]], name: str, beside: str
) -> None:
    folder = inbox(config) / "toons"
    (folder / name).write_bytes(films["plain.mp4"][0])
    if beside:
        (folder / beside).touch()
    results = ingest_pending(config, settle_seconds=0)
    assert {result.outcome for result in results} == {IngestOutcome.INCOMPLETE}
    assert find_pending(config, settle_seconds=0) == []


def test_a_preallocated_download_has_holes(
    config: Config, films: dict[str, tuple[bytes, bytes]]
) -> None:
    whole = films["faststart.mp4"][0] + bytes(1 << 20)
    path = inbox(config) / "toons" / "film.mp4"
    with path.open("wb") as file:
        file.write(whole[: 1 << 16])
        file.truncate(1 << 22)
    [result] = ingest_pending(config, settle_seconds=0)
    assert result.outcome is IngestOutcome.INCOMPLETE
    assert "never written" in result.detail


def test_a_sidecar_that_is_still_being_written_holds_its_video(
    config: Config, films: dict[str, tuple[bytes, bytes]]
) -> None:
    folder = inbox(config) / "toons"
    (folder / "film.mp4").write_bytes(films["plain.mp4"][0])
    with (folder / "film.en.srt").open("w") as subtitles:
        subtitles.write("1\n")
        [result] = ingest_pending(config, settle_seconds=0)
        assert result.outcome is IngestOutcome.INCOMPLETE
        assert "its sidecar film.en.srt is still being written" in result.detail
    [result] = ingest_pending(config, settle_seconds=0)
    assert result.outcome is IngestOutcome.ADDED


@pytest.mark.e2e
def test_folders_of_seasons_with_equal_file_names(
    config: Config, films: dict[str, tuple[bytes, bytes]]
) -> None:
    folder = inbox(config) / "toons"
    contents = {
        ("Season 1", "01.mp4"): films["plain.mp4"][0],
        ("Season 2", "01.mp4"): films["faststart.mp4"][0],
        ("Season 3", "01.mp4"): films["fragmented.mp4"][0],
    }
    for (season, name), content in contents.items():
        (folder / season).mkdir()
        (folder / season / name).write_bytes(content)
        (folder / season / "01.srt").write_text(season)
    results = ingest_pending(config, settle_seconds=0)
    assert {result.outcome for result in results} == {IngestOutcome.ADDED}, results
    library = config.library.parent / "toons"
    assert sorted(path.name for path in library.glob("*.mp4")) == [
        *("01.mp4", "Season 2 01.mp4", "Season 3 01.mp4")
    ]
    assert (library / "Season 2 01.mp4").read_bytes() == contents[("Season 2", "01.mp4")]
    assert (library / "Season 2 01.srt").read_text() == "Season 2"
    # Given one by one, they are told apart by their folders as well.
    again = config.library.parent / "again"
    for season in ("A", "B"):
        (again / season).mkdir(parents=True)
        shutil.copy(library / "01.mp4", again / season / "02.mp4")
        with (again / season / "02.mp4").open("ab") as file:
            file.write(season.encode() * 9)
    given = [again / "A" / "02.mp4", again / "B" / "02.mp4"]
    results = ingest(config, "toons", given, settle_seconds=0)
    assert [result.target and result.target.name for result in results] == ["02.mp4", "B 02.mp4"]


def test_the_settle_time_is_a_setting(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "mimix.yaml"
    path.write_text(path.read_text() + "inbox_settle_seconds: 0.3\n")
    quick = load_config(path)
    film = inbox(config) / "toons" / "film.ts"
    film.write_bytes(b"\x47" * 188)
    start = time.monotonic()
    ingest_pending(quick)
    assert time.monotonic() - start > 0.2
    assert config.inbox_settle_seconds >= 5
