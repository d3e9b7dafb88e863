"""Give each episode its locator, for ``mimix characters propose``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mimix_core.characters.proposals import ProposedTrack
from mimix_core.characters.track_search import TrackSearch
from mimix_core.domain.library import Show
from mimix_core.project.named_tracks import decided_tracks, named_exemplars
from mimix_core.project.workspace import Workspace
from mimix_core.stages.cutouts.locate import EmbeddingLocatorInputs
from mimix_core.stages.cutouts.locate.embedding_locator import EmbeddingLocator
from mimix_core.stages.cutouts.locate.frame_grid import read_frames_every
from tasks.cutouts import build_locator_inputs, show_locator


def propose_tracks(
    workspace: Workspace, show: Show, places: int, out: Path
) -> list[ProposedTrack] | None:
    """Search the episodes of a show; None if the show's locator is not ``embedding``.

    Raises BadInput, MissingModel, UnreadableVideo.
    """
    config = workspace.config
    named = named_exemplars(config.decisions, config.workspace, show.id)
    if show_locator(config.cutouts, show, named) != "embedding":
        return None
    decided = {
        item.partition("/")[2] for item in decided_tracks(config.decisions, config.workspace)
    }
    search = TrackSearch(places, out, decided, read_frames_every)
    return search.search(show.id, _locators(workspace, show))


def _locators(workspace: Workspace, show: Show) -> Iterator[tuple[Path, EmbeddingLocator]]:
    for episode in show.episodes:
        cast = show.with_cast_of(episode.path.name)
        inputs = build_locator_inputs(workspace, cast, cast.roster())
        assert isinstance(inputs, EmbeddingLocatorInputs), "the locator of the show is embedding"
        yield episode.path, EmbeddingLocator(inputs, Path())
