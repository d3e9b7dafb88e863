"""Stage ``backbone``: a text-to-video model as a folder in diffusers layout, one row per component.

The tiny random model is built here; a published Wan is a folder on the user's disk that is checked
and digested but not copied. Later stages reference single components, so a new tokenizer does not
invalidate latents.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from mimix_core import tables
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef, file_ref
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.errors import BadInput, MissingModel
from mimix_core.settings import BackboneSettings
from mimix_core.tables import BACKBONE, Row
from mimix_core.wan import model_registry
from mimix_core.wan.model_folder import check_backbone_folder
from mimix_core.wan.weight_files import check_finite_weights

__all__ = [
    "STAGE",
    "BackboneInputs",
    "check_backbone_folder",
    "load_components",
    "resolve_weights_folder",
    "run",
]

# The pipeline folder of a backbone that this stage builds, relative to its table.
_BUILT = "pipeline"


class BackboneInputs(FrozenModel):
    """The folder of a published Wan; None for a model that is built here."""

    unit: Annotated[str, ExcludeFromKey()]
    weights: FileRef | None = None


def resolve_weights_folder(settings: BackboneSettings) -> Path | None:
    """Return the folder of the published weights in the settings; None for the random model.

    Call it before any work starts. Raises MissingModel when the folder does not exist, and
    BadInput when the random model is given one.
    """
    command = model_registry.get_backbone(settings.name).folder_command()
    if command is None:
        if settings.path is not None:
            raise BadInput(
                f"{settings.name} is built with random weights, but a path is set",
                where="settings, key backbone.path",
                fix="Remove the path, or name the real model in backbone.name.",
            )
        return None
    if settings.path is None or not settings.path.is_dir():
        raise MissingModel(
            f"no folder of {settings.name} at {settings.path}"
            if settings.path
            else f"no path of {settings.name} is set",
            where="settings, key backbone.path",
            fix=f"Get it with `{command}` and set backbone.path to FOLDER, or set backbone.name to "
            f"{model_registry.TINY.name}.",
        )
    return settings.path


def load_components(ref: TableRef, weights: FileRef | None) -> dict[str, FileRef]:
    """Return the folder of each component by name, with the digest from the stage's table.

    ``weights`` is the stage's input of that name: the folder of a published Wan.
    """
    base = ref.folder if weights is None else weights.path
    folders = {}
    for row in tables.read(ref.path, BACKBONE):
        folder = base / row["folder"]
        folders[row["component"]] = FileRef(path=folder, sha256=row["sha256"], size=_size(folder))
    return folders


def run(inputs: BackboneInputs, settings: BackboneSettings, out: Path) -> StageReport:
    """Build the random backbone below ``out``, or check and digest the published one.

    Raises BadInput for a folder of another model, an incomplete one, and weights with NaN or Inf.
    """
    backbone = model_registry.get_backbone(settings.name)
    if backbone.folder_command() is None:
        if inputs.weights is not None:
            raise BadInput(
                f"{backbone.name} is built with random weights, but a folder is given",
                where="stage backbone",
            )
        from mimix_core.wan import random_backbone

        random_backbone.build_random_backbone(settings.seed, out / _BUILT, backbone)
        base, prefix = out, f"{_BUILT}/"
    else:
        if inputs.weights is None:
            raise MissingModel(f"no folder of {backbone.name} is given", where="stage backbone")
        check_backbone_folder(inputs.weights.path, backbone)
        for name in backbone.networks:
            check_finite_weights(inputs.weights.path / name)
        base, prefix = inputs.weights.path, ""
    rows = [
        _component_row(base, prefix + name, name, backbone.name) for name in backbone.components
    ]
    return StageReport(rows=rows, rows_in=len(rows))


def _component_row(base: Path, folder: str, component: str, backbone: str) -> Row:
    from mimix_core.wan.safetensors_io import count_parameters

    weights = sorted((base / folder).glob("*.safetensors"))
    return tables.ok(
        component=component,
        backbone=backbone,
        folder=folder,
        sha256=file_ref(base / folder).sha256,
        parameters=sum(count_parameters(path) for path in weights),
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


STAGE = Stage(
    name="backbone",
    title="Backbone",
    description="Check the text-to-video model that the LoRA adapts.",
    row_noun="model components",
    phase=Phase.TRAINING,
    version=3,
    inputs=BackboneInputs,
    settings=BackboneSettings,
    table=BACKBONE,
    run=run,
)
