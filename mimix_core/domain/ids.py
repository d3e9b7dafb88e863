"""Ids, derived from content: the same footage has the same ids on every machine."""

from __future__ import annotations


def episode_id(show: str, video_sha256: str) -> str:
    """``<show>-<first 10 hex digits of the file's digest>``: a renamed file keeps its id."""
    return f"{show}-{video_sha256[:10]}"


def scene_id(episode: str, start_pts: int) -> str:
    return f"{episode}-s{start_pts:010d}"


def clip_id(episode: str, start_pts: int) -> str:
    """``start_pts``: PTS of the source frame behind the clip's first frame."""
    return f"{episode}-c{start_pts:010d}"
