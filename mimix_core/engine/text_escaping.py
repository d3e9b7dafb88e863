"""Make text from names, files and other people's answers harmless where it is displayed."""

from __future__ import annotations

import re
import unicodedata

_JOINERS = "\u200c\u200d"
"""Format characters that are part of words in Persian, Hindi and others, and of emojis."""

_MARKUP = re.compile(r"[\\`*\[\]<>&!|~#$=+@^{}]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.I)
"""Characters with a meaning in CommonMark, its tables or its links without brackets."""

_LINE_START = re.compile(r"^(\s*)(?:([-+>])|(\d{1,9})([.)]))", re.M)


def is_control_character(character: str) -> bool:
    """Return whether a character controls a terminal, a line or the direction of text."""
    return (
        unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        and character not in _JOINERS
    )


def find_control_character(text: str, allowed: str = "") -> str | None:
    """Return the first control character that is not in ``allowed``; None if there is none."""
    if text.isascii() and text.isprintable():
        return None
    return next((c for c in text if c not in allowed and is_control_character(c)), None)


def printable_text(text: str, allowed: str = "\n\t") -> str:
    r"""Replace control characters with their escapes (``\x1b``), so that a terminal shows them.

    Includes what reorders text (right-to-left overrides) and bytes of names that are not UTF-8.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c in allowed or not is_control_character(c) else repr(c)[1:-1] for c in text
    )


def escape_spreadsheet(text: str) -> str:
    """Escape text for a cell of a CSV file that people open in a spreadsheet.

    A cell that begins like a formula gets an apostrophe before it, which shows it as text.
    """
    shown = printable_text(text)
    return f"'{shown}" if text.lstrip().startswith(("=", "+", "-", "@")) else shown


def escape_markdown(text: str) -> str:
    """Escape text for one line or table cell of Markdown, where it is shown as it is.

    No emphasis, link, image, HTML or table cell begins or ends in it, nor does an address become a
    link. Line breaks become spaces.
    """
    line = printable_text(" ".join(text.split()), allowed="")
    line = _MARKUP.sub(lambda match: f"\\{match[0]}", line)
    return _LINE_START.sub(
        lambda match: f"{match[1]}\\{match[2]}" if match[2] else f"{match[3]}\\{match[4]}", line
    )
