"""What commands print: text of names as it is, and errors of the machine as such."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from flows.cli import app
from flows.console import user_errors
from mimix_core.engine.atomic_io import atomic_write_bytes
from mimix_core.errors import BadInput, DiskFull
from mimix_core.media.color_conversion import rgb_to_frame
from mimix_core.media.encode import ClipWriter
from mimix_core.settings import load_config
from mimix_core.settings.config import with_absolute_paths
from tasks.report import _replace_symlink

runner = CliRunner()


def test_brackets_of_a_path_are_not_markup(tmp_path: Path) -> None:
    folder = tmp_path / "[red]show[/red] [x]"
    said = runner.invoke(app, ["init", str(folder)])
    assert said.exit_code == 0
    assert str(folder / "library.yaml") in said.output
    wrong = runner.invoke(app, ["models", str(folder / "\x1b[2Jno.yaml")])
    assert wrong.exit_code == 2
    assert "\x1b[2J" not in wrong.output
    assert r"\x1b[2Jno.yaml" in wrong.output


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full: no space for clip.mp4"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EACCES, "clip.mp4: Permission denied"),
        (errno.EROFS, "clip.mp4: Read-only file system"),
    ],
)
def test_a_full_or_read_only_disk_is_called_that(
    number: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, user_errors():
        raise OSError(number, os.strerror(number), "clip.mp4")
    assert ended.value.exit_code == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", ["file/new", "a" * 300, "folder"])
def test_a_path_that_cannot_be_written_is_no_traceback(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(typer.Exit) as ended, user_errors():
        atomic_write_bytes(tmp_path / name, b"")
    assert ended.value.exit_code == 2
    said = capsys.readouterr().err
    assert f"error {tmp_path}/" in said
    assert said.endswith("Give another path.\n")


def test_a_project_in_place_of_a_file_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = runner.invoke(app, ["init", str(tmp_path / "file")], env={"COLUMNS": "200"})
    assert refused.exit_code == 2
    assert f"error {tmp_path}/file: File exists. Give another path." in refused.output


def test_a_clip_that_finds_no_space_is_not_a_failed_clip(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.symlink_to("/dev/full")
    noise = np.random.default_rng(0).integers(0, 255, (96, 160, 3), np.uint8)
    with (
        pytest.raises(DiskFull, match="the disk is full"),
        ClipWriter(path, 160, 96, crf=1, preset="ultrafast") as writer,
    ):
        for _ in range(40):
            writer.write(rgb_to_frame(noise))


def test_the_report_link_survives_a_move_of_the_workspace(tmp_path: Path) -> None:
    page = tmp_path / "old" / "store" / "report" / "key" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("report")
    _replace_symlink(tmp_path / "old" / "report", page.parent)
    (tmp_path / "old").rename(tmp_path / "new")
    assert (tmp_path / "new" / "report" / "index.html").read_text() == "report"


def test_paths_of_a_form_are_relative_to_the_library(tmp_path: Path) -> None:
    (tmp_path / "library.yaml").write_text("shows: []\n")
    (tmp_path / "mimix.yaml").write_text("library: library.yaml\n")
    config = load_config(tmp_path / "mimix.yaml")
    form = config.model_copy(update={"workspace": Path("results"), "inbox": Path("in")})
    assert with_absolute_paths(form).workspace == tmp_path / "results"
    assert with_absolute_paths(form).inbox == tmp_path / "in"
    assert with_absolute_paths(config) == config
    with pytest.raises(BadInput, match="is a relative path"):
        with_absolute_paths(config.model_copy(update={"library": Path("library.yaml")}))
