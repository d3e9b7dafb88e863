"""Run the scenes stage on a video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mimix_core import tables
from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import file_ref
from mimix_core.settings import SceneSettings
from mimix_core.stages import scenes


def rows_of(path: Path, out: Path, **settings: Any) -> list[tables.Row]:
    inputs = scenes.SceneInputs(
        unit=path.stem, show="demo", style=Style.CARTOON, video=file_ref(path)
    )
    report = scenes.run(inputs, SceneSettings(**settings), out)
    tables.validate(tables.SCENES, report.rows)
    assert report.rows_in == len(report.rows)
    return list(report.rows)
