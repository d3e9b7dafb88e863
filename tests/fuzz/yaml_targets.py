"""Targets: library.yaml, the settings file, and the YAML files beside episodes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import yaml

from mimix_core.domain.library import Style, declared_videos, load_library, unmatched_patterns
from mimix_core.domain.prompts import load_prompts
from mimix_core.engine.artifacts import file_ref
from mimix_core.settings import Config, load_config
from mimix_core.stages.captions.action_script import load_action_script
from mimix_core.stages.cutouts.locate.box_annotations import load_box_annotations
from tests.fuzz.mutations import spoil_yaml
from tests.fuzz.target import Target

LIBRARY = b"""\
shows:
  - id: bunny
    title: Big Buck Bunny
    style: cartoon
    language: en
    characters:
      - name: Bunny
        aliases: [Buck, "The Bunny"]
        description: A large gray rabbit.
        noun: gray rabbit
        references: [bunny.png]
        episodes: ["e*.mp4"]
    episodes:
      - path: e01.mp4
        subtitles: e01.en.srt
        plot: A rabbit wakes up.
      - path: "season 2/*.mp4"
  - id: doctor
    title: Dr. Who
    style: realistic
    clips: clips/doctor
    characters: [{name: Clara}]
    guests: [Bunny]
"""

LIBRARY_WITH_ANCHORS = b"""\
shows:
  - &show
    id: one
    title: One
    style: cartoon
    characters: [{name: Tom}]
    episodes: [&e {path: e01.mp4, plot: Tom runs.}]
  - <<: *show
    id: two
    characters: [{name: Jerry}]
    episodes: [{<<: *e, path: e02.mp4}]
"""

SETTINGS = b"""\
library: library.yaml
workspace: work
inbox: inbox
run: {max_workers: 2, timeout_minutes: 60, review_share: 0.1, workspace_url: "http://127.0.0.1/"}
captions: {backend: vlm, vlm: {backend: openai, model: gpt-4o, extra_body: {a: [1, 2]}}}
lora: {rank: 16, learning_rate: 1.0e-4}
"""

SCRIPT = b"""\
actions:
  - {start: "0.0", end: "6.4", character: Bunny, action: sniffs a flower}
  - {start: "0:01.5", end: "7", character: buck, action: "jumps"}
context:
  - {start: "0.0", end: "9.8", text: a green meadow}
"""

BOXES = b"""\
boxes:
  - {time: "0.0", character: Bunny, box: [0.1, 0.2, 0.5, 0.9]}
  - {time: "2.5", character: buck, box: [0.2, 0.2, 0.6, 0.9]}
"""

PROMPTS = b"""\
prompts:
  - id: one
    category: single
    characters: [Bunny]
    actions: [{name: Bunny, action: jumps over a log}]
    setting: A meadow
    style: cartoon
version: "1"
"""

_NAMES = {"bunny": "Bunny", "buck": "Bunny", "clara": "Clara"}


def all_settings() -> bytes:
    """Return a settings file that states every setting."""
    values = Config(library=Path("library.yaml")).model_dump(mode="json")
    return yaml.safe_dump(values, sort_keys=False).encode()


def read_library(data: bytes, folder: Path) -> None:
    for name in ("e01.mp4", "e01.en.srt", "bunny.png", "e02.mp4"):
        (folder / name).touch()
    (folder / "season 2").mkdir()
    path = folder / "library.yaml"
    path.write_bytes(data)
    load_library(path, language="en")
    declared_videos(path)
    unmatched_patterns(path)


def read_settings(data: bytes, folder: Path) -> None:
    (folder / "library.yaml").touch()
    (folder / "base.yaml").write_bytes(SETTINGS)
    path = folder / "mimix.yaml"
    path.write_bytes(data)
    load_config(path)


def read_script(data: bytes, folder: Path) -> None:
    """Read whichever of the three files the document is by its first key."""
    path = folder / "e01.yaml"
    path.write_bytes(data)
    kind = data.lstrip()[:1]
    if kind == b"b":
        load_box_annotations(file_ref(path), _NAMES)
    elif kind == b"p":
        load_prompts(path, tuple(_NAMES.values()))
    else:
        load_action_script(
            file_ref(path), names=_NAMES, style=Style.CARTOON, min_overlap=Fraction(1)
        )


TARGETS = (
    Target("library", (LIBRARY, LIBRARY_WITH_ANCHORS), spoil_yaml, read_library),
    Target(
        "settings",
        (SETTINGS, b"extends: base.yaml\nrun: {retries: 1}\n", all_settings()),
        spoil_yaml,
        read_settings,
    ),
    Target("scripts", (SCRIPT, BOXES, PROMPTS), spoil_yaml, read_script),
)
