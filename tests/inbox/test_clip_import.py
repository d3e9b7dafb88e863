"""Clips made elsewhere are imported once, with their captions; none is lost without a reason."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.cli import app
from mimix_core.domain.imported_clips import CLIPS_FILE, ImportedClip, read_imported_clips
from mimix_core.errors import BadInput
from mimix_core.inbox import IngestOutcome, IngestResult, clip_import
from mimix_core.inbox.clip_import import REFUSED_FILE, ClipDefaults, import_clips
from mimix_core.inbox.clip_sources import read_clip_sources
from mimix_core.inbox.parquet_rows import MAX_ROWS
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import Config, load_config

LIBRARY = """\
shows:
  - id: toons
    title: Toons
    style: cartoon
    characters: [{name: Jürgen Öß, aliases: [Jürgen]}, {name: "O'Neil"}]
    clips: clips/toons
  - id: bean
    title: Bean
    style: realistic
    characters: [{name: Mr. Bean}]
    episodes: [{path: bean/*.mp4}]
"""
CAPTIONS = {
    "Übung 1.mp4": "Jürgen grüßt Zoë.",
    "🐰 'hop' \"x\".mp4": "says “hop” 🎉, 'a' \"b\"; \\n {x}",
    "a\u2028b.mp4": "line\none\u2028two",
    "long.mp4": "runs and runs " * 15_000,
    "plain.mp4": "",
    "NA.mp4": "NA",
}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "library.yaml").write_text(LIBRARY, encoding="utf-8")
    (tmp_path / "mimix.yaml").write_text("library: library.yaml\nworkspace: workspace\n")
    for name in ("in", "bean"):
        (tmp_path / name).mkdir()
    return load_config(tmp_path / "mimix.yaml")


def put_clips(folder: Path) -> dict[str, str]:
    """Write files that pass for videos here; the pipeline is what decodes them."""
    for name in CAPTIONS:
        (folder / name).write_bytes(f"video {name}".encode())
    return {name: caption for name, caption in CAPTIONS.items() if name.isprintable()}


def write_txt(folder: Path) -> Path:
    for name, caption in CAPTIONS.items():
        if caption:
            (folder / name).with_suffix(".txt").write_text(caption, encoding="utf-8")
    return folder


def write_jsonl(folder: Path) -> Path:
    path = folder / "metadata.jsonl"
    lines = [json.dumps({"file_name": n, "text": c}) for n, c in CAPTIONS.items()]
    path.write_text("\n".join(lines))
    return path


def write_csv(folder: Path) -> Path:
    path = folder / "metadata.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "prompt"])
        writer.writerows(CAPTIONS.items())
    return path


def write_parquet(folder: Path) -> Path:
    path = folder / "some name.parquet"
    videos = [{"path": name, "bytes": None} for name in CAPTIONS]  # as `datasets` writes them
    pq.write_table(pa.table({"video": videos, "caption": list(CAPTIONS.values())}), path)
    return path


def run(config: Config, source: Path, **defaults: object) -> list[IngestResult]:
    values = {"show": "toons", "group": "in"} | defaults
    return import_clips(config.library, read_clip_sources(source), ClipDefaults(**values))


def imported(tmp_path: Path) -> dict[str, ImportedClip]:
    return {clip.name: clip for clip in read_imported_clips(tmp_path / "clips" / "toons")}


@pytest.mark.parametrize("write", [write_txt, write_jsonl, write_csv, write_parquet])
def test_every_form_of_source_gives_the_same_clips(
    config: Config, tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    usable = put_clips(tmp_path / "in")
    results = run(config, write(tmp_path / "in"))
    refused = [result for result in results if result.outcome is not IngestOutcome.ADDED]
    assert [result.path.name for result in refused] == ["a\u2028b.mp4"]
    assert "control characters" in refused[0].detail
    clips = imported(tmp_path)
    assert {name: clip.caption for name, clip in clips.items()} == {
        name: caption.strip() for name, caption in usable.items()
    }
    for name, clip in clips.items():
        assert clip.file.isascii() and clip.group == "in"
        assert (tmp_path / "clips/toons" / clip.file).read_text() == f"video {name}"
    log = (tmp_path / "clips/toons" / REFUSED_FILE).read_text(encoding="utf-8").splitlines()
    assert len(log) == 1 and "control characters" in json.loads(log[0])["reason"]


def test_an_imported_clip_is_an_episode_of_its_show(config: Config, tmp_path: Path) -> None:
    (tmp_path / "in/a.mp4").write_bytes(b"a")
    (tmp_path / "in/a.boxes.yaml").write_text("boxes: []\n")
    (tmp_path / "in/b.mp4").write_bytes(b"b")
    rows = [
        {"file_name": "a.mp4", "caption": "waves", "characters": ["Jürgen"], "group": "film 1"},
        {"file_name": "b.mp4", "characters": "O'Neil; Jürgen Öß"},
    ]
    path = tmp_path / "in/metadata.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {result.outcome for result in run(config, path)} == {IngestOutcome.ADDED}
    first, second = open_workspace(config).episodes
    assert first.imported is not None and first.imported.caption == "waves"
    assert first.show.roster() == ("Jürgen Öß",) and first.boxes is not None
    assert second.show.roster() == ("Jürgen Öß", "O'Neil") and second.boxes is None
    assert open_workspace(config).split_groups({first.id, second.id, "x"}) == {
        first.id: "toons/film 1",
        second.id: "toons/in",
    }
    first.video.path.write_bytes(b"another")
    workspace = open_workspace(config)
    assert [episode.id for episode in workspace.episodes] == [second.id]
    assert any("is not the clip that was imported" in notice for notice in workspace.notices)


def test_an_exported_dataset_can_be_imported(config: Config, tmp_path: Path) -> None:
    """A line as ``mimix dataset export hf`` writes it, with the episode as the group."""
    (tmp_path / "in/original").mkdir()
    (tmp_path / "in/original/toons-0-c1.mp4").write_bytes(b"a")
    line = {
        "file_name": "original/toons-0-c1.mp4",
        "text": "[Character: Jürgen Öß], waves. [scene-style:cartoon]",
        "show": "toons",
        "characters": ["Jürgen Öß"],
        "episode_id": "toons-0",
    }
    (tmp_path / "in/metadata.jsonl").write_text(json.dumps(line))
    sources = read_clip_sources(tmp_path / "in", "episode_id")
    (result,) = import_clips(config.library, sources, ClipDefaults())
    assert result.outcome is IngestOutcome.ADDED
    clip = imported(tmp_path)["toons-0-c1.mp4"]
    assert (clip.caption, clip.group, clip.characters) == (line["text"], "toons-0", ("Jürgen Öß",))


def test_importing_again_adds_nothing_and_renews_captions(config: Config, tmp_path: Path) -> None:
    (tmp_path / "in/a.mp4").write_bytes(b"a")
    text = tmp_path / "in/a.txt"
    text.write_text("waves")
    log = tmp_path / "clips/toons" / CLIPS_FILE
    run(config, tmp_path / "in")
    once = log.read_text()
    (again,) = run(config, tmp_path / "in")
    assert again.outcome is IngestOutcome.DUPLICATE and log.read_text() == once
    text.write_text("jumps")
    (renewed,) = run(config, tmp_path / "in")
    assert "renewed" in renewed.detail and log.read_text().startswith(once)
    assert imported(tmp_path)["a.mp4"].caption == "jumps"
    assert len(log.read_text().splitlines()) == 2


def test_an_import_that_was_killed_loses_nothing(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the second video is there and before its line, and in the middle of a line."""
    for name in "abc":
        (tmp_path / f"in/{name}.mp4").write_bytes(name.encode())
    log = tmp_path / "clips/toons" / CLIPS_FILE
    whole = clip_import._ImportState._append

    def die(self: object, folder: Path, clip: ImportedClip, show: str) -> None:
        if clip.name == "b.mp4":
            raise KeyboardInterrupt
        whole(self, folder, clip, show)

    monkeypatch.setattr(clip_import._ImportState, "_append", die)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "in")
    monkeypatch.undo()
    with log.open("a") as file:
        file.write('{"file": "half')
    assert set(imported(tmp_path)) == {"a.mp4"}
    outcomes = [result.outcome.value for result in run(config, tmp_path / "in")]
    assert outcomes == ["duplicate", "added", "added"]
    assert set(imported(tmp_path)) == {"a.mp4", "b.mp4", "c.mp4"}
    assert len(list((tmp_path / "clips/toons").glob("*.mp4"))) == 3


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"file_name": "none.mp4"}, "cannot be read (No such file"),
        ({"caption": "of nothing"}, "row 1 names no video"),
        ({"file_name": "a.mp4", "show": "nope"}, "there is no show 'nope'; the shows are toons"),
        ({"file_name": "a.mp4", "show": "bean"}, "clips: clips/bean"),
        ({"file_name": "a.mp4", "characters": ["Zoë"]}, "no character of toons is named 'Zoë'"),
        ({"file_name": "empty.mp4"}, "is empty"),
        ({"file_name": "."}, "is not a regular file"),
        ("not a mapping", "row 1: is not a JSON object"),
    ],
)
def test_what_cannot_be_imported_has_a_reason(
    config: Config, tmp_path: Path, row: object, reason: str
) -> None:
    (tmp_path / "in/a.mp4").write_bytes(b"a")
    (tmp_path / "in/empty.mp4").touch()
    path = tmp_path / "in/metadata.jsonl"
    path.write_text(json.dumps(row))
    (result,) = run(config, path)
    assert result.outcome is IngestOutcome.REJECTED and reason in result.detail
    assert imported(tmp_path) == {}
    written = json.loads((tmp_path / "clips/toons" / REFUSED_FILE).read_text(encoding="utf-8"))
    assert reason in written["reason"]


def test_a_caption_without_its_video_and_a_broken_line_are_named(
    config: Config, tmp_path: Path
) -> None:
    (tmp_path / "in/a.mp4").write_bytes(b"a")
    (tmp_path / "in/a.txt").write_bytes(b"\xff\xfe caption")
    (tmp_path / "in/b.txt").write_text("of nothing")
    details = [result.detail for result in run(config, tmp_path / "in")]
    assert ["cannot be read as UTF-8" in details[0], "without a video" in details[1]] == [True] * 2
    broken = tmp_path / "in/x.jsonl"
    broken.write_text('{"file_name": "a.mp4"}\n{"file_name": \n')
    first, second = run(config, broken)
    assert first.outcome is IngestOutcome.ADDED
    assert second.detail.startswith("row 2: is not JSON")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("none", None, "no such file or folder"),
        ("x.xlsx", b"x", "no metadata file"),
        ("x.parquet", b"x", "as a Parquet file"),
        ("x.csv", b"\xff", "is not UTF-8"),
    ],
)
def test_a_bad_source_is_one_error(
    tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=problem):
        read_clip_sources(tmp_path / name)


def test_the_command_prints_each_refusal_and_its_exit_code(config: Config, tmp_path: Path) -> None:
    put_clips(tmp_path / "in")
    command = ["dataset", "import", str(tmp_path / "mimix.yaml"), str(tmp_path / "in")]
    result = CliRunner().invoke(app, [*command, "--show", "toons", "--character", "Jürgen"])
    assert result.exit_code == 1
    assert "5 added, 0 duplicate, 0 incomplete, 1 rejected" in result.output
    assert "\\u2028" in result.output and "control characters" in result.output
    (tmp_path / "in/a\u2028b.mp4").unlink()
    assert CliRunner().invoke(app, [*command, "--show", "toons"]).exit_code == 0
    assert imported(tmp_path)["plain.mp4"].characters == ()
    (tmp_path / "library.yaml").write_text(
        LIBRARY.replace("    clips: clips/toons\n", "    episodes: [{path: x/*.mp4}]\n")
    )
    result = CliRunner().invoke(app, [*command, "--show", "toons"])
    assert result.exit_code == 2 and "clips: clips/toons" in result.output


def test_a_table_of_very_many_rows_is_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    rows = pa.array(["a.mp4"]).take(pa.nulls(MAX_ROWS + 1, pa.int32()).fill_null(0))
    pq.write_table(pa.table({"path": rows}), path)
    with pytest.raises(BadInput, match="more than 1,000,000 rows"):
        read_clip_sources(path)


def test_values_that_python_cannot_represent_make_a_table_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(
        pa.table({"path": ["a.mp4"], "group": pa.array([2**62], pa.timestamp("us"))}), path
    )
    with pytest.raises(BadInput, match="cannot be read as a Parquet file"):
        read_clip_sources(path)
