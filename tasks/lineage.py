"""Record lineage as Prefect assets: episodes, curated shows, dataset, LoRA, samples, scores.

An asset is a result that users refer to, and has the same key in every run; the stage key of the
current version is in its metadata. There is one materialization per asset and run, and only if the
run computed part of it: a few events per run, not a few for each of a thousand units.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect.assets import Asset, AssetProperties, materialize

from mimix_core.engine import registry
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.stage import Phase
from tasks.base import Run
from tasks.prefect_artifacts import computed_stages

MAX_PARENTS = 90
"""Prefect's server accepts events with up to 100 related resources, some of which it adds."""

ASSET_STAGES = ("dataset", "lora", "samples", "scores", "judgements")
"""Stages whose table is an asset; each is derived from the one before."""


def record_lineage(run: Run) -> None:
    """Materialize the assets that this run computed, each with its upstream assets."""
    computed = computed_stages(run)
    shows = {show.id: _asset(run, f"curated/{show.id}") for show in run.workspace.library.shows}
    if any(registry.get_stage(stage).phase is Phase.CURATION for stage in computed):
        for show, asset in shows.items():
            episodes = [e for e in run.workspace.episodes if e.show.id == show]
            sources = [_asset(run, f"episode/{e.id}", e.name) for e in episodes]
            _materialize(asset, sources, {"episodes": len(episodes)})
    parents = list(shows.values())
    for stage in ASSET_STAGES:
        refs = run.refs.get(stage)
        if not refs:
            return
        asset = _asset(run, stage)
        if stage in computed:
            _materialize(asset, parents, _table_metadata(refs))
        parents = [asset]


def asset_key(workspace: Path, path: str) -> str:
    """Build the key of an asset of a workspace, e.g. ``mimix://workspace-1a2b3c4d/dataset``.

    It contains the folder's name for readers, and part of the digest of its path for uniqueness.
    """
    name = re.sub(r"[^A-Za-z0-9_-]", "-", workspace.name)[:60] or "workspace"
    digest = hashlib.sha256(os.fsencode(workspace)).hexdigest()[:8]
    return f"mimix://{name}-{digest}/{path}"


def _asset(run: Run, path: str, name: str = "") -> Asset:
    return Asset(
        key=asset_key(run.workspace.config.workspace, path),
        properties=AssetProperties(name=name or path),
    )


def _table_metadata(refs: Sequence[TableRef]) -> dict[str, Any]:
    """Describe an asset's table, or each of them by its unit: adapters of two experts."""
    metadata: dict[str, Any] = {}
    for ref in refs:
        prefix = "" if len(refs) == 1 else f"{ref.unit} "
        values = {"key": ref.key, "sha256": ref.sha256, **ref.counts.model_dump()}
        metadata |= {f"{prefix}{name}": value for name, value in values.items()}
    return metadata


def _materialize(asset: Asset, parents: Sequence[Asset], metadata: dict[str, Any]) -> None:
    """Materialize the asset; its event names at most MAX_PARENTS parents."""
    named: list[Asset | str] = list(parents[:MAX_PARENTS])

    @materialize(
        asset, by="MiMix", name="lineage", asset_deps=named, persist_result=False, retries=0
    )
    def add_metadata() -> None:
        asset.add_metadata({**metadata, "parents": len(parents), "parents_named": len(named)})

    add_metadata()
