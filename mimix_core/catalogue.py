"""Every stage by its name, in the order of the way of the data; imported only when asked for."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from mimix_core.errors import MissingModel
from mimix_core.stage import Stage

MODULES = {
    "scenes": "mimix_core.scenes",
    "overlays": "mimix_core.overlays",
    "clips": "mimix_core.clips",
    "duplicates": "mimix_core.duplicates",
    "transcripts": "mimix_core.transcripts",
    "captions": "mimix_core.captions.stage",
    "cutouts": "mimix_core.cutouts.stage",
    "composites": "mimix_core.composites.stage",
    "recaptions": "mimix_core.captions.recaption",
    "dataset": "mimix_core.dataset",
    "backbone": "mimix_core.wan.backbone",
    "latents": "mimix_core.wan.latents",
    "embeddings": "mimix_core.wan.text",
    "lora": "mimix_core.training.stage",
    "videos": "mimix_core.wan.generate",
    "samples": "mimix_core.wan.samples",
    "scores": "mimix_core.benchmark.scores",
    "judgements": "mimix_core.benchmark.judge.stage",
    "report": "mimix_core.report.stage",
}


@cache
def stage(name: str) -> Stage[Any, Any]:
    """The stage of that name; one that is not of MiMix goes by the name of its module.

    Raises MissingModel when the packages of the stage are not installed.
    """
    try:
        found = import_module(MODULES.get(name, name)).STAGE
    except ModuleNotFoundError as error:
        if (
            error.name is None
            or error.name.split(".")[0] == name.split(".", maxsplit=1)[0]
            or "mimix" in error.name
        ):
            raise
        raise MissingModel(
            f"stage {name} needs the package {error.name}",
            fix="Install the stage's extra, e.g. pip install 'mimix[all]'.",
        ) from error
    assert isinstance(found, Stage)
    return found
