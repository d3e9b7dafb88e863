"""Tracks proposed for naming: groups of looks, and their file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mimix_core.characters.proposals import (
    FILE,
    ProposedTrack,
    group_by_look,
    load_proposals,
    save_proposals,
    select_tracks,
)
from mimix_core.errors import BadInput


def test_tracks_that_look_alike_are_one_group_the_largest_first() -> None:
    rng = np.random.default_rng(0)
    looks = np.eye(8, dtype=np.float32)[[3, 0, 0, 3, 0, 5]] + rng.normal(0, 0.05, (6, 8))
    looks = (looks / np.linalg.norm(looks, axis=1, keepdims=True)).astype(np.float32)
    assert group_by_look(looks) == [2, 1, 1, 2, 1, 3]
    assert group_by_look(looks[:1]) == [1]
    assert group_by_look(looks[:0]) == []


def track(track_id: str, group: int) -> ProposedTrack:
    return ProposedTrack(
        show="toons",
        track_id=track_id,
        group=group,
        guess="Cat",
        similarity=0.4,
        problem="at least 0.45 wanted",
        crops=(f"{track_id}-0.png",),
        picture=f"{track_id}.jpg",
    )


def test_tracks_are_selected_by_id_or_group(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="propose"):
        load_proposals(tmp_path)
    save_proposals(tmp_path, [track("a", 1), track("b", 1), track("c", 2)])
    tracks = load_proposals(tmp_path)
    assert [one.track_id for one in select_tracks(tracks, ["toons/1"])] == ["a", "b"]
    assert [one.track_id for one in select_tracks(tracks, ["c", "toons/2"])] == ["c"]
    with pytest.raises(BadInput, match=r"toons/3.*\n?.*toons/1, toons/2"):
        select_tracks(tracks, ["toons/3"])
    (tmp_path / FILE).write_text("[{}]")
    with pytest.raises(BadInput, match="not a file of proposed tracks"):
        load_proposals(tmp_path)
