"""Files and folders to write to are checked before results are looked up, and appear complete."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows import captions_cli, dataset_cli, export_cli
from flows.caption_edits import find_edited
from flows.cli import app
from flows.new_files import write_new_folder
from mimix_core.errors import BadInput, DiskFull


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings whose results must not be looked up."""

    def look_up(*_: object) -> Any:
        raise AssertionError("looked up")

    monkeypatch.setattr(captions_cli, "open_caption_run", look_up)
    monkeypatch.setattr(dataset_cli, "load_settings", look_up)
    monkeypatch.setattr(export_cli, "load_settings", look_up)
    (tmp_path / "library.yaml").write_text("shows: []\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    path = tmp_path / "mimix.yaml"
    path.write_text("library: library.yaml\n")
    return path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dataset", "export", "hf", "SETTINGS", "mine"], "already exists and holds other files"),
        (["dataset", "export", "hf", "SETTINGS", "mine/thesis.txt"], "is not a folder"),
        (["export", "fiftyone", "SETTINGS", "mine"], "already exists and holds other files"),
        (["export", "fiftyone", "SETTINGS", "mine/thesis.txt"], "is not a folder"),
        (["captions", "export", "SETTINGS", "mine"], "not an empty folder"),
        (["captions", "import", "SETTINGS", "nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_a_wrong_path_is_refused_at_once(settings: Path, words: list[str], said: str) -> None:
    arguments = [str(settings) if word == "SETTINGS" else word for word in words]
    arguments[-1] = str(settings.parent / words[-1])
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 2, done.output
    assert said in done.output
    arguments[-1] = str(settings if words[1] == "import" else settings.parent / "new")
    done = CliRunner().invoke(app, arguments)
    assert str(done.exception) == "looked up"


def test_captions_of_an_empty_file_are_not_imported(tmp_path: Path) -> None:
    empty = tmp_path / "captions.jsonl"
    empty.touch()
    with pytest.raises(BadInput, match="contains no exported captions"):
        find_edited(empty, {})


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    def write(part: Path) -> int:
        part.mkdir()
        (part / "a.mp4").write_bytes(b"a")
        assert not new.exists()
        return 1

    def fill_disk(part: Path) -> int:
        write(part)
        raise OSError(errno.ENOSPC, "No space left on device")

    new = tmp_path / "more" / "new"
    with pytest.raises(DiskFull, match=r"no space for .*new"):
        write_new_folder(new, fill_disk)
    assert not list(new.parent.iterdir())
    assert write_new_folder(new, write) == 1
    assert [path.name for path in new.parent.rglob("*")] == ["new", "a.mp4"]
