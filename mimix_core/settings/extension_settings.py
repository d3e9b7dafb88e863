"""Validate the settings of stages from outside MiMix by each stage's own settings model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.extensions import is_module_name, load_extension
from mimix_core.engine.yaml_files import LineNumbers, validation_error
from mimix_core.errors import BadInput

Extensions = Mapping[str, Mapping[str, Any]]
"""Values of settings, by the dotted name of the stage's module."""


def validate_extensions(
    extensions: Extensions, path: Path, lines: LineNumbers
) -> dict[str, dict[str, Any]]:
    """Validate the section ``extensions`` of the settings file ``path``.

    Returns its values with relative paths resolved against the file's folder. Raises BadInput that
    names the line and key of every problem.
    """
    resolved = {}
    for stage_name, values in extensions.items():
        try:
            settings = _settings_model(stage_name).model_validate(values)
        except ValidationError as error:
            raise validation_error(path, error, lines, ("extensions", stage_name)) from error
        paths = {
            field: str(path.resolve().parent / value)
            for field in values
            if isinstance(value := getattr(settings, field), Path)
        }
        resolved[stage_name] = {**values, **paths}
    return resolved


def validate_extension(extensions: Extensions, stage_name: str) -> FrozenModel:
    """Return the settings of one stage; its model's defaults apply to missing values.

    Raises BadInput that names the key of every problem.
    """
    try:
        return _settings_model(stage_name).model_validate(extensions.get(stage_name, {}))
    except ValidationError as error:
        problems = (
            f"key {'.'.join(map(str, ('extensions', stage_name, *problem['loc'])))}: "
            f"{problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        )
        raise BadInput(
            "; ".join(problems), where="settings", fix="Correct the settings and run again."
        ) from error


def _settings_model(stage_name: str) -> type[FrozenModel]:
    if not is_module_name(stage_name):
        raise BadInput(
            f"{stage_name} is not the dotted name of a module",
            where="settings, key extensions",
            fix="MiMix's own stages have a section of their name; others are named by module, "
            "e.g. my_package.blur.",
        )
    # Imported here: tables need pyarrow, which the many processes that only read settings do not.
    from mimix_core.engine.stage import Stage

    stage: Stage[Any, Any] = load_extension(
        stage_name, "STAGE", Stage, setting=f"extensions.{stage_name}"
    )
    model: type[FrozenModel] = stage.settings
    return model
