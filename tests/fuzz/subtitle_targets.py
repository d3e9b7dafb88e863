"""Target: subtitle files, of every format that is read."""

from __future__ import annotations

from pathlib import Path
from random import Random

from mimix_core.stages.transcripts.subtitle_parser import read_subtitle_file
from tests.fuzz.mutations import spoil_text
from tests.fuzz.target import Target

SRT = """\
1
00:00:01,000 --> 00:00:02,500
<i>Hello</i>, Tom.<br>Where are you?

2
00:00:03,000 --> 00:00:04,000
{\\an8}- Here!
- Where?
"""
VTT = """\
WEBVTT - a title

NOTE a comment

STYLE
::cue { color: red }

intro
00:01.000 --> 00:02.500 align:start position:10%
<v Tom>Hello <c.loud>there</c>

00:00:03.000 --> 00:00:04.000
<ruby>\u6f22<rt>kan</rt></ruby>
"""
ASS = """\
[Script Info]
Title: a film
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,20

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,{\\i1}Hello{\\i0}\\NTom.
Dialogue: 0,0:00:03.00,0:00:04.00,Sign,,0,0,0,,{\\pos(1,2)}A DOOR
Comment: 0,0:00:03.00,0:00:04.00,Default,,0,0,0,,nothing
"""

_PARTS = (
    *("-->", "00:00:01,000 --> 00:00:02,500\n", "99999:59:59,999", "-00:00:01,000", "<rt>", "<a"),
    *(
        "</rt>",
        "< / a",
        "<br",
        "{\\p1}m 0 0{\\p0}",
        "{\\k10}",
        "{",
        "}",
        "{\\",
        "\\N",
        "\\h",
        "&nbsp;",
    ),
    *(
        "[Events]\n",
        "[fonts]\n",
        "Format: Start\n",
        "Format: \n",
        "Dialogue: ",
        ",,,,,",
        "WEBVTT\n",
    ),
    *("NOTE\n", "\n", "\n\n\n", "1\n", "9" * 5000 + "\n", "\u0661\n", "\x1b$B", "\ufeff", "\x1a"),
    *(
        " ",
        "\t",
        "[",
        "-",
        "\u200f",
        "\xad",
        "0:00:01.00,",
        "00:00:01.000,00:00:02.000\n",
        "{1}{2}",
    ),
)


def spoil(data: bytes, rng: Random) -> bytes:
    return spoil_text(data, rng, _PARTS)


def read_subtitles(data: bytes, folder: Path) -> None:
    path = folder / "e01.srt"
    path.write_bytes(data)
    read_subtitle_file(path, ("", "cp1252")[len(data) % 2], "en")


_TEXTS = (SRT, VTT, ASS, SRT * 30)
TARGETS = (
    Target(
        "subtitles",
        (*(text.encode() for text in _TEXTS), SRT.encode("utf-16"), SRT.encode("utf-16-le")),
        spoil,
        read_subtitles,
    ),
)
