"""What is shown of the study: tables, page, picture, packed adapters, and the end of the demo."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mimix_core.errors import BadInput
from mimix_core.wan import lora_export
from mimix_core.wan.adapter_metadata import AdapterMetadata
from mimix_core.wan.generation.provenance import write_video
from mimix_core.wan.lora_formats import Adapter
from miniature import checkpoints, demo, pack_adapter
from miniature.scenes import FRAMES, HEIGHT, WIDTH
from miniature.study import figures, page, paper_comparison, picture
from miniature.study.arms import ARMS
from miniature.study.prompts import fewer_prompts, study_prompts
from miniature.study.scoring import VideoRow
from miniature.unpack_weights import WEIGHTS

MAX_ADAPTER_BYTES = 2_000_000


@pytest.fixture(scope="module")
def rows() -> list[VideoRow]:
    return figures.read_csv(figures.RESULTS / "miniature_videos.csv")


@pytest.fixture(scope="module")
def found(rows: list[VideoRow]) -> list[figures.ArmFigures]:
    return figures.all_figures(rows)


def test_the_recorded_figures_are_those_of_the_recorded_videos(
    found: list[figures.ArmFigures],
) -> None:
    record = json.loads((figures.RESULTS / "miniature.json").read_text())["figures"]
    named = figures.recorded_figures(found)
    assert {"all_kept_0", "all_kept_10", "all_kept_20", "gain_10_low"} <= named.keys()
    assert {name: record[name] for name in named} == named


def test_all_kept_is_what_its_parts_say(rows: list[VideoRow]) -> None:
    for row in rows:
        assert row["all_kept"] == (all(row["style_kept"]) and row["background_style_right"])
        assert all(p or not s for p, s in zip(row["present"], row["style_kept"], strict=True))
        assert row["all_kept"] or not row["all_right"]


def test_the_page_of_the_study_tells_the_shares_of_the_table(
    rows: list[VideoRow], found: list[figures.ArmFigures]
) -> None:
    """docs/miniature.md and README.md say these numbers in words."""
    docs = (figures.ROOT / "docs" / "miniature.md").read_text()
    assert figures.markdown(found).strip() in docs
    compared = paper_comparison.comparison_markdown(paper_comparison.compare_tables(rows))
    assert compared.strip() in docs


def test_rows_are_read_as_written(rows: list[VideoRow], tmp_path: Path) -> None:
    figures.write_csv(rows[:40], tmp_path / "rows.csv")
    assert figures.read_csv(tmp_path / "rows.csv") == rows[:40]


@pytest.fixture
def ratio_rows(rows: list[VideoRow]) -> list[VideoRow]:
    """Verdicts of the arms with several shares of composites only, with two seeds each."""
    return [r for r in rows if r["arm"].startswith("composites-") and r["seed"] in (0, 1)]


def _as_arm(rows: list[VideoRow], arm: str, seeds: tuple[int, ...]) -> list[VideoRow]:
    """Return the videos of 10 % as those of another arm that kept everything."""
    ten = [row for row in rows if row["arm"] == "composites-10" and row["seed"] in seeds]
    return [{**row, "arm": arm, "all_kept": True} for row in ten]


def test_arms_with_fewer_seeds_or_prompts_are_compared_on_what_they_share(
    ratio_rows: list[VideoRow],
) -> None:
    rows = ratio_rows
    fewer = {prompt.id for prompt in fewer_prompts(study_prompts(), 4)}
    checkpoint = [r for r in _as_arm(rows, "checkpoint-5", (0, 1)) if r["prompt_id"] in fewer]
    more = [*rows, *_as_arm(rows, "joint-renders", (1,)), *checkpoint]
    found = {one.arm: one for one in figures.all_figures(more)}

    def kept(prompts: set[str], seeds: tuple[int, ...]) -> float:
        values = [
            row["all_kept"]
            for row in rows
            if (row["arm"], row["kind"]) == ("composites-10", "cross-style")
            and row["prompt_id"] in prompts
            and row["seed"] in seeds
        ]
        return float(np.mean(values))

    everything = {row["prompt_id"] for row in rows}
    for arm, seeds, prompts in (
        ("joint-renders", (1,), everything),
        ("checkpoint-5", (0, 1), fewer),
    ):
        assert found[arm].seeds == len(seeds)
        difference = found[arm].over_reference
        assert difference is not None
        assert difference.mean == pytest.approx(1 - kept(prompts, seeds))
        assert difference.low <= difference.mean <= difference.high
    last = found[figures.LAST_CHECKPOINT]
    assert last.videos == 96
    assert last.all_kept is not None
    assert last.all_kept.mean == pytest.approx(kept(fewer, (0, 1)))
    text = figures.markdown(list(found.values()))
    assert "joint-renders (1)" in text
    assert re.search(r"Not run: no-tags, .*own-segmenter, .*checkpoint-1, ", text)
    with pytest.raises(ValueError, match="videos of 128 prompts and 2 seeds"):
        figures.all_figures(more[1:])


def test_a_table_of_the_paper_says_what_was_not_run(ratio_rows: list[VideoRow]) -> None:
    rows = ratio_rows
    tags, ratios = paper_comparison.compare_tables(rows)
    assert [row.paper[-1] for row in tags.rows] == [4.28, 4.47, 4.47, 5.30]
    assert [row.paper[-1] for row in ratios.rows] == [4.83, 4.78, 3.90]
    assert [row.ours[0] is None for row in tags.rows] == [True, True, True, False]
    ten = [r for r in rows if (r["arm"], r["kind"]) == ("composites-10", "cross-style")]
    present = np.mean([flag for row in ten for flag in row["present"]])
    acting = [all(r["action_right"]) for r in ten if r["prompt_id"][-1] in "23"]
    identity, *_, interaction = ratios.rows[1].ours
    assert identity is not None
    assert interaction is not None
    assert identity.mean == pytest.approx(present)
    assert interaction.mean == pytest.approx(np.mean(acting))


def test_a_video_that_comes_twice_is_an_error(rows: list[VideoRow], tmp_path: Path) -> None:
    for name, some in (("one", rows[:20]), ("two", rows[20:30]), ("again", rows[29:40])):
        (tmp_path / f"{name}.json").write_text(json.dumps(some))
    assert figures.read_rows([tmp_path / "one.json", tmp_path / "two.json"]) == rows[:30]
    with pytest.raises(BadInput, match="2 videos of"):
        figures.read_rows([tmp_path / "two.json", tmp_path / "again.json"])


def _with_videos(rows: list[VideoRow], folder: Path) -> list[VideoRow]:
    """Give every row of seed 0 one small video."""
    frames = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    frames[:, :, : WIDTH // 2] = 200
    write_video(folder / "one.mp4", frames)
    return [{**row, "file": str(folder / "one.mp4")} for row in rows if row["seed"] == 0]


def test_the_page_shows_every_arm_of_a_prompt_and_what_is_missed(
    rows: list[VideoRow], found: list[figures.ArmFigures], tmp_path: Path
) -> None:
    shown = _with_videos(rows, tmp_path)
    arms = figures.arm_names(shown)
    page.write_page(shown, found, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    count = sum(page.PROMPTS_SHOWN.values())
    videos = Counter(row["arm"] for row in shown)
    complete = [arm for arm in arms if videos[arm] == len(study_prompts())]
    assert set(arms) - set(complete) == {a.name for a in ARMS if a.epochs is not None}
    # Checkpoints are evaluated on fewer prompts.
    assert count * len(complete) < len(re.findall(r"<video ", text)) < count * len(arms)
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
