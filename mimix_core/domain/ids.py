"""Ids derived from content: the same footage has the same ids on every machine."""

from __future__ import annotations

from collections.abc import Collection

_ONTO = "-on-"


def episode_id(show: str, video_sha256: str) -> str:
    """Return ``<show>-<first 10 hex digits of the digest>``: renaming a file keeps its id."""
    return f"{show}-{video_sha256[:10]}"


def scene_id(episode: str, start_pts: int) -> str:
    """Return the id of the scene that starts at ``start_pts``."""
    return f"{episode}-s{start_pts:010d}"


def clip_id(episode: str, start_pts: int) -> str:
    """Return a clip's id. ``start_pts``: PTS of the source frame behind the clip's first frame."""
    return f"{episode}-c{start_pts:010d}"


def line_id(clip: str, start_ms: int, repeat: int = 0) -> str:
    """Return the id of the line of dialogue that starts ``start_ms`` after its clip does.

    ``repeat``: 0 for the first line that starts then, 1 for the next.
    """
    return f"{clip}-l{start_ms:05d}" + (f"-{repeat}" if repeat else "")


def clip_id_of_line(line: str) -> str:
    """Return the part of a line's id before its start time: the id of its clip."""
    return line.rpartition("-l")[0]


def episode_id_of_clip(clip: str) -> str:
    """Return the part of a clip's id before its start time: the id of its episode."""
    return clip.rpartition("-c")[0]


def composite_id(cutout: str, background_clip: str) -> str:
    """Return the id of the composite of a cutout and the clip that it is pasted onto."""
    return f"{cutout}{_ONTO}{background_clip}"


def episode_id_of_composite(composite: str, episodes: Collection[str]) -> str | None:
    """Return the one of ``episodes`` that a composite's background is from; None without one.

    Show ids and names of characters may contain ``-on-`` themselves.
    """
    position = composite.find(_ONTO)
    while position >= 0:
        episode = episode_id_of_clip(composite[position + len(_ONTO) :])
        if episode in episodes:
            return episode
        position = composite.find(_ONTO, position + 1)
    return None
