"""Find the subtitle files that belong to a video by their names.

``film.srt``, ``film.en.srt``, ``film_en.sdh.vtt`` and ``Subs/film/2_English.srt`` belong to
``film.mp4``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mimix_core.domain.language_codes import normalize_language_code, parse_language
from mimix_core.domain.sidecar_index import SUBTITLE_EXTENSIONS, SidecarIndex, normalize_name

_SUBTITLE_FOLDERS = ("subs", "sub", "subtitles", "subtitle", "captions")

_PARTIAL_TAGS = {"forced", "foreign", "signs", "sign", "songs", "song", "karaoke", "lyrics"}
"""Mark subtitles of signs, songs and foreign words only: not the dialogue."""

_COMMENTARY_TAGS = {"commentary", "comments", "comment", "director", "trivia"}

_HEARING_IMPAIRED_TAGS = {"sdh", "cc", "hi", "hoh"}

_NEUTRAL_TAGS = {"default", "full", "dialogue", "dialog", "subtitle", "subtitles", "subs", "sub"}
_NEUTRAL_TAGS |= {"auto", "orig", "original", "utf8", "and"}

_REGION = re.compile(r"[a-z]{2}|[0-9]{3}|hans|hant|latn|cyrl|arab")
_REGION_NAMES = {"latin", "america", "american", "brazil", "brasil", "european", "castilian"}
_REGION_NAMES |= {"canadian", "mexico", "spain", "simplified", "traditional"}
_NUMBER = re.compile(r"(track)?[0-9]{1,3}")
_SEPARATORS = re.compile(r"[.\s_\-()\[\]{},&+]+")


@dataclass(frozen=True)
class _SubtitleTags:
    """What a subtitle file's name says beside the video's name. ``known``: nothing else is said."""

    language: str = ""
    known: bool = True
    dialogue: bool = True
    hearing_impaired: bool = False


def find_sidecar_subtitles(
    video: Path, preferred_language: str, index: SidecarIndex | None = None
) -> Path | None:
    """Find the best subtitle file of a video; None when there is none.

    Pass one ``index`` for several videos, so that their folders are listed once.

    Files in ``preferred_language`` come first, then files without a language, then files not made
    for the hearing impaired; then those next to the video, then the order is by extension and name.
    """
    preferred = normalize_language_code(preferred_language)
    best: tuple[tuple[bool, bool, bool, bool, int, str], Path] | None = None
    for path, rest in _subtitle_candidates(video, index or SidecarIndex()):
        tags = _parse_tags(rest, video)
        if not tags.known or not tags.dialogue:
            continue
        rank = (
            bool(preferred) and tags.language != preferred,
            bool(tags.language),
            tags.hearing_impaired,
            path.parent != video.parent,
            SUBTITLE_EXTENSIONS.index(path.suffix.lower()),
            path.name,
        )
        if best is None or rank < best[0]:
            best = (rank, path)
    return None if best is None else best[1]


def parse_subtitle_language(path: Path, video: Path | None = None) -> str:
    """Return the language in a subtitle file's name (``film.en.srt``), or ``""`` without one.

    ``video``: its name is not searched. A file of another name counts by what follows its dots.
    """
    name = normalize_name(path.stem)
    if video is not None and name.startswith(normalize_name(video.stem)):
        return _parse_tags(name[len(normalize_name(video.stem)) :], video).language
    if video is not None and path.parent != video.parent:
        tags = _parse_tags(f".{name}", video)
        if tags.known:
            return tags.language
    words = [word for word in name.split(".")[:0:-1] if word not in _NEUTRAL_TAGS]
    return next((found for word in words if (found := parse_language(word.split("-")[0]))), "")


def _subtitle_candidates(video: Path, index: SidecarIndex) -> Iterator[tuple[Path, str]]:
    """Yield the subtitle files that may be the video's, with the rest of their names."""
    stem = normalize_name(video.stem)
    listing = index.list_folder(video.parent)
    longer = listing.video_stems(stem) - {stem}
    for path in listing.starting_with(stem):
        if _is_subtitle_file(path):
            yield from _with_rest(path, stem, longer)
    for name in _SUBTITLE_FOLDERS:
        for folder in listing.starting_with(name):
            if normalize_name(folder.name) == name and folder.is_dir():
                yield from _candidates_below(folder, video, index)


def _candidates_below(folder: Path, video: Path, index: SidecarIndex) -> Iterator[tuple[Path, str]]:
    """Yield the candidates in a folder ``Subs``: by name, or all in the folder of the video."""
    stem = normalize_name(video.stem)
    longer = index.list_folder(video.parent).video_stems(stem) - {stem}
    listing = index.list_folder(folder)
    for path in listing.starting_with(stem):
        if _is_subtitle_file(path):
            yield from _with_rest(path, stem, longer)
        elif normalize_name(path.name) == stem and path.is_dir():
            for inner in filter(_is_subtitle_file, index.list_folder(path).paths):
                yield inner, f".{normalize_name(inner.stem)}"
                yield from _with_rest(inner, stem, longer)
    if index.has_single_video(video.parent):
        for path in filter(_is_subtitle_file, listing.paths):
            yield path, f".{normalize_name(path.stem)}"


def _is_subtitle_file(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.suffix.lower() in SUBTITLE_EXTENSIONS and not hidden and path.is_file()


def _with_rest(path: Path, stem: str, longer: set[str]) -> Iterator[tuple[Path, str]]:
    """Yield a file whose name begins with the video's, unless it belongs to a longer name."""
    name = normalize_name(path.stem)
    if name.startswith(stem) and not any(name.startswith(other) for other in longer):
        yield path, name[len(stem) :]


def _parse_tags(rest: str, video: Path | None) -> _SubtitleTags:
    """Parse what follows the video's name in a subtitle file's name.

    ``hi`` beside a language means hearing impaired; alone it is Hindi. Of two languages the first
    counts.
    """
    words = [word for word in _SEPARATORS.split(rest) if word]
    if rest and _SEPARATORS.match(rest) is None:
        return _SubtitleTags(known=False)
    languages = [index for index, word in enumerate(words) if _is_language(words, index)]
    language = parse_language(words[languages[0]]) if languages else ""
    known = all(
        index in languages[:1]
        or word in _PARTIAL_TAGS | _COMMENTARY_TAGS | _HEARING_IMPAIRED_TAGS | _NEUTRAL_TAGS
        or (video is not None and word == video.suffix.lower().removeprefix("."))
        or word in ("und", "mul")
        or (bool(languages) and _NUMBER.fullmatch(word) is not None)
        or (index - 1 in languages and _REGION.fullmatch(word) is not None)
        or (bool(languages) and word in _REGION_NAMES)
        # A second language: the file has both (film.chs&eng.ass).
        or index in languages
        for index, word in enumerate(words)
    )
    impaired = {word for index, word in enumerate(words) if index not in languages[:1]}
    return _SubtitleTags(
        language,
        known,
        dialogue=_PARTIAL_TAGS.isdisjoint(words) and _COMMENTARY_TAGS.isdisjoint(words),
        hearing_impaired=not _HEARING_IMPAIRED_TAGS.isdisjoint(impaired),
    )


def _is_language(words: list[str], index: int) -> bool:
    """Return whether a word is a language; ``hi`` only where no other word is one."""
    word = words[index]
    if word in _NEUTRAL_TAGS or not parse_language(word):
        return False
    others = (w for w in words if w not in _NEUTRAL_TAGS and w != "hi")
    return word != "hi" or not any(parse_language(other) for other in others)
