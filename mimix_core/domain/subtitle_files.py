"""Subtitle files that stand beside a video, found by their names.

``film.srt``, ``film.en.srt``, ``film.en.sdh.vtt`` stand beside ``film.mp4``.
"""

from __future__ import annotations

from pathlib import Path

from mimix_core.domain.language_codes import language

SUBTITLE_KINDS = (".srt", ".vtt", ".ass", ".ssa")
"""The earlier, the more likely plain: styled subtitles say the same with more around it."""

_FORCED = "forced"
"""Signs and foreign words only: not the dialogue."""

_FOR_THE_DEAF = {"sdh", "cc"}

_MARKS = {_FORCED, *_FOR_THE_DEAF, "default", "full"}
"""Parts of a name that are no language, though some have as few letters."""


def subtitles_beside(video: Path, preferred: str) -> Path | None:
    """The subtitle file that belongs to a video: the best of those that bear its name.

    Best is one in the ``preferred`` language, then one that names no language, then one that is not
    made for those who do not hear, then by kind and name. None when there is none.
    """
    found = [
        path
        for path in video.parent.iterdir()
        if path.suffix.lower() in SUBTITLE_KINDS
        and path.is_file()
        and (path.stem == video.stem or path.stem.startswith(f"{video.stem}."))
        and _only_tags(path.stem[len(video.stem) :])
    ]
    wanted = language(preferred)

    def rank(path: Path) -> tuple[bool, bool, bool, int, str]:
        tags = _tags(path.stem[len(video.stem) :])
        named = subtitles_language(path)
        return (
            bool(wanted) and named != wanted,
            bool(named),
            not _FOR_THE_DEAF.isdisjoint(tags),
            SUBTITLE_KINDS.index(path.suffix.lower()),
            path.name,
        )

    return min(found, key=rank, default=None)


def subtitles_language(path: Path) -> str:
    """The language that the name of a subtitle file states (``film.en.srt``); empty: none."""
    for tag in _tags(path.stem)[1:][::-1]:
        if tag not in _MARKS:
            return language(tag)
    return ""


def _only_tags(ending: str) -> bool:
    """Whether what follows the video's name is languages and marks, and not another film's name."""
    tags = [tag for tag in _tags(ending) if tag]
    return _FORCED not in tags and all(tag in _MARKS or language(tag) for tag in tags)


def _tags(name: str) -> list[str]:
    return name.lower().split(".")
