"""Ids derived from content: the same footage has the same ids on every machine."""

from __future__ import annotations


def episode_id(show: str, video_sha256: str) -> str:
    """Return ``<show>-<first 10 hex digits of the digest>``: renaming a file keeps its id."""
    return f"{show}-{video_sha256[:10]}"


def scene_id(episode: str, start_pts: int) -> str:
    """Return the id of the scene that starts at ``start_pts``."""
    return f"{episode}-s{start_pts:010d}"


def clip_id(episode: str, start_pts: int) -> str:
    """Return a clip's id. ``start_pts``: PTS of the source frame behind the clip's first frame."""
    return f"{episode}-c{start_pts:010d}"


def episode_id_of_clip(clip: str) -> str:
    """Return the part of a clip's id before its start time: the id of its episode."""
    return clip.rpartition("-c")[0]
