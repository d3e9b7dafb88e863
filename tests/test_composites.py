from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mimix_core import tables
from mimix_core.composites.place import Placement, Size, place
from mimix_core.composites.plan import Background, Candidate, Pair, plan
from mimix_core.composites.render import exposure, paste, soften
from mimix_core.composites.stage import STAGE, CompositeInputs
from mimix_core.library import Style
from mimix_core.masks import write_masks
from mimix_core.media import prove_clip, read_rgb
from mimix_core.settings import CompositeSettings, DatasetSettings
from mimix_core.splits import Split, assign_splits
from mimix_core.stage import StageRun, run_stage
from mimix_core.store import Store
from tests.made import caption, clip, table_ref, video

# --- plan --------------------------------------------------------------------------------------


def world(cartoons: int, realistics: int, scenes: int) -> tuple[list[Candidate], list[Background]]:
    candidates = [
        Candidate(f"{style.value}-{n}", f"{style.value} {n % 3}", style)
        for style, count in ((Style.CARTOON, cartoons), (Style.REALISTIC, realistics))
        for n in range(count)
    ]
    backgrounds = [Background(f"{s.value}-clip-{n}", s) for s in Style for n in range(scenes)]
    return candidates, backgrounds


@given(
    st.integers(0, 6), st.integers(0, 6), st.integers(0, 5), st.integers(0, 80), st.integers(0, 9)
)
def test_a_plan_keeps_its_rules(
    cartoons: int, realistics: int, scenes: int, count: int, seed: int
) -> None:
    candidates, backgrounds = world(cartoons, realistics, scenes)
    pairs = plan(candidates, backgrounds, count=count, seed=seed)
    # As many as wanted, or all there are; and none twice.
    assert len(pairs) == min(count, (cartoons + realistics) * scenes)
    assert len({(p.cutout_id, p.background_id) for p in pairs}) == len(pairs)
    assert [p.rank for p in pairs] == list(range(len(pairs)))
    # Never into its own style.
    assert all(p.cutout_id.split("-")[0] != p.background_id.split("-")[0] for p in pairs)
    # A plan for fewer is the beginning of this one.
    assert plan(candidates, backgrounds, count=count // 2, seed=seed) == pairs[: count // 2]
    # The order in which cutouts and backgrounds come decides nothing.
    assert plan(candidates[::-1], backgrounds[::-1], count=count, seed=seed) == pairs


def test_directions_and_characters_are_balanced() -> None:
    candidates, backgrounds = world(6, 3, 10)
    pairs = plan(candidates, backgrounds, count=24, seed=1)
    by_id = {c.cutout_id: c for c in candidates}
    styles = Counter(by_id[p.cutout_id].style for p in pairs)
    characters = Counter(by_id[p.cutout_id].character for p in pairs)
    cutouts = Counter(p.cutout_id for p in pairs)
    scenes = Counter(p.background_id for p in pairs)
    assert styles == {Style.CARTOON: 12, Style.REALISTIC: 12}
    assert set(characters.values()) == {4}
    assert {cutouts[c.cutout_id] for c in candidates if c.style is Style.CARTOON} == {2}
    assert max(scenes.values()) <= 2


def test_another_seed_is_another_plan() -> None:
    def drawn(seed: int) -> list[Pair]:
        return plan(*world(5, 5, 5), count=20, seed=seed)

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)


# --- place -------------------------------------------------------------------------------------

SCENE = Size(832, 480)
BODY = [[300, 150, 420, 420]] * 81


def placed(boxes: list[list[int]] = BODY, border: tuple[str, ...] = (), **more: Any) -> Placement:
    values: dict[str, Any] = {"min_height": 0.35, "max_height": 0.85, "chance": lambda _: 0.5}
    return place(boxes, border, Size(832, 480), SCENE, **values | more)


@given(
    st.integers(0, 600),
    st.integers(0, 300),
    st.integers(30, 230),
    st.integers(30, 180),
    st.floats(0, 0.999),
)
def test_a_whole_character_stands_in_the_scene_at_a_fit_height(
    x: int, y: int, width: int, height: int, chance: float
) -> None:
    found = placed([[x, y, x + width, y + height]] * 81, chance=lambda _: chance)
    top, bottom = found.y + found.scale * y, found.y + found.scale * (y + height)
    assert 0.35 * 480 - 1 <= found.scale * height <= 0.85 * 480 + 1
    assert top >= -1
    assert bottom <= 480 + 1
    if found.scale * width <= 832:
        assert found.x + found.scale * x >= -1
        assert found.x + found.scale * (x + width) <= 832 + 1


@pytest.mark.parametrize("chance", [0.0, 0.3, 0.99])
def test_sides_that_cut_a_character_off_meet_the_scenes(chance: float) -> None:
    boxes = [[500, 200, 832, 480]] * 81
    found = placed(boxes, ("right", "bottom"), chance=lambda _: chance)
    size = found.scaled(Size(832, 480))
    assert (found.x + size.width, found.y + size.height) == (832, 480)
    assert placed([[0, 200, 300, 480]] * 81, ("left", "bottom")).x == 0


def test_a_close_up_keeps_its_framing() -> None:
    found = placed([[300, 0, 832, 480]] * 81, ("top", "right", "bottom"))
    assert found == Placement(1.0, 0, 0)


def test_the_scenes_own_characters_are_not_covered_when_there_is_room() -> None:
    for chance in (0.1, 0.5, 0.9):
        found = placed(occupied=[(300.0, 832.0)], chance=lambda _, c=chance: c)
        assert found.x + found.scale * 420 <= 300
    free = {placed(chance=lambda _, c=c: c).x for c in (0.1, 0.5, 0.9)}
    assert len(free) == 3


def test_an_empty_cutout_cannot_be_placed() -> None:
    with pytest.raises(ValueError, match="empty"):
        placed([[0, 0, 0, 0]] * 81)


# --- render ------------------------------------------------------------------------------------


def reference(
    source: NDArray[np.uint8],
    alpha: NDArray[np.uint8],
    scene: NDArray[np.uint8],
    x: int,
    y: int,
    gain: float,
) -> NDArray[np.float64]:
    """Alpha over in linear light, float64, pixel by pixel; unscaled and without feather."""

    def linear(value: NDArray[np.uint8]) -> NDArray[np.float64]:
        v = value / 255
        return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)

    result = linear(scene)
    for row in range(alpha.shape[0]):
        for column in range(alpha.shape[1]):
            r, c = row + y, column + x
            if 0 <= r < scene.shape[0] and 0 <= c < scene.shape[1]:
                a = alpha[row, column] / 255
                own = np.minimum(linear(source[row, column]) * gain, 1)
                result[r, c] = a * own + (1 - a) * result[r, c]
    return np.where(result <= 0.0031308, 12.92 * result, 1.055 * result ** (1 / 2.4) - 0.055) * 255


@given(st.integers(0, 2**32 - 1), st.integers(-20, 30), st.integers(-20, 30), st.floats(0.87, 1.15))
def test_pasting_is_exact_to_one_level(seed: int, x: int, y: int, gain: float) -> None:
    rng = np.random.default_rng(seed)
    source, scene = (rng.integers(0, 256, (24, 32, 3)).astype(np.uint8) for _ in range(2))
    alpha = rng.choice([0, 0, 1, 128, 254, 255], (24, 32)).astype(np.uint8)
    made = paste(source, alpha, scene, Placement(1.0, x, y), gain=gain, feather=0)
    wanted = reference(source, alpha, scene, x, y, gain)
    assert np.abs(made - wanted).max() <= 1


def test_where_the_cutout_does_not_reach_the_scene_is_untouched() -> None:
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)
    alpha = np.zeros((48, 64), np.uint8)
    alpha[10:20, 10:20] = 255
    made = paste(255 - scene, alpha, scene, Placement(1.0, 5, 3), gain=1.0, feather=1.5)
    changed = (made != scene).any(axis=2)
    assert changed[15:22, 17:24].all()
    changed[13:23, 15:25] = False
    assert not changed.any()


def test_scaling_takes_the_whole_frame_with_it() -> None:
    scene = np.zeros((48, 64, 3), np.uint8)
    source, alpha = np.full((48, 64, 3), 200, np.uint8), np.zeros((48, 64), np.uint8)
    alpha[16:32, 32:48] = 255
    made = paste(source, alpha, scene, Placement(0.5, 10, 20), gain=1.0, feather=0)
    assert (made[28:36, 26:34] == 200).all()
    made[28:36, 26:34] = 0
    assert not made.any()


def test_a_bright_edge_left_of_the_old_background_leaves_no_ring() -> None:
    # A dark figure whose outermost pixel was mixed with white, pasted on dark.
    source = np.full((60, 60, 3), 255, np.uint8)
    source[15:45, 15:45] = 20
    alpha = np.zeros((60, 60), np.uint8)
    alpha[14:46, 14:46] = 255
    scene = np.full((60, 60, 3), 20, np.uint8)
    hard = paste(source, alpha, scene, Placement(1.0, 0, 0), gain=1.0, feather=0)
    soft = paste(source, alpha, scene, Placement(1.0, 0, 0), gain=1.0, feather=1.5)
    assert hard.max() == 255
    assert soft.max() <= 24


def test_the_edge_is_soft_inwards_and_sharp_at_the_frame() -> None:
    alpha = np.zeros((40, 40), np.uint8)
    alpha[20:, 10:30] = 255
    soft = soften(alpha, 1.5)
    assert (soft <= alpha / 255).all()
    assert 0 < soft[30, 10] < 0.5 < soft[30, 12] <= 1
    assert soft[39, 20] == pytest.approx(1)
    assert np.array_equal(soften(alpha, 0), (alpha / 255).astype(np.float32))


def test_exposure_moves_a_little_towards_the_scene() -> None:
    alpha = np.full((5, 20, 20), 255, np.uint8)
    dark, mid, bright = (np.full((5, 20, 20, 3), v, np.uint8) for v in (15, 128, 250))
    assert exposure(mid, alpha, mid) == pytest.approx(1)
    assert exposure(mid, alpha, dark) == 0.87
    assert 1 < exposure(mid, alpha, bright) <= 1.15
    assert exposure(mid, np.zeros_like(alpha), dark) == 1


# --- stage -------------------------------------------------------------------------------------

WIDTH, HEIGHT = 64, 48
EPISODES = {"cartoon": "bbb", "realistic": "people"}


def cutout(clip_id: str, style: str, character: str) -> dict[str, Any]:
    name = f"{clip_id}-{character.lower()}"
    return tables.ok(
        cutout_id=name,
        clip_id=clip_id,
        show=EPISODES[style],
        style=style,
        character=character,
        locator="boxes",
        backend="test",
        area=[0.1] * 81,
        boxes=[[20, 12, 40, 48]] * 81,
        presence=1.0,
        border=["bottom"],
        file=f"masks/{name}.parquet",
    )


class Footage:
    """Two shows of three episodes with two clips each, and one cutout in each clip."""

    def __init__(self, folder: Path) -> None:
        alpha = np.zeros((81, HEIGHT, WIDTH), np.uint8)
        alpha[:, 12:, 20:40] = 255
        self.clips, self.captions, self.cutouts = [], [], []
        for style, show in EPISODES.items():
            name = {"cartoon": "Bunny", "realistic": "Clara"}[style]
            for episode in range(3):
                unit = folder / f"{show}{episode}"
                rows, told, cut = [], [], []
                for number in range(2):
                    clip_id = f"{show}-{episode}-{number}"
                    frames = np.full((81, HEIGHT, WIDTH, 3), 60 + 20 * number, np.uint8)
                    frames[:, 12:, 20:40] = (200, 90, 40)
                    values = {"episode_id": f"{show}-e{episode}", "show": show, "style": style}
                    row = clip(clip_id, **values)
                    row["sha256"] = video(unit / "clips" / row["file"], frames)
                    rows.append(row)
                    text = f"[Character: {name}], stands. [scene-style:{style}]"
                    told.append(caption(clip_id, text))
                    cut.append(cutout(clip_id, style, name))
                    (unit / "cutouts" / "masks").mkdir(parents=True, exist_ok=True)
                    write_masks(unit / "cutouts" / cut[-1]["file"], alpha)
                self.clips.append(table_ref(unit / "clips", tables.CLIPS, rows))
                self.captions.append(table_ref(unit / "captions", tables.CAPTIONS, told))
                self.cutouts.append(table_ref(unit / "cutouts", tables.CUTOUTS, cut))

    def inputs(self, **split: Any) -> CompositeInputs:
        return CompositeInputs(
            unit="all",
            clips=tuple(self.clips),
            captions=tuple(self.captions),
            cutouts=tuple(self.cutouts),
            split=DatasetSettings(**split),
        )


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Footage:
    return Footage(tmp_path_factory.mktemp("footage"))


def made(store: Store, inputs: CompositeInputs, ratio: str, **more: Any) -> StageRun:
    settings = CompositeSettings.model_validate({"ratio": ratio, "preset": "ultrafast", **more})
    return run_stage(store, STAGE, inputs, settings)


def test_composites_are_made_from_what_is_trained_on(store: Store, footage: Footage) -> None:
    inputs = footage.inputs(val_share=0.3)
    run = made(store, inputs, "0.3")
    rows = tables.read(run.ref.path, tables.COMPOSITES)
    good = [row for row in rows if row["status"] == "ok"]
    episodes = {show: {f"{show}-e{n}" for n in range(3)} for show in EPISODES.values()}
    splits = assign_splits(episodes, inputs.split)
    originals = 2 * sum(split is Split.TRAIN for split in splits.values())
    notes = store.record(run.ref).notes
    assert notes["originals"] == originals
    assert notes["wanted"] == notes["made"] == len(good) == round(0.3 * originals / 0.7)
    for row in good:
        assert splits[row["source_episode_id"]] is Split.TRAIN
        assert splits[row["background_episode_id"]] is Split.TRAIN
        assert row["style"] != row["character_style"]
        prove_clip(run.ref.folder / row["file"], WIDTH, HEIGHT)
        assert (run.ref.folder / row["sheet_file"]).read_bytes()[:2] == b"\xff\xd8"
    # Each of the twelve cutouts is told about, whether it was used, held out or not needed.
    reasons = {row["cutout_id"]: row["reason"] for row in rows}
    assert len(reasons) == 12
    held_out = {name for name, reason in reasons.items() if reason == "held_out"}
    assert len(held_out) == 12 - originals
    assert set(reasons.values()) == {None, "held_out", "not_needed_for_ratio"}


def test_the_character_is_where_the_table_says(store: Store, footage: Footage) -> None:
    run = made(store, footage.inputs(), "0.2")
    row = next(r for r in tables.read(run.ref.path, tables.COMPOSITES) if r["status"] == "ok")
    frames = read_rgb(run.ref.folder / row["file"])
    x, y = (round(row[n] + row["scale"] * v) for n, v in (("x", 30), ("y", 40)))
    assert np.abs(frames[40, y, x].astype(int) - (200, 90, 40)).max() < 40
    # It was cut off at the bottom, and still is.
    assert np.abs(frames[40, HEIGHT - 1, x].astype(int) - (200, 90, 40)).max() < 60


def test_more_than_there_are_pairs_is_said_and_not_repeated(store: Store, footage: Footage) -> None:
    half = CompositeInputs(
        unit="all",
        clips=tuple(footage.clips[i] for i in (0, 3)),
        captions=tuple(footage.captions[i] for i in (0, 3)),
        cutouts=(footage.cutouts[0],),
        split=DatasetSettings(),
    )
    run = made(store, half, "0.9")
    notes = store.record(run.ref).notes
    assert (notes["wanted"], notes["made"]) == (36, 4)
    assert run.ref.counts.rows_in == 4


def test_a_broken_source_fails_alone(store: Store, footage: Footage, tmp_path: Path) -> None:
    rows = tables.read(footage.clips[0].path, tables.CLIPS)
    for row in rows:
        target = tmp_path / "clips" / row["file"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"broken")
    broken = table_ref(tmp_path / "clips", tables.CLIPS, rows)
    inputs = footage.inputs().model_copy(update={"clips": (broken, *footage.clips[1:])})
    run = made(store, inputs, "0.6")
    found = tables.read(run.ref.path, tables.COMPOSITES)
    failed = [row for row in found if row["status"] == "failed"]
    good = [row for row in found if row["status"] == "ok"]
    assert {row["reason"] for row in failed} == {"render_failed"}
    assert all("bbb-0" in row["composite_id"] for row in failed)
    assert good
    assert not any("bbb-0-" in row["composite_id"] for row in good)
    # Nothing half made is left behind.
    files = {p.name for p in (run.ref.folder / "videos").iterdir()}
    assert files == {Path(row["file"]).name for row in good}


def test_the_same_bytes_whatever_the_number_of_workers(footage: Footage, tmp_path: Path) -> None:
    one, two = (
        made(Store(tmp_path / str(n)), footage.inputs(), "0.3", workers=n).ref for n in (1, 3)
    )
    assert one.key == two.key
    assert one.sha256 == two.sha256


def test_the_datasets_own_ratio_is_no_part_of_the_key(footage: Footage) -> None:
    settings = CompositeSettings()
    one = STAGE.key(footage.inputs(ratio="0.05"), settings)
    assert one == STAGE.key(footage.inputs(), settings)
    assert one != STAGE.key(footage.inputs(seed=1), settings)
