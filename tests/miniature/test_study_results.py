"""What is shown of the study: tables, page, picture, packed adapters, and the end of the demo."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mimix_core.wan import lora_export
from mimix_core.wan.adapter_metadata import AdapterMetadata
from mimix_core.wan.generation.provenance import write_video
from mimix_core.wan.lora_formats import Adapter
from miniature import checkpoints, demo, pack_adapter
from miniature.scenes import FRAMES, HEIGHT, WIDTH
from miniature.study import figures, page, picture
from miniature.study.prompts import study_prompts
from miniature.study.scoring import VideoRow
from miniature.unpack_weights import WEIGHTS

MAX_ADAPTER_BYTES = 2_000_000


@pytest.fixture(scope="module")
def rows() -> list[VideoRow]:
    return figures.read_csv(figures.RESULTS / "miniature_videos.csv")


def test_the_recorded_figures_are_those_of_the_recorded_videos(rows: list[VideoRow]) -> None:
    import json

    record = json.loads((figures.RESULTS / "miniature.json").read_text())["figures"]
    found = figures.recorded_figures(
        [figures.arm_figures(rows, arm) for arm in figures.arm_names(rows)]
    )
    assert {"all_kept_0", "all_kept_10", "all_kept_20", "gain_10_low"} <= found.keys()
    assert {name: record[name] for name in found} == found


def test_all_kept_is_what_its_parts_say(rows: list[VideoRow]) -> None:
    for row in rows:
        assert row["all_kept"] == (all(row["style_kept"]) and row["background_style_right"])
        assert all(p or not s for p, s in zip(row["present"], row["style_kept"], strict=True))
        assert row["all_kept"] or not row["all_right"]


def test_the_page_of_the_study_tells_the_shares_of_the_table(rows: list[VideoRow]) -> None:
    """docs/miniature.md and README.md say these numbers in words."""
    docs = (figures.ROOT / "docs" / "miniature.md").read_text()
    table = figures.markdown([figures.arm_figures(rows, arm) for arm in figures.arm_names(rows)])
    assert table.strip() in docs


def test_rows_are_read_as_written(rows: list[VideoRow], tmp_path: Path) -> None:
    figures.write_csv(rows[:40], tmp_path / "rows.csv")
    assert figures.read_csv(tmp_path / "rows.csv") == rows[:40]


def _with_videos(rows: list[VideoRow], folder: Path) -> list[VideoRow]:
    """Give every row of seed 0 one small video."""
    frames = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    frames[:, :, : WIDTH // 2] = 200
    write_video(folder / "one.mp4", frames)
    return [{**row, "file": str(folder / "one.mp4")} for row in rows if row["seed"] == 0]


def test_the_page_shows_every_arm_of_a_prompt_and_what_is_missed(
    rows: list[VideoRow], tmp_path: Path
) -> None:
    shown = _with_videos(rows, tmp_path)
    arms = figures.arm_names(shown)
    page.write_page(
        shown, [figures.arm_figures(shown, arm) for arm in arms], tmp_path / "page.html"
    )
    text = (tmp_path / "page.html").read_text()
    count = sum(page.PROMPTS_SHOWN.values())
    assert len(re.findall(r"<video ", text)) == count * len(arms)
    assert text.count("all kept</p>") + text.count("in the other style") >= count
    page.write_page(shown, (), tmp_path / "page.html")
    assert "two shows: all kept" not in (tmp_path / "page.html").read_text()


def test_the_picture_moves_and_has_a_column_for_each_arm() -> None:
    videos = [[np.full((FRAMES, HEIGHT, WIDTH, 3), 10 * n, np.uint8) for n in range(3)]] * 2
    for index in range(FRAMES):
        videos[0][1][index] += index
    pictures = picture.draw_picture(videos, ["a", "b", "c"], ["one", "two"])
    assert len(pictures) == FRAMES
    assert isinstance(pictures[0], Image.Image)
    assert pictures[0].width > 3 * 2 * WIDTH
    assert not np.array_equal(np.asarray(pictures[0]), np.asarray(pictures[-1]))


def test_packed_adapters_are_small_and_near_the_original(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    down = torch.randn(8, 96, generator=generator)
    up = torch.randn(64, 8, generator=generator) * torch.logspace(0, -3, 8)
    metadata = AdapterMetadata(
        base="miniature.miniature_wan",
        base_sha256="0" * 64,
        rank=8,
        alpha=8,
        targets=("to_q",),
        characters=("Pim",),
        styles=("cartoon",),
        dataset_sha256="0" * 64,
        settings={},
    )
    adapter = Adapter({"blocks.0.attn1.to_q": (down, up)}, alpha=8.0)
    lora_export.write_adapter(tmp_path / "full.safetensors", adapter, metadata)
    pack_adapter.pack_adapter(tmp_path / "full.safetensors", tmp_path, "small", rank=6)
    packed = pack_adapter.load_adapter(tmp_path, "small")
    assert packed.rank == packed.alpha == 6
    [(down_RI, up_OR)] = packed.pairs.values()
    error = (up_OR @ down_RI - up @ down).norm() / (up @ down).norm()
    assert error < 0.01
    for name in demo.ARMS.values():
        checkpoints.load(WEIGHTS, name)
        assert sum(p.stat().st_size for p in WEIGHTS.glob(f"{name}.*")) < MAX_ADAPTER_BYTES


def test_the_prompts_of_the_demo_are_prompts_of_the_study() -> None:
    assert set(demo.PROMPTS) <= {prompt.id for prompt in study_prompts()}


@pytest.mark.e2e
def test_the_demo_shows_the_difference_that_composites_make(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.main([str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    verdicts = [line.split(": ")[-1] for line in lines if " and " in line and ": " in line]
    without, with_composites = verdicts[-8:-4], verdicts[-4:]
    assert all("in the other style" in verdict or "no " in verdict for verdict in without)
    assert with_composites.count("all kept") >= 3
    demo.main([str(tmp_path)])
    assert "8 videos in" in capsys.readouterr().out
