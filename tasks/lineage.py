"""What was made from what, as Prefect assets: episodes, curated shows, dataset, LoRA, scores.

An asset is what a person would name, and keeps its key from run to run; the stage key of the
version at hand is in its metadata. One materialization per asset and run, and only where the run
computed something of it: some events for a run, not some for each of a thousand units.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect.assets import Asset, AssetProperties, materialize

from mimix_core.engine.artifacts import TableRef
from tasks.base import Run
from tasks.prefect_artifacts import computed_stages

MAX_PARENTS = 90
"""Prefect's server takes events of up to 100 related resources, some of which are its own."""

CURATED = ("scenes", "overlays", "clips", "duplicates", "transcripts", "captions")


def record_lineage(run: Run) -> None:
    """Tell Prefect of the assets that this run made anew, each with those it was made from."""
    computed = computed_stages(run)
    shows = {show.id: _asset(run, f"curated/{show.id}") for show in run.workspace.library.shows}
    if any(stage in CURATED for stage in computed):
        for show, asset in shows.items():
            episodes = [e for e in run.workspace.episodes if e.show.id == show]
            parents = [_asset(run, f"episode/{e.id}", e.name) for e in episodes]
            _materialize(asset, parents, {"episodes": len(episodes)})
    chain = list(shows.values())
    for stage in ("dataset", "lora", "samples", "scores", "judgements"):
        refs = run.refs.get(stage)
        if not refs:
            return
        asset = _asset(run, stage)
        if stage in computed:
            _materialize(asset, chain, _table_metadata(refs))
        chain = [asset]


def asset_key(workspace: Path, path: str) -> str:
    """The key of an asset of that workspace: its folder's name tells it to a person, a piece of
    the digest of its whole path from others of that name."""
    name = re.sub(r"[^A-Za-z0-9_-]", "-", workspace.name)[:60] or "workspace"
    digest = hashlib.sha256(os.fsencode(workspace)).hexdigest()[:8]
    return f"mimix://{name}-{digest}/{path}"


def _asset(run: Run, path: str, name: str = "") -> Asset:
    return Asset(
        key=asset_key(run.workspace.config.workspace, path),
        properties=AssetProperties(name=name or path),
    )


def _table_metadata(refs: Sequence[TableRef]) -> dict[str, Any]:
    [ref] = refs
    return {"key": ref.key, "sha256": ref.sha256, **ref.counts.model_dump()}


def _materialize(asset: Asset, parents: Sequence[Asset], facts: dict[str, Any]) -> None:
    """Materialize the asset. Of more parents than an event can name, the first are named."""
    named = list(parents[:MAX_PARENTS])

    @materialize(
        asset, by="MiMix", name="lineage", asset_deps=named, persist_result=False, retries=0
    )
    def told() -> None:
        asset.add_metadata({**facts, "parents": len(parents), "parents_named": len(named)})

    told()
