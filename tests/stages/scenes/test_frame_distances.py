"""Distances and contrasts of thumbnails, against plain loops; and what is found from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mimix_core.stages.scenes.contrast_dissolves import detect_contrast_dissolves
from mimix_core.stages.scenes.frame_distances import (
    MAX_TRANSITION_FRAMES,
    PART_VALUES,
    THUMBNAIL_VALUES,
    FrameDistanceBuilder,
    FrameDistances,
    Transition,
)
from mimix_core.stages.scenes.gradual_transitions import (
    detect_blended_neighbors,
    detect_low_contrast_cuts,
    detect_transitions,
    drop_false_cuts,
)

WIDTH, HEIGHT = 32, 18
Image = NDArray[np.float64]
"""A thumbnail: 576 values of luma, then twice 144 of chroma."""


def distances_of(images: Sequence[Image]) -> FrameDistances:
    builder = FrameDistanceBuilder()
    for image in images:
        builder.add(np.rint(image).astype(np.uint8))
    return builder.finish()


def picture(seed: int, low: int = 0, high: int = 256) -> Image:
    """Return a picture of noise; any two of them are unrelated."""
    return np.random.default_rng(seed).integers(low, high, THUMBNAIL_VALUES).astype(np.float64)


def planes(image: Image) -> list[Image]:
    """Return luma [18, 32] and the two chroma planes [9, 16]."""
    sizes = ((HEIGHT, WIDTH), (HEIGHT // 2, WIDTH // 2), (HEIGHT // 2, WIDTH // 2))
    edges = np.cumsum([rows * columns for rows, columns in sizes])[:-1]
    return [plane.reshape(size) for plane, size in zip(np.split(image, edges), sizes, strict=True)]


def spread(images: Sequence[Image]) -> float:
    """Sum the squared deviations of each plane from its own mean."""
    return float(sum(((plane - plane.mean()) ** 2).sum() for plane in images))


def parts(image: Image) -> list[list[Image]]:
    """Cut every plane into 3 rows and 2 columns; return the planes of each part."""
    return [
        [
            plane[
                row * plane.shape[0] // 3 : (row + 1) * plane.shape[0] // 3,
                column * plane.shape[1] // 2 : (column + 1) * plane.shape[1] // 2,
            ]
            for plane in planes(image)
        ]
        for row in range(3)
        for column in range(2)
    ]


def test_all_measures_are_those_of_plain_loops() -> None:
    """230 frames: more than one block, and longer than the longest lag."""
    images = [picture(seed, 0, min(256, 40 + seed)) for seed in range(230)]
    found = distances_of(images)
    assert len(found) == 230
    assert found.distances.shape == (230, MAX_TRANSITION_FRAMES + 1)
    for first in range(0, 230, 11):
        for lag in (0, 1, 2, 39, MAX_TRANSITION_FRAMES):
            second = first + lag
            if second >= 230:
                assert found.distances[first, lag] == -1
                continue
            index = np.array([first])
            change = images[second] - images[first]
            assert found.distance(first, second) == found.distance(second, first)
            assert found.distance(first, second) == (change**2).sum()
            assert found.lag_distance(index, lag)[0] == (change**2).sum()
            centered = spread(planes(change))
            assert found.centered_lag_distance(index, lag)[0] == pytest.approx(centered)
            contrast = spread(planes(images[first])) + spread(planes(images[second]))
            assert found.decorrelation(index, lag)[0] == pytest.approx(centered / contrast)
            np.testing.assert_allclose(
                found.centered_part_distance(index, lag)[0],
                [spread(part) for part in parts(change)],
            )
    for number, image in enumerate(images):
        assert found.variances[number] == pytest.approx(spread(planes(image)))
        np.testing.assert_allclose(
            found.part_variances[number], [spread(part) for part in parts(image)]
        )
        assert (found.thumbnails[number] == image).all()
    assert sum(plane.size for plane in parts(images[0])[0]) == PART_VALUES


def test_no_frame_and_plain_frames_have_no_contrast() -> None:
    empty = distances_of([])
    assert len(empty) == 0
    assert empty.variances.shape == (0,)
    assert empty.part_variances.shape == (0, 6)
    plain = distances_of([np.full(THUMBNAIL_VALUES, level) for level in (10.0, 90.0)])
    assert plain.variances.tolist() == [0, 0]
    # Against a contrast of one per value: plain frames are no more unrelated than equal ones.
    assert plain.decorrelation(np.array([0]), 1)[0] == 0
    assert plain.distance(0, 1) == 80**2 * THUMBNAIL_VALUES


def test_progress_is_the_share_of_the_way_between_two_frames() -> None:
    one, two = picture(1), picture(2)
    images = [one + share * (two - one) for share in (0, 0.25, 0.5, 1)]
    found = distances_of(images)
    for frame, share in enumerate((0, 0.25, 0.5, 1)):
        assert found.progress(0, frame, 3) == pytest.approx(share, abs=0.005)
    assert found.progress(3, 1, 0) == pytest.approx(0.75, abs=0.005)
    same = distances_of([one, two, one])
    assert same.progress(0, 1, 2) == 0


def drifting(seed: int, frames: int, step: float, low: int = 60, high: int = 190) -> list[Image]:
    """Return a shot: one picture, to which ``step`` times the same small change is added."""
    still, change = picture(seed, low, high), picture(seed + 1000, -1, 2)
    return [still + step * number * change for number in range(frames)]


def test_a_cut_is_a_step_to_an_unrelated_frame_that_is_large_beside_its_neighbors() -> None:
    shots = [drifting(1, 12, 0.5), drifting(2, 10, 0.5), drifting(3, 1, 0), drifting(4, 9, 0.5)]
    found = distances_of([image for shot in shots for image in shot])
    assert detect_low_contrast_cuts(found) == [12, 22, 23]
    assert detect_low_contrast_cuts(distances_of([])) == []
    assert detect_low_contrast_cuts(distances_of([picture(1)])) == []
    assert detect_low_contrast_cuts(distances_of([picture(1), picture(2)])) == []
    # The same jump among steps of a third of it and more is motion.
    jumps = [picture(seed, 100, 150) for seed in range(30)]
    assert detect_low_contrast_cuts(distances_of(jumps)) == []


def test_what_nobody_sees_and_what_is_related_is_no_cut() -> None:
    for contrast, cuts in ((2, []), (8, [10])):
        dim = [picture(seed, 100, 100 + contrast) for seed in (1, 2)]
        images = [dim[0]] * 10 + [dim[1]] * 10
        assert detect_low_contrast_cuts(distances_of(images)) == cuts, contrast
    one, two = picture(1, 60, 190), picture(2, 60, 190)
    for share, cuts in ((0.3, []), (0.6, [10])):
        images = [one] * 10 + [one + share * (two - one)] * 10
        assert detect_low_contrast_cuts(distances_of(images)) == cuts, share


def replaced(image: Image, other: Image, count: int) -> Image:
    """Return ``image`` with ``count`` of its six parts from ``other``."""
    result = image.copy()
    for mine, theirs in list(zip(parts(result), parts(other), strict=True))[:count]:
        for plane, new in zip(mine, theirs, strict=True):
            plane[:] = new
    return result


@pytest.mark.parametrize(("count", "kept"), [(0, False), (3, False), (4, True), (6, True)])
def test_a_small_change_is_a_cut_only_where_most_parts_change(count: int, kept: bool) -> None:
    """A dark and a bright shape stay the same; what is in them changes in some parts."""
    shapes = np.concatenate([np.repeat([20.0, 230.0], [192, 384]), np.full(288, 128.0)])
    one, two = (shapes + picture(seed, -9, 10) for seed in (1, 2))
    after = replaced(one, two, count)
    found = distances_of([one, one, after, after])
    assert drop_false_cuts(found, [2]) == ([2] if kept else [])


def test_a_large_change_is_always_a_cut() -> None:
    one, two = picture(1), picture(2)
    found = distances_of([one, one + 0.2 * (two - one), two])
    assert drop_false_cuts(found, [1, 2]) == [2]


def dissolve(one: Image, two: Image, frames: int, still: int = 50) -> list[Image]:
    shares = [0.0] * still + [n / (frames + 1) for n in range(1, frames + 1)] + [1.0] * still
    return [one + share * (two - one) for share in shares]


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 9, 16, 30, 48, 60])
@pytest.mark.parametrize("black", [False, True])
def test_a_dissolve_is_found_with_all_its_frames_and_few_more(frames: int, black: bool) -> None:
    one = picture(frames, 40, 220)
    two = np.full(THUMBNAIL_VALUES, 16.0) if black else picture(frames + 100, 40, 220)
    (found,) = detect_transitions(distances_of(dissolve(one, two, frames)), 0.25, 0.5)
    assert found.start <= 50 and 50 + frames <= found.end
    assert found.end - found.start <= 1.4 * frames + 12


def test_two_dissolves_are_two_and_touching_ones_are_one() -> None:
    one, two, three = (picture(seed, 40, 220) for seed in (1, 2, 3))
    apart = dissolve(one, two, 8) + dissolve(two, three, 8)
    found = detect_transitions(distances_of(apart), 0.25, 0.5)
    assert [(t.start <= at, t.end >= at + 8) for t, at in zip(found, (50, 158), strict=True)] == [
        (True, True),
        (True, True),
    ]
    close = dissolve(one, two, 8)[:60] + dissolve(two, three, 8)[48:]
    (only,) = detect_transitions(distances_of(close), 0.25, 0.5)
    assert only.start <= 50 and only.end >= 70


def test_cuts_pans_and_small_changes_are_no_dissolves() -> None:
    one, two = picture(1, 40, 220), picture(2, 40, 220)
    cut = [one] * 40 + [two] * 40
    wide = np.random.default_rng(3).integers(40, 220, (HEIGHT, 120)).astype(np.float64)
    smooth = np.array([np.convolve(row, np.ones(9) / 9, "same") for row in wide])
    chroma = np.full(288, 128.0)
    pan = [np.concatenate([smooth[:, n : n + WIDTH].ravel(), chroma]) for n in range(80)]
    faint = dissolve(picture(4, 100, 104), picture(5, 100, 104), 12)
    for images in (cut, pan, faint, [], [one], [one, two], [one] * 100):
        assert detect_transitions(distances_of(images), 0.25, 0.5) == []


@pytest.mark.parametrize(
    ("share", "cut", "expected"),
    [
        (0.3, 6, [(5, 6)]),  # the last frame before the cut has some of the next shot
        (0.7, 5, [(5, 6)]),  # the first one after it has some of the previous shot
        (0.05, 6, []),
        (0.95, 5, []),
    ],
)
def test_a_blended_frame_beside_a_cut_is_a_transition(
    share: float, cut: int, expected: list[tuple[int, int]]
) -> None:
    one, two = picture(1, 40, 220), picture(2, 40, 220)
    images = [one] * 5 + [one + share * (two - one)] + [two] * 5
    found = detect_blended_neighbors(distances_of(images), [cut])
    assert found == [Transition(*span) for span in expected]


def test_a_frame_that_moves_elsewhere_or_among_motion_is_not_blended() -> None:
    one, two, three = (picture(seed, 40, 220) for seed in (1, 2, 3))
    aside = one + 0.3 * (two - one) + 0.4 * (three - one)
    images = [one] * 5 + [aside] + [two] * 5
    assert detect_blended_neighbors(distances_of(images), [6]) == []
    steps = [one + share * (two - one) for share in (0, 0, 0, 0, 0.15, 0.3)]
    assert detect_blended_neighbors(distances_of([*steps, two, two, two]), [6]) == []
    # Beside the ends of the video there is nothing to compare with.
    short = [one, one + 0.3 * (two - one), two, two]
    assert detect_blended_neighbors(distances_of(short), [2]) == []
    assert detect_blended_neighbors(distances_of(short[::-1]), [2]) == []


@settings(deadline=None, max_examples=20)
@given(frames=st.integers(0, 300), seed=st.integers(0, 99), level=st.sampled_from([2, 256]))
def test_distances_are_exact_for_any_number_of_frames(frames: int, seed: int, level: int) -> None:
    random = np.random.default_rng(seed)
    extreme = random.integers(0, level, (frames, 864)).astype(np.uint8)
    values = extreme if level == 256 else extreme * np.uint8(255)
    builder = FrameDistanceBuilder()
    for thumb in values:
        builder.add(thumb)
    distances = builder.finish()
    assert len(distances) == frames
    whole = values.astype(np.int64)
    for one in range(0, frames, 7):
        for lag in (0, 1, 40, MAX_TRANSITION_FRAMES):
            if one + lag < frames:
                expected = int(((whole[one] - whole[one + lag]) ** 2).sum())
                assert distances.distance(one, one + lag) == expected
            else:
                assert distances.distances[one, lag] == -1


@settings(deadline=None, max_examples=20)
@given(
    frames=st.integers(8, 48),
    seed=st.integers(0, 99),
    still=st.integers(50, 70),
    misfit=st.sampled_from([0.05, 1.0]),
)
def test_the_contrast_of_a_plain_dissolve_follows_its_curve(
    frames: int, seed: int, still: int, misfit: float
) -> None:
    one, two = np.random.default_rng(seed).integers(0, 256, (2, THUMBNAIL_VALUES))
    shares = np.concatenate(
        [np.zeros(still), np.arange(1, frames + 1) / (frames + 1), np.ones(still)]
    )
    builder = FrameDistanceBuilder()
    for share in shares:
        builder.add(np.rint(one * (1 - share) + two * share).astype(np.uint8))
    transition = detect_contrast_dissolves(builder.finish(), misfit)[0]
    mixed = np.flatnonzero(np.minimum(shares, 1 - shares) > 0.1)
    assert transition.start <= mixed[0] and mixed[-1] < transition.end
    assert transition.end - transition.start <= 1.7 * frames + 12


@pytest.mark.parametrize("frames", [12, 24, 36, 48, 60])
def test_a_dissolve_found_at_its_middle_only_is_extended_to_its_ends(frames: int) -> None:
    """A small residual leaves the middle, and ``max_misfit`` -1 no detection by contrast."""
    first, second = np.random.default_rng(frames).integers(0, 256, (2, THUMBNAIL_VALUES))
    shares = np.concatenate([np.zeros(60), np.arange(1, frames + 1) / (frames + 1), np.ones(60)])
    builder = FrameDistanceBuilder()
    for share in shares:
        builder.add(np.rint(first * (1 - share) + second * share).astype(np.uint8))
    (transition,) = detect_transitions(builder.finish(), 0.05, -1.0)
    blended = np.flatnonzero((shares > 0) & (shares < 1))
    assert transition.start <= blended[0] and blended[-1] < transition.end
    assert transition.end - transition.start <= frames + 8


@settings(deadline=None, max_examples=20)
@given(frames=st.integers(0, 90), seed=st.integers(0, 99), flat=st.booleans())
def test_noise_and_plain_frames_are_not_dissolves(frames: int, seed: int, flat: bool) -> None:
    random = np.random.default_rng(seed)
    builder = FrameDistanceBuilder()
    for level in random.integers(0, 256, frames):
        thumb = (
            np.full(THUMBNAIL_VALUES, level) if flat else random.integers(0, 256, THUMBNAIL_VALUES)
        )
        builder.add(thumb.astype(np.uint8))
    assert detect_contrast_dissolves(builder.finish(), 1.0) == []
