"""What a run works on: the settings, the library, and the store, opened and checked together."""

from __future__ import annotations

import errno
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mimix_core.domain import ids
from mimix_core.domain.library import Episode, Library, Show, declared_videos, load_library
from mimix_core.engine.artifacts import FileRef
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.settings import Config


@dataclass(frozen=True)
class SourceEpisode:
    """An episode with the digests of all its files. ``name`` is unique in the library."""

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
    """One run's view of the world; nothing in it changes while the run lasts.

    ``notices``: what globs found and was left out, one line each.
    """

    config: Config
    library: Library
    store: Store
    episodes: tuple[SourceEpisode, ...]
    notices: tuple[str, ...] = ()

    def file_ref(self, path: Path | None, key: str) -> FileRef | None:
        """Reference to a file or folder that the settings name under ``key``.

        Raises BadInput when the settings name one and it is not there.
        """
        if path is None:
            return None
        if not path.exists():
            raise BadInput(
                f"no file or folder {path}", where=f"settings, key {key}", fix="Correct the path."
            )
        return self.store.source_ref(path)


def open_workspace(config: Config) -> Workspace:
    """Load the library and digest every source file.

    What a glob found and cannot be an episode (a folder, a pipe, a file that may not be read, an
    episode that is there already) is left out with a notice. Raises BadInput when the library is
    wrong, when a file it names cannot be read, or when two episodes are the same video and what the
    library says of them differs.
    """
    library = load_library(config.library, language=config.transcripts.language)
    named = declared_videos(config.library)
    store = Store(config.workspace / "store")
    store.root.mkdir(parents=True, exist_ok=True)
    episodes: list[SourceEpisode] = []
    notices: list[str] = []
    for show in library.shows:
        for episode in show.episodes:
            problem = _source_problem(episode.path)
            try:
                opened = None if problem else _reference_episode(store, show, episode)
            except OSError as error:
                if error.errno not in _FILE_ERRNOS:
                    raise
                problem = f"cannot be read ({error.strerror or error})"
            if opened is not None and not problem:
                episodes.append(opened)
            elif episode.path in named:
                raise BadInput(
                    f"{_printable_path(episode.path)} {problem}",
                    where=str(config.library),
                    fix="Put a readable video there, or take it out of the library.",
                )
            else:
                notices.append(f"{_printable_path(episode.path)} {problem}: left out")
    kept = _drop_duplicate_videos(episodes, notices, config.library)
    if not kept:
        raise BadInput(
            "no episode is left: " + "; ".join(notices),
            where=str(config.library),
            fix="Put videos where the globs look.",
        )
    return Workspace(config, library, store, tuple(_disambiguate_names(kept)), tuple(notices))


_FILE_ERRNOS = (errno.EIO, errno.ESTALE, errno.ENOENT, errno.EACCES, errno.EPERM)
"""Errors that a file's own state explains; a full disk, say, is another matter."""


def _source_problem(path: Path) -> str:
    """Why ``path`` can be no episode. Only regular files are opened: a pipe would never end."""
    try:
        str(path).encode()
        if not stat.S_ISREG(path.stat().st_mode):
            return "is not a regular file"
        with path.open("rb") as stream:
            stream.read(1)
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return ""


def _reference_episode(store: Store, show: Show, episode: Episode) -> SourceEpisode:
    def reference(path: Path | None) -> FileRef | None:
        return None if path is None else store.source_ref(path)

    return SourceEpisode(
        name=episode.path.stem,
        show=show,
        video=store.source_ref(episode.path),
        subtitles=reference(episode.subtitles),
        script=reference(episode.script),
        boxes=reference(episode.boxes),
        plot=episode.plot,
    )


def _drop_duplicate_videos(
    episodes: Sequence[SourceEpisode], notices: list[str], source: Path
) -> list[SourceEpisode]:
    """Each video once: of two that are the same, the one of which more is said, else the first.

    Empty files of two shows say nothing about each other; each fails as an episode of its show.
    """
    kept: dict[tuple[str, str], SourceEpisode] = {}
    for episode in episodes:
        digest = episode.video.sha256
        place = (digest, episode.show.id if episode.video.size == 0 else "")
        twin = kept.setdefault(place, episode)
        if twin is episode:
            continue
        said, said_of_twin = _declared_data(episode), _declared_data(twin)
        agree = not said or not said_of_twin or said == said_of_twin
        if twin.show.id != episode.show.id or not agree:
            raise BadInput(
                f"{_printable_path(episode.video.path)} and {_printable_path(twin.video.path)} are the same video",
                where=str(source),
                fix="Keep one of the two.",
            )
        first, second = (twin, episode) if said_of_twin or not said else (episode, twin)
        kept[place] = first
        notices.append(
            f"{_printable_path(second.video.path)} is the same video as {_printable_path(first.video.path)}: left out"
        )
    return list(kept.values())


def _declared_data(episode: SourceEpisode) -> tuple[str, ...]:
    """What the library says of an episode beside its video; empty for nothing."""
    files = (episode.subtitles, episode.script, episode.boxes)
    said = (*("" if file is None else file.sha256 for file in files), episode.plot)
    return said if any(said) else ()


def _disambiguate_names(episodes: Sequence[SourceEpisode]) -> list[SourceEpisode]:
    """Episodes of one stem go by their whole file name, or by show and file name."""
    for name in (lambda e: e.video.path.name, lambda e: f"{e.show.id}/{e.video.path.name}"):
        counts = Counter(episode.name for episode in episodes)
        episodes = [replace(e, name=name(e)) if counts[e.name] > 1 else e for e in episodes]
    return list(episodes)


def _printable_path(path: Path) -> str:
    """A path that may have any bytes in its name, on one line."""
    text = str(path).encode(errors="backslashreplace").decode()
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
