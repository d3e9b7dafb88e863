"""Stage ``backbone``: the text-to-video model as a folder in diffusers layout, one row a component.

The tiny stand-in is built here; a real Wan is a folder the user has, which is checked and digested
but not copied. Later stages take single components, so that a new tokenizer touches no latent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from mimix_core import tables
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef, file_ref
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.errors import BadInput, MissingModel
from mimix_core.settings import BackboneSettings
from mimix_core.tables import BACKBONE, CAPTIONS, Row
from mimix_core.wan import model_registry
from mimix_core.wan.model_registry import Backbone, Network

COMPONENTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
# The pipeline folder of a backbone that this stage builds, relative to its table.
_BUILT = "pipeline"


class BackboneInputs(FrozenModel):
    """Captions the stand-in's tokenizer is made from, or the folder of a real Wan."""

    unit: Annotated[str, ExcludeFromKey()]
    captions: tuple[TableRef, ...] = ()
    weights: FileRef | None = None


def weights_folder(settings: BackboneSettings) -> Path | None:
    """The folder of the real weights that the settings ask for; None for the stand-in.

    To be called before any work starts. Raises MissingModel when the folder is not there, and
    BadInput when the stand-in is given one.
    """
    hub = model_registry.get(settings.name).hub
    if hub is None:
        if settings.path is not None:
            raise BadInput(
                f"{settings.name} is built, not loaded, but a path is given",
                where="settings, key backbone.path",
                fix="Remove the path, or name the real model in backbone.name.",
            )
        return None
    if settings.path is None or not settings.path.is_dir():
        raise MissingModel(
            f"{settings.name} is not at {settings.path or 'any given path'}",
            where="settings, key backbone.path",
            fix=f"Get it with `hf download {hub} --local-dir FOLDER` and set backbone.path to "
            f"FOLDER, or set backbone.name to {model_registry.TINY.name}.",
        )
    return settings.path


def components(ref: TableRef, weights: FileRef | None) -> dict[str, FileRef]:
    """Each component's folder with the digest the stage found, by name.

    ``weights`` is what the stage was given: a real Wan's folders lie there.
    """
    base = ref.folder if weights is None else weights.path
    found = {}
    for row in tables.read(ref.path, BACKBONE):
        folder = base / row["folder"]
        found[row["component"]] = FileRef(path=folder, sha256=row["sha256"], size=_size(folder))
    return found


def run(inputs: BackboneInputs, settings: BackboneSettings, out: Path) -> StageReport:
    """Build the backbone below ``out``, or check and digest the published one."""
    backbone = model_registry.get(settings.name)
    if backbone.hub is None:
        if inputs.weights is not None:
            raise BadInput(f"{backbone.name} takes no weights", where="stage backbone")
        from mimix_core.wan import random_backbone

        random_backbone.build(_captions(inputs.captions), settings.seed, out / _BUILT, backbone)
        base, prefix = out, f"{_BUILT}/"
    else:
        if inputs.weights is None:
            raise MissingModel(f"{backbone.name} was given no folder", where="stage backbone")
        check(inputs.weights.path, backbone)
        base, prefix = inputs.weights.path, ""
    rows = [_row(base, prefix + name, name, backbone.name) for name in COMPONENTS]
    return StageReport(rows=rows, rows_in=len(COMPONENTS))


def check(folder: Path, backbone: Backbone) -> None:
    """Raise BadInput unless ``folder`` holds all of a backbone, in diffusers layout, at its size.

    What is asked of each network is what its entry in ``backbones`` says of it.
    """
    again = f"Get it again with `hf download {backbone.hub} --local-dir {folder}`."
    for part in ("model_index.json", *COMPONENTS):
        if not (folder / part).exists():
            raise BadInput(f"{part} is missing", where=str(folder), fix=again)
    for name, network in (
        ("transformer", backbone.transformer),
        ("vae", backbone.vae),
        ("text_encoder", backbone.text_encoder),
    ):
        config = _json(folder / name / "config.json", again)
        wrong = _differences(config, network)
        if wrong:
            raise BadInput(
                f"this {name} is not that of {backbone.name}: {'; '.join(wrong)}",
                where=str(folder / name / "config.json"),
                fix="Set backbone.name to the model that lies there, or the path to the one named.",
            )


def _differences(config: Mapping[str, Any], network: Network) -> list[str]:
    """What a folder's config says otherwise than the network's entry, in words."""
    # diffusers writes the first, transformers the second.
    named = config.get("_class_name") or next(iter(config.get("architectures") or []), None)
    found = [] if named == network.kind else [f"its class is {named}, not {network.kind}"]
    for key, value in network.config.items():
        wanted = list(value) if isinstance(value, tuple) else value
        if config.get(key) != wanted:
            found.append(f"{key} is {config.get(key)}, not {wanted}")
    return found


def _captions(refs: tuple[TableRef, ...]) -> list[str]:
    rows = (row for ref in refs for row in tables.usable(tables.read(ref.path, CAPTIONS)))
    return sorted({row["caption"] for row in rows})


def _row(base: Path, folder: str, component: str, backbone: str) -> Row:
    from mimix_core.wan.safetensors_io import parameters

    weights = sorted((base / folder).glob("*.safetensors"))
    if component in ("text_encoder", "transformer", "vae") and not weights:
        raise BadInput(
            "no safetensors file",
            where=str(base / folder),
            fix="Other weight formats are not loaded; get the model as safetensors.",
        )
    return tables.ok(
        component=component,
        backbone=backbone,
        folder=folder,
        sha256=file_ref(base / folder).sha256,
        parameters=sum(parameters(path) for path in weights),
    )


def _json(path: Path, fix: str) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"not readable as JSON: {error}", where=str(path), fix=fix) from error
    assert isinstance(found, dict)
    return found


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


STAGE = Stage(
    name="backbone",
    title="Backbone",
    description="Check the text-to-video model that the LoRA adapts.",
    row_noun="model components",
    phase=Phase.TRAINING,
    upstream=("captions", "recaptions"),
    version=1,
    inputs=BackboneInputs,
    settings=BackboneSettings,
    table=BACKBONE,
    run=run,
)
