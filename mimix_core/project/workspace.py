"""Open a workspace: settings, library and store, loaded and checked together."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mimix_core.domain import ids
from mimix_core.domain.imported_clips import ImportedClip
from mimix_core.domain.library import (
    ClipEpisode,
    Episode,
    Library,
    Show,
    declared_videos,
    load_library,
    unmatched_patterns,
)
from mimix_core.engine.artifacts import FileRef
from mimix_core.engine.store import Store
from mimix_core.engine.text_escaping import printable_text
from mimix_core.errors import BadInput
from mimix_core.settings import Config


@dataclass(frozen=True)
class SourceEpisode:
    """An episode with the digests of all its files; ``name`` is unique in the library.

    ``show``: with only the characters that can appear in the episode. ``imported``: what is known
    of a clip that was made elsewhere; None for an episode.
    """

    name: str
    show: Show
    video: FileRef
    subtitles: FileRef | None
    script: FileRef | None
    boxes: FileRef | None
    masks: FileRef | None
    plot: str
    imported: ImportedClip | None = None

    @property
    def was_replaced(self) -> bool:
        """Return whether the video is not the one that was imported."""
        return self.imported is not None and self.imported.sha256 != self.video.sha256

    @property
    def id(self) -> str:
        """Return the episode id, derived from its show and the digest of its video."""
        return ids.episode_id(self.show.id, self.video.sha256)


@dataclass(frozen=True)
class Workspace:
    """Settings, library, store and episodes of one run; constant during the run.

    ``notices``: files that globs matched and that were left out, one line each.
    """

    config: Config
    library: Library
    store: Store
    episodes: tuple[SourceEpisode, ...]
    notices: tuple[str, ...] = ()

    def split_groups(self, episode_ids: Collection[str]) -> dict[str, str]:
        """Map the ids of imported clips to the group that is in one split with them."""
        return {
            episode.id: f"{episode.show.id}/{episode.imported.group}"
            for episode in self.episodes
            if episode.imported is not None and episode.id in episode_ids
        }

    def file_ref(self, path: Path | None, key: str) -> FileRef | None:
        """Reference the file or folder at ``path``, the value of the settings key ``key``.

        None for None. Raises BadInput if the path does not exist.
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

    A match of a glob that cannot be an episode (a folder, a pipe, an unreadable file, a duplicate
    of another episode) is left out with a notice. Raises BadInput if the library is invalid, if a
    file that it names cannot be read, or if two episodes are the same video but have different
    data in the library.
    """
    library = load_library(config.library, language=config.transcripts.language)
    named = declared_videos(config.library)
    store = Store(config.workspace / "store")
    _check_workspace(config.workspace)
    episodes: list[SourceEpisode] = []
    notices = [f"{problem}: left out" for problem in unmatched_patterns(config.library)]
    for show in map(library.with_guests, library.shows):
        for episode in show.episodes:
            problem = _source_problem(episode.path)
            try:
                source = None if problem else _reference_episode(store, show, episode)
            except OSError as error:
                if error.errno not in _FILE_ERRNOS:
                    raise
                problem = f"cannot be read ({error.strerror or error})"
            if source is not None and source.was_replaced:
                problem = "is not the clip that was imported: import it again"
            if source is not None and not problem:
                episodes.append(source)
            elif episode.path in named:
                raise BadInput(
                    f"{_printable_path(episode.path)} {problem}",
                    where=str(config.library),
                    fix="Replace it with a readable video, or remove it from the library.",
                )
            else:
                notices.append(f"{_printable_path(episode.path)} {problem}: left out")
    unique = _drop_duplicate_videos(episodes, notices, config.library)
    if not unique:
        raise BadInput(
            "no usable episode: " + "; ".join(notices),
            where=str(config.library),
            fix="Put videos into folders that the globs match.",
        )
    return Workspace(config, library, store, tuple(_disambiguate_names(unique)), tuple(notices))


def _check_workspace(workspace: Path) -> None:
    """Raise BadInput if the workspace is, or lies below, something that is not a folder."""
    existing = next(path for path in (workspace, *workspace.parents) if os.path.lexists(path))
    if not existing.is_dir():
        what = "a broken link" if existing.is_symlink() else "a file"
        raise BadInput(
            f"{existing} is {what}, not a folder",
            where="settings, key workspace",
            fix="Choose a folder for the workspace; it is created if it does not exist.",
        )


_FILE_ERRNOS = (errno.EIO, errno.ESTALE, errno.ENOENT, errno.EACCES, errno.EPERM)
"""Errors caused by the file itself, unlike, for example, a full disk."""


def _source_problem(path: Path) -> str:
    """Describe why a path cannot be an episode; opens only regular files, never pipes."""
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

    imported = episode.imported if isinstance(episode, ClipEpisode) else None
    cast = show.with_cast_of(episode.path.name)
    return SourceEpisode(
        name=episode.path.stem,
        show=cast if imported is None else cast.with_cast(imported.characters),
        video=store.source_ref(episode.path),
        subtitles=reference(episode.subtitles),
        script=reference(episode.script),
        boxes=reference(episode.boxes),
        masks=reference(episode.masks),
        plot=episode.plot,
        imported=imported,
    )


def _drop_duplicate_videos(
    episodes: Sequence[SourceEpisode], notices: list[str], source: Path
) -> list[SourceEpisode]:
    """Drop duplicate videos; prefer the episode with data in the library, else the first.

    Empty files of two shows are not duplicates; each fails as an episode of its show.
    """
    unique: dict[tuple[str, str], SourceEpisode] = {}
    for episode in episodes:
        identity = (episode.video.sha256, episode.show.id if episode.video.size == 0 else "")
        earlier = unique.setdefault(identity, episode)
        if earlier is episode:
            continue
        data, earlier_data = _declared_data(episode), _declared_data(earlier)
        compatible = not data or not earlier_data or data == earlier_data
        if earlier.show.id != episode.show.id or not compatible:
            path, earlier_path = map(_printable_path, (episode.video.path, earlier.video.path))
            raise BadInput(
                f"{path} and {earlier_path} are the same video",
                where=str(source),
                fix="Remove one of the two.",
            )
        chosen, dropped = (earlier, episode) if earlier_data or not data else (episode, earlier)
        unique[identity] = chosen
        path, chosen_path = map(_printable_path, (dropped.video.path, chosen.video.path))
        notices.append(f"{path} is the same video as {chosen_path}: left out")
    return list(unique.values())


def _declared_data(episode: SourceEpisode) -> tuple[str, ...]:
    """Return what the library declares for an episode besides its video; empty if nothing."""
    files = (episode.subtitles, episode.script, episode.boxes, episode.masks)
    data = (*("" if file is None else file.sha256 for file in files), episode.plot)
    return data if any(data) else ()


def _disambiguate_names(episodes: Sequence[SourceEpisode]) -> list[SourceEpisode]:
    """Rename episodes with equal stems to their file name, with more of their path if necessary.

    Equal names occur in two shows, or in the folders of two seasons.
    """
    for name in (
        lambda e: e.video.path.name,
        lambda e: f"{e.show.id}/{e.video.path.name}",
        lambda e: f"{e.show.id}/{e.video.path.parent.name}/{e.video.path.name}",
        lambda e: f"{e.show.id}{e.video.path}",
    ):
        counts = Counter(episode.name for episode in episodes)
        episodes = [replace(e, name=name(e)) if counts[e.name] > 1 else e for e in episodes]
    return list(episodes)


def _printable_path(path: Path) -> str:
    """Format a path with arbitrary bytes in its name as one printable line."""
    return printable_text(str(path), allowed="")
