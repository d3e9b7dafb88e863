"""Stage ``backbone``: the text-to-video model as a folder in diffusers layout, one row a component.

The tiny stand-in is built here; a real Wan is a folder the user has, which is checked and digested
but not copied. Later stages take single components, so that a new tokenizer touches no latent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from mimix_core import tables
from mimix_core.errors import BadInput, MissingModel
from mimix_core.keys import Immaterial
from mimix_core.refs import FileRef, Frozen, TableRef, file_ref
from mimix_core.settings import BackboneSettings
from mimix_core.stage import Stage, StageReport
from mimix_core.tables import BACKBONE, CAPTIONS, Row

COMPONENTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
TINY = "tiny-random-wan"
# The pipeline folder of a stand-in that this stage builds, relative to its table.
_BUILT = "pipeline"


@dataclass(frozen=True)
class RealWan:
    """What tells a Wan2.1 text-to-video transformer's size, and where it is published."""

    hub: str
    layers: int
    heads: int


REAL = {
    "wan2.1-t2v-14b": RealWan("Wan-AI/Wan2.1-T2V-14B-Diffusers", layers=40, heads=40),
    "wan2.1-t2v-1.3b": RealWan("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", layers=30, heads=12),
}


class BackboneInputs(Frozen):
    """Captions the stand-in's tokenizer is made from, or the folder of a real Wan."""

    unit: Annotated[str, Immaterial()]
    captions: tuple[TableRef, ...] = ()
    weights: FileRef | None = None


def weights_folder(settings: BackboneSettings) -> Path | None:
    """The folder of the real weights that the settings ask for; None for the stand-in.

    To be called before any work starts. Raises MissingModel when the folder is not there, and
    BadInput when the stand-in is given one.
    """
    if settings.name == TINY:
        if settings.path is not None:
            raise BadInput(
                f"{TINY} is built, not loaded, but a path is given",
                where="settings, key backbone.path",
                fix="Remove the path, or name the real model in backbone.name.",
            )
        return None
    if settings.path is None or not settings.path.is_dir():
        hub = REAL[settings.name].hub
        raise MissingModel(
            f"{settings.name} is not at {settings.path or 'any given path'}",
            where="settings, key backbone.path",
            fix=f"Get it with `hf download {hub} --local-dir FOLDER` and set backbone.path to "
            f"FOLDER, or set backbone.name to {TINY}.",
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
    """Build the stand-in below ``out``, or check and digest the real one."""
    if settings.name == TINY:
        if inputs.weights is not None:
            raise BadInput(f"{TINY} takes no weights", where="stage backbone")
        from mimix_core.wan import tiny

        tiny.build(_captions(inputs.captions), settings.seed, out / _BUILT)
        base, prefix = out, f"{_BUILT}/"
    else:
        if inputs.weights is None:
            raise MissingModel(f"{settings.name} was given no folder", where="stage backbone")
        check_real(inputs.weights.path, settings.name)
        base, prefix = inputs.weights.path, ""
    rows = [_row(base, prefix + name, name, settings.name) for name in COMPONENTS]
    return StageReport(rows=rows, rows_in=len(COMPONENTS))


def check_real(folder: Path, name: str) -> None:
    """Raise BadInput unless ``folder`` holds all of ``name``, in diffusers layout."""
    fix = f"Get it again with `hf download {REAL[name].hub} --local-dir {folder}`."
    for part in ("model_index.json", *COMPONENTS):
        if not (folder / part).exists():
            raise BadInput(f"{part} is missing", where=str(folder), fix=fix)
    config = _json(folder / "transformer" / "config.json", fix)
    found = (config.get("num_layers"), config.get("num_attention_heads"))
    if found != (REAL[name].layers, REAL[name].heads):
        raise BadInput(
            f"this transformer has {found[0]} layers and {found[1]} heads, {name} has "
            f"{REAL[name].layers} and {REAL[name].heads}",
            where=str(folder),
            fix="Set backbone.name to the model that lies there, or the path to the one named.",
        )


def _captions(refs: tuple[TableRef, ...]) -> list[str]:
    rows = (row for ref in refs for row in tables.usable(tables.read(ref.path, CAPTIONS)))
    return sorted({row["caption"] for row in rows})


def _row(base: Path, folder: str, component: str, backbone: str) -> Row:
    from mimix_core.wan.tensors import parameters

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
    version=1,
    inputs=BackboneInputs,
    settings=BackboneSettings,
    table=BACKBONE,
    run=run,
)
