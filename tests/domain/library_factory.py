"""A library.yaml without a mistake, for tests that change it."""

from __future__ import annotations

from pathlib import Path

GOOD_LIBRARY = """\
shows:
  - id: tom-and-jerry
    title: Tom and Jerry
    style: cartoon
    characters:
      - name: Tom
        aliases: [Thomas]
        references: [tom.png]
      - name: Jerry
    episodes:
      - path: episodes/*.mp4
        plot: A chase.
  - id: mr-bean
    title: Mr. Bean
    style: realistic
    characters:
      - {name: Mr. Bean, description: A man in tweed.}
    episodes:
      - {path: bean.mp4, subtitles: bean.srt}
"""


def write_library(folder: Path, text: str) -> Path:
    path = folder / "library.yaml"
    path.write_text(text)
    return path
