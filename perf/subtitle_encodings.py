"""How often short subtitle files of known encoding are decoded wrongly, or fail as uncertain.

``python perf/subtitle_encodings.py`` cuts files of one, two, four and all lines from the texts of
perf/subtitle_texts.yaml (24 languages), writes each in the encodings of its language, and decodes
them with the code of the transcripts stage. The limits of that code were set with the texts
``fitted``; those of ``held_out`` were written afterwards. Last, each long file gets one bad byte.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core.stages.transcripts.text_encoding import UndecodableText, decode_text
from perf.record import record

TEXTS = Path(__file__).with_name("subtitle_texts.yaml")
LENGTHS = (1, 2, 4, 99)
MAX_OFFSETS = 6
LONG = 4
"""Lines from which a file counts as not short."""


def main() -> None:
    figures: dict[str, float] = {}
    for name, texts in yaml.safe_load(TEXTS.read_text(encoding="utf-8")).items():
        counts: Counter[str] = Counter()
        for lines, encoding in _files(texts):
            text = _srt(lines)
            outcome = _outcome(text.encode(encoding, "replace"), encoding)
            counts[outcome] += 1
            counts["files"] += 1
            if len(lines) >= LONG:
                counts["long_files"] += 1
                counts[f"long_{outcome}"] += 1
            if outcome != "right" and len(lines) >= LONG:
                print(name, encoding, outcome, lines[0])
        figures |= {
            f"{name}_files": counts["files"],
            f"{name}_wrong": counts["wrong"],
            f"{name}_failed": counts["uncertain"],
            f"{name}_files_of_{LONG}_lines": counts["long_files"],
            f"{name}_failed_of_{LONG}_lines": counts["long_uncertain"],
        }
    figures |= _measure_damaged()
    record("subtitle_encodings", figures, dict.fromkeys(figures, "files"))


def _files(texts: Mapping[str, Any]) -> Iterator[tuple[list[str], str]]:
    """Yield lines and encoding of each file that has characters beyond ASCII."""
    for text in texts.values():
        lines = text["lines"]
        for encoding in text["encodings"]:
            for length in LENGTHS:
                for offset in range(max(1, min(len(lines) - length + 1, MAX_OFFSETS))):
                    part = lines[offset : offset + length]
                    if not "".join(part).isascii():
                        yield part, encoding


def _measure_damaged() -> dict[str, float]:
    """Decode files of 20 lines or more, with a bad byte at the first place beyond ASCII."""
    counts: Counter[str] = Counter()
    for texts in yaml.safe_load(TEXTS.read_text(encoding="utf-8")).values():
        for text in texts.values():
            for encoding in text["encodings"]:
                if encoding == "mac_roman":
                    continue
                content = _srt(text["lines"] * 4).encode(encoding, "replace")
                first = next((n for n, byte in enumerate(content) if byte >= 0x80), 0)
                for bad in (b"\x81", b"\xff"):
                    counts[_outcome(content[:first] + bad + content[first:], encoding, 1)] += 1
    return {
        "damaged_files": counts.total(),
        "damaged_wrong": counts["wrong"],
        "damaged_failed": counts["uncertain"],
    }


def _outcome(content: bytes, encoding: str, bad_lines: int = 0) -> str:
    """Return right, wrong or uncertain; ``bad_lines`` may differ."""
    try:
        found = decode_text(content).text.split("\n")
    except UndecodableText:
        return "uncertain"
    expected = content.decode(encoding, errors="replace").split("\n")
    different = sum(one != other for one, other in zip(found, expected, strict=False))
    return "right" if different <= bad_lines and len(found) == len(expected) else "wrong"


def _srt(lines: list[str]) -> str:
    return "".join(
        f"{n}\n00:00:{n:02},000 --> 00:00:{n:02},900\n{line}\n\n" for n, line in enumerate(lines, 1)
    )


if __name__ == "__main__":
    main()
