"""Find the subtitle files that belong to a video by their names.

``film.srt``, ``film.en.srt`` and ``film.en.sdh.vtt`` belong to ``film.mp4``.
"""

from __future__ import annotations

from pathlib import Path

from mimix_core.domain.language_codes import normalize_language_code

SUBTITLE_EXTENSIONS = (".srt", ".vtt", ".ass", ".ssa")
"""In order of preference: plain formats before styled ones, which add markup to the same text."""

_FORCED_TAG = "forced"
"""Marks subtitles of signs and foreign words only: not the dialogue."""

_HEARING_IMPAIRED_TAGS = {"sdh", "cc"}

_NON_LANGUAGE_TAGS = {_FORCED_TAG, *_HEARING_IMPAIRED_TAGS, "default", "full"}
"""Parts of a file name that are not languages, although some are as short as language codes."""


class SidecarIndex:
    """The subtitle files of folders by the videos' names that they begin with.

    Each folder is listed once, so that a folder of thousands of episodes takes no longer for each.
    """

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[Path]]] = {}

    def candidates(self, video: Path) -> list[Path]:
        """Return the subtitle files whose names are the video's, or continue it after a dot."""
        folder = self._folders.get(video.parent)
        if folder is None:
            folder = self._folders[video.parent] = {}
            for path in video.parent.iterdir():
                if path.suffix.lower() in SUBTITLE_EXTENSIONS:
                    parts = path.stem.split(".")
                    for length in range(1, len(parts) + 1):
                        folder.setdefault(".".join(parts[:length]), []).append(path)
        return folder.get(video.stem, [])


def find_sidecar_subtitles(
    video: Path, preferred_language: str, index: SidecarIndex | None = None
) -> Path | None:
    """Find the best subtitle file of a video; None when there is none.

    Pass one ``index`` for several videos, so that their folders are listed once.

    Files in ``preferred_language`` come first, then files without a language, then files not made
    for the hearing impaired; then the order is by extension and name.
    """
    candidates = [
        path
        for path in (index or SidecarIndex()).candidates(video)
        if path.is_file() and _has_only_known_tags(path.stem[len(video.stem) :])
    ]
    preferred = normalize_language_code(preferred_language)

    def rank(path: Path) -> tuple[bool, bool, bool, int, str]:
        tags = _split_tags(path.stem[len(video.stem) :])
        language = parse_subtitle_language(path)
        return (
            bool(preferred) and language != preferred,
            bool(language),
            not _HEARING_IMPAIRED_TAGS.isdisjoint(tags),
            SUBTITLE_EXTENSIONS.index(path.suffix.lower()),
            path.name,
        )

    return min(candidates, key=rank, default=None)


def parse_subtitle_language(path: Path) -> str:
    """Return the language in a subtitle file's name (``film.en.srt``), or ``""`` without one."""
    for tag in _split_tags(path.stem)[1:][::-1]:
        if tag not in _NON_LANGUAGE_TAGS:
            return normalize_language_code(tag)
    return ""


def _has_only_known_tags(suffix: str) -> bool:
    """Return whether all tags after the video's name are known and none is ``forced``.

    Anything else after the video's name is part of another film's name.
    """
    tags = [tag for tag in _split_tags(suffix) if tag]
    return _FORCED_TAG not in tags and all(
        tag in _NON_LANGUAGE_TAGS or normalize_language_code(tag) for tag in tags
    )


def _split_tags(name: str) -> list[str]:
    return name.lower().split(".")
