"""Compare file names of episodes without their release tags: ``1080p``, ``WEB-DL``, ``x264-GROUP``.

``Show.S01E01.srt`` and ``Show.S01E01.720p.HDTV.srt`` are subtitles of
``Show.S01E01.1080p.WEB.mkv``: what comes before the tags, or up to the episode's number, is equal.
"""

from __future__ import annotations

import re

_SEPARATORS = re.compile(r"[.\s_\-()\[\]{},&+]+")

_EPISODE = re.compile(r"s(\d{1,4})e(\d{1,4})((?:e\d{1,4})*)|(\d{1,2})x(\d{2,4})")
_FURTHER_EPISODE = re.compile(r"(e)?(\d{1,4})")
_SEASON, _NUMBER_IN_SEASON = re.compile(r"s(\d{1,4})"), re.compile(r"ep?(\d{1,4})")

_RELEASE_TAG = re.compile(
    r"\d{3,4}[pi]|[48]k|uhd|hdr(?:10)?|sdr|web|webrip|webdl|hdtv|hdtvrip|pdtv|dsr|tvrip|dvd|dvdrip|"
    r"dvd[59r]|bluray|blu|bdrip|brrip|bd|bdmv|remux|vhsrip|vhs|ntsc|pal|amzn|nf|hmax|dsnp|hulu|atvp|"
    r"[xh]26[45]|hevc|avc|av1|vp9|xvid|divx|(?:8|10|12)bit|hi10p?|aac\d*|e?ac3|ddp?\d*|dts|truehd|"
    r"atmos|flac|mp3|opus|proper|repack|rerip|remastered"
)


def name_words(name: str) -> list[str]:
    """Return the words of a normalized file name."""
    return [word for word in _SEPARATORS.split(name) if word]


def is_release_tag(word: str) -> bool:
    """Return whether a word describes how a video was made and not what it is about."""
    return _RELEASE_TAG.fullmatch(word) is not None


def split_release_name(name: str) -> tuple[tuple[str, ...], list[str]]:
    """Return what identifies the episode in a normalized name, and the words that follow it.

    That is the title with the number of season and episode, or without such a number all words
    before the first release tag. ``show s1e2`` and ``show 1x02`` are the same episode. Two episodes
    in one file are another identity than either.
    """
    words = name_words(name)
    for index, word in enumerate(words):
        numbers, used = _episode_numbers(words[index:])
        if numbers:
            index_after = index + used
            while index_after < len(words) and (
                further := _further_episode(words[index_after], int(numbers[-1]))
            ):
                numbers += (further,)
                index_after += 1
            return (*words[:index], "episode", *numbers), words[index_after:]
        if is_release_tag(word) and index:
            return tuple(words[:index]), words[index:]
    return tuple(words), []


def _further_episode(word: str, last: int) -> str:
    """Return the number of one more episode in a file (``e01-e02``, ``e01-02``), or ``""``."""
    found = _FURTHER_EPISODE.fullmatch(word)
    if found is None or (found[1] is None and int(found[2]) != last + 1):
        return ""
    return str(int(found[2]))


def _episode_numbers(words: list[str]) -> tuple[tuple[str, ...], int]:
    """Return season and episodes at the beginning of ``words``, and how many words say them."""
    found = _EPISODE.fullmatch(words[0])
    if found is not None:
        season, number, further, other_season, other_number = found.groups()
        numbers = (
            season or other_season,
            number or other_number,
            *re.findall(r"\d+", further or ""),
        )
        return tuple(str(int(text)) for text in numbers), 1
    season_only = _SEASON.fullmatch(words[0])
    if season_only is not None and len(words) > 1:
        number_only = _NUMBER_IN_SEASON.fullmatch(words[1])
        if number_only is not None:
            return (str(int(season_only[1])), str(int(number_only[1]))), 2
    return (), 0
