"""No path, link or address of a stranger's file leads to another file of this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimix_core.domain.imported_clips import CLIPS_FILE, read_imported_clips
from mimix_core.domain.library import load_library
from mimix_core.engine.artifacts import digest_file
from mimix_core.engine.folder_export import ExportedFile, export_folder
from mimix_core.errors import BadInput
from mimix_core.inbox import IngestOutcome, TransferMode, ingest
from mimix_core.inbox.clip_import import ClipDefaults, import_clips
from mimix_core.inbox.clip_sources import read_clip_sources
from mimix_core.media import open_video
from mimix_core.settings import Config, load_config
from mimix_core.vlm.prices import _duration_seconds
from mimix_core.vlm.protocol import VideoPart
from mimix_core.wan.generation.provenance import read_provenance
from tests.media_factory import Shot, write_video

SECRET = "-----BEGIN OPENSSH PRIVATE KEY-----"

LIBRARY = """\
shows:
  - id: toons
    title: Toons
    style: cartoon
    characters: [{name: Tom}]
    clips: clips/toons
    episodes: [{path: toons/*.mp4}]
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "library.yaml").write_text(LIBRARY)
    (tmp_path / "mimix.yaml").write_text("library: library.yaml\nworkspace: workspace\n")
    (tmp_path / "toons").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.mp4").write_text(SECRET)
    (tmp_path / "secret.txt").write_text(SECRET)
    return load_config(tmp_path / "mimix.yaml")


def names_of(outside: Path) -> list[str]:
    """Ways to name a file outside of the folder, as rows of a metadata file can."""
    return [
        f"../{outside.name}",
        f"x/../../{outside.name}",
        f"./../{outside.name}",
        str(outside),
        f"//{outside}",
        "link.mp4",
        "folder/secret.mp4",
        "/etc/passwd",
        "/proc/self/environ",
        "loop.mp4",
        f"file:{outside}",
        f"concat:{outside}",
        f"http://127.0.0.1/{outside.name}",
        "~/.ssh/id_rsa",
        "-i",
        "n" * 4096,
        f"{'d/' * 2000}x.mp4",
        "a\nb.mp4",
        "",
    ]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("mode", list(TransferMode))
def test_rows_of_a_metadata_file_name_files_of_its_folder_only(
    config: Config, tmp_path: Path, mode: TransferMode, suffix: str
) -> None:
    source = tmp_path / "in"
    (source / "link.mp4").symlink_to("../secret.mp4")
    (source / "folder").symlink_to("..")
    (source / "loop.mp4").symlink_to("loop.mp4")
    names = names_of(tmp_path / "secret.mp4")
    metadata = source / f"metadata{suffix}"
    if suffix == ".jsonl":
        metadata.write_text("".join(json.dumps({"file_name": name}) + "\n" for name in names))
    else:
        pq.write_table(pa.table({"file_name": names}), metadata)
    results = import_clips(
        config.library, read_clip_sources(metadata), ClipDefaults("toons"), mode=mode
    )
    assert [one.outcome for one in results] == [IngestOutcome.REJECTED] * len(names)
    assert read_imported_clips(tmp_path / "clips/toons") == []
    assert (tmp_path / "secret.mp4").read_text() == SECRET
    assert SECRET not in "".join(
        path.read_text() for path in (tmp_path / "clips").rglob("*") if path.is_file()
    )


def test_a_wider_root_is_said_by_the_person_not_by_the_source(
    config: Config, tmp_path: Path
) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "1").write_bytes(b"video")
    (tmp_path / "in" / "a.mp4").symlink_to("../blobs/1")
    [refused] = read_clip_sources(tmp_path / "in")
    assert "--root" in refused.problem
    [taken] = read_clip_sources(tmp_path / "in", root=tmp_path)
    assert taken.problem == ""


def test_a_caption_that_is_a_link_is_not_followed_out(config: Config, tmp_path: Path) -> None:
    (tmp_path / "in" / "a.mp4").write_bytes(b"video")
    (tmp_path / "in" / "a.txt").symlink_to("../secret.txt")
    [clip] = read_clip_sources(tmp_path / "in")
    assert "leads out" in clip.problem and SECRET not in clip.caption


@pytest.mark.parametrize("sidecar", ["a.srt", "a.en.vtt", "a.script.yaml", "a.masks.zip"])
def test_a_sidecar_that_is_a_link_to_another_kind_of_file_is_not_copied(
    config: Config, tmp_path: Path, sidecar: str
) -> None:
    write_video(tmp_path / "in" / "a.mp4", [Shot(20)], size=(96, 64))
    (tmp_path / "in" / sidecar).symlink_to("../secret.txt")
    [refused] = ingest(config, "toons", [tmp_path / "in"], settle_seconds=0)
    assert refused.outcome is IngestOutcome.REJECTED and sidecar in refused.detail
    sources = read_clip_sources(tmp_path / "in")
    [refused] = import_clips(config.library, sources, ClipDefaults("toons"))
    assert refused.outcome is IngestOutcome.REJECTED
    assert not list((tmp_path / "toons").glob("a*"))


@pytest.mark.parametrize("file", ["..", ".", "../x.mp4", "/etc/passwd", ".hidden", "a\nb.mp4", ""])
def test_the_record_of_imported_clips_names_files_of_its_folder(tmp_path: Path, file: str) -> None:
    record = {"file": file, "sha256": "0" * 64, "name": "x", "group": "g"}
    (tmp_path / CLIPS_FILE).write_text(json.dumps(record) + "\n")
    with pytest.raises(BadInput, match="not an imported clip"):
        read_imported_clips(tmp_path)


@contextmanager
def counting_server() -> Iterator[tuple[str, list[str]]]:
    """Serve nothing, and list the requests."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()


def test_a_playlist_in_place_of_a_video_is_not_followed(tmp_path: Path) -> None:
    """Every place that opens a video: provenance and prices used to open whatever FFmpeg knows."""
    other = write_video(tmp_path / "other.mp4", [Shot(20)], size=(96, 64)).path
    with counting_server() as (address, requests):
        playlists = {
            "hls.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}/a.ts\n",
            "hls-file.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{other.name}\n",
            "concat.mp4": f"ffconcat version 1.0\nfile {other.name}\n",
            "sdp.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        }
        for name, text in playlists.items():
            (tmp_path / name).write_text(text)
            with pytest.raises(BadInput, match="cannot be opened"):
                read_provenance(tmp_path / name)
            with pytest.raises(BadInput):
                _duration_seconds(VideoPart(tmp_path / name, 1.0, "0" * 64))
        assert requests == []


@pytest.mark.parametrize("name", ["../x.mp4", "a/../../x.mp4", "/tmp/x.mp4", ".."])
def test_an_export_writes_into_its_folder_only(tmp_path: Path, name: str) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(b"video")
    files = {name: ExportedFile(video, digest_file(video))}
    with pytest.raises(BadInput, match="leads out"):
        export_folder(tmp_path / "a" / "out", "hf", files, {})
    with pytest.raises(BadInput, match="leads out"):
        export_folder(tmp_path / "a" / "out", "hf", {}, {name: "caption"})
    assert not (tmp_path / "a").exists()


def test_an_export_does_not_empty_a_folder_that_a_link_names(tmp_path: Path) -> None:
    """Others may write to the folder that an export is put into, /tmp for one."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years")
    (tmp_path / ".out.part").symlink_to("home")
    with pytest.raises(BadInput, match="is a link"):
        export_folder(tmp_path / "out", "hf", {}, {"a.txt": "caption"})
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years"


@pytest.mark.parametrize(
    "path",
    [
        "http://127.0.0.1/a.mp4",
        "concat:a.mp4|/etc/passwd",
        "data:video/mp4;base64,AAAA",
        "pipe:0",
        "n" * 4096,
        f"{'d/' * 2000}x.mp4",
        "-i.mp4",
    ],
)
@pytest.mark.parametrize("field", ["path", "subtitles", "script", "boxes", "masks"])
def test_a_library_names_files_and_no_addresses(tmp_path: Path, field: str, path: str) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    episode = {"path": "a.mp4"} | {field: path}
    text = LIBRARY.replace("{path: toons/*.mp4}", json.dumps(episode))
    (tmp_path / "library.yaml").write_text(text)
    with pytest.raises(BadInput, match="no file"):
        load_library(tmp_path / "library.yaml")


def test_paths_with_odd_names_are_files_like_others(tmp_path: Path) -> None:
    """Names that a program could take for an option or an address."""
    for name in ("-i.mp4", "http:a.mp4", "concat:a|b.mp4", "%d.mp4", "$(id).mp4", "a;b.mp4"):
        write_video(tmp_path / name, [Shot(2)], size=(96, 64))
        with open_video(tmp_path / name) as video:
            assert sum(1 for _ in video.frames()) == 2, name
