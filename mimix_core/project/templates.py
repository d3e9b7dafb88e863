"""Write the template files of a new project."""

from __future__ import annotations

from pathlib import Path

from mimix_core.errors import BadInput
from mimix_core.settings.settings_reference import TEMPLATE_SECTIONS, commented_numbers

LIBRARY = """\
# Shows, their characters and their episodes. Paths are relative to this file.
shows:
  - id: my-cartoon
    title: My Cartoon
    style: cartoon                  # cartoon | realistic
    characters:
      - name: Tom                   # as written in captions: [Character: Tom]
        aliases: [Thomas]
        description: A grey cat who walks upright.
        references: []              # three or more images of Tom alone, in other poses and light
        # episodes: [one]           # only if Tom can appear in some episodes only
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

_HEAD = """\
## All other settings have the paper's values. `mimix doctor mimix.yaml` reports what is missing,
## `mimix plan mimix.yaml` what a run would compute. The commented numbers decide what gets into the
## dataset: remove the # in front of a key, and of its section, to change it. `mimix why mimix.yaml`
## says which of them left something out; `mimix settings` lists all settings.
library: library.yaml
workspace: workspace
# inbox: inbox                      # files put here become episodes (`mimix watch`, the schedule)
# run:
#   require_approval: true          # suspend a deployed run before training until approved
#   workspace_url: http://files.example/workspace    # URL of the workspace for links
"""

_TAIL = """\
backbone:
  name: wan2.1-t2v-14b
  path: models/Wan2.1-T2V-14B-Diffusers
samples:
  prompts: prompts.yaml
"""

_RATIO = """\
composites:
  ratio: "0.10"                     # share of composites in the training set
"""


def build_settings_template() -> str:
    """Build mimix.yaml: the settings to edit, and all thresholds as comments with their meaning."""
    sections = []
    for name in TEMPLATE_SECTIONS:
        numbers = commented_numbers(name)
        if name == "composites":
            # The ratio is set, not commented.
            start = numbers.index("#   ratio:")
            sections.append(_RATIO + numbers[numbers.index("\n", start) + 1 :])
        else:
            sections.append(f"# {name}:\n{numbers}")
    return _HEAD + "".join(sections) + _TAIL


FEW_STEPS = """\
# Videos in a twentieth of the time, to look at prompts before a full run: mimix generate
# few-steps.yaml. All settings of mimix.yaml, except for these. It needs a step-distilled LoRA of
# the backbone, as LightX2V publishes them, and costs something in style (docs/generation.md).
extends: mimix.yaml
samples:
  adapters: [{path: models/step-distilled.safetensors}]
  solver: euler
  num_inference_steps: 4
  guidance_scale: 1.0
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
    """Write library.yaml, mimix.yaml, prompts.yaml and few-steps.yaml into a folder.

    Raises BadInput if one of them exists.
    """
    files = {
        "library.yaml": LIBRARY,
        "mimix.yaml": build_settings_template(),
        "prompts.yaml": PROMPTS,
        "few-steps.yaml": FEW_STEPS,
    }
    for name in files:
        if (folder / name).exists():
            raise BadInput(
                f"{name} exists already", where=str(folder), fix="Choose another folder."
            )
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return [folder / name for name in files]
