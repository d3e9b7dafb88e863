"""Find the subtitle files that belong to a video by their names.

``film.srt``, ``film.en.srt``, ``film_en.sdh.vtt`` and ``Subs/film/2_English.srt`` belong to
``film.mp4``. So does ``show.s01e01.en.srt`` to ``show.s01e01.1080p.mkv``, unless there is another
video of the same episode.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mimix_core.domain.language_codes import normalize_language_code, parse_language
from mimix_core.domain.release_names import is_release_tag, name_words, split_release_name
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
    """What a subtitle file's name says beside the video's name. ``known``: nothing else is said.

    ``other_words``: 0 if it has the video's whole name; else 1 and the words that the video's name
    lacks.
    """

    language: str = ""
    known: bool = True
    dialogue: bool = True
    hearing_impaired: bool = False
    other_words: int = 0


def find_sidecar_subtitles(
    video: Path, preferred_language: str, index: SidecarIndex | None = None
) -> Path | None:
    """Find the best subtitle file of a video; None when there is none.

    Pass one ``index`` for several videos, so that their folders are listed once.

    Files in ``preferred_language`` come first, then files without a language, then those with the
    video's whole name, then files not made for the hearing impaired; then those next to the video,
    then the order is by extension and name.
    """
    index = index or SidecarIndex()
    preferred = normalize_language_code(preferred_language)
    candidates = list(_subtitle_candidates(video, index))
    if not any(tags.language == preferred or not preferred for _, tags in candidates):
        candidates += _release_candidates(video, index)
    ranked = [
        (
            bool(preferred) and tags.language != preferred,
            bool(tags.language),
            tags.other_words,
            tags.hearing_impaired,
            path.parent != video.parent,
            SUBTITLE_EXTENSIONS.index(path.suffix.lower()),
            path.name,
            path,
        )
        for path, tags in candidates
    ]
    return min(ranked)[-1] if ranked else None


def parse_subtitle_language(path: Path, video: Path | None = None) -> str:
    """Return the language in a subtitle file's name (``film.en.srt``), or ``""`` without one.

    ``video``: its name is not searched. A file of another name counts by what follows its dots.
    """
    name = normalize_name(path.stem)
    if video is not None and name.startswith(normalize_name(video.stem)):
        tags = _parse_tags(name[len(normalize_name(video.stem)) :], video)
        if tags.known:
            return tags.language
    if video is not None and (released := _parse_release_tags(path, video)) is not None:
        return released.language
    if video is not None and path.parent != video.parent:
        tags = _parse_tags(f".{name}", video)
        if tags.known:
            return tags.language
    words = [word for word in name.split(".")[:0:-1] if word not in _NEUTRAL_TAGS]
    return next((found for word in words if (found := parse_language(word.split("-")[0]))), "")


def _subtitle_folders(video: Path, index: SidecarIndex) -> list[Path]:
    """Return the folder of a video and those for subtitles in it."""
    beside = index.list_folder(video.parent)
    return [video.parent] + [
        folder
        for name in _SUBTITLE_FOLDERS
        for folder in beside.starting_with(name)
        if normalize_name(folder.name) == name and folder.is_dir()
    ]


def _subtitle_candidates(video: Path, index: SidecarIndex) -> Iterator[tuple[Path, _SubtitleTags]]:
    """Yield the video's subtitle files of dialogue, with what their names say."""
    for folder in _subtitle_folders(video, index):
        candidates = _named_candidates if folder == video.parent else _candidates_below
        for path, rest in candidates(folder, video, index):
            tags = _parse_tags(rest, video)
            if tags.known and tags.dialogue:
                yield path, tags


def _named_candidates(folder: Path, video: Path, index: SidecarIndex) -> Iterator[tuple[Path, str]]:
    """Yield the subtitle files whose name begins with the video's, with the rest of it."""
    stem = normalize_name(video.stem)
    longer = index.list_folder(video.parent).video_stems(stem) - {stem}
    for path in index.list_folder(folder).starting_with(stem):
        if _is_subtitle_file(path):
            yield from _with_rest(path, stem, longer)


def _candidates_below(folder: Path, video: Path, index: SidecarIndex) -> Iterator[tuple[Path, str]]:
    """Yield the candidates in a folder ``Subs``: by name, or all in the folder of the video."""
    yield from _named_candidates(folder, video, index)
    stem = normalize_name(video.stem)
    longer = index.list_folder(video.parent).video_stems(stem) - {stem}
    listing = index.list_folder(folder)
    for path in listing.starting_with(stem):
        if normalize_name(path.name) == stem and path.is_dir():
            for inner in filter(_is_subtitle_file, index.list_folder(path).paths):
                yield inner, f".{normalize_name(inner.stem)}"
                yield from _with_rest(inner, stem, longer)
    if index.has_single_video(video.parent):
        for path in filter(_is_subtitle_file, listing.paths):
            yield path, f".{normalize_name(path.stem)}"


def _release_candidates(video: Path, index: SidecarIndex) -> Iterator[tuple[Path, _SubtitleTags]]:
    """Yield the subtitle files of the same episode whose names have other release tags.

    None when two videos are of the episode, for nothing says of which one the subtitles are.
    """
    stem = normalize_name(video.stem)
    identity, _ = split_release_name(stem)
    if index.stems_of_episode(video.parent, identity) != {stem}:
        return
    for folder in _subtitle_folders(video, index):
        for path in index.files_of_episode(folder, identity):
            if not _is_subtitle_file(path):
                if folder != video.parent:
                    yield from _candidates_in_release_folder(path, identity, index)
                continue
            tags = _parse_release_tags(path, video)
            full, _ = split_release_name(normalize_name(path.stem))
            longer = [full[:count] for count in range(len(identity) + 1, len(full) + 1)]
            is_of_other = any(index.stems_of_episode(video.parent, other) for other in longer)
            if tags is not None and tags.dialogue and not is_of_other:
                yield path, tags


def _candidates_in_release_folder(
    folder: Path, identity: tuple[str, ...], index: SidecarIndex
) -> Iterator[tuple[Path, _SubtitleTags]]:
    """Yield the subtitle files in the folder of an episode below ``Subs``."""
    if split_release_name(normalize_name(folder.name))[0] != identity or not folder.is_dir():
        return
    for path in filter(_is_subtitle_file, index.list_folder(folder).paths):
        tags = _parse_tags(f".{normalize_name(path.stem)}", None)
        if tags.known and tags.dialogue:
            yield path, replace(tags, other_words=1)


def _parse_release_tags(path: Path, video: Path) -> _SubtitleTags | None:
    """Parse the name of a subtitle file of the same episode; None for any other file.

    Only the last words are its tags: before them there may be release tags, and the title of the
    episode if its number comes first.
    """
    stem = normalize_name(video.stem)
    identity, _ = split_release_name(stem)
    full, rest = split_release_name(normalize_name(path.stem))
    if full[: len(identity)] != identity:
        return None
    rest = [*full[len(identity) :], *rest]
    is_numbered = len(full) == len(identity) and "episode" in identity
    begins = (
        begin
        for begin in range(len(rest) + 1)
        if not any(map(is_release_tag, rest[begin:]))
        and _parse_tags("".join(f".{word}" for word in rest[begin:]), video).known
    )
    begin = next(begins)
    if rest[:begin] and not is_numbered and not is_release_tag(rest[0]):
        return None
    tags = _parse_tags("".join(f".{word}" for word in rest[begin:]), video)
    is_dialogue = (_PARTIAL_TAGS | _COMMENTARY_TAGS).isdisjoint(rest)
    others = set(rest[:begin]) - set(name_words(stem))
    return replace(tags, dialogue=is_dialogue, other_words=1 + len(others))


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
