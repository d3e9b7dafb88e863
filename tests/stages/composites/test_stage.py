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
from mimix_core.engine.store import Store
from mimix_core.media import read_rgb, verify_clip
from mimix_core.settings import CompositeSettings, DatasetSettings
from mimix_core.stages.composites import earlier_renders, stage
from mimix_core.stages.composites.composite_sources import CompositeInputs
from mimix_core.stages.composites.pairing import same_style_count
from mimix_core.stages.composites.stage import STAGE
from tests.factories import caption, table_ref
from tests.stages.composites.composites_runner import (
    EPISODES,
    HEIGHT,
    WIDTH,
    SourceTables,
    ok_rows,
    read_rows,
    run_composites,
)


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
