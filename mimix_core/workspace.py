"""What a run works on: the settings, the library, and the store, opened and checked together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mimix_core import ids
from mimix_core.errors import BadInput
from mimix_core.library import Library, Show, load_library
from mimix_core.refs import FileRef
from mimix_core.settings import Config
from mimix_core.store import Store


@dataclass(frozen=True)
class SourceEpisode:
    """An episode with the digests of all its files."""

    name: str
    show: Show
    video: FileRef
    subtitles: FileRef | None
    script: FileRef | None
    boxes: FileRef | None
    plot: str

    @property
    def id(self) -> str:
        return ids.episode_id(self.show.id, self.video.sha256)


@dataclass(frozen=True)
class Workspace:
    """One run's view of the world; nothing in it changes while the run lasts."""

    config: Config
    library: Library
    store: Store
    episodes: tuple[SourceEpisode, ...]

    def file(self, path: Path | None, key: str) -> FileRef | None:
        """Reference to a file or folder that the settings name under ``key``.

        Raises BadInput when the settings name one and it is not there.
        """
        if path is None:
            return None
        if not path.exists():
            raise BadInput(
                f"no file or folder {path}", where=f"settings, key {key}", fix="Correct the path."
            )
        return self.store.source(path)


def open_workspace(config: Config) -> Workspace:
    """Load the library and digest every source file.

    Raises BadInput when the library is wrong, or when one video is listed as two episodes.
    """
    library = load_library(config.library)
    store = Store(config.workspace / "store")
    store.root.mkdir(parents=True, exist_ok=True)

    def reference(path: Path | None) -> FileRef | None:
        return None if path is None else store.source(path)

    episodes = [
        SourceEpisode(
            name=episode.path.stem,
            show=show,
            video=store.source(episode.path),
            subtitles=reference(episode.subtitles),
            script=reference(episode.script),
            boxes=reference(episode.boxes),
            plot=episode.plot,
        )
        for show in library.shows
        for episode in show.episodes
    ]
    first: dict[str, SourceEpisode] = {}
    for episode in episodes:
        twin = first.setdefault(episode.video.sha256, episode)
        if twin is not episode:
            raise BadInput(
                f"{episode.video.path} and {twin.video.path} are the same video",
                where=str(config.library),
                fix="Keep one of the two.",
            )
    return Workspace(config, library, store, tuple(episodes))
