"""Stage ``character_scores`` on clips and videos of figures that the test draws."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mimix_core import tables
from mimix_core.benchmark.characters import character_scores_stage
from mimix_core.benchmark.characters.character_scores_stage import CharacterScoreInputs
from mimix_core.benchmark.characters.video_metrics import video_metrics
from mimix_core.benchmark.judge.judge_inputs import SystemVideos
from mimix_core.domain.caption_grammar import CharacterAction
from mimix_core.domain.library import Style
from mimix_core.domain.prompts import VideoPrompt
from mimix_core.engine.artifacts import file_ref
from mimix_core.errors import BadInput
from mimix_core.media.masks import write_masks
from mimix_core.settings import CharacterScoreSettings
from mimix_core.tables import CHARACTER_SCORES, CLIPS, CUTOUTS, CharacterScoreRow
from tests.factories import clip, table_ref, video

WIDTH, HEIGHT, FRAMES = 128, 80, 9
STYLES = {"Dot": "cartoon", "Bar": "realistic", "Zig": "cartoon"}
SETTINGS = CharacterScoreSettings(backend="efficientnet-lite0", threads=1)

Frames = NDArray[np.uint8]

pytestmark = pytest.mark.e2e


def scene(seed: int, style: str) -> Frames:
    """Draw a flat background, or one with noise."""
    rng = np.random.default_rng(seed)
    frames = np.full((FRAMES, HEIGHT, WIDTH, 3), rng.integers(150, 220, 3), np.uint8)
    frames[:, 60:] = rng.integers(60, 120, 3)
    if style == "realistic":
        noise = rng.normal(0, 6, (HEIGHT, WIDTH, 1)).repeat(3, axis=2)
        frames = (frames + noise).clip(0, 255).astype(np.uint8)
    return frames


def draw(frames: Frames, name: str, x: int, style: str = "") -> Frames:
    """Draw a character that moves to the right, and return its masks."""
    rng = np.random.default_rng(0)
    style = style or STYLES[name]
    masks = np.zeros(frames.shape[:3], np.uint8)
    for number, frame in enumerate(frames):
        picture, mask = frame.copy(), masks[number]
        center = (x + number, 44)
        if name == "Dot":
            cv2.circle(mask, center, 17, 255, -1)
            picture[:] = (40, 90, 220)
            for dx, dy in ((-6, -6), (6, -6), (0, 6)):
                cv2.circle(picture, (center[0] + dx, center[1] + dy), 3, (250, 250, 240), -1)
        elif name == "Bar":
            cv2.rectangle(mask, (center[0] - 9, 22), (center[0] + 9, 66), 255, -1)
            picture[:] = (190, 60, 40)
            picture[::6] = (240, 220, 60)
        else:
            points = np.array([(center[0] - 18, 64), (center[0] + 18, 64), (center[0], 24)])
            cv2.fillPoly(mask, [points], 255)
            picture[:] = (60, 170, 70)
            picture[:, ::7] = (20, 60, 30)
        if style == "realistic":
            noisy = picture + rng.normal(0, 14, picture.shape)
            picture = noisy.clip(0, 255).astype(np.uint8)
        frame[mask > 0] = picture[mask > 0]
    return masks


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> CharacterScoreInputs:
    """Four clips of each character alone, and four videos of prompts."""
    folder = tmp_path_factory.mktemp("characters")
    clip_rows, cutout_rows = [], []
    for name, style in STYLES.items():
        for number in range(4):
            clip_id = f"{name.lower()}-{number}"
            frames = scene(number, style)
            masks = draw(frames, name, 30 + 18 * number)
            video(folder / "clips" / "clips" / f"{clip_id}.mp4", frames)
            clip_rows.append(clip(clip_id, frames=FRAMES, style=style))
            (folder / "cutouts").mkdir(exist_ok=True)
            write_masks(folder / "cutouts" / f"{clip_id}.parquet", masks)
            cutout_rows.append(
                tables.ok(
                    cutout_id=f"{clip_id}-cutout",
                    clip_id=clip_id,
                    show="show",
                    style=style,
                    character=name,
                    locator="boxes",
                    backend="masks",
                    area=[0.1] * FRAMES,
                    boxes=[[0, 0, 1, 1]] * FRAMES,
                    score=[1.0] * FRAMES,
                    presence=1.0,
                    border=[],
                    file=f"{clip_id}.parquet",
                )
            )
    shown = {
        "both": (("Dot", 30, ""), ("Bar", 90, "")),
        "exchanged": (("Zig", 30, ""), ("Bar", 90, "")),
        "alone": (("Bar", 90, ""),),
        "noisy": (("Dot", 30, "realistic"), ("Bar", 90, "")),
    }
    videos = {}
    for prompt_id, cast in shown.items():
        frames = scene(99, "cartoon")
        for name, x, style in cast:
            draw(frames, name, x, style)
        path = folder / "videos" / f"{prompt_id}.mp4"
        video(path, frames)
        videos[prompt_id] = file_ref(path)
    prompts = tuple(ask(prompt_id, "Dot", "Bar") for prompt_id in (*shown, "missing"))
    return CharacterScoreInputs(
        unit="ours",
        prompts=(*prompts, ask("both", "Dot", "Nobody").model_copy(update={"id": "stranger"})),
        system=SystemVideos(name="ours", videos=videos | {"stranger": videos["both"]}),
        styles=STYLES,
        clips=(table_ref(folder / "clips", CLIPS, clip_rows),),
        cutouts=(table_ref(folder / "cutouts", CUTOUTS, cutout_rows),),
    )


def ask(prompt_id: str, *names: str) -> VideoPrompt:
    return VideoPrompt(
        id=prompt_id,
        category="inter-style",
        characters=names,
        actions=tuple(CharacterAction(name=name, action="moves") for name in names),
        setting="A room",
        style=Style.CARTOON,
    )


@pytest.fixture(scope="module")
def rows(
    inputs: CharacterScoreInputs, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, CharacterScoreRow]:
    out = tmp_path_factory.mktemp("scores")
    report = character_scores_stage.run(inputs, SETTINGS, out)
    assert report.rows_in == len(report.rows)
    path = out / "table.parquet"
    tables.write(path, CHARACTER_SCORES, report.rows, stage_key="k")
    return {row["score_id"]: row for row in tables.read(path, CHARACTER_SCORES)}


def test_characters_that_are_there_are_right(rows: dict[str, CharacterScoreRow]) -> None:
    assert rows["both/dot"]["identity"] == rows["both/bar"]["identity"] == "right"
    assert rows["both/dot"]["in_own_style"]
    assert rows["both/dot"]["count"] == 1
    boxes = [box for box in rows["both/dot"]["boxes"] if box]
    assert len(boxes) >= 4
    assert all(x0 < (30 + 4) / WIDTH < x1 for x0, _, x1, _ in boxes)


def test_another_figure_in_its_place_is_swapped(rows: dict[str, CharacterScoreRow]) -> None:
    row = rows["exchanged/dot"]
    assert (row["identity"], row["looks_like"]) == ("swapped", "Zig")
    assert rows["exchanged/bar"]["identity"] == "right"


def test_a_missing_figure_is_absent(rows: dict[str, CharacterScoreRow]) -> None:
    row = rows["alone/dot"]
    assert (row["identity"], row["presence"], row["boxes"][0]) == ("absent", 0, [])


def test_a_figure_in_the_other_style_is_itself_in_another_style(
    rows: dict[str, CharacterScoreRow],
) -> None:
    assert rows["noisy/dot"]["in_own_style"] is False
    assert rows["noisy/dot"]["style_share"] < rows["both/dot"]["style_share"]  # type: ignore[operator]


def test_motion_is_compared_with_the_clips(rows: dict[str, CharacterScoreRow]) -> None:
    row = rows["both/dot"]
    assert row["motion"] is not None
    assert row["motion"] > 0
    assert 0 <= row["motion_rank"] <= 1  # type: ignore[operator]
    assert row["nearest_clip"].startswith("dot-")


def test_what_cannot_be_scored_says_why(rows: dict[str, CharacterScoreRow]) -> None:
    assert rows["missing/dot"]["reason"] == "no_video"
    assert rows["stranger/nobody"]["reason"] == "no_mask"
    assert rows["stranger/dot"]["identity"] == "right"


def test_metrics_of_a_video_are_shares_of_its_characters(
    rows: dict[str, CharacterScoreRow],
) -> None:
    values = {(one, metric.split("/")[0]): v for one, metric, v, _ in video_metrics(rows.values())}
    assert values["both", "character_identity"] == 1
    assert values["exchanged", "character_identity"] == 0.5
    assert values["alone", "character_style"] == 0.5
    assert values["stranger", "character_identity"] is None


def test_one_character_is_too_few(inputs: CharacterScoreInputs, tmp_path: Path) -> None:
    only = inputs.model_copy(update={"styles": {"Dot": "cartoon"}})
    with pytest.raises(BadInput, match="at least two"):
        character_scores_stage.run(only, SETTINGS, tmp_path)


def test_a_model_folder_is_asked_for_by_its_setting() -> None:
    with pytest.raises(BadInput, match=r"character_scores\.weights"):
        character_scores_stage.model_files(CharacterScoreSettings(backend="dinov2"))
