"""Write the index of the studio: ``python -m flows.studio_tables SETTINGS [WORKSPACE]``.

A process of its own: it needs Prefect and every table in memory, the studio's server neither. It
prints one line of JSON, see ``IndexReply``, or an error on stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows import prefect_environment
from flows.cached_results import walk_stages
from flows.console import load_settings, module_errors
from mimix_core.engine import registry
from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.engine.stage import Stage
from mimix_core.engine.store import StageRecord
from mimix_core.errors import BadInput
from mimix_core.project.workspace import Workspace, open_workspace
from mimix_core.stages.report.labels import REASONS
from mimix_core.studio.index_file import index_path, write_index
from mimix_core.studio.studio_items import ItemReader
from mimix_core.studio.track_items import read_proposals
from tasks.base import Run
from tasks.planned_run import PlannedRun, plan_run


class IndexReply(FrozenModel):
    """Where the index is, and how many units a run with these settings would compute."""

    index: Path
    to_compute: int


@dataclass
class _NewestResults(PlannedRun):
    """A run that collects the results there are: of each unit the one that its last run made.

    A decision or a changed setting asks for other results than there are: until they are computed,
    people look at those of before.
    """

    def _plan_unit(
        self, stage: Stage[Any, Any], inputs: FrozenModel, settings: FrozenModel
    ) -> TableRef:
        ref = super()._plan_unit(stage, inputs, settings)
        found: TableRef | None = ref
        if ref.path.is_relative_to(self.scratch):
            found = self._last_result(stage, self._newest.get((stage.name, ref.unit)))
        if found is not None:
            self.refs.setdefault(stage.name, []).append(found)
        return ref

    def _last_result(self, stage: Stage[Any, Any], last: StageRecord | None) -> TableRef | None:
        if last is None or last.version != stage.version:
            return None
        return self.workspace.store.lookup(stage.name, last.key)


def collect_newest(workspace: Workspace) -> tuple[dict[str, list[TableRef]], int]:
    """Return the newest tables by stage, and how many units a run would compute."""

    def walk(run: Run) -> None:
        try:
            walk_stages(run)
        except BadInput:
            # Later stages need something that is not there; what was found is shown.
            return

    # A dataset that waits for approval does not end the look.
    config = workspace.config
    without_approval = config.run.model_copy(update={"require_approval": False, "review_share": 0})
    looked_at = replace(workspace, config=config.model_copy(update={"run": without_approval}))
    run = plan_run(lambda scratch: _NewestResults(looked_at, scratch=scratch), walk)
    to_compute = sum(unit.state == "compute" for unit in run.units)
    return dict(run.refs), to_compute


def describe_project(workspace: Workspace) -> dict[str, Any]:
    """Return what the page shows besides items: names, casts, and words for stages and reasons."""
    return {
        "title": workspace.config.library.parent.name,
        "review_share": str(workspace.config.run.review_share),
        "shows": {
            show.id: {"title": show.title, "style": show.style.value}
            for show in workspace.library.shows
        },
        "casts": {
            show.id: {"roster": show.roster(), "aliases": show.aliases()}
            for show in workspace.library.shows
        },
        "episode_casts": {
            episode.name: {"roster": episode.show.roster(), "aliases": episode.show.aliases()}
            for episode in workspace.episodes
        },
        "sources": {episode.name: str(episode.video.path) for episode in workspace.episodes},
        "stages": {name: registry.get_stage(name).title for name in registry.stage_names()},
        "reasons": dict(REASONS),
    }


def main(arguments: Sequence[str]) -> None:
    """Write the index of these settings, unless it is there already."""
    with module_errors():
        settings = Path(arguments[0])
        folder = Path(arguments[1]) if len(arguments) > 1 else None
        prefect_environment.configure_prefect()
        workspace = open_workspace(load_settings(settings, folder))
        refs, to_compute = collect_newest(workspace)
        tracks, proposals = read_proposals(workspace.config.workspace)
        meta = {**describe_project(workspace), "proposals": proposals}
        path = index_path(workspace.config.workspace, refs, meta)
        if path.exists():
            path.touch()
        else:
            reader = ItemReader(
                workspace.store.root.resolve(),
                refs,
                workspace.config.run.review_share,
                tracks,
                workspace.config.clips.frame_rate,
            )
            write_index(path, reader.items(), meta)
    sys.stdout.write(IndexReply(index=path, to_compute=to_compute).model_dump_json() + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
