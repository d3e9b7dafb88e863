"""Find stages by name; a stage's module is imported only when the stage is requested.

A stage is the constant ``STAGE`` of a module. Packages below ``mimix_core.stages`` are found by
their name, stages of other packages are listed here, and any other stage goes by the dotted name of
its module, so that a stage can live outside MiMix (docs/extending/stage.md).
"""

from __future__ import annotations

import pkgutil
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mimix_core.engine.stage import Phase, Stage
from mimix_core.errors import MissingModel

STAGES_PACKAGE = "mimix_core.stages"

OTHER_MODULES = {
    "recaptions": "mimix_core.stages.captions.recaption",
    "backbone": "mimix_core.wan.backbone_stage",
    "latents": "mimix_core.wan.latents_stage",
    "embeddings": "mimix_core.wan.text_embeddings",
    "regions": "mimix_core.wan.regions_stage",
    "lora": "mimix_core.training.stage",
    "layouts": "mimix_core.wan.layouts_stage",
    "videos": "mimix_core.wan.videos_stage",
    "samples": "mimix_core.wan.samples_stage",
    "scores": "mimix_core.benchmark.scores_stage",
    "character_scores": "mimix_core.benchmark.characters.character_scores_stage",
    "judgements": "mimix_core.benchmark.judge.stage",
    "duels": "mimix_core.benchmark.judge.pairwise",
}


def stage_names() -> list[str]:
    """List the names of all stages that ship with MiMix, without importing them."""
    package = find_spec(STAGES_PACKAGE)
    assert package is not None
    assert package.submodule_search_locations is not None
    found = pkgutil.iter_modules(package.submodule_search_locations)
    return [*(module.name for module in found if module.ispkg), *OTHER_MODULES]


def pipeline_stages() -> list[Stage[Any, Any]]:
    """Import all stages that ship with MiMix and sort them by phase, upstream stages first."""
    graph = {stage.name: stage for stage in map(get_stage, stage_names())}
    phases = list(Phase)
    sorter = TopologicalSorter({name: graph[name].upstream for name in sorted(graph)})
    ordered = [graph[name] for name in sorter.static_order()]
    return sorted(ordered, key=lambda stage: phases.index(stage.phase))


def upstream_depth(name: str) -> int:
    """Return the length of the longest chain of upstream stages; 0 for a stage without any."""
    return max((1 + upstream_depth(upstream) for upstream in get_stage(name).upstream), default=0)


@cache
def get_stage(name: str) -> Stage[Any, Any]:
    """Import and return a stage by its name, or by the dotted name of its module.

    Raises MissingModel when a package that the stage needs is not installed.
    """
    module = OTHER_MODULES.get(name, name if "." in name else f"{STAGES_PACKAGE}.{name}.stage")
    try:
        stage = import_module(module).STAGE
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not missing or module.startswith(missing) or "mimix" in missing:
            raise
        raise MissingModel(
            f"stage {name} needs the package {missing}",
            fix="Install the stage's extra, e.g. pip install 'mimix[all]'.",
        ) from error
    assert isinstance(stage, Stage)
    return stage
