"""Hold the code's English to the field's: words of our old dialect, counted per 10,000 lines.

The limits are the counts of datatrove (Hugging Face) in 2026 plus two per 10,000 lines.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.paths import ROOT

LIMITS = {
    r"kept": 3 + 2,
    r"told": 4 + 2,
    r"is no [a-z]+": 1 + 2,
    r"stands?": 0 + 2,
    r"nobody": 0 + 2,
}
PACKAGES = ("mimix_core", "tasks", "flows")


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("pattern", LIMITS)
def test_words_outside_the_field_are_rare(pattern: str) -> None:
    word = re.compile(rf"(?<![a-z]){pattern}(?![a-z])", re.IGNORECASE)
    lines = places = 0
    where: list[str] = []
    for path in sources():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            lines += 1
            hits = len(word.findall(line))
            places += hits
            if hits:
                where.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert lines > 10_000
    rate = 10_000 * places / lines
    assert rate <= LIMITS[pattern], (
        f"{rate:.1f} per 10,000 lines, allowed {LIMITS[pattern]}:\n" + "\n".join(where)
    )
