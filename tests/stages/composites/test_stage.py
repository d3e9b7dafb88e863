from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from mimix_core import tables
from mimix_core.domain.splits import Split, assign_splits
from mimix_core.engine.stage import StageRun, run_stage
from mimix_core.engine.store import Store
from mimix_core.media import read_rgb, verify_clip
from mimix_core.media.masks import write_masks
from mimix_core.settings import CompositeSettings, DatasetSettings
from mimix_core.stages.composites import earlier_renders, stage
from mimix_core.stages.composites.composite_sources import CompositeInputs
from mimix_core.stages.composites.pairing import same_style_count
from mimix_core.stages.composites.stage import STAGE
from mimix_core.tables import Row
from tests.factories import caption, clip, table_ref, video

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
        score=[0.9] * 81,
        presence=1.0,
        border=["bottom"],
        file=f"masks/{name}.parquet",
    )


class SourceTables:
    """Two shows of three episodes with two clips each, and one cutout in each clip."""

    def __init__(self, folder: Path) -> None:
        alpha = np.zeros((81, HEIGHT, WIDTH), np.uint8)
        alpha[:, 12:, 20:40] = 255
        self.clips, self.captions, self.cutouts = [], [], []
        for style, show in EPISODES.items():
            name = {"cartoon": "Bunny", "realistic": "Clara"}[style]
            for episode in range(3):
                unit = folder / f"{show}{episode}"
                rows, captions, cut = [], [], []
                for number in range(2):
                    clip_id = f"{show}-{episode}-{number}"
                    frames = np.full((81, HEIGHT, WIDTH, 3), 60 + 20 * number, np.uint8)
                    frames[:, 12:, 20:40] = (200, 90, 40)
                    values = {"episode_id": f"{show}-e{episode}", "show": show, "style": style}
                    row = clip(clip_id, **values)
                    row["sha256"] = video(unit / "clips" / row["file"], frames)
                    rows.append(row)
                    text = f"[Character: {name}], stands. [scene-style:{style}]"
                    captions.append(caption(clip_id, text))
                    cut.append(cutout(clip_id, style, name))
                    (unit / "cutouts" / "masks").mkdir(parents=True, exist_ok=True)
                    write_masks(unit / "cutouts" / cut[-1]["file"], alpha)
                self.clips.append(table_ref(unit / "clips", tables.CLIPS, rows))
                self.captions.append(table_ref(unit / "captions", tables.CAPTIONS, captions))
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
def footage(tmp_path_factory: pytest.TempPathFactory) -> SourceTables:
    return SourceTables(tmp_path_factory.mktemp("footage"))


def read_rows(run: StageRun) -> list[Row]:
    return tables.read(run.ref.path, tables.COMPOSITES)


def ok_rows(run: StageRun) -> list[Row]:
    """The composites that were made, in the order of their plan."""
    return sorted(tables.usable(read_rows(run)), key=lambda row: int(row["rank"]))


def run_composites(store: Store, inputs: CompositeInputs, ratio: str, **more: Any) -> StageRun:
    settings = CompositeSettings.model_validate({"ratio": ratio, "preset": "ultrafast", **more})
    return run_stage(store, STAGE, inputs, settings)


def test_composites_are_rendered_from_the_training_split(
    store: Store, footage: SourceTables
) -> None:
    inputs = footage.inputs(val_share=0.3)
    run = run_composites(store, inputs, "0.3")
    rows = tables.read(run.ref.path, tables.COMPOSITES)
    good = [row for row in rows if row["status"] == "ok"]
    episodes = {show: {f"{show}-e{n}" for n in range(3)} for show in EPISODES.values()}
    split = inputs.split
    splits = assign_splits(
        episodes, seed=split.seed, val_share=split.val_share, test_share=split.test_share
    )
    originals = 2 * sum(split is Split.TRAIN for split in splits.values())
    notes = store.record(run.ref).notes
    assert notes["originals"] == originals
    assert notes["wanted"] == notes["made"] == len(good) == round(0.3 * originals / 0.7)
    for row in good:
        assert splits[row["source_episode_id"]] is Split.TRAIN
        assert splits[row["background_episode_id"]] is Split.TRAIN
        assert row["style"] != row["character_style"]
        verify_clip(run.ref.folder / row["file"], WIDTH, HEIGHT)
        assert (run.ref.folder / row["sheet_file"]).read_bytes()[:2] == b"\xff\xd8"
    # Each of the twelve cutouts has a row, whether used, held out or not needed.
    reasons = {row["cutout_id"]: row["reason"] for row in rows}
    assert len(reasons) == 12
    held_out = {name for name, reason in reasons.items() if reason == "held_out"}
    assert len(held_out) == 12 - originals
    assert set(reasons.values()) == {None, "held_out", "not_needed_for_ratio"}
    assert [row["rank"] for row in ok_rows(run)] == list(range(len(good)))
    assert {row["rank"] for row in rows if row["status"] != "ok"} == {-1}


def test_the_character_is_at_the_position_in_the_table(store: Store, footage: SourceTables) -> None:
    run = run_composites(store, footage.inputs(), "0.2")
    row = next(r for r in tables.read(run.ref.path, tables.COMPOSITES) if r["status"] == "ok")
    frames = read_rgb(run.ref.folder / row["file"])
    x, y = (round(row[n] + row["scale"] * v) for n, v in (("x", 30), ("y", 40)))
    assert np.abs(frames[40, y, x].astype(int) - (200, 90, 40)).max() < 40
    # It was cut off at the bottom, and still is.
    assert np.abs(frames[40, HEIGHT - 1, x].astype(int) - (200, 90, 40)).max() < 60


def test_too_few_pairs_are_reported_and_not_repeated(store: Store, footage: SourceTables) -> None:
    half = CompositeInputs(
        unit="all",
        clips=tuple(footage.clips[i] for i in (0, 3)),
        captions=tuple(footage.captions[i] for i in (0, 3)),
        cutouts=(footage.cutouts[0],),
        split=DatasetSettings(),
    )
    run = run_composites(store, half, "0.9", require_located_characters=False)
    notes = store.record(run.ref).notes
    assert (notes["wanted"], notes["tried"], notes["made"]) == (36, 4, 4)
    assert run.ref.counts.rows_in == 4


def test_a_broken_source_fails_alone(store: Store, footage: SourceTables, tmp_path: Path) -> None:
    rows = tables.read(footage.clips[0].path, tables.CLIPS)
    for row in rows:
        target = tmp_path / "clips" / row["file"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"broken")
    broken = table_ref(tmp_path / "clips", tables.CLIPS, rows)
    inputs = footage.inputs().model_copy(update={"clips": (broken, *footage.clips[1:])})
    run = run_composites(store, inputs, "0.43")
    found = tables.read(run.ref.path, tables.COMPOSITES)
    failed = [row for row in found if row["status"] == "failed"]
    good = [row for row in found if row["status"] == "ok"]
    assert {row["reason"] for row in failed} == {"render_failed"}
    assert all("bbb-0" in row["composite_id"] for row in failed)
    # Other pairs replace it, so the ratio is met.
    assert len(good) == store.record(run.ref).notes["wanted"]
    assert not any("bbb-0-" in row["composite_id"] for row in good)
    # No partial files remain.
    files = {p.name for p in (run.ref.folder / "videos").iterdir()}
    assert files == {Path(row["file"]).name for row in good}


def test_after_consecutive_failures_no_more_pairs_are_tried(
    store: Store, footage: SourceTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the disk with the masks is missing: trying millions of pairs would take days."""
    monkeypatch.setattr(stage, "_MAX_CONSECUTIVE_FAILURES", 4)
    gone = []
    for ref in footage.cutouts:
        folder = tmp_path / ref.path.parts[-3]
        gone.append(table_ref(folder, tables.CUTOUTS, tables.read(ref.path, tables.CUTOUTS)))
    inputs = footage.inputs(val_share=0).model_copy(update={"cutouts": tuple(gone)})
    run = run_composites(store, inputs, "0.2")
    rows = read_rows(run)
    assert {(row["status"], row["reason"]) for row in rows} == {("failed", "render_failed")}
    tried = [row for row in rows if row["background_clip_id"]]
    assert 4 <= len(tried) == store.record(run.ref).notes["tried"] < 8
    assert all("masks" in row["detail"] for row in tried)
    # The other cutouts have rows with a reason too.
    assert len({row["cutout_id"] for row in rows}) == len(rows) == 12
    assert all("not tried" in row["detail"] for row in rows if row not in tried)


def test_a_character_in_all_backgrounds_is_reported(
    store: Store, footage: SourceTables, tmp_path: Path
) -> None:
    """The reason is not that the ratio is met."""
    clips = [row["clip_id"] for row in tables.read(footage.clips[3].path, tables.CLIPS)]
    text = "[Character: Clara], waves. [Character: Bunny], runs. [scene-style:realistic]"
    captions = table_ref(
        tmp_path / "captions", tables.CAPTIONS, [caption(name, text) for name in clips]
    )
    inputs = CompositeInputs(
        unit="all",
        clips=(footage.clips[0], footage.clips[3]),
        captions=(footage.captions[0], captions),
        cutouts=(footage.cutouts[0], footage.cutouts[3]),
        split=DatasetSettings(val_share=0),
    )
    run = run_composites(store, inputs, "0.9", require_located_characters=False)
    assert {row["character"] for row in ok_rows(run)} == {"Clara"}
    others = [row for row in read_rows(run) if row["character"] == "Bunny"]
    assert {row["reason"] for row in others} == {"no_background"}
    assert all("name Bunny already" in row["detail"] for row in others)


@pytest.mark.parametrize(
    "values", [{"preset": "bogus"}, {"feather": 1e9}, {"min_height": 0.9, "max_height": 0.5}]
)
def test_invalid_settings_are_rejected(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CompositeSettings.model_validate(values)


def test_the_same_bytes_whatever_the_number_of_workers(
    footage: SourceTables, tmp_path: Path
) -> None:
    one, two = (
        run_composites(Store(tmp_path / str(n)), footage.inputs(), "0.3", workers=n).ref
        for n in (1, 3)
    )
    assert one.key == two.key
    assert one.sha256 == two.sha256


def test_the_datasets_ratio_is_not_part_of_the_key(footage: SourceTables) -> None:
    settings = CompositeSettings()
    one = STAGE.key(footage.inputs(ratio="0.05"), settings)
    assert one == STAGE.key(footage.inputs(), settings)
    assert one != STAGE.key(footage.inputs(seed=1), settings)


@pytest.mark.parametrize("share", ["0", "0.4"])
def test_same_style_controls_are_an_exact_share(
    store: Store, footage: SourceTables, share: str
) -> None:
    good = ok_rows(run_composites(store, footage.inputs(), "0.45", same_style_share=share))
    wanted = Fraction(share)
    for count in range(len(good) + 1):
        found = sum(row["style"] == row["character_style"] for row in good[:count])
        assert found == same_style_count(count, wanted)
    for row in good:
        # No character appears twice.
        names = {"cartoon": "Bunny", "realistic": "Clara"}
        assert row["style"] != row["character_style"] or names[row["style"]] != row["character"]


def test_a_smaller_ratio_is_a_prefix_of_a_larger_one(footage: SourceTables, tmp_path: Path) -> None:
    plans = [
        [
            row["composite_id"]
            for row in ok_rows(run_composites(Store(tmp_path / r), footage.inputs(), r))
        ]
        for r in ("0.1", "0.2", "0.4")
    ]
    for small, large in pairwise(plans):
        assert 0 < len(small) < len(large)
        assert large[: len(small)] == small


def test_captioned_characters_are_not_hidden(
    store: Store, footage: SourceTables, tmp_path: Path
) -> None:
    # In one episode somebody fills the frame, whose masks are not fit for pasting.
    ref = footage.cutouts[0]
    rows = tables.read(ref.path, tables.CUTOUTS)
    for row in list(rows):
        giant = {"cutout_id": f"{row['clip_id']}-frank", "character": "Frank", "file": ""}
        giant |= {"boxes": [[0, 0, WIDTH, HEIGHT]] * 81}
        values = {k: v for k, v in row.items() if k not in ("status", "reason", "detail")}
        rows.append(tables.rejected(tables.Reason.MASK_UNSTABLE, "trembles", **values | giant))
    (tmp_path / "cutouts").mkdir()
    (tmp_path / "cutouts" / "masks").symlink_to(ref.folder / "masks")
    table = table_ref(tmp_path / "cutouts", tables.CUTOUTS, rows)
    inputs = footage.inputs(val_share=0).model_copy(
        update={"cutouts": (table, *footage.cutouts[1:])}
    )
    # Of 64 x 48 pixels, the figure is at least some 10 x 17.
    run = run_composites(store, inputs, "0.45", max_occlusion=0.03)
    refused = [row for row in read_rows(run) if row["reason"] == "no_place"]
    assert refused
    assert all("hides" in row["detail"] for row in refused)
    assert {row["background_episode_id"] for row in refused} == {"bbb-e0"}
    for row in ok_rows(run):
        assert row["background_episode_id"] != "bbb-e0"
        assert row["covered"] <= 0.03
    assert len(ok_rows(run)) == store.record(run.ref).notes["wanted"]


def test_backgrounds_can_require_located_characters(store: Store, footage: SourceTables) -> None:
    nobody = footage.inputs().model_copy(update={"cutouts": tuple(footage.cutouts[:3])})
    assert ok_rows(run_composites(store, nobody, "0.2", require_located_characters=False))
    run = run_composites(store, nobody, "0.2")
    assert not ok_rows(run)
    assert {row["reason"] for row in read_rows(run)} == {"no_background", "held_out"}
    why = {row["detail"] for row in read_rows(run) if row["reason"] == "no_background"}
    assert all(detail.endswith("of which all named characters were located") for detail in why)


def test_a_character_that_acts_with_another_is_not_pasted_alone(
    store: Store, footage: SourceTables, tmp_path: Path
) -> None:
    clips = [row["clip_id"] for row in tables.read(footage.clips[0].path, tables.CLIPS)]
    text = "[Character: Bunny], looks at Frank. [Character: Frank], waves. [scene-style:cartoon]"
    captions = table_ref(
        tmp_path / "captions", tables.CAPTIONS, [caption(name, text) for name in clips]
    )
    inputs = footage.inputs(val_share=0).model_copy(
        update={"captions": (captions, *footage.captions[1:])}
    )
    run = run_composites(store, inputs, "0.2")
    found = {row["source_clip_id"]: row for row in read_rows(run) if row["source_clip_id"] in clips}
    assert {row["reason"] for row in found.values()} == {"acts_with_others"}
    assert all("Frank" in row["detail"] for row in found.values())
    run = run_composites(store, inputs, "0.4", solo_actions_only=False)
    assert any(row["source_clip_id"] in clips for row in ok_rows(run))


def test_a_figure_follows_a_panning_background(store: Store, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wall = np.repeat(np.repeat(rng.integers(0, 255, (24, 48, 3)), 8, 0), 8, 1).astype(np.uint8)
    panned = np.stack([wall[20:116, n : 160 + n] for n in range(81)])
    standing = np.stack([np.full((96, 160, 3), 90, np.uint8)] * 81)
    standing[:, 30:90, 60:90] = (200, 90, 40)
    alpha = np.zeros((81, 96, 160), np.uint8)
    alpha[:, 30:90, 60:90] = 255
    clips, captions = [], []
    for name, style, frames in (
        ("scene", "cartoon", panned),
        ("source", "realistic", standing),
    ):
        row = clip(name, style=style, show=name, episode_id=name, width=160, height=96)
        row["sha256"] = video(tmp_path / "clips" / row["file"], frames)
        clips.append(row)
        text = f"[Character: {name.title()}], stands. [scene-style:{style}]"
        captions.append(caption(name, text))
    cut = cutout("source", "realistic", "Source") | {"show": "source", "border": []}
    cut |= {"boxes": [[60, 30, 90, 90]] * 81}
    (tmp_path / "cutouts" / "masks").mkdir(parents=True)
    write_masks(tmp_path / "cutouts" / cut["file"], alpha)
    inputs = CompositeInputs(
        unit="all",
        clips=(table_ref(tmp_path / "clips", tables.CLIPS, clips),),
        captions=(table_ref(tmp_path / "captions", tables.CAPTIONS, captions),),
        cutouts=(table_ref(tmp_path / "cutouts", tables.CUTOUTS, [cut]),),
        split=DatasetSettings(val_share=0),
    )
    options = {"require_located_characters": False, "min_ground": 0}
    row = ok_rows(run_composites(store, inputs, "0.34", **options))[0]
    assert (row["source_camera"], row["background_camera"]) == ("static", "moving")
    assert len(row["path"]) == 81
    _, x0, _ = row["path"][0]
    _, x80, _ = row["path"][80]
    assert x80 - x0 == pytest.approx(-80, abs=2)


def test_a_guest_stands_where_a_character_of_the_scene_does_and_hides_nobody(
    store: Store, tmp_path: Path
) -> None:
    """A meadow beside the sea with somebody on the meadow, and a sea without anybody."""
    rng = np.random.default_rng(0)
    grass = rng.normal((70, 130, 50), 16, (96, 160, 3)).clip(0, 255).astype(np.uint8)
    sea = rng.normal((40, 90, 150), 3, (96, 160, 3)).clip(0, 255).astype(np.uint8)
    sea[:40] = (190, 210, 235)
    meadow = np.where(np.arange(160)[None, :, None] < 90, grass, sea)
    meadow[:40] = sea[:40]
    pictures = {"meadow": meadow, "ocean": sea, "source": np.full_like(sea, 90)}
    figures = {"meadow": (20, 35, 34, 80), "source": (60, 30, 80, 90)}
    clips, captions, cuts = [], [], []
    (tmp_path / "cutouts" / "masks").mkdir(parents=True)
    for name, picture in pictures.items():
        style = "realistic" if name == "source" else "cartoon"
        row = clip(name, style=style, show=name, episode_id=name, width=160, height=96)
        text = f"[Character: {name.title()}], stands. [scene-style:{style}]"
        captions.append(caption(name, text))
        clips.append(row)
        if name in figures:
            x0, y0, x1, y1 = figures[name]
            picture[y0:y1, x0:x1] = (200, 90, 40)
            cut = cutout(name, style, name.title()) | {"show": name, "border": []}
            cut |= {"boxes": [[x0, y0, x1, y1]] * 81}
            alpha = np.zeros((81, 96, 160), np.uint8)
            alpha[:, y0:y1, x0:x1] = 255
            write_masks(tmp_path / "cutouts" / cut["file"], alpha)
            cuts.append(cut)
        row["sha256"] = video(tmp_path / "clips" / row["file"], np.stack([picture] * 81))
    inputs = CompositeInputs(
        unit="all",
        clips=(table_ref(tmp_path / "clips", tables.CLIPS, clips),),
        captions=(table_ref(tmp_path / "captions", tables.CAPTIONS, captions),),
        cutouts=(table_ref(tmp_path / "cutouts", tables.CUTOUTS, cuts),),
        split=DatasetSettings(val_share=0),
    )
    run = run_composites(store, inputs, "0.5", require_located_characters=False, max_occlusion=0.05)
    pasted = {r["background_clip_id"]: r for r in read_rows(run) if r["character"] == "Source"}
    assert (pasted["ocean"]["status"], pasted["ocean"]["reason"]) == ("rejected", "no_ground")
    guest = pasted["meadow"]
    assert guest["status"] == "ok"
    assert guest["ground"] >= 0.5
    assert guest["covered"] <= 0.05
    left, right, feet = (
        guest[axis] + guest["scale"] * side for axis, side in (("x", 60), ("x", 80), ("y", 90))
    )
    assert (left + right) / 2 < 90
    assert feet == pytest.approx(80, abs=3)


def test_a_pair_that_an_earlier_result_rendered_is_copied(
    store: Store, footage: SourceTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A larger ratio is another result; the pairs of the smaller one come first in its plan."""
    earlier = {"earlier_results": store.root / STAGE.name}
    inputs = footage.inputs(val_share=0.3).model_copy(update=earlier)
    first = ok_rows(run_composites(store, inputs, "0.2"))
    rendered: list[str] = []
    render = earlier_renders.render_composite

    def count(*arguments: Any) -> None:
        rendered.append(arguments[4].stem)
        render(*arguments)

    monkeypatch.setattr(earlier_renders, "render_composite", count)
    run = run_composites(store, inputs, "0.4")
    second = ok_rows(run)
    before, after = (
        {row["composite_id"]: row["sha256"] for row in rows} for rows in (first, second)
    )
    assert before
    assert sorted(rendered) == sorted(set(after) - set(before))
    assert all(after[name] == digest for name, digest in before.items() if name in after)
    for row in second:
        verify_clip(run.ref.folder / row["file"], WIDTH, HEIGHT, frames=81)
        assert (run.ref.folder / row["sheet_file"]).stat().st_size > 100


def test_a_damaged_earlier_video_is_rendered_again(store: Store, footage: SourceTables) -> None:
    earlier = {"earlier_results": store.root / STAGE.name}
    inputs = footage.inputs(val_share=0.3).model_copy(update=earlier)
    first = run_composites(store, inputs, "0.2")
    for row in ok_rows(first):
        video_path = first.ref.folder / row["file"]
        video_path.write_bytes(video_path.read_bytes()[:-1] + b"?")
    digests = {row["composite_id"]: row["sha256"] for row in ok_rows(first)}
    again = run_composites(store, inputs, "0.2")
    assert again.computed
    assert {row["composite_id"]: row["sha256"] for row in ok_rows(again)} == digests


def test_a_rejected_mask_or_clip_is_in_no_composite_and_the_ratio_is_that_of_the_rest(
    store: Store, footage: SourceTables
) -> None:
    plain = ok_rows(run_composites(store, footage.inputs(val_share=0), "0.3"))
    mask, source = plain[0]["cutout_id"], plain[1]["source_clip_id"]
    inputs = footage.inputs(val_share=0).model_copy(update={"vetoes": (mask, source)})
    run = run_composites(store, inputs, "0.3")
    made = ok_rows(run)
    assert made
    for row in made:
        assert row["cutout_id"] != mask
        assert source not in (row["source_clip_id"], row["background_clip_id"])
    assert store.record(run.ref).notes["originals"] == 11, "one of twelve clips was rejected"
    by_cutout = {row["cutout_id"]: row for row in read_rows(run)}
    assert by_cutout[mask]["reason"] == "left_out_by_hand"
    assert len(by_cutout) == 12, "what is left out remains as a row"
