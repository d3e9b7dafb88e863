"""The rubric: what a judge is told, versioned, with an anchor at every step of the scale."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, ValidationError, field_validator

from mimix_core.domain.library import invalid, read_yaml
from mimix_core.engine.artifacts import FileRef, FrozenModel
from mimix_core.errors import BadInput

DEFAULT = Path(__file__).parent / "rubrics" / "rubric-v1.yaml"

Aspect = Literal["identity", "motion", "style", "interaction"]
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)

LOWEST, HIGHEST = 1, 10


class AspectRubric(FrozenModel):
    """One aspect: what is asked, and what each step of the scale looks like."""

    title: str = Field(min_length=1)
    question: str = Field(min_length=1)
    anchors: dict[int, str]

    @field_validator("anchors")
    @classmethod
    def _every_step(cls, anchors: dict[int, str]) -> dict[int, str]:
        if sorted(anchors) != list(range(LOWEST, HIGHEST + 1)):
            raise ValueError(f"an anchor is wanted for each step from {LOWEST} to {HIGHEST}")
        if len(set(anchors.values())) != len(anchors) or not all(anchors.values()):
            raise ValueError("two steps have one anchor, or one has none")
        return dict(sorted(anchors.items()))

    def scale(self) -> str:
        """The anchors, a line each."""
        return "\n".join(f"{step}: {anchor}" for step, anchor in self.anchors.items())


class Aspects(FrozenModel):
    """``environment`` stands in for ``interaction`` where there is a single character."""

    identity: AspectRubric
    motion: AspectRubric
    style: AspectRubric
    interaction: AspectRubric
    environment: AspectRubric


class Rubric(FrozenModel):
    """``rules``: for ratings of one video; ``duel``: for comparisons of two."""

    version: str = Field(pattern=r"^[A-Za-z0-9._]+$")
    rules: str = Field(min_length=1)
    duel: str = Field(min_length=1)
    aspects: Aspects

    def of(self, aspect: Aspect, characters: int) -> AspectRubric:
        """What is asked about an aspect of a video with so many characters."""
        found: AspectRubric = (
            self.aspects.environment
            if aspect == "interaction" and characters == 1
            else getattr(self.aspects, aspect)
        )
        return found


def read_rubric(path: Path) -> Rubric:
    """Read and check a rubric. Raises BadInput that names every problem, its line and key."""
    document, lines = read_yaml(path)
    try:
        return Rubric.model_validate(document)
    except ValidationError as error:
        raise invalid(path, error, lines) from error


def stated_version(rubric: Rubric, file: FileRef) -> str:
    """What rows say: the rubric's own version, and eight digits of what the file holds.

    An edited rubric that kept its number is told from the original by the digits.
    """
    return f"{rubric.version}-{file.sha256[:8]}"


def default_or(path: Path | None) -> Path:
    """The settings' rubric, else the one that comes with MiMix. Raises BadInput for no file."""
    if path is not None and not path.is_file():
        raise BadInput(
            f"no file {path}", where="settings, key judge.rubric", fix="Correct the path."
        )
    return path or DEFAULT
