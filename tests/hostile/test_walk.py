"""Text of strangers from the library to each page, table and terminal: it is shown, never obeyed.

A library whose title, names, plot, files, subtitles and script hold markup of every kind goes
through the real commands; a real browser then opens what they wrote.
"""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from tests.deployments.browser import browsing, chromium
from tests.e2e.demo import ROOT, Demo
from tests.media_factory import Shot, write_video
from tests.studio.page_hand import DESKTOP, Hand

pytestmark = pytest.mark.e2e

SCRIPT = "<script>document.title=7</script>"
IMAGE = "<img src=x onerror=document.title=7>"
MARKUP = "![i](https://evil.example/i.png) [/nope] [link=https://evil.example]x[/link]"
TERMINAL = "\x1b]0;title\x07\x1b[2J"
BIDI = "\u202eevil\u2066"

TITLE = f"{SCRIPT} {MARKUP}"
NAME = f"Tom {IMAGE}"
EPISODES = (f"{IMAGE}.mp4", "[red] $(touch x) `x`.mp4", "javascript:alert(1).mp4")
BROKEN = "<b onmouseover=document.title=7>[link=https:evil]broken.mp4"

LIBRARY = {
    "shows": [
        {
            "id": "night",
            "title": TITLE,
            "style": "cartoon",
            "characters": [
                {"name": NAME, "aliases": ["'\"><u>T"], "description": f"{IMAGE} {MARKUP}"}
            ],
            "episodes": [
                {"path": name, "plot": f"{SCRIPT} {MARKUP}"} for name in (*EPISODES, BROKEN)
            ],
        }
    ]
}
SETTINGS = """\
library: library.yaml
workspace: workspace
overlays: {backend: none}
clips: {width: 128, height: 80, preset: ultrafast}
"""


@dataclass(frozen=True)
class Walk:
    """A finished run: its folder, what it printed, and what later commands printed."""

    demo: Demo
    printed: str


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    folder = tmp_path_factory.mktemp("walk")
    (folder / "library.yaml").write_text(yaml.safe_dump(LIBRARY))
    (folder / "mimix.yaml").write_text(SETTINGS)
    subtitles = f"1\n00:00:01,000 --> 00:00:04,000\n{SCRIPT}{TERMINAL}{BIDI} {MARKUP}\n"
    action = {"start": "0.0", "end": "7.0", "character": NAME, "action": f"types {IMAGE} & \"'x"}
    for number, name in enumerate(EPISODES):
        shots = [Shot(20)] * number + [Shot(130), Shot(38)]
        path = write_video(folder / name, shots, size=(160, 96)).path
        path.with_suffix(".srt").write_text(subtitles)
        path.with_suffix(".script.yaml").write_text(yaml.safe_dump({"actions": [action]}))
    (folder / BROKEN).write_bytes(b"<script>" * 1000)
    demo = Demo(folder, folder / "mimix.yaml", "curate")
    printed = ""
    for command in (["curate"], ["report"], ["why"], ["plan"]):
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", *command, str(demo.settings)],
            cwd=ROOT,
            env=demo.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert "Traceback" not in done.stdout, done.stdout
        printed += f"\n--- {command} {done.returncode}\n{done.stdout}"
    return Walk(demo, printed)


def test_the_terminal_gets_no_control_character_and_no_markup(walk: Walk) -> None:
    assert "--- ['curate'] 0" in walk.printed, walk.printed
    assert "--- ['report'] 0" in walk.printed, walk.printed
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", walk.printed)
    for name in (IMAGE, "[link=https:evil]broken"):
        assert name in walk.printed, walk.printed


@pytest.mark.skipif(chromium() is None, reason="needs a browser: apt-get install chromium")
def test_the_report_shows_the_text_and_runs_nothing(walk: Walk, tmp_path: Path) -> None:
    page = walk.demo.workspace / "report" / "index.html"
    source = page.read_text()
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", source)
    with browsing(tmp_path, webgl=False) as tab:
        tab.open(page.resolve().as_uri())
        tab.wait_until("document.readyState === 'complete'")
        assert tab.value("document.title") != "7"
        everything = tab.value("document.documentElement.textContent")
        assert IMAGE in everything and SCRIPT in everything
        assert tab.value("document.querySelectorAll('script').length") == 1
        assert tab.value("document.querySelectorAll('[onerror], [onmouseover]').length") == 0
        links = tab.value(
            "[...document.querySelectorAll('[src], [href]')].map(e => e.src || e.href)"
        )
        assert not [link for link in links if "evil" in str(link) or str(link).startswith("javas")]


@pytest.mark.skipif(chromium() is None, reason="needs a browser: apt-get install chromium")
def test_the_studio_shows_the_text_and_runs_nothing(walk: Walk, tmp_path: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "studio", str(walk.demo.settings), "--port", "0"],
        cwd=ROOT,
        env=walk.demo.environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = next(line for line in server.stdout if "http" in line).split()[-1]
        with browsing(tmp_path, webgl=False) as tab:
            hand = Hand(tab)
            hand.size(DESKTOP)
            hand.open(f"{address}?kind=clip&status=ok")
            hand.until("document.querySelector('.cell .text')")
            hand.press("Enter")
            hand.until("document.querySelector('#viewer .panel .facts')")
            shown = tab.value("document.body.textContent")
            assert IMAGE in shown
            assert tab.value("document.querySelectorAll('img[src=x], [onerror]').length") == 0
            assert "MiMix Studio" in tab.value("document.title")
            isolated = "[...document.querySelectorAll('#viewer *')].every(e => "
            isolated += "getComputedStyle(e).unicodeBidi.includes('isolate'))"
            assert tab.value(isolated), "a text reorders what stands after it"
    finally:
        server.terminate()
        server.wait(20)


def artifacts(walk: Walk) -> Iterator[tuple[str, str]]:
    """Yield the texts of all artifacts in Prefect's database, which its page shows as Markdown."""
    with sqlite3.connect(walk.demo.folder / "prefect" / "prefect.db") as database:
        for key, data, description in database.execute(
            "SELECT key, data, description FROM artifact"
        ):
            yield str(key), str(description or "")
            value = json.loads(data) if data else ""
            value = json.loads(value) if isinstance(value, str) and value[:1] in "[{" else value
            if isinstance(value, list):
                for row in value:
                    yield from ((str(key), str(cell)) for cell in row.values())
            else:
                yield str(key), str(value)


def test_what_prefect_shows_as_markdown_is_text(walk: Walk) -> None:
    renderer = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table")
    texts = list(artifacts(walk))
    assert any("nope" in text or "onmouseover" in text for _, text in texts), texts
    for key, text in texts:
        shown = renderer.render(text)
        for tag in re.findall(r"<[^>]+>", shown):
            assert "evil" not in tag and not re.match(r"<(script|img src=.x|b |u>)", tag), (
                key,
                tag,
            )
        assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", text), key


def test_no_text_is_a_file_or_a_command(walk: Walk) -> None:
    assert not (walk.demo.folder / "x").exists()
    assert not (ROOT / "x").exists()
