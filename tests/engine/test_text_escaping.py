"""Text of strangers is displayed as it is: by renderers of Markdown, and on a terminal."""

from __future__ import annotations

import html
import re
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.markup import escape
from rich.progress import Progress, TextColumn
from rich.table import Table

from mimix_core.engine.text_escaping import (
    escape_markdown,
    escape_spreadsheet,
    find_control_character,
    printable_text,
)
from tasks.safe_console import SafeConsole

RENDERER = MarkdownIt("commonmark").enable(["table", "strikethrough"])

HOSTILE = (
    "![cat](https://evil.example/cat.png)",
    "[report](javascript:alert(document.cookie))",
    "<img src=x onerror=alert(1)>",
    "<javascript:alert(1)>",
    "[a]: https://evil.example 'x'",
    "`code` **bold** _it_ __bold__ ~~gone~~ ***",
    "a | b || c \\| d \\",
    "1. one",
    "12) twelve",
    "- item",
    "+ item",
    "> quote",
    "# heading",
    "---",
    "```mermaid",
    "&lt;script&gt; &#106; &amp;",
    "$x^2$ ==mark== @someone {{ template }} {% raw %}",
    "C:\\films\\new\\*.mp4",
)
marks = st.text(st.sampled_from("\\`*_[]<>()!|~#&-+.:/ \t\n1a\"'=$^@{}"), max_size=30)


@given(st.one_of(marks, st.text(max_size=30), st.sampled_from(HOSTILE)))
def test_markdown_shows_the_text_and_nothing_else(text: str) -> None:
    shown = html.escape(printable_text(" ".join(text.split()), allowed="")).replace("&#x27;", "'")
    escaped = escape_markdown(text)
    paragraph = RENDERER.render(escaped).strip()
    assert paragraph == (f"<p>{shown}</p>" if shown else "")
    table = RENDERER.render(f"| head | second |\n| --- | --- |\n| {escaped} | end |\n")
    cells = re.findall(r"<td>(.*?)</td>", table, re.DOTALL)
    assert cells == [shown, "end"]
    assert RENDERER.render(f"- {escaped}x").strip() == f"<ul>\n<li>{shown}x</li>\n</ul>"


@pytest.mark.parametrize(
    "text", ["https://evil.example/x", "HTTP://evil.example", "www.evil.example", "a@evil.example"]
)
def test_an_address_does_not_match_the_links_without_brackets_of_github(text: str) -> None:
    escaped = escape_markdown(f"see {text}, or ({text})")
    assert not re.search(r"https?://|www\.|\w@\w", escaped, re.IGNORECASE)


def test_ordinary_names_and_reasons_stay_readable() -> None:
    for text in (
        "Mr. Bean",
        "video_truncated",
        "episode-01.mp4: 3 frames (of 40) missing",
        "/srv/mimix/toons/one.mp4",
        "Zoë, 山田",
    ):
        assert escape_markdown(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\x9b31mb", r"a\x9b31mb"),
        ("a\rb\x08", r"a\rb\x08"),
        ("exe.\u202e4pm", r"exe.\u202e4pm"),
        ("a\u2028b\ufeff", r"a\u2028b\ufeff"),
        ("not utf-8: \udce9", r"not utf-8: \udce9"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert printable_text(text) == shown
    assert (find_control_character(text, "\n\t") is None) == (text == shown)


def test_a_console_never_sends_what_a_name_contains() -> None:
    name = "\x1b[2J\x1b]0;owned\x9b31mBean\udce9"
    out = StringIO()
    console = SafeConsole(file=out, force_terminal=True, width=200, color_system="standard")
    table = Table(escape(name), title=escape(name))
    table.add_row(escape(name))
    console.print(f"[bold]{escape(name)}[/bold]", highlight=False)
    console.print(table)
    with Progress(TextColumn("{task.description}"), console=console) as bars:
        bars.add_task(escape(name))
    text = out.getvalue()
    assert text.count(r"\x1b[2J\x1b]0;owned\x9b31mBean\udce9") >= 2
    assert (
        "\x1b]" not in text and "\x1b[2J" not in text.replace("\x1b[2K", "") and "\x9b" not in text
    )
    assert "\x1b[1m" in text, "Rich's own styles are sent"


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_cell_of_a_spreadsheet_is_no_formula(text: str) -> None:
    assert escape_spreadsheet(text).startswith("'")
    assert escape_spreadsheet("Tom = Jerry") == "Tom = Jerry"
    assert "\u202e" not in escape_spreadsheet("a\u202eb")
