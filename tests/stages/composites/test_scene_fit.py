"""Where a guest stands in a scene: nobody hidden, on the ground, with the camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mimix_core import tables
from mimix_core.engine.store import Store
from mimix_core.media.masks import write_masks
from mimix_core.settings import DatasetSettings
from mimix_core.stages.composites.composite_sources import CompositeInputs
from tests.factories import caption, clip, table_ref, video
from tests.stages.composites.composites_runner import (
    HEIGHT,
    WIDTH,
    SourceTables,
    cutout,
    ok_rows,
    read_rows,
    run_composites,
)


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
