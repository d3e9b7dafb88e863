"""Duplicates: the same footage matches at any shift and quality, two shots of one set do not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mimix_core import tables
from mimix_core.engine.artifacts import TableRef, digest_file
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.media import fingerprint
from mimix_core.settings import DuplicateSettings
from mimix_core.stages import duplicates
from mimix_core.stages.duplicates import duplicate_search
from mimix_core.stages.duplicates.fingerprinted_clips import FingerprintedClips
from mimix_core.stages.duplicates.stage import DuplicateInputs, deduplicated_clip_tables
from tests import factories

WIDTH, HEIGHT = 208, 120

MEASURES = {
    "start_num": 0,
    "start_den": 1,
    "motion": 0.01,
    "sharpness": 100.0,
    "black_share": 0.0,
    "frozen_share": 0.0,
    "repeat_share": 0.0,
    "audio_sha256": "",
    "lost_audio_ms": 0,
    "text_remains": "",
}


class Footage:
    """Endless footage on one set: three soft blobs on different paths over a background."""

    def __init__(self, scene: int, action: int) -> None:
        backdrop = np.random.default_rng(scene)
        small = backdrop.integers(30, 220, (5, 8, 3)).astype(np.float64)
        self._set = np.kron(small, np.ones((24, 26, 1)))
        self._ways = np.random.default_rng([scene, action]).uniform(0.4, 1.6, (3, 2))
        self._starts = np.random.default_rng([action, 7]).uniform(0, 6, (3, 2))

    def at(self, seconds: float) -> NDArray[np.uint8]:
        image = self._set.copy()
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        for number, (way, start) in enumerate(zip(self._ways, self._starts, strict=True)):
            x = WIDTH * (0.5 + 0.4 * np.sin(way[0] * seconds + start[0]))
            y = HEIGHT * (0.5 + 0.4 * np.cos(way[1] * seconds + start[1]))
            near = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 14.0**2))[..., None]
            colour = np.roll((230.0, 40.0, 120.0), number)
            image = image * (1 - near) + colour * near
        return image.round().astype(np.uint8)

    def clip(self, start: float = 0.0, frames: int = 81) -> NDArray[np.uint8]:
        return np.stack([self.at(start + k / 16) for k in range(frames)])


def copied(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Another edition: 3 % cropped away, brighter, a logo in the corner, noise."""
    cut = frames[:, 4:-4, 6:-6]
    rows = np.arange(HEIGHT) * cut.shape[1] // HEIGHT
    columns = np.arange(WIDTH) * cut.shape[2] // WIDTH
    image = 255 * (cut[:, rows][:, :, columns] / 255.0) ** 0.8
    image[:, 8:22, -34:-10] = 250
    noise = np.random.default_rng(5).normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).round().astype(np.uint8)


def fingerprint_of(frames: NDArray[np.uint8]) -> bytes:
    maker = fingerprint.FingerprintBuilder()
    for number, image in enumerate(frames):
        maker.add(number, av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p"))
    return maker.finish()


def compared(one: bytes, other: bytes) -> fingerprint.ClipComparison:
    first, second = fingerprint.parse_fingerprints([one]), fingerprint.parse_fingerprints([other])
    return fingerprint.compare_clips(first, second, overlap=8, min_similarity=0.7)


def episode(folder: Path, name: str, prints: Sequence[bytes | None], **values: Any) -> TableRef:
    """A clips table in the store's layout; None: a clip that failed before."""
    rows = []
    for number, one in enumerate(prints):
        clip_id = f"{name}-c{number:010d}"
        row = factories.clip(
            clip_id, start=number * 6000, episode_id=name, audio_file=f"clips/{clip_id}.flac"
        )
        row = MEASURES | row | {"fingerprint": one or b""}
        if one is None:
            lost = {"file": "", "audio_file": ""}
            row |= lost | tables.failed(tables.Reason.ENCODE_FAILED, "broke")
        rows.append(row | values)
    return factories.table_ref(folder / "clips" / f"key-{name}", tables.CLIPS, rows, unit=name)


def run(store: Store, *clips: TableRef, **settings: Any) -> tuple[list[tables.Row], list[TableRef]]:
    inputs = DuplicateInputs(unit="all", clips=clips)
    ref = run_stage(store, duplicates.STAGE, inputs, DuplicateSettings(**settings)).ref
    return tables.read(ref.path, tables.DUPLICATES), deduplicated_clip_tables(ref, clips)


SHOTS = [Footage(1, 1), Footage(1, 2), Footage(2, 1), Footage(3, 9)]


@cache
def prints() -> list[bytes]:
    """Return the fingerprints of the shots."""
    return [fingerprint_of(shot.clip()) for shot in SHOTS]


def test_a_fingerprint_is_small_versioned_and_exact() -> None:
    assert len(prints()[0]) == 1 + 21 * 96 and prints()[0][0] == fingerprint.VERSION
    flat = np.full((81, HEIGHT, WIDTH, 3), 128, np.uint8)
    luma = fingerprint.parse_fingerprints([fingerprint_of(flat)])[0, :, :64]
    plane = av.VideoFrame.from_ndarray(flat[0], "rgb24").reformat(format="yuv420p").planes[0]
    assert (luma == bytes(plane)[0]).all()


@given(st.integers(1, 64), st.integers(8, 90), st.integers(0, 2**32 - 1))
def test_the_means_of_a_thumbnail_are_those_of_its_cells(
    height: int, width: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height + 7, width), np.uint8)
    means = fingerprint._cell_means(pixels, 8)
    for row in range(8):
        for column in range(8):
            cell = pixels[
                row * pixels.shape[0] // 8 : (row + 1) * pixels.shape[0] // 8,
                column * width // 8 : (column + 1) * width // 8,
            ]
            assert means[row, column] == int(cell.mean() + 0.5)


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.125, 1.3, -2.4])
def test_a_copy_matches_at_any_shift_and_quality(shift: float) -> None:
    for shot, original in list(zip(SHOTS, prints(), strict=True))[::2]:
        found = compared(fingerprint_of(copied(shot.clip(shift))), original)
        assert found.motion_correlation[0] > 0.6 and found.similarity[0] > 0.8
        assert abs(found.shift[0] / 4 - shift) <= 0.25


@pytest.mark.parametrize(("frames", "shift"), [(17, 0), (33, 0), (33, 0.25), (49, 1.0)])
def test_short_clips_match_their_copies(
    tmp_path: Path, store: Store, frames: int, shift: float
) -> None:
    prints = [fingerprint_of(shot.clip(frames=frames)) for shot in SHOTS]
    copies = [fingerprint_of(copied(shot.clip(shift, frames))) for shot in SHOTS[::2]]
    rows, _ = run(store, episode(store.root, "a-one", prints), episode(store.root, "a-two", copies))
    assert [row["twin_clip_id"][-1:] for row in rows] == ["", "", "", "", "0", "2"]


def test_clips_of_two_lengths_are_refused(tmp_path: Path, store: Store) -> None:
    short = episode(store.root, "a-one", [fingerprint_of(SHOTS[0].clip(frames=33))])
    none = episode(store.root, "a-none", [])
    with pytest.raises(BadInput, match="different lengths") as error:
        run(store, short, none, episode(store.root, "a-two", [prints()[1]]))
    assert "key-a-two" in str(error.value) and "clips.frames" in str(error.value)


@given(st.integers(2, 21), st.data())
def test_every_overlap_contains_a_query_that_the_earlier_clip_has(
    thumbnails: int, data: st.DataObject
) -> None:
    shared = fingerprint.min_overlap_thumbnails(Fraction(2), thumbnails)
    shift = data.draw(st.integers(shared - thumbnails, thumbnails - shared))
    vectors = fingerprint.build_search_vectors(np.zeros((1, thumbnails, 96), np.uint8))
    positions = vectors.shape[1]
    assert any(0 <= query + shift < positions for query in fingerprint.query_positions(positions))


def test_two_shots_of_one_set_are_similar_but_move_differently() -> None:
    found = compared(prints()[0], prints()[1])
    assert found.similarity[0] > 0.7
    assert found.motion_correlation[0] < 0.45


def test_footage_without_motion_never_matches() -> None:
    still = fingerprint_of(np.repeat(SHOTS[0].clip()[:1], 81, axis=0))
    assert compared(still, still).motion_correlation[0] == 0
    black = fingerprint_of(np.zeros((81, HEIGHT, WIDTH, 3), np.uint8))
    assert compared(black, black).motion_correlation[0] == -1


def test_the_first_clip_passes_and_later_ones_name_it(tmp_path: Path, store: Store) -> None:
    again = fingerprint_of(copied(SHOTS[2].clip(1.3)))
    one = episode(store.root, "a-one", [prints()[0], prints()[2], None])
    two = episode(store.root, "a-two", [prints()[1], again])
    rows, clean = run(store, one, two)
    # The failed clip is not judged.
    assert [(row["clip_id"][-4:], row["status"], row["twin_clip_id"]) for row in rows] == [
        ("0000", "ok", ""),
        ("0001", "ok", ""),
        ("0000", "ok", ""),
        ("0001", "rejected", "a-one-c0000000001"),
    ]
    assert rows[3]["similarity"] > 0.6
    assert [(ref.stage, ref.unit) for ref in clean] == [("clips", "a-one"), ("clips", "a-two")]
    assert [ref.counts.model_dump() for ref in clean] == [
        {"rows_in": 3, "ok": 2, "rejected": 0, "failed": 1},
        {"rows_in": 2, "ok": 1, "rejected": 1, "failed": 0},
    ]
    before = tables.read(two.path, tables.CLIPS)
    after = tables.read(clean[1].path, tables.CLIPS)
    assert after[1]["reason"] == "near_duplicate" and "a-one-c0000000001" in after[1]["detail"]
    paths = {"file", "audio_file", "status", "reason", "detail"}
    assert [{k: v for k, v in row.items() if k not in paths} for row in after] == [
        {k: v for k, v in row.items() if k not in paths} for row in before
    ]
    for was, now in zip(before, after, strict=True):
        for name in ("file", "audio_file"):
            assert os.path.normpath(clean[1].folder / now[name]) == str(two.folder / was[name])
    assert clean[0].sha256 == digest_file(clean[0].path)
    lost = tables.read(clean[0].path, tables.CLIPS)[2]
    assert (lost["file"], lost["reason"]) == ("", "encode_failed")


def test_a_duplicate_that_a_person_wants_passes(store: Store) -> None:
    one = episode(store.root, "a-one", [prints()[2]])
    two = episode(store.root, "a-two", [prints()[2], prints()[2]])
    wanted = tables.read(two.path, tables.CLIPS)[1]["clip_id"]
    inputs = DuplicateInputs(unit="all", clips=(one, two), wanted=(wanted,))
    ref = run_stage(store, duplicates.STAGE, inputs, DuplicateSettings()).ref
    rows = tables.read(ref.path, tables.DUPLICATES)
    assert [row["status"] for row in rows] == ["ok", "rejected", "ok"]
    assert [ref.counts.ok for ref in deduplicated_clip_tables(ref, (one, two))] == [1, 1]


def test_an_added_episode_changes_no_other_episodes_table(tmp_path: Path, store: Store) -> None:
    one = episode(store.root, "a-one", [prints()[0], prints()[2]])
    two = episode(store.root, "a-two", [prints()[1], prints()[2]])
    three = episode(store.root, "a-three", [prints()[0], prints()[3]])
    _, before = run(store, one, two)
    _, after = run(store, one, two, three)
    assert [ref.sha256 for ref in before] == [ref.sha256 for ref in after[:2]]
    assert before[0].path != after[0].path
    assert after[2].counts.rejected == 1
    # Put first, it takes over what it has in common with another.
    rows, _ = run(store, three, one, two)
    assert {row["clip_id"] for row in rows if row["status"] == "rejected"} == {
        "a-one-c0000000000",
        "a-two-c0000000001",
    }


def test_a_rejected_clip_matches_no_later_one(store: Store) -> None:
    """Three clips, each 2.5 s later than the previous one: only neighbors overlap."""
    chain = [fingerprint_of(SHOTS[0].clip(2.5 * k)) for k in range(3)]
    refs = [episode(store.root, name, [one]) for name, one in zip("abc", chain, strict=True)]
    rows, _ = run(store, *refs)
    assert [row["status"] for row in rows] == ["ok", "rejected", "ok"]


def test_clips_of_one_episode_are_compared_only_if_enabled(store: Store) -> None:
    one = episode(store.root, "a-one", [prints()[0], prints()[0]])
    assert [row["status"] for row in run(store, one)[0]] == ["ok", "ok"]
    rows, _ = run(store, one, within_episode=True)
    assert [row["status"] for row in rows] == ["ok", "rejected"]
    # What overlaps in time is the same footage by intent (a stride below a clip's length).
    both = factories.clip("x")["source_pts"]
    overlapping = episode(store.root, "a-two", [prints()[0], prints()[0]], source_pts=both)
    rows, _ = run(store, overlapping, within_episode=True)
    assert [row["status"] for row in rows] == ["ok", "ok"]


def test_limits_are_settings(store: Store) -> None:
    one = episode(store.root, "a-one", [prints()[0]])
    two = episode(store.root, "a-two", [fingerprint_of(copied(SHOTS[0].clip(2.5)))])
    assert run(store, one, two)[0][1]["status"] == "rejected"
    assert run(store, one, two, min_overlap_seconds=Decimal(4))[0][1]["status"] == "ok"
    assert run(store, one, two, min_motion_similarity=0.9999)[0][1]["status"] == "ok"
    assert run(store, one, two, min_frame_similarity=1.0)[0][1]["status"] == "ok"


def test_episodes_without_clips_have_empty_tables(store: Store) -> None:
    empty = episode(store.root, "a-none", [])
    rows, clean = run(store, empty, episode(store.root, "a-one", [prints()[0]]))
    assert len(rows) == 1 and clean[0].counts.rows_in == 0
    assert tables.read(clean[0].path, tables.CLIPS) == []


def test_the_same_clips_give_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for name in ("x", "deeper/y"):
        store = Store(tmp_path / name)
        refs = [
            # The key of a hand-made table says where it lies: give it one that does not.
            episode(store.root, label, prints()[:2]).model_copy(update={"key": f"key-{label}"})
            for label in ("a-one", "a-two")
        ]
        _, clean = run(store, *refs)
        digests.append([ref.sha256 for ref in clean])
    assert digests[0] == digests[1]


def test_clips_with_an_older_fingerprint_are_an_error(store: Store) -> None:
    one = episode(store.root, "a-one", [b"\x00older"])
    with pytest.raises(BadInput, match="cannot be compared"):
        run(store, one)


def test_the_block_size_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    thumbs = fingerprint.parse_fingerprints([prints()[k % 4] for k in range(12)]).copy()
    thumbs = (thumbs.astype(int) + rng.integers(-1, 2, thumbs.shape)).clip(0, 255).astype(np.uint8)
    clips = FingerprintedClips(
        [f"c{k:02d}" for k in range(12)],
        ["e"] * 12,
        np.arange(12) // 3,
        np.zeros((12, 2), np.int64),
        thumbs,
        np.arange(12),
        np.zeros(12, bool),
    )
    in_one_block = duplicate_search.find_duplicates(clips, DuplicateSettings())
    monkeypatch.setattr(duplicate_search, "_LATER_CLIPS", 2)
    monkeypatch.setattr(duplicate_search, "_EARLIER_VIEWS", 3)
    monkeypatch.setattr(duplicate_search, "_PAIRS", 2)
    blocks = duplicate_search.find_duplicates(clips, DuplicateSettings())
    assert in_one_block[0].tolist() == blocks[0].tolist() and in_one_block[1] == blocks[1]
    # Clips 1..3 of episode 0 and the fourth shot, which first occurs in episode 1, pass.
    assert np.flatnonzero(in_one_block[0]).tolist() == [0, 1, 2, 3]


def test_mirrored_footage_is_a_duplicate_unless_switched_off(tmp_path: Path, store: Store) -> None:
    mirrored = fingerprint_of(copied(SHOTS[2].clip(1.3))[:, :, ::-1])
    one = episode(store.root, "a-one", [prints()[0], prints()[2]])
    two = episode(store.root, "a-two", [prints()[1], mirrored])
    rows, _ = run(store, one, two)
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", "rejected"]
    assert rows[3]["twin_clip_id"] == rows[1]["clip_id"] and ", mirrored, " in rows[3]["detail"]
    rows, _ = run(store, one, two, mirrored=False)
    assert {row["status"] for row in rows} == {"ok"}


def test_fast_comparison_equals_the_definition_of_motion_correlation() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 256, (2, 5, 21, 96)).astype(np.uint8)
    second[0], second[1, 3:] = first[0], first[1, :-3]
    second[2] = first[2, :1]
    found = fingerprint.compare_clips(first, second, overlap=8, min_similarity=-1)
    weights = np.repeat((1.0, 3.0), (64, 32))
    for pair in range(5):
        correlations = {}
        for shift in range(-13, 14):
            count = 21 - abs(shift)
            a = (first[pair, max(0, -shift) :][:count] * weights).astype(object)
            b = (second[pair, max(0, shift) :][:count] * weights).astype(object)
            a, b = a - a.sum(axis=0) / count, b - b.sum(axis=0) / count
            scale = float((a * a).sum() * (b * b).sum()) ** 0.5
            correlations[shift] = float((a * b).sum()) / scale if scale else 0.0
        best = max(correlations.values())
        assert found.motion_correlation[pair] == pytest.approx(best)
        assert correlations[int(found.shift[pair])] == pytest.approx(best)
    assert found.shift[:2].tolist() == [0, 3]
