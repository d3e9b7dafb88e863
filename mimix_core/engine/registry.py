"""Every stage by its name, in the order of the way of the data; imported only when asked for."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from mimix_core.engine.stage import Stage
from mimix_core.errors import MissingModel

MODULES = {
    "scenes": "mimix_core.stages.scenes",
    "overlays": "mimix_core.stages.overlays",
    "clips": "mimix_core.stages.clips",
    "duplicates": "mimix_core.stages.duplicates",
    "transcripts": "mimix_core.stages.transcripts",
    "captions": "mimix_core.stages.captions.stage",
    "cutouts": "mimix_core.stages.cutouts.stage",
    "composites": "mimix_core.stages.composites.stage",
    "recaptions": "mimix_core.stages.captions.recaption",
    "dataset": "mimix_core.stages.dataset",
    "backbone": "mimix_core.wan.backbone_stage",
    "latents": "mimix_core.wan.latents_stage",
    "embeddings": "mimix_core.wan.text_embeddings",
    "lora": "mimix_core.training.stage",
    "videos": "mimix_core.wan.videos_stage",
    "samples": "mimix_core.wan.samples_stage",
    "scores": "mimix_core.benchmark.scores_stage",
    "judgements": "mimix_core.benchmark.judge.stage",
    "report": "mimix_core.stages.report.stage",
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
