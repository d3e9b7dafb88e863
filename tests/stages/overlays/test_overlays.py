"""Overlays: persistent text at the bottom is cropped, credits are rejected, signs remain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from mimix_core import tables
from mimix_core.engine.artifacts import FileRef, digest_file, file_ref
from mimix_core.media import Rect
from mimix_core.settings import OverlaySettings
from mimix_core.stages import overlays
from mimix_core.stages.overlays import (
    credits,
    frame_sampling,
    letterbox_detection,
    persistent_text,
    stage,
    text_detection,
)
from mimix_core.stages.overlays.persistent_text import SampledFrame
from mimix_core.stages.overlays.text_detection import PixelBox, detect_text
from tests.media_factory import GroundTruth, Shot, commit_table, write_sound, write_video

SIZE = (640, 368)
LONG, SHORT = 132, 48
"""Frames of a shot at 24/s into which a clip fits, and of a shorter one."""

Draw = Callable[[np.ndarray, int], None]


def scene(start: int, end: int, time_base: Fraction = Fraction(1, 24), **more: Any) -> tables.Row:
    row = {column.name: 0 for column in tables.SCENES.schema}
    row |= dict.fromkeys(("show", "style", "fields", "frames_file"), "") | {"seekable": True}
    row |= {"scene_id": f"demo-s{start:010d}", "episode_id": "demo", "origin_pts": 0}
    row |= {"start_pts": start, "end_pts": end}
    row |= {"time_base_num": time_base.numerator, "time_base_den": time_base.denominator}
    return (
        tables.ok(**{k: v for k, v in row.items() if k not in ("status", "reason", "detail")})
        | more
    )


def run(
    path: Path, spans: Sequence[tuple[int, int]], time_base: Fraction, out: Path, **settings: Any
) -> list[tables.Row]:
    """Run the stage and return its rows in the order of the episode."""
    scenes = commit_table(
        out / "scenes", tables.SCENES, [scene(start, end, time_base) for start, end in spans]
    )
    inputs = overlays.OverlayInputs(unit="v", show="demo", video=file_ref(path), scenes=scenes)
    report = overlays.run(inputs, OverlaySettings(**settings), out)
    tables.validate(tables.OVERLAYS, report.rows)
    assert report.rows_in == len(report.rows) == len(spans)
    return list(report.rows)


def rows_of(video: GroundTruth, out: Path, **settings: Any) -> list[tables.Row]:
    return run(video.path, video.spans(), video.time_base, out, **settings)


@cache
def font(size: int) -> Any:
    return ImageFont.load_default(size)


Text = tuple[int, int, str]
"""x of the middle, y of the lower edge, words."""


def write(image: np.ndarray, *texts: Text, size: int = 22) -> None:
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    for x, y, words in texts:
        draw.text(
            (x, y),
            words,
            anchor="md",
            align="center",
            font=font(size),
            fill="white",
            stroke_width=2,
            stroke_fill="black",
        )
    image[:] = np.asarray(canvas)


def subtitles(image: np.ndarray, number: int) -> None:
    """A line most of the time, two lines now and then, and in one shot a sign higher up."""
    words = ["Where is the cat?", "It ran up the tree.", "Look out there!", ""][number // 24 % 4]
    if number // 24 % 8 == 1:
        words = "And there it sits now,\n" + words
    write(image, (320, 355, words))
    if LONG <= number < LONG + SHORT:
        write(image, (320, 285, "SALOON"))


@pytest.fixture(scope="module")
def subtitled(tmp_path_factory: pytest.TempPathFactory) -> GroundTruth:
    path = tmp_path_factory.mktemp("subtitled") / "v.mp4"
    return write_video(path, [Shot(n) for n in (LONG, SHORT) * 3], size=SIZE, draw=subtitles)


@pytest.mark.slow
def test_subtitles_are_cropped_and_a_sign_is_not(subtitled: GroundTruth, tmp_path: Path) -> None:
    rows = rows_of(subtitled, tmp_path)
    assert {(row["status"], row["backend"]) for row in rows} == {("ok", "rapidocr")}
    assert {(row["width"], row["height"]) for row in rows} == {SIZE}
    # One rectangle for the complete episode, including scenes too short for a clip.
    (crop,) = {tuple(row[f"crop_{n}"] for n in ("x", "y", "width", "height")) for row in rows}
    assert crop[:3] == (0, 0, 640)
    # Two lines of 22 pixels above 355, the upper one cropped too; the sign at 265..285 remains.
    assert 288 <= crop[3] <= 305 and crop[3] % 2 == 0
    for (start, end), row, frames in zip(subtitled.spans(), rows, (LONG, SHORT) * 3, strict=True):
        assert len(row["sampled_pts"]) >= (2 if frames == LONG else 1)
        assert all(start <= pts < end and pts in subtitled.pts for pts in row["sampled_pts"])
        assert {box["pts"] for box in row["boxes"]} <= set(row["sampled_pts"])
    tops = [box["box"][1] for row in rows for box in row["boxes"]]
    assert len(tops) >= 6 and min(tops) >= crop[3]
    (row,) = [row for row in rows if row["frame_file"]]
    with Image.open(tmp_path / row["frame_file"]) as image:
        assert image.size == SIZE


@pytest.mark.e2e
def test_the_same_episode_gives_the_same_rows_and_images(
    subtitled: GroundTruth, tmp_path: Path
) -> None:
    rows, images = [], []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        rows.append(rows_of(subtitled, tmp_path / name, sampled_frames=4))
        images.append({p.name: p.read_bytes() for p in (tmp_path / name).glob("*.jpg")})
    assert rows[0] == rows[1]
    assert images[0] == images[1] and images[0]


@pytest.mark.e2e
def test_too_deep_a_crop_rejects_every_scene(subtitled: GroundTruth, tmp_path: Path) -> None:
    rows = rows_of(subtitled, tmp_path, max_height_loss=0.1)
    assert {(row["status"], row["reason"]) for row in rows} == {("rejected", "crop_too_deep")}
    assert "at most 10% is allowed" in rows[0]["detail"]
    assert rows[0]["crop_height"] < 0.9 * SIZE[1]


def test_the_backend_none_crops_nothing(subtitled: GroundTruth, tmp_path: Path) -> None:
    for row in rows_of(subtitled, tmp_path, backend="none"):
        assert (row["status"], row["backend"], row["boxes"]) == ("ok", "none", [])
        assert (row["crop_width"], row["crop_height"]) == SIZE


@pytest.mark.slow
def test_a_frame_without_text_is_not_cropped(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", [Shot(LONG), Shot(SHORT)], size=SIZE)
    for row in rows_of(video, tmp_path, sampled_frames=4):
        assert (row["status"], row["boxes"]) == ("ok", [])
        assert (row["crop_width"], row["crop_height"]) == SIZE


NAMES = ["Ada Lovelace", "Grace Hopper", "Alan Turing", "Kurt Gödel", "Emmy Noether", "John Backus"]


def page_and_roll(image: np.ndarray, number: int) -> None:
    """Shot 2 of 5 shows a page that fills the frame, shots 4 and 5 roll names."""
    page, roll = range(LONG, 2 * LONG), range(3 * LONG, 5 * LONG)
    if number in page:
        image[:] = PAGE
    if number in roll:
        image[:] = 20
        rows = ((line, 340 + 40 * line - 4 * (number - roll[0])) for line in range(40))
        shown = [
            (320, y, f"{NAMES[k % 6]}   {NAMES[(k * 5 + 1) % 6]}") for k, y in rows if -20 < y < 400
        ]
        write(image, *shown)


PAGE = np.full((SIZE[1], SIZE[0], 3), 235, np.uint8)
write(PAGE, *((320, 60 + 45 * k, f"{NAMES[k % 6]} was seen in town") for k in range(7)))


@pytest.mark.e2e
def test_credits_are_rejected_and_a_page_in_the_story_is_not_credits(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", [Shot(LONG)] * 5, size=SIZE, draw=page_and_roll)
    rows = rows_of(video, tmp_path)
    # A frame full of letters is no credits, and is stated as what it is.
    assert [row["reason"] for row in rows] == [
        None,
        "text_remains",
        None,
        "scene_credits",
        "scene_credits",
    ]
    assert "rows of text in 3 of 4 frames" in rows[3]["detail"]
    # The roll passes through the bottom band and is no overlay.
    assert {row["crop_height"] for row in rows} == {SIZE[1]}
    shown = [row for row in rows if row["frame_file"]]
    assert len(shown) == 2 and shown[1]["reason"] == "scene_credits"
    assert all((tmp_path / row["frame_file"]).is_file() for row in shown)


FILM = Path(__file__).parents[3] / "demo" / "footage" / "sources" / "bbb.mp4"


@pytest.mark.e2e
def test_only_the_credits_of_a_complete_film_are_rejected(tmp_path: Path) -> None:
    """In pieces of 6 s; the end roll runs from 488.7 to 581 s (by eye), titles at 21 and 27 s."""
    time_base = Fraction(1, 12288)
    length = 6 * 12288
    starts = [index * length for index in range(99)]
    rows = run(FILM, [(start, start + length) for start in starts], time_base, tmp_path)
    credited = {index for index, row in enumerate(rows) if row["reason"] == "scene_credits"}
    assert set(range(83, 96)) <= credited <= set(range(81, 97))
    others = [row for index, row in enumerate(rows) if index not in credited]
    assert {row["reason"] for row in others} <= {None, "text_remains"}
    assert sum(row["reason"] is not None for row in others) <= 3
    assert {(row["crop_width"], row["crop_height"]) for row in others} == {(1280, 720)}


@pytest.mark.parametrize("bars", [(0, 44), (80, 0)])
def test_black_borders_are_cropped_and_dark_scenes_are_not(
    tmp_path: Path, bars: tuple[int, int]
) -> None:
    wide, high = bars

    def letterbox(image: np.ndarray, number: int) -> None:
        if number >= LONG * 2:
            # A dark shot: only a lamp in the middle is lit.
            image[:] = 0
            image[150:200, 300:340] = 255
        image[:, :wide] = image[:, SIZE[0] - wide :] = 0
        image[:high] = image[SIZE[1] - high :] = 0

    video = write_video(tmp_path / "v.mp4", [Shot(LONG)] * 3, size=SIZE, draw=letterbox)
    for row in rows_of(video, tmp_path, backend="none"):
        assert row["status"] == "ok"
        x, y, w, h = (row[f"crop_{n}"] for n in ("x", "y", "width", "height"))
        assert wide <= x <= wide + 4 and SIZE[0] - wide - 4 <= x + w <= SIZE[0] - wide
        assert high <= y <= high + 4 and SIZE[1] - high - 4 <= y + h <= SIZE[1] - high
        assert x % 2 == y % 2 == w % 2 == h % 2 == 0


def test_a_failing_detector_fails_every_row(
    subtitled: GroundTruth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(image: np.ndarray) -> list[PixelBox]:
        raise RuntimeError("no more memory")

    monkeypatch.setitem(stage._DETECTORS, "rapidocr", breaking)
    for row in rows_of(subtitled, tmp_path):
        assert (row["status"], row["reason"]) == ("failed", "detector_failed")
        assert "no more memory" in row["detail"]


def test_an_unreadable_file_fails_every_row(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    sound = write_sound(tmp_path / "sound.mkv", 1, beep_at=0.3)
    spans = [(0, 200), (200, 400)]
    for path, reason in ((text, "unreadable_video"), (sound, "no_video_stream")):
        rows = run(path, spans, Fraction(1, 24), tmp_path / path.stem)
        assert [(row["status"], row["reason"]) for row in rows] == [("failed", reason)] * 2


def test_a_scene_past_the_end_of_the_file_fails_alone(
    subtitled: GroundTruth, tmp_path: Path
) -> None:
    end = subtitled.end
    spans = [*subtitled.spans(), (end, end + 10 * (end - subtitled.spans()[-2][0]))]
    rows = run(subtitled.path, spans, subtitled.time_base, tmp_path, backend="none")
    assert [row["status"] for row in rows] == ["ok"] * 6 + ["failed"]
    assert rows[-1]["reason"] == "unreadable_video"


def test_without_usable_scenes_there_are_no_rows(tmp_path: Path) -> None:
    assert run(write_video(tmp_path / "v.mp4", [Shot(4)]).path, [], Fraction(1, 24), tmp_path) == []


def test_an_episode_whose_process_died_has_a_failed_row_per_scene(tmp_path: Path) -> None:
    scenes = commit_table(tmp_path, tables.SCENES, [scene(0, 99), scene(99, 200)])
    video = FileRef(path=tmp_path / "gone.mp4", sha256="0" * 64, size=1)
    inputs = overlays.OverlayInputs(unit="v", show="demo", video=video, scenes=scenes)
    report = stage.failed_rows(inputs, tables.Reason.DECODER_HUNG, "silent for 10 min")
    tables.validate(tables.OVERLAYS, report.rows)
    assert [(row["status"], row["reason"]) for row in report.rows] == [
        ("failed", "decoder_hung")
    ] * 2


# --- which frames are looked at -------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 50)), max_size=30),
    st.integers(4, 40),
    st.sampled_from([Fraction(33, 16), Fraction(81, 16)]),
)
def test_every_scene_that_fits_a_clip_is_sampled_twice(
    lengths: list[tuple[int, int]], count: int, clip_seconds: Fraction
) -> None:
    scenes, at = [], 7
    for ticks, gap in lengths:
        scenes.append(scene(at, at + ticks))
        at += ticks + gap
    found = frame_sampling.plan_sampling_targets(scenes, count, clip_seconds)
    assert [target.pts for target in found] == sorted(target.pts for target in found)
    for index, one in enumerate(scenes):
        here = [target for target in found if target.scene == index]
        for target in here:
            assert one["start_pts"] <= target.earliest <= target.pts < target.end == one["end_pts"]
        if one["end_pts"] - one["start_pts"] >= clip_seconds * 24:
            assert len(here) >= 2
    assert not scenes or len(found) >= count
    fits = [frame_sampling.fits_clip(one, clip_seconds) for one in scenes]
    short = sum(not fits[target.scene] for target in found)
    assert short <= count
    if scenes and not any(fits):
        assert short == count


# --- standing text --------------------------------------------------------------------------------


def test_a_box_of_much_of_the_frame_is_a_texture_and_no_text() -> None:
    image = np.zeros((720, 1280, 3), np.uint8)
    title, logo, column = (100, 300, 1180, 380), (1100, 20, 1250, 120), (30, 0, 90, 700)
    grass = (0, 0, 1171, 719)
    lines, others = detect_text(image, lambda _: [grass, title, logo, column], 0)
    assert (lines, others) == ((title,), (column, logo))


LINE: PixelBox = (100, 80, 200, 90)


def samples(
    lines: Sequence[Sequence[PixelBox]], scenes: Sequence[int] | None = None, parts: int = 10
) -> list[SampledFrame]:
    """Frames all over the episode, each of a different scene by default."""
    return [
        SampledFrame(
            index if scenes is None else scenes[index],
            index * parts // len(lines),
            index,
            tuple(boxes),
            None,
        )
        for index, boxes in enumerate(lines)
    ]


def overlay_text(lines: Sequence[Sequence[PixelBox]], **more: Any) -> list[list[PixelBox]]:
    settings = OverlaySettings(min_text_share=more.pop("min_text_share", 0.15))
    return persistent_text.find_overlay_text(samples(lines, **more), 300, 100, settings)


@pytest.mark.parametrize(("with_text", "counts"), [(1, False), (2, False), (3, True), (16, True)])
def test_text_counts_when_it_is_frequent_enough(with_text: int, counts: bool) -> None:
    lines: list[list[PixelBox]] = [[] for _ in range(16)]
    for k in range(with_text):
        lines[k * 16 // with_text] = [LINE]
    assert overlay_text(lines) == (lines if counts else [[]] * 16)


def test_a_rare_line_counts_when_its_position_is_constant() -> None:
    lines: list[list[PixelBox]] = [[] for _ in range(90)]
    placed = [(110, 80, 190, 90), (95, 80, 205, 91), (60, 79, 240, 90)]
    strewn = [(10, 75, 60, 83), (210, 85, 290, 97), (120, 72, 150, 80)]
    for k in range(3):
        lines[30 * k] = [placed[k]]
        lines[30 * k + 5] = [strewn[k]]
    result = overlay_text(lines)
    assert [boxes for boxes in result if boxes] == [[box] for box in placed]


def test_a_sign_in_one_scene_is_not_an_overlay() -> None:
    assert overlay_text([[LINE]] * 8, scenes=[0] * 8) == [[]] * 8
    assert overlay_text([[LINE]] * 8 + [[]] * 8, scenes=[0] * 8 + [1] * 8) == [[]] * 16


def test_changing_words_in_one_take_are_an_overlay() -> None:
    lines = [[(100 - 9 * (k % 4), 80, 200 + 9 * (k % 4), 90)] for k in range(8)]
    assert overlay_text(lines, scenes=[0] * 8) == lines


def test_names_in_opening_credits_are_not_an_overlay() -> None:
    assert overlay_text([[LINE]] * 4 + [[]] * 16) == [[]] * 20


def test_overlay_words_may_change() -> None:
    lines = [[(10 * k, 80 + k % 3, 50 + 10 * k, 90 + k % 3)] for k in range(8)]
    assert overlay_text(lines, min_text_share=0.9) == lines


def test_text_above_the_band_is_not_an_overlay() -> None:
    assert overlay_text([[(100, 40, 200, 50)]] * 8) == [[]] * 8


def test_the_upper_line_of_a_subtitle_counts_with_the_lower_one() -> None:
    upper, sign = (90, 68, 210, 78), (90, 20, 210, 30)
    lines = [[LINE]] * 9 + [[upper, LINE, sign]]
    assert overlay_text(lines, min_text_share=0.5)[9] == [upper, LINE]


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.integers(0, 250), st.integers(0, 88), st.integers(5, 50), st.integers(2, 12)
            ).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])),
            max_size=3,
        ),
        min_size=1,
        max_size=12,
    )
)
def test_overlays_are_detected_lines_in_the_band(lines: list[list[PixelBox]]) -> None:
    for seen, counted in zip(lines, overlay_text(lines), strict=True):
        assert set(counted) <= set(seen)
        assert all(box[3] > 70 for box in counted)


@pytest.mark.parametrize(
    ("ticker", "clear", "keeps"), [(20, 8, True), (20, 7, False), (0, 20, False)]
)
def test_the_half_before_a_ticker_is_not_cropped(ticker: int, clear: int, keeps: bool) -> None:
    boxes: list[list[PixelBox]] = [[]] * clear + [[LINE]] * ticker
    expected = set(range(clear)) if keeps else set()
    assert persistent_text.find_overlay_free_scenes(samples(boxes), boxes) == expected


def test_scenes_without_dialogue_are_cropped_like_others() -> None:
    # Subtitles: half of the frames, then a long chase without a word.
    boxes: list[list[PixelBox]] = [[LINE], []] * 10 + [[]] * 20
    assert persistent_text.find_overlay_free_scenes(samples(boxes), boxes) == frozenset()


@given(
    st.integers(10, 2000),
    st.integers(10, 2000),
    st.lists(st.integers(0, 2000), max_size=5),
    st.integers(0, 20),
)
def test_the_crop_is_even_and_above_every_overlay(
    width: int, height: int, tops: list[int], margin: int
) -> None:
    picture = letterbox_detection.estimate_content_rect(width, height, [])
    assert picture == Rect(0, 0, width // 2 * 2, height // 2 * 2)
    kept = persistent_text.crop_above_text(picture, [(0, top, 4, top + 4) for top in tops], margin)
    assert kept.width == picture.width and kept.height % 2 == 0
    assert 2 <= kept.height <= picture.height
    if kept.height > 2:
        assert all(kept.height <= top - margin for top in tops)
    if all(top - margin >= height for top in tops):
        assert kept == picture


# --- black bars -----------------------------------------------------------------------------------


@given(
    st.integers(8, 400),
    st.integers(8, 400),
    st.lists(st.tuples(*[st.integers(0, 400)] * 4), max_size=12),
)
def test_no_lit_frame_loses_more_than_the_blend(
    width: int, height: int, found: list[tuple[int, int, int, int]]
) -> None:
    edges = [
        (
            min(a, width - 1),
            min(b, height - 1),
            min(max(a + 1, c), width),
            min(max(b + 1, d), height),
        )
        for a, b, c, d in found
    ]
    kept = letterbox_detection.estimate_content_rect(width, height, edges)
    assert kept.x % 2 == kept.y % 2 == kept.width % 2 == kept.height % 2 == 0
    assert kept.x >= 0 and kept.x + kept.width <= width
    # Two pixels of blend, and one to make it even.
    for left, top, right, bottom in edges:
        assert kept.x <= left + 3 and kept.y <= top + 3
        assert kept.x + kept.width >= right - 3 and kept.y + kept.height >= bottom - 3


def test_a_varying_edge_is_darkness_and_not_a_border() -> None:
    wandering = [(10 * k, 5, 300, 200 - 7 * k) for k in range(2, 9)]
    assert letterbox_detection.estimate_content_rect(300, 200, wandering).width == 300
    assert letterbox_detection.estimate_content_rect(300, 200, [(40, 0, 260, 200)] * 2) == Rect(
        0, 0, 300, 200
    )
    assert letterbox_detection.estimate_content_rect(300, 200, [(40, 0, 260, 200)] * 3) == Rect(
        42, 0, 216, 200
    )


def test_text_in_a_border_does_not_make_it_content() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    image[20:80] = 90
    image[85:95, 60:140] = 255
    assert letterbox_detection.detect_content_edges(image, [(58, 83, 142, 97)]) == (0, 20, 200, 80)
    assert letterbox_detection.detect_content_edges(np.full_like(image, 20), []) is None


# --- credits --------------------------------------------------------------------------------------


def rows_of_text(count: int, shift: int = 0) -> list[PixelBox]:
    return [(20 + shift, 8 * k, 90 + shift, 8 * k + 6) for k in range(count)]


def judge(
    texts: Sequence[Sequence[PixelBox]],
    seconds: Sequence[int],
    scenes: Sequence[int],
    **settings: Any,
) -> set[int]:
    spans, at = [], 0
    for length in seconds:
        spans.append(scene(at, at + length, Fraction(1)))
        at += length
    none: list[list[PixelBox]] = [[] for _ in texts]
    return set(
        credits.detect_credits(
            spans, samples(texts, scenes=scenes), none, 100, OverlaySettings(**settings)
        )
    )


@pytest.mark.parametrize(
    ("full", "seconds", "expected"),
    [
        ({2}, [6] * 6, set()),  # a newspaper in the middle
        ({2, 3}, [6] * 6, {2, 3}),  # a roll of 12 s in the middle
        ({0}, [6] * 6, {0}),  # a card at the beginning
        ({4, 5}, [2] * 6, {4, 5}),  # short cards at the end
        (set(range(6)), [1] * 6, set()),  # all of a short episode
    ],
)
def test_full_frames_are_credits_where_they_last_or_end_an_episode(
    full: set[int], seconds: list[int], expected: set[int]
) -> None:
    texts = [rows_of_text(5) if index // 2 in full else [] for index in range(12)]
    assert judge(texts, seconds, [index // 2 for index in range(12)]) == expected


def test_credits_thresholds_are_settings() -> None:
    texts = [rows_of_text(5) if index in (2, 4) else [] for index in range(12)]
    scenes = [index // 4 for index in range(12)]
    assert judge(texts, [12] * 3, scenes) == set()
    assert judge(texts, [12] * 3, scenes, credits_share=0.25) == {0, 1}
    assert judge(texts, [12] * 3, scenes, credits_share=0.25, credits_rows=6) == set()
    long = {"credits_share": 0.25, "credits_seconds": Decimal(30)}
    assert judge([[]] * 4 + texts[4:], [12] * 3, scenes, **long) == set()


def names_over_picture(words: Sequence[int]) -> list[list[PixelBox]]:
    return [[(20, 60, 20 + wide, 70)] if wide else [] for wide in words]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([40, 60, 90, 0] + [0] * 16, {0, 1}),  # three names in the opening
        ([40, 41, 42, 42] + [0] * 16, set()),  # one sign, passed by
        ([0] * 8 + [40, 60, 90, 0] + [0] * 8, set()),  # captions in the middle
        ([0] * 16 + [70, 40, 60, 90], {8, 9}),  # the closing
    ],
)
def test_names_over_the_image_are_credits_near_the_ends(
    words: list[int], expected: set[int]
) -> None:
    texts = names_over_picture(words)
    assert judge(texts, [6] * 10, [index // 2 for index in range(20)]) == expected


def test_subtitles_are_not_credits() -> None:
    texts = [rows_of_text(4) for _ in range(8)]
    spans = [scene(6 * k, 6 * k + 6, Fraction(1)) for k in range(4)]
    seen = samples(texts, scenes=[index // 2 for index in range(8)])
    assert credits.detect_credits(spans, seen, texts, 100, OverlaySettings()) == {}


def test_a_name_next_to_a_role_is_one_row() -> None:
    lines = [(10, 10, 50, 20), (60, 12, 90, 21), (10, 30, 50, 40), (60, 29, 99, 39)]
    assert [len(row) for row in text_detection.group_text_rows(lines)] == [2, 2]


def test_boxes_that_are_not_lines_of_text_are_ignored() -> None:
    shapes = [(0, 0, 90, 30), (50, 20, 60, 30), (10, 60, 60, 70)]
    image = np.zeros((100, 100, 3), np.uint8)
    assert text_detection.detect_text_lines(image, lambda _: shapes, 0) == ((10, 60, 60, 70),)


def test_the_digest_of_the_scenes_is_part_of_the_key(tmp_path: Path) -> None:
    video = tmp_path / "v.mp4"
    video.write_bytes(b"video")
    keys = set()
    for end in (90, 91):
        scenes = commit_table(tmp_path / str(end), tables.SCENES, [scene(0, end)])
        ref = FileRef(path=video, sha256=digest_file(video), size=5)
        inputs = overlays.OverlayInputs(unit="v", show="demo", video=ref, scenes=scenes)
        keys.add(overlays.STAGE.key(inputs, OverlaySettings()))
    assert len(keys) == 2
