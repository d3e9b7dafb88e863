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


def find_sidecar_subtitles(video: Path, preferred_language: str) -> Path | None:
    """Find the best subtitle file of a video; None when there is none.

    Files in ``preferred_language`` come first, then files without a language, then files not made
    for the hearing impaired; then the order is by extension and name.
    """
    candidates = [
        path
        for path in video.parent.iterdir()
        if path.suffix.lower() in SUBTITLE_EXTENSIONS
        and path.is_file()
        and (path.stem == video.stem or path.stem.startswith(f"{video.stem}."))
        and _has_only_known_tags(path.stem[len(video.stem) :])
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
