"""Find files next to videos by the videos' names, with each folder listed once.

Case does not count in names, nor whether accents are characters of their own (macOS writes them
so): ``Amélie.SRT`` belongs to ``amélie.mkv`` in either spelling.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path

from mimix_core.domain.release_names import split_release_name

SUBTITLE_EXTENSIONS = (".srt", ".vtt", ".ass", ".ssa")
"""In order of preference: plain formats before styled ones, which add markup to the same text."""

SIDECAR_EXTENSIONS = (*SUBTITLE_EXTENSIONS, ".yaml", ".yml", ".zip")
"""Extensions of files that lie next to videos; glob patterns never match them as episodes."""

SCRIPT_ENDINGS = (".yaml", ".yml", ".script.yaml", ".script.yml")
"""What follows a video's name in the name of its action script, in order of preference."""

BOXES_ENDINGS = (".boxes.yaml", ".boxes.yml")
"""What follows a video's name in the name of the file with its annotated boxes."""

MASKS_ENDINGS = (".masks.zip",)
"""What follows a video's name in the name of the file with its drawn masks."""

_MAX_TAG_WORDS = 3
"""How many words of language and kind may follow a name without an episode's number."""

_OTHER_EXTENSIONS = (*SIDECAR_EXTENSIONS, "", ".nfo", ".txt", ".jpg", ".jpeg", ".png", ".json")
"""Extensions of files in folders of videos that are not videos."""


def normalize_name(name: str) -> str:
    """Return a file name for comparisons: composed characters, no case."""
    return unicodedata.normalize("NFC", name).casefold()


def may_be_video(path: Path) -> bool:
    """Return whether a file may be a video by its extension."""
    return path.suffix.lower() not in _OTHER_EXTENSIONS


@dataclass(frozen=True)
class FolderListing:
    """A folder's entries with their normalized names, sorted by these."""

    names: tuple[str, ...]
    paths: tuple[Path, ...]

    def starting_with(self, prefix: str) -> tuple[Path, ...]:
        """Return the entries whose normalized name begins with ``prefix``."""
        first = bisect_left(self.names, prefix)
        last = first
        while last < len(self.names) and self.names[last].startswith(prefix):
            last += 1
        return self.paths[first:last]

    def video_stems(self, prefix: str = "") -> set[str]:
        """Return the normalized stems of files that may be videos and begin with ``prefix``."""
        return {
            normalize_name(path.stem) for path in self.starting_with(prefix) if may_be_video(path)
        }


class SidecarIndex:
    """The files next to videos.

    Each folder is listed once, so that a folder of thousands of episodes takes no longer for each.
    """

    def __init__(self) -> None:
        self._folders: dict[Path, FolderListing] = {}
        self._single_videos: dict[Path, bool] = {}
        self._releases: dict[Path, dict[tuple[str, ...], list[Path]]] = {}

    def list_folder(self, folder: Path) -> FolderListing:
        """List a folder; one that is missing or not readable has no entries."""
        if folder not in self._folders:
            try:
                entries = sorted((normalize_name(path.name), path) for path in folder.iterdir())
            except OSError:
                entries = []
            names, paths = zip(*entries, strict=True) if entries else ((), ())
            self._folders[folder] = FolderListing(names, paths)
        return self._folders[folder]

    def has_single_video(self, folder: Path) -> bool:
        """Return whether all files of a folder that may be videos have the same stem."""
        if folder not in self._single_videos:
            self._single_videos[folder] = len(self.list_folder(folder).video_stems()) == 1
        return self._single_videos[folder]

    def files_of_episode(self, folder: Path, identity: tuple[str, ...]) -> list[Path]:
        """Return the entries of a folder whose names begin with an episode's identity.

        ``identity``: from ``split_release_name``. At most ``_MAX_TAG_WORDS`` words may follow it
        before the release tags.
        """
        if folder not in self._releases:
            releases: dict[tuple[str, ...], list[Path]] = {}
            for path in self.list_folder(folder).paths:
                keys = set()
                # The name of a folder has no extension: ``Show.S01E01``.
                for name in (path.stem, path.name):
                    found, _ = split_release_name(normalize_name(name))
                    first = max(1, len(found) - _MAX_TAG_WORDS)
                    keys |= {found[:count] for count in range(first, len(found) + 1)}
                for key in keys:
                    releases.setdefault(key, []).append(path)
            self._releases[folder] = releases
        return self._releases[folder].get(identity, [])

    def stems_of_episode(self, folder: Path, identity: tuple[str, ...]) -> set[str]:
        """Return the normalized stems of the possible videos with exactly this identity."""
        stems = {
            normalize_name(path.stem)
            for path in self.files_of_episode(folder, identity)
            if may_be_video(path)
        }
        return {stem for stem in stems if split_release_name(stem)[0] == identity}

    def find_companion(self, video: Path, endings: tuple[str, ...]) -> Path | None:
        """Find the file next to a video whose name is the video's and one of ``endings``."""
        ranks = {normalize_name(video.stem + ending): n for n, ending in enumerate(endings)}
        found = [
            (ranks[normalize_name(path.name)], path)
            for path in self.list_folder(video.parent).starting_with(normalize_name(video.stem))
            if normalize_name(path.name) in ranks and path.is_file()
        ]
        return min(found)[1] if found else None
