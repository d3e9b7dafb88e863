"""Charts, captions, selections and images: the parts of the page one by one."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mimix_core.engine.artifacts import Counts, TableRef
from mimix_core.errors import BadInput
from mimix_core.html import svg_charts
from mimix_core.stages.report import labels, thumbnails, timelines
from mimix_core.stages.report.result_views import build_score_views, build_training_view
from mimix_core.stages.report.run_tables import TableEntry, open_tables, select_evenly
from mimix_core.stages.report.training_curves import TrainingCurves, load_training_curves
from mimix_core.tables import CLIPS, LORA, Reason, ScoreRow, ok, rejected
from tests import factories
from tests.stages.report.fake_videos import FRAMES, draw_discs, encode

REF = TableRef(
    stage="clips",
    unit="one",
    key="k",
    sha256="s",
    path=Path("table.parquet"),
    counts=Counts(rows_in=0, ok=0, rejected=0, failed=0),
)


@given(st.integers(1, 500), st.integers(2, 40))
def test_spaced_indices_include_first_and_last_without_duplicates(total: int, count: int) -> None:
    indices = thumbnails.spaced_indices(total, count)
    assert indices == sorted(set(indices))
    assert len(indices) == min(total, count)
    assert indices[0] == 0
    assert indices[-1] == total - 1


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), max_size=60),
    st.integers(0, 12),
)
def test_selection_preserves_the_order_and_covers_every_show(
    keys: list[tuple[str, str]], limit: int
) -> None:
    items = [
        TableEntry({"n": n, "show": show, "episode": episode}, REF)
        for n, (show, episode) in enumerate(keys)
    ]
    selected = select_evenly(items, limit, lambda row: row["show"], lambda row: row["episode"])
    assert len(selected) == min(limit, len(items))
    numbers = [item.row["n"] for item in selected]
    assert numbers == sorted(set(numbers))
    shows = {item.row["show"] for item in items}
    if limit >= len(shows):
        assert {item.row["show"] for item in selected} == shows


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["ok", "rejected"])), max_size=40),
    st.integers(0, 12),
    st.integers(5, 40),
)
def test_rows_selected_on_disk_are_those_selected_in_memory(
    keys: list[tuple[str, str]], limit: int, size: int
) -> None:
    rows = [
        factories.clip(f"c{n:03d}", show=show, episode_id=f"e{n % 3}")
        | ({} if status == "ok" else rejected(Reason.CLIP_BLURRED, "blurred"))
        for n, (show, status) in enumerate(keys)
    ]
    with tempfile.TemporaryDirectory() as folder:
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        refs = [
            factories.table_ref(Path(folder) / str(number), CLIPS, part)
            for number, part in enumerate(parts)
        ]
        table = open_tables(refs[::-1], CLIPS)
        entries = list(table.read())
        names = [entry.row["clip_id"] for entry in entries]
        assert names == [row["clip_id"] for row in rows]
        for ok in (True, False):
            some = [entry for entry in entries if entry.ok == ok]
            assert len(some) == (table.ok if ok else table.not_ok)
            assert table.select(limit, "show", "episode_id", ok=ok) == select_evenly(
                some, limit, lambda row: row["show"], lambda row: row["episode_id"]
            )
        assert table.distinct("show") == {show for show, _ in keys}
        assert table.find("clip_id", names[1::2]) == entries[1::2]


@given(st.text(alphabet="[]:Character scene-style\nTom<>&", max_size=80))
def test_splitting_a_caption_loses_no_text(text: str) -> None:
    prefix = {"character": "[Character:", "style": "[scene-style:"}
    joined = "".join(
        span.text if span.kind == "text" else f"{prefix[span.kind]}{span.text}]"
        for span in labels.split_caption(text, {})
    )
    assert re.sub(r"\s", "", joined) == re.sub(r"\s", "", text)


def test_a_caption_is_split_at_its_tags() -> None:
    spans = labels.split_caption(
        "[Character: Tom], runs. [scene-style:cartoon]", {"Jerry": 0, "Tom": 1}
    )
    assert spans == (
        labels.CaptionSpan("character", "Tom", 1),
        labels.CaptionSpan("text", ", runs. "),
        labels.CaptionSpan("style", "cartoon"),
    )


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 10))
def test_ticks_enclose_the_values_and_are_few(low: float, span: float, count: int) -> None:
    ticks = svg_charts.axis_ticks(low, low + span, count)
    assert ticks[0] <= low + 1e-6 * abs(low)
    assert ticks[-1] >= low + span - 1e-6 * (abs(low) + span)
    assert 2 <= len(ticks) <= count + 2


def test_widths_of_a_stacked_bar_are_shares() -> None:
    bar = svg_charts.draw_stacked_bar([("ok", 3), ("rejected", 0), ("failed", 1)], "three of four")
    assert re.findall(r'class="(\w+)" x="([\d.]+)" y="0" width="([\d.]+)"', bar) == [
        ("ok", "0", "75"),
        ("failed", "75", "25"),
    ]


def test_labels_of_charts_are_escaped() -> None:
    strip = svg_charts.draw_strip([[svg_charts.StripSegment(0, 1, "taken", "<b>")]], 1, '"&')
    assert "<title>&lt;b&gt;</title>" in strip
    assert 'aria-label="&#34;&amp;"' in strip


def test_a_non_finite_loss_is_omitted_from_the_chart() -> None:
    series = svg_charts.LineSeries("train", "line", [(1, 1.0), (2, float("nan")), (3, 0.5)])
    chart = svg_charts.draw_line_chart([series], "step", "loss", "label")
    assert "nan" not in chart
    assert chart.count("<circle") == 2


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_label(reason: Reason) -> None:
    assert reason in labels.REASONS


def test_the_requested_frames_are_read(tmp_path: Path) -> None:
    shades = [np.full((64, 96, 3), 3 * k, np.uint8) for k in range(FRAMES)]
    encode(tmp_path / "shades.mp4", shades)
    found = thumbnails.read_thumbnail_frames(tmp_path / "shades.mp4", [0, 40, 80], 48)
    assert [frame.size for frame in found] == [(48, 32)] * 3
    means = [float(np.asarray(frame).mean()) for frame in found]
    assert means == pytest.approx([0, 120, 240], abs=4)


def test_a_video_with_too_few_frames_is_an_error(tmp_path: Path) -> None:
    encode(tmp_path / "short.mp4", draw_discs("meadow", 0)[:5])
    with pytest.raises(BadInput, match="has no frame 80"):
        thumbnails.read_thumbnail_frames(tmp_path / "short.mp4", [0, 80], 48)


def test_an_isolated_character_is_transparent_outside_its_mask() -> None:
    image = Image.new("RGB", (40, 40), (10, 200, 30))
    mask = Image.new("L", (40, 40))
    mask.paste(255, (10, 10, 20, 30))
    isolated = np.asarray(thumbnails.apply_alpha(image, mask))
    assert (isolated[10:30, 10:20, 3] == 255).all()
    assert isolated[..., 3].sum() == 255 * 200
    assert thumbnails.bounding_box([mask], margin=2) == (8, 8, 22, 32)


def test_the_outline_follows_the_masks_edge() -> None:
    image = Image.new("RGB", (60, 60), (200, 200, 200))
    mask = Image.new("L", (60, 60))
    mask.paste(255, (20, 20, 40, 40))
    marked = np.asarray(thumbnails.draw_outline(image, mask)).astype(int)
    assert tuple(marked[19, 30]) == thumbnails.OUTLINE_COLOR
    assert tuple(marked[30, 30]) == (200, 200, 200)
    assert marked[5, 5].max() < 140


def test_shots_are_colored_by_their_outcome() -> None:
    def scene(at: int, status: str = "ok", reason: str | None = None) -> TableEntry:
        return TableEntry(
            {
                "scene_id": f"s{at}",
                "episode_id": "e",
                "show": "meadow",
                "style": "cartoon",
                "origin_pts": 10,
                "start_pts": 10 + at,
                "end_pts": 20 + at,
                "time_base_num": 1,
                "time_base_den": 1,
                "status": status,
                "reason": reason,
            },
            REF,
        )

    def clip(at: int, status: str, reason: str | None = None) -> TableEntry:
        times = {"origin_pts": 10, "time_base_num": 1, "time_base_den": 1}
        row = {"scene_id": f"s{at}", "source_pts": [10 + at, 15 + at], **times}
        return TableEntry({**row, "status": status, "reason": reason}, REF)

    scenes = [
        scene(0),
        scene(10, "rejected", "scene_black"),
        scene(20),
        scene(30, "failed", "detector_failed"),
    ]
    clips = [clip(0, "ok"), clip(20, "rejected", "scene_too_short")]
    (episode,) = timelines.build_episode_views(scenes, clips, {"meadow": "The Meadow"})
    assert episode.clips == 1
    assert {(o.css_class, o.count) for o in episode.outcomes} == {
        ("taken", 1),
        ("black", 1),
        ("short", 1),
        ("failed", 1),
    }
    found = re.findall(r'class="(?:shot )?(\w+)" x="([\d.]+)"', str(episode.strip))
    assert found == [
        ("taken", "0"),
        ("black", "250"),
        ("short", "500"),
        ("failed", "750"),
        ("clip", "0"),
    ]


def test_the_training_log_is_parsed_by_kind_and_noise_level(tmp_path: Path) -> None:
    lines = [
        '{"step": 0, "quantile": 0, "val_loss": 0.2}',
        '{"step": 0, "quantile": 1, "val_loss": 0.3}',
        '{"step": 1, "train_loss": 0.7, "grad_norm": 2.0, "lr": 0.0001}',
        '{"step": 2, "train_loss": 0.5, "grad_norm": 2.0, "lr": 0.0001}',
        '{"step": 2, "quantile": 0, "val_loss": 0.1}',
        '{"step": 0, "held_out_loss": 0.2, "style": {"cartoon": {"loss": 0.2, "samples": 3}},'
        ' "character": {"Al": {"loss": 0.3, "samples": 1}, "Bo": {"loss": 0.1, "samples": 2}}}',
        '{"step": 2, "held_out_loss": 0.1, "style": {"cartoon": {"loss": 0.1, "samples": 3}},'
        ' "character": {}}',
        '{"step": 2, "preview": "previews/a.mp4", "prompt": "p", "seed": 7, "frames": 5,'
        ' "width": 32, "height": 16}',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    curves = load_training_curves(tmp_path)
    assert curves.train == ((1, 0.7), (2, 0.5))
    assert curves.validation == (((0, 0.2), (2, 0.1)), ((0, 0.3),))
    assert curves.steps == 2
    assert curves.gradient == ((1, 2.0), (2, 2.0))
    assert [(g.kind, g.name, g.samples, g.points) for g in curves.groups] == [
        ("style", "cartoon", 3, ((0, 0.2), (2, 0.1))),
        ("character", "Bo", 2, ((0, 0.1),)),
        ("character", "Al", 1, ((0, 0.3),)),
    ]
    [preview] = curves.previews
    assert (preview.step, preview.prompt, preview.path) == (2, "p", tmp_path / "previews/a.mp4")


def test_the_log_of_an_added_character_has_what_old_ones_lose(tmp_path: Path) -> None:
    records = [
        {
            "step": step,
            "held_out_loss": 0.2,
            "style": {},
            "character": {"Eve": {"loss": 0.1, "samples": 4}},
            "old_character": {"Tom": {"loss": loss, "samples": 3}},
        }
        for step, loss in ((0, 0.2), (5, 0.25), (9, 0.21))
    ]
    saved = {"step": 5, "epoch": 1, "adapter": "epochs/a.safetensors", "epoch_loss": 0.3}
    trained = {"step": 9, "train_loss": 0.5, "grad_norm": 2.0, "lr": 0.0001}
    text = "\n".join(json.dumps(record) for record in [*records, saved, trained])
    (tmp_path / "log.jsonl").write_text(text)
    curves = load_training_curves(tmp_path)
    assert curves.train == ((9, 0.5),), "a saved adapter is no step"
    assert [group.name for group in curves.groups] == ["Eve"]
    view = build_training_view(open_tables((), LORA), curves)
    assert [asdict(line) for line in view.forgetting] == [
        {"name": "Tom", "samples": 3, "first": "0.2", "last": "0.21", "change": "+5.0 %"}
    ]
    plain = TrainingCurves(curves.train, ())
    assert build_training_view(open_tables((), LORA), plain).forgetting == ()


@pytest.mark.parametrize("text", ["{", '{"step": 1}', "[]"])
def test_a_broken_training_log_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(BadInput, match=r"log\.jsonl"):
        load_training_curves(tmp_path)


def test_a_missing_training_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"log\.jsonl"):
        load_training_curves(tmp_path)


def test_the_scores_say_what_rates_noise_above_footage() -> None:
    def rows(metric: str, sample: float, clip: float) -> list[TableEntry[ScoreRow]]:
        values = {"score_id": "", "video_id": "", "metric": metric}
        return [
            TableEntry(cast("ScoreRow", ok(**values, kind=kind, value=value)), REF)
            for kind, value in (("sample", sample), ("clip", clip))
        ]

    dynamic, lower, higher = (
        build_score_views(rows(metric, sample, clip))[0]
        for metric, sample, clip in (
            ("dynamic_degree/dis-flow", 0.2, 0.4),
            ("imaging_quality/brisque", 10.0, 30.0),
            ("imaging_quality/brisque", 90.0, 30.0),
        )
    )
    assert (dynamic.rates_noise_higher, dynamic.rates_generated_higher) == (True, False)
    # Lower is better: only a lower value than that of real footage is suspicious.
    assert (lower.rates_noise_higher, lower.rates_generated_higher) == (False, True)
    assert (higher.rates_noise_higher, higher.rates_generated_higher) == (False, False)
