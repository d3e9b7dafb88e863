"""Decisions on who a track shows: appended, never changed, and the last one counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.errors import BadInput
from mimix_core.project.named_tracks import (
    TABLE,
    characters_folder,
    load_decisions_on_tracks,
    name_tracks,
    named_exemplars,
)


def crop(folder: Path, name: str) -> Path:
    path = folder / f"{name}.png"
    path.write_bytes(name.encode())
    return path


def test_the_last_decision_on_a_track_counts_and_none_is_lost(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    one, two = crop(tmp_path, "one"), crop(tmp_path, "two")
    name_tracks(workspace, "toons", {"t1": [one, two], "t2": [two]}, "Cat")
    lines = (characters_folder(workspace) / TABLE).read_bytes()
    found = named_exemplars(workspace, "toons")
    assert {path.read_text() for path in found["Cat"]} == {"one", "two"}
    assert len(found["Cat"]) == 2, "one picture in two tracks is one exemplar"
    assert named_exemplars(workspace, "people") == {}

    name_tracks(workspace, "toons", {"t1": [one]}, "Dog")
    name_tracks(workspace, "toons", {"t2": []}, "")
    assert [p.read_text() for p in named_exemplars(workspace, "toons")["Dog"]] == ["one"]
    assert "Cat" not in named_exemplars(workspace, "toons")
    assert (characters_folder(workspace) / TABLE).read_bytes().startswith(lines)
    assert [d.character for d in load_decisions_on_tracks(workspace)] == ["Cat", "Cat", "Dog", ""]


def test_exemplars_outlive_the_proposals_and_their_loss_is_an_error(tmp_path: Path) -> None:
    one = crop(tmp_path, "one")
    name_tracks(tmp_path, "toons", {"t1": [one]}, "Cat")
    one.unlink()
    (kept,) = named_exemplars(tmp_path, "toons")["Cat"]
    kept.unlink()
    with pytest.raises(BadInput, match="of Cat is missing"):
        named_exemplars(tmp_path, "toons")


def test_a_damaged_table_is_refused_and_not_appended_to(tmp_path: Path) -> None:
    name_tracks(tmp_path, "toons", {"t1": [crop(tmp_path, "one")]}, "Cat")
    path = characters_folder(tmp_path) / TABLE
    damaged = path.read_text() + '{"show": "toons"}\n'
    path.write_text(damaged)
    with pytest.raises(BadInput, match="not a table of named tracks"):
        name_tracks(tmp_path, "toons", {"t2": []}, "")
    assert path.read_text() == damaged
