"""Load the rubric: versioned instructions to the judge with an anchor for each scale step."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, ValidationError, field_validator

from mimix_core.engine.artifacts import FileRef, FrozenModel
from mimix_core.engine.yaml_files import read_yaml_file, validation_error
from mimix_core.errors import BadInput

DEFAULT_RUBRIC = Path(__file__).parent / "rubrics" / "rubric-v2.yaml"

Aspect = Literal["identity", "motion", "style", "interaction"]
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)

MIN_SCORE, MAX_SCORE = 1, 10


class AspectRubric(FrozenModel):
    """One aspect: its question and a description (anchor) of each step of the scale."""

    title: str = Field(min_length=1)
    question: str = Field(min_length=1)
    anchors: dict[int, str]

    @field_validator("anchors")
    @classmethod
    def _every_step(cls, anchors: dict[int, str]) -> dict[int, str]:
        if sorted(anchors) != list(range(MIN_SCORE, MAX_SCORE + 1)):
            raise ValueError(f"needs an anchor for each step from {MIN_SCORE} to {MAX_SCORE}")
        if len(set(anchors.values())) != len(anchors) or not all(anchors.values()):
            raise ValueError("two steps have the same anchor, or one has an empty anchor")
        return dict(sorted(anchors.items()))

    def format_scale(self) -> str:
        """Format the anchors, one per line."""
        return "\n".join(f"{step}: {anchor}" for step, anchor in self.anchors.items())


class AspectRubrics(FrozenModel):
    """The rubric of each aspect; ``environment`` replaces ``interaction`` for one character."""

    identity: AspectRubric
    motion: AspectRubric
    style: AspectRubric
    interaction: AspectRubric
    environment: AspectRubric


class Rubric(FrozenModel):
    """A complete rubric. ``rules``: system prompt of ratings; ``duel``: of comparisons."""

    version: str = Field(pattern=r"^[A-Za-z0-9._]+$")
    rules: str = Field(min_length=1)
    duel: str = Field(min_length=1)
    aspects: AspectRubrics

    def aspect_rubric(self, aspect: Aspect, characters: int) -> AspectRubric:
        """Return the rubric of an aspect for a video with that many characters."""
        rubric: AspectRubric = (
            self.aspects.environment
            if aspect == "interaction" and characters == 1
            else getattr(self.aspects, aspect)
        )
        return rubric


def load_rubric(path: Path) -> Rubric:
    """Load and validate a rubric. Raises BadInput that lists every problem with line and key."""
    document, lines = read_yaml_file(path)
    try:
        return Rubric.model_validate(document)
    except ValidationError as error:
        raise validation_error(path, error, lines) from error


def rubric_version(rubric: Rubric, file: FileRef) -> str:
    """Return the rubric's version plus eight digits of the file's digest, for table rows.

    The digits distinguish an edited rubric with an unchanged version number.
    """
    return f"{rubric.version}-{file.sha256[:8]}"


def resolve_rubric_path(path: Path | None) -> Path:
    """Return the configured rubric's path, else the built-in one's. Raises BadInput if missing."""
    if path is not None and not path.is_file():
        raise BadInput(
            f"no file {path}", where="settings, key judge.rubric", fix="Correct the path."
        )
    return path or DEFAULT_RUBRIC
