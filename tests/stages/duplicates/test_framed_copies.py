"""Copies within a frame, and as a picture in another picture, are duplicates."""

from __future__ import annotations

from functools import cache

import av
import numpy as np
import pytest

from mimix_core.engine.store import Store
from mimix_core.media import fingerprint
from mimix_core.media.inset import Inset, find_inset
from tests.stages.duplicates.framed_copies import BORDERS, Images, show_within
from tests.stages.duplicates.test_duplicates import compared, episode, fingerprint_of, run
from tests.stages.scenes.generated_flashes import draw_shot

FRAMES = 81


@cache
def clip(seed: int, start: int = 0) -> Images:
    """A clip of a moving camera; ``start``: frames by which it begins later."""
    return draw_shot("handheld", FRAMES + 8, 0.006, seed)[start : start + FRAMES]


def copy_of(seed: int) -> Images:
    """Another edition, later by four frames: darker, with noise."""
    noise = np.random.default_rng(5).normal(0, 4, clip(seed).shape)
    return (clip(seed, 4) * 0.85 + 12 + noise).clip(0, 255).astype(np.uint8)


def inset_fingerprint_of(frames: Images) -> bytes:
    builder = fingerprint.FingerprintBuilder()
    for number, image in enumerate(frames):
        builder.add(number, av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p"))
    return builder.finish_inset()


@pytest.mark.parametrize("border", list(BORDERS))
@pytest.mark.parametrize("share", [0.9, 0.7])
def test_a_copy_within_a_border_has_the_fingerprint_of_the_original(
    border: str, share: float
) -> None:
    background = BORDERS[border](clip(5), 4)
    framed = show_within(background, copy_of(3), share, (0.5, 0.4))
    found = compared(inset_fingerprint_of(framed), fingerprint_of(clip(3)))
    assert found.motion_correlation[0] > 0.6 and found.similarity[0] >= 0.7


def test_an_inset_is_found_where_it_is() -> None:
    images = show_within(clip(4), clip(6), 0.5, (0.9, 0.1))[::4, :, :, 1]
    found = find_inset(list(np.ascontiguousarray(images)))
    assert found is not None
    truth = Inset(86 / 192, 5 / 108, 182 / 192, 59 / 108)
    for name in ("left", "top", "right", "bottom"):
        assert getattr(found, name) == pytest.approx(getattr(truth, name), abs=0.015)


def test_clips_without_an_inset_have_no_second_fingerprint() -> None:
    assert [inset_fingerprint_of(clip(seed)) for seed in (3, 4, 5)] == 3 * [b""]
    assert inset_fingerprint_of(np.zeros((81, 16, 16, 3), np.uint8)) == b""


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_copy_in_a_frame_is_a_duplicate(store: Store, mirrored: bool) -> None:
    copy = copy_of(6)[:, :, :: -1 if mirrored else 1]
    framed = show_within(clip(5), copy, 0.5, (0.1, 0.1))
    values = {"inset_fingerprint": inset_fingerprint_of(framed)}
    one = episode(store.root, "a-one", [fingerprint_of(clip(seed)) for seed in (3, 6)])
    two = episode(store.root, "a-two", [fingerprint_of(framed)], **values)
    rows, _ = run(store, one, two)
    assert [row["status"] for row in rows] == ["ok", "ok", "rejected"]
    assert rows[2]["twin_clip_id"] == rows[1]["clip_id"] and "in a frame" in rows[2]["detail"]
    assert (", mirrored" in rows[2]["detail"]) == mirrored
    # Whichever comes first passes; rows are in the order of ids.
    rows, _ = run(store, two, one)
    assert [row["status"] for row in rows] == ["ok", "rejected", "ok"]
    rows, _ = run(store, one, two, framed=False)
    assert {row["status"] for row in rows} == {"ok"}


def test_both_images_of_a_picture_in_picture_are_searched(store: Store) -> None:
    framed = show_within(clip(3), copy_of(6), 0.35, (0.95, 0.95))
    values = {"inset_fingerprint": inset_fingerprint_of(framed)}
    two = episode(store.root, "a-two", [fingerprint_of(framed)], **values)
    for original in (3, 6):
        one = episode(store.root, f"a-{original}", [fingerprint_of(clip(original))])
        rows, _ = run(store, one, two)
        assert [row["status"] for row in rows] == ["ok", "rejected"]
