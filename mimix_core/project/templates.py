"""The two files that a new project starts from."""

from __future__ import annotations

from pathlib import Path

from mimix_core.errors import BadInput

LIBRARY = """\
# Shows, their characters and their episodes. Paths are relative to this file.
shows:
  - id: my-cartoon
    title: My Cartoon
    style: cartoon                  # cartoon | realistic
    characters:
      - name: Tom                   # as it will stand in [Character: Tom]
        aliases: [Thomas]
        description: A grey cat who walks upright.
        references: []              # images of Tom alone
    episodes:
      - path: episodes/my-cartoon/*.mp4
  - id: my-series
    title: My Series
    style: realistic
    characters:
      - name: Mr. Bean
        description: A man in a tweed jacket and a red tie.
    episodes:
      - path: episodes/my-series/one.mp4
        subtitles: episodes/my-series/one.srt
        script: episodes/my-series/one.yaml     # who does what, when
        boxes: episodes/my-series/one.boxes.yaml
        plot: He packs for a holiday.
"""

SETTINGS = """\
# Everything left out has the paper's value. `mimix doctor mimix.yaml` says what is missing.
library: library.yaml
workspace: workspace
# inbox: inbox                      # files put here become episodes (`mimix watch`, the schedule)
# run:
#   require_approval: true                # pause a deployed run before training until somebody says yes
#   workspace_url: http://files.example/workspace    # where a browser finds the report
composites:
  ratio: "0.10"                     # share of composites in the training set
backbone:
  name: wan2.1-t2v-14b
  path: models/Wan2.1-T2V-14B-Diffusers
samples:
  prompts: prompts.yaml
"""

PROMPTS = """\
prompts:
  - id: tom-and-bean
    category: inter-style
    characters: [Tom, Mr. Bean]
    style: cartoon
    actions:
      - {name: Tom, action: "steals a sandwich from the table"}
      - {name: Mr. Bean, action: "looks for the sandwich under his hat"}
    setting: A kitchen at noon
"""


def write_project_templates(folder: Path) -> list[Path]:
    """Write library.yaml, mimix.yaml and prompts.yaml; never over an existing file.

    Raises BadInput when one of them is there already.
    """
    files = {"library.yaml": LIBRARY, "mimix.yaml": SETTINGS, "prompts.yaml": PROMPTS}
    for name in files:
        if (folder / name).exists():
            raise BadInput(
                f"{name} is there already", where=str(folder), fix="Choose another folder."
            )
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return [folder / name for name in files]
