"""The section ``extensions``: settings of stages from outside MiMix, validated by their models."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.errors import BadInput
from mimix_core.settings import load_config
from mimix_core.settings.extension_settings import validate_extension
from tests.tasks.fake_stage import STAGE, FakeSettings


def write_settings(folder: Path, extensions: str) -> Path:
    (folder / "library.yaml").write_text("shows: []\n")
    path = folder / "mimix.yaml"
    path.write_text(f"library: library.yaml\nextensions:\n  {extensions}\n")
    return path


def test_relative_paths_are_resolved_against_the_settings_file(tmp_path: Path) -> None:
    settings = f"{STAGE.name}: {{strength: 3, mask: masks/a.png}}"
    config = load_config(write_settings(tmp_path, settings))
    expected = FakeSettings(strength=3, mask=tmp_path / "masks" / "a.png")
    assert validate_extension(config.extensions, STAGE.name) == expected


@pytest.mark.parametrize(
    ("extensions", "message"),
    [
        (
            f"{STAGE.name}: {{strength: -1}}",
            rf"mimix\.yaml, line 3, key extensions\.{STAGE.name}\.strength: ",
        ),
        (f"{STAGE.name}: {{strenght: 1}}", "unknown key"),
        ("clips: {}", "clips is not the dotted name of a module"),
        ("no_such.module: {}", r"key extensions\.no_such\.module: no Python module"),
        ("tests.paths: {}", "must define STAGE as a Stage"),
    ],
)
def test_wrong_settings_name_the_key(tmp_path: Path, extensions: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_config(write_settings(tmp_path, extensions))
