"""The report stage on a made-up run: the page agrees with the tables, and is safe."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.settings import ReportSettings
from mimix_core.stages.report.report_page import build_template_values, render_report
from mimix_core.stages.report.stage import STAGE, ReportInputs
from tests.stages.report.augmentation_tables import add_augmentation
from tests.stages.report.curation_tables import add_curation
from tests.stages.report.fake_run import FakeRun
from tests.stages.report.training_tables import add_empty_tables, add_training, build_complete_run

SETTINGS = ReportSettings(preview_width=96, preview_frames=4)
HOSTILE = '[Character: Rinky], types <script>alert("x")</script> & "quotes". [scene-style:cartoon]'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    return build_complete_run(tmp_path_factory.mktemp("run"), hostile=HOSTILE)


@pytest.fixture(scope="module")
def folder(run: FakeRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the stage's result."""
    store = Store(tmp_path_factory.mktemp("store"))
    done = run_stage(store, STAGE, run.inputs(), SETTINGS)
    assert done.ref.counts.ok == done.ref.counts.rows_in == 1
    return done.ref.folder


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "index.html").read_text(encoding="utf-8")


def test_each_of_two_experts_has_its_own_curves(run: FakeRun, tmp_path: Path) -> None:
    [ref] = run.refs("lora")
    two = run.inputs().model_copy(
        update={
            "lora": ref.model_copy(update={"unit": "high-noise"}),
            "other_lora": (ref.model_copy(update={"unit": "low-noise"}),),
        }
    )
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = render_report(build_template_values(run.inputs(), SETTINGS, tmp_path / "one"))
    page = render_report(build_template_values(two, SETTINGS, tmp_path / "two"))
    assert "noise expert" not in one
    assert "The high-noise expert" in page
    assert "The low-noise expert" in page
    label = "Loss over"
    assert page.count(label) == 2 * one.count(label) > 0
    assert STAGE.key(two, SETTINGS) != STAGE.key(run.inputs(), SETTINGS)


class Elements(HTMLParser):
    """All start tags with their attributes, and the text between them."""

    VOID = frozenset({"meta", "link", "img", "source", "input", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.tags if name in attributes]


def text_of(page: str, start: str, end: str) -> str:
    """The text between two markers, tags left out and blanks joined."""
    part = page[page.index(start) :]
    part = part[: part.index(end)]
    return " ".join(re.sub(r"<[^>]*>", " ", part).replace("&nbsp;", " ").split())


def test_every_stages_counts_are_those_of_its_tables(run: FakeRun, page: str) -> None:
    for stage in {stage for stage, *_ in run.units}:
        rows = run.rows(stage)
        counts = Counter(row["status"] for row in rows)
        shown = text_of(page, f'<li id="flow-{stage}">', "</li>\n")
        assert re.search(
            rf"\b{len(rows)} [^=]*= {counts['ok']} ok \+ {counts['rejected']} rejected "
            rf"\+ {counts['failed']} failed ✓",
            shown,
        ), shown


def test_the_total_is_the_sum_over_all_stages(run: FakeRun, page: str) -> None:
    rows = [row for _, _, _, rows, _ in run.units for row in rows]
    assert f"{len(rows)} in =" in text_of(page, "All stages:", "</p>")
    assert "no row was lost" in text_of(page, "All stages:", "</p>")


def test_every_reason_is_listed_with_its_count(run: FakeRun, page: str) -> None:
    for stage in {stage for stage, *_ in run.units}:
        reasons = Counter(row["reason"] for row in run.rows(stage) if row["reason"])
        shown = text_of(page, f'<li id="flow-{stage}">', "</section>")
        for reason, count in reasons.items():
            assert re.search(rf"\b{count} [\w ]+ {reason}\b", shown), (stage, reason)


def test_a_stage_that_lost_rows_is_shown_as_such(run: FakeRun, tmp_path: Path) -> None:
    inputs = run.inputs()
    first = inputs.records[0]
    counts = first.counts.model_copy(update={"rows_in": first.counts.rows_in + 1})
    records = (first.model_copy(update={"counts": counts}), *inputs.records[1:])
    changed = inputs.model_copy(update={"records": records})
    page = render_report(build_template_values(changed, SETTINGS, tmp_path))
    assert "does not add up" in page
    assert "no row was lost" not in page


def test_crops_and_credits_of_an_episode_are_shown(run: FakeRun, page: str) -> None:
    shown = text_of(page, '<section id="overlays">', "</section>")
    rows = [row for row in run.rows("overlays") if row["boxes"]]
    # Two of three frames of each scene of the one subtitled episode.
    assert f"Text in {2 * len(rows)} of {3 * len(rows)} sampled frames" in shown
    assert "crop of 208 × 99 from 208 × 120 pixels" in shown
    uncropped = [u for s, u, *_ in run.units if s == "overlays" and u != "meadow-one"]
    assert all(f"{unit} ({3 * len(rows)} frames sampled)" in shown for unit in uncropped)
    credits = [row for row in run.rows("overlays") if row["reason"] == "scene_credits"]
    assert shown.count("1 shot excluded as credits.") == len(credits) == 3
    assert shown.count(credits[0]["detail"]) == 3


def test_each_outcome_of_a_shot_has_a_color(run: FakeRun, page: str) -> None:
    strips = re.findall(r'<svg class="strip".*?</svg>', page)
    assert len(strips) == 3
    for strip in strips:
        for kind in ("taken", "short", "black", "frozen", "transition", "duplicate", "credits"):
            assert f'class="shot {kind}"' in strip, kind
        # A clip that was decoded and rejected has a segment.
        assert strip.count('class="refused duplicate"') == 1
        assert "duplicate of another clip</title>" in strip


def test_captions_are_escaped(page: str) -> None:
    elements = Elements(page)
    assert '<script>alert("x")</script>' in elements.text
    scripts = [attributes for tag, attributes in elements.tags if tag == "script"]
    assert len(scripts) == 1
    assert page.count("<script>") == page.count("</script>") == 1


def test_the_content_security_policy_allows_the_pages_script(page: str) -> None:
    import hashlib

    script = page[page.index("<script>") + len("<script>") : page.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page


def test_all_elements_are_closed_in_order(page: str) -> None:
    elements = Elements(page)
    assert elements.open == []
    ids = elements.values("id")
    assert len(ids) == len(set(ids))


def test_links_point_to_files_next_to_the_page_or_to_its_sections(folder: Path, page: str) -> None:
    elements = Elements(page)
    ids = set(elements.values("id"))
    links = elements.values("href")
    videos = [link for link in links if link.startswith("videos/")]
    assert len([name for name in videos if "/clip-" not in name]) == 4
    assert len([name for name in videos if "/clip-" in name]) == 6
    for link in links:
        if link.startswith("#"):
            assert link[1:] in ids
        elif not link.startswith("data:"):
            assert (folder / link).is_file(), link
    assert {f"videos/{path.name}" for path in (folder / "videos").iterdir()} == set(videos)


def test_the_page_loads_nothing_from_the_network(page: str) -> None:
    elements = Elements(page)
    for name in ("src", "srcset"):
        assert all(value.startswith("data:image/webp;base64,") for value in elements.values(name))
    assert "url(" not in page
    assert "@import" not in page
    assert not re.search(r"https?://", page)


def test_every_image_has_an_alternative_text(page: str) -> None:
    elements = Elements(page)
    pictures = [attributes for tag, attributes in elements.tags if tag == "img"]
    assert pictures
    assert all(attributes["alt"].strip() for attributes in pictures)
    charts = [attributes for tag, attributes in elements.tags if tag == "svg"]
    assert charts
    assert all(attributes["aria-label"].strip() for attributes in charts)


def test_previews_are_animated_and_have_a_still(page: str) -> None:
    pairs = re.findall(
        r'srcset="data:image/webp;base64,([^"]+)">\s*<img src="data:[^,]+,([^"]+)"', page
    )
    assert pairs
    for calm, moving in pairs:
        assert Image.open(io.BytesIO(base64.b64decode(calm))).n_frames == 1
        assert Image.open(io.BytesIO(base64.b64decode(moving))).n_frames > 1


def test_the_same_inputs_give_the_same_bytes(run: FakeRun, folder: Path, tmp_path: Path) -> None:
    again = SETTINGS.model_copy(update={"workers": 1})
    assert STAGE.key(run.inputs(), again) == STAGE.key(run.inputs(), SETTINGS)
    STAGE.run(run.inputs(), again, tmp_path)
    files = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert files
    for file in files:
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes(), file


def test_the_page_contains_no_absolute_path(run: FakeRun, page: str) -> None:
    assert str(run.root) not in page


def test_a_stand_in_is_called_one_and_a_real_backbone_is_not(
    page: str, tmp_path: Path, run: FakeRun
) -> None:
    assert "tiny-random-wan: random weights, the videos are noise by design." in page
    other = FakeRun(tmp_path / "run")
    add_curation(other)
    add_augmentation(other)
    add_training(other, backbone="wan2.1-t2v-14b")
    real = render_report(build_template_values(other.inputs(), SETTINGS, tmp_path))
    assert "noise by design" not in real
    assert "stand-in" not in real


def test_training_is_shown_by_style_and_character_with_previews(page: str) -> None:
    shown = text_of(page, '<section id="training">', "</section>")
    # 30 steps, evaluated every 5: the loss falls by 30 / 200.
    assert "cartoon (style, 9 held out) 0.7 0.595" in shown
    assert "realistic (style, 4 held out) 0.95 0.8075" in shown
    # 2 styles and the 7 most frequent of 12 characters.
    assert "Hero 11 (character, 12 held out) 1 0.85" in shown
    assert "Hero 5 (character" in shown
    assert "Hero 4 (character" not in shown
    assert "9 of 14 styles and characters are shown." in shown
    assert "Gradient norm" in shown
    assert "Rinky ] , digs. A garden." in shown
    assert re.findall(r"after (\d+) steps", shown) == ["0", "10", "20", "30"]


def test_limits_are_applied_and_stated_on_the_page(run: FakeRun, tmp_path: Path) -> None:
    few = SETTINGS.model_copy(
        update={"max_clips_shown": 2, "max_samples_shown": 1, "max_video_bytes": 10}
    )
    values = build_template_values(run.inputs(), few, tmp_path)
    assert {clip.show for clip in values["clips"]} == {"meadow", "portraits"}
    page = render_report(values)
    clips = sum(row["status"] == "ok" for row in run.rows("clips"))
    assert f"2 of {clips} clips are shown." in page
    assert not (tmp_path / "videos").exists()
    assert "is in the store" in page


def test_an_empty_run_yields_a_page(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "run")
    add_empty_tables(run)
    inputs = run.inputs()
    page = render_report(build_template_values(inputs, SETTINGS, tmp_path))
    assert Elements(page).open == []
    for text in ("No clips.", "No composites.", "No loss was logged."):
        assert text in page


def test_a_table_of_another_stage_is_an_error(run: FakeRun, tmp_path: Path) -> None:
    inputs: ReportInputs = run.inputs()
    wrong = inputs.model_copy(update={"samples": inputs.scores})
    with pytest.raises(BadInput, match="expected samples"):
        STAGE.run(wrong, SETTINGS, tmp_path)


def test_a_clip_of_another_run_is_an_error(run: FakeRun, tmp_path: Path) -> None:
    inputs = run.inputs().model_copy(update={"clips": ()})
    with pytest.raises(BadInput, match="in none of the clips tables"):
        STAGE.run(inputs, SETTINGS, tmp_path)
