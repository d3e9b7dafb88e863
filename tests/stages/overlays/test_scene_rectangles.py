"""Borders that change within an episode, and text that is not at the bottom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mimix_core import tables
from mimix_core.media import Rect
from mimix_core.settings import OverlaySettings
from mimix_core.stages.overlays.remaining_text import crop_around_text
from mimix_core.stages.overlays.scene_crop import choose_scene_crop
from tests.media_factory import Shot, write_video
from tests.stages.overlays.overlays_runner import LONG, SIZE, font, rows_of, samples, write

WIDTH, HEIGHT = SIZE


def rectangle(row: tables.Row) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the crop."""
    x, y, width, height = (row[f"crop_{name}"] for name in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def blacken(image: np.ndarray, left: int, top: int, right: int, bottom: int) -> None:
    image[:, :left] = image[:, right:] = 0
    image[:top] = image[bottom:] = 0


BORDERS = {
    "half 4:3": [(0, 0, 640, 368), (0, 0, 640, 368), (75, 0, 565, 368), (75, 0, 565, 368)],
    "windowboxed insert": [(0, 0, 640, 368), (90, 52, 550, 316), (0, 0, 640, 368)],
    "letterbox, then pillarbox": [(0, 46, 640, 322), (0, 46, 640, 322), (75, 0, 565, 368)],
}


@pytest.mark.parametrize("name", BORDERS)
def test_each_scene_is_cropped_to_its_own_borders(tmp_path: Path, name: str) -> None:
    truth = BORDERS[name]

    def draw(image: np.ndarray, number: int) -> None:
        blacken(image, *truth[number // LONG])

    video = write_video(tmp_path / "v.mp4", [Shot(LONG)] * len(truth), size=SIZE, draw=draw)
    for row, expected in zip(rows_of(video, tmp_path, backend="none"), truth, strict=True):
        found = rectangle(row)
        for side, (edge, true_edge) in enumerate(zip(found, expected, strict=True)):
            inward = edge - true_edge if side < 2 else true_edge - edge
            assert 0 <= inward <= 4, (expected, found)


@pytest.mark.e2e
def test_borders_that_change_within_a_scene_are_cropped_from_all_of_it(tmp_path: Path) -> None:
    def draw(image: np.ndarray, number: int) -> None:
        if number < LONG or number >= 3 * LONG:
            blacken(image, 75, 0, 565, 368)

    shots = [Shot(LONG), Shot(LONG), Shot(4 * LONG)]
    video = write_video(tmp_path / "v.mp4", shots, size=SIZE, draw=draw)
    first, second, third = rows_of(video, tmp_path, backend="none")
    assert second["crop_width"] == 640
    assert first["crop_x"] == third["crop_x"] and 75 <= third["crop_x"] <= 79


def top_line(image: np.ndarray, number: int) -> None:
    words = ("Where is the cat?", "It ran up the tree.", "Look out there!")
    write(image, (320, 40, words[number // 40 % 3]))


def corner_logo(image: np.ndarray, number: int) -> None:
    write(image, (592, 40, "KTV 3"))


def column(image: np.ndarray, number: int) -> None:
    """A line of text turned by a quarter, along the right edge."""
    canvas = Image.new("RGB", (220, 30))
    ImageDraw.Draw(canvas).text((4, 2), "SIDE SHOW TONIGHT", font=font(22), fill="white")
    image[70:290, 600:630] = np.asarray(canvas.rotate(90, expand=True))


def watermark(image: np.ndarray, number: int) -> None:
    write(image, (150 + number * 3 % 340, 60 + number // 2 % 180, "watch at example"))


Draw = Callable[[np.ndarray, int], None]


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize(
    ("draw", "side", "limit"),
    [(top_line, 1, 60), (corner_logo, 1, 60), (column, 2, 600)],
)
def test_text_that_recurs_at_another_side_is_cropped(
    tmp_path: Path, draw: Draw, side: int, limit: int
) -> None:
    video = write_video(tmp_path / "v.mp4", [Shot(LONG)] * 4, size=SIZE, draw=draw)
    for row in rows_of(video, tmp_path):
        assert (row["status"], row["text_remains"]) == ("ok", "")
        edges = rectangle(row)
        assert 38 <= edges[1] <= limit if side == 1 else 560 <= edges[2] <= limit
        whole = (0, 0, 640, 368)
        assert all(edges[k] == whole[k] for k in range(4) if k != side)


@pytest.mark.slow
@pytest.mark.e2e
def test_a_moving_watermark_is_reported_and_rejected_unless_kept(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", [Shot(LONG)] * 4, size=SIZE, draw=watermark)
    for row in rows_of(video, tmp_path):
        assert (row["status"], row["reason"]) == ("rejected", "text_remains")
        assert "changing positions" in row["detail"]
    (tmp_path / "kept").mkdir()
    for row in rows_of(video, tmp_path / "kept", remaining_text="keep"):
        assert row["status"] == "ok" and rectangle(row) == (0, 0, 640, 368)
        assert " of the image, in " in row["text_remains"] and row["remaining_boxes"]


# --- decisions on known boxes ---------------------------------------------------------------------

AREA = Rect(0, 0, 300, 100)


def decide(
    lines: Sequence[tuple[int, int, int, int]], fixed: bool, mode: str
) -> tuple[tables.Reason | None, str]:
    sampled = [(s, (), s.lines if fixed else (), ()) for s in samples([lines, lines])]
    settings = OverlaySettings.model_validate({"remaining_text": mode})
    crop = choose_scene_crop(AREA, [], sampled, [], 100, settings)
    return (crop.rejection[0] if crop.rejection else None), crop.text_remains


def test_settings_decide_what_happens_to_text_of_a_scene() -> None:
    sign = [(130, 40, 170, 48)]
    page = [(40, 10 + 12 * k, 260, 20 + 12 * k) for k in range(3)]
    assert decide(sign, False, "crop") == (
        None,
        "text at the middle center, on up to 1.1% of the image, in 2 of 2 sampled frames",
    )
    assert decide(sign, False, "reject")[0] == tables.Reason.TEXT_REMAINS
    assert decide(page, False, "crop")[0] == tables.Reason.TEXT_REMAINS
    assert decide(page, False, "keep")[0] is None
    assert decide(page, False, "keep")[1].startswith("text at the top center and middle center")
    # In the middle of the frame a recurring text costs half of it.
    assert decide(sign, True, "crop")[0] == tables.Reason.TEXT_REMAINS
    assert decide([(280, 4, 298, 12)], True, "crop") == (None, "")


def test_a_logo_is_cropped_at_its_cheaper_side() -> None:
    crop = crop_around_text(AREA, [(280, 2, 296, 30)], 1)
    assert (crop.x, crop.y, crop.width, crop.height) == (0, 0, 278, 100)
    crop = crop_around_text(AREA, [(200, 2, 296, 10), (4, 92, 20, 98)], 1)
    assert (crop.x, crop.y, crop.width, crop.height) == (22, 12, 278, 88)
