"""Load the rubric: versioned instructions to the judge with an anchor for each scale step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar, get_args

from pydantic import Field, ValidationError, field_validator

from mimix_core.engine.artifacts import FileRef, FrozenModel
from mimix_core.engine.yaml_files import read_yaml_file, validation_error
from mimix_core.errors import BadInput
from mimix_core.settings.judge_settings import JudgeSettings

RUBRICS = Path(__file__).parent / "rubrics"
DEFAULT_RUBRIC = RUBRICS / "rubric-v2.yaml"
DEFAULT_AUTHORS_RUBRIC = RUBRICS / "authors-v1.yaml"

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


class AuthorsQuestions(FrozenModel):
    """The question of each aspect; ``environment`` replaces ``interaction`` for one character."""

    identity: str = Field(min_length=1)
    motion: str = Field(min_length=1)
    style: str = Field(min_length=1)
    interaction: str = Field(min_length=1)
    environment: str = Field(min_length=1)


class AuthorsRubric(FrozenModel):
    """The texts of mode authors, in the order in which a request has them.

    ``introduction`` names the characters in place of ``{characters}``; then the aspect's question;
    then ``single`` or ``multiple``, by the number of characters; then the ``form`` of the answer.
    """

    version: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    introduction: str = Field(pattern=r"\{characters\}")
    questions: AuthorsQuestions
    single: str = Field(min_length=1)
    multiple: str = Field(min_length=1)
    form: str = Field(min_length=1)

    def format_question(self, aspect: Aspect, characters: Sequence[str]) -> str:
        """Format the complete text of a request."""
        alone = len(characters) == 1
        name = "environment" if aspect == "interaction" and alone else aspect
        parts = (
            self.introduction.replace("{characters}", " & ".join(characters)),
            getattr(self.questions, name),
            self.single if alone else self.multiple,
            self.form,
        )
        return "\n\n".join(part.strip() for part in parts)


RubricT = TypeVar("RubricT", Rubric, AuthorsRubric)


def load_rubric(path: Path) -> Rubric:
    """Load and validate a rubric. Raises BadInput that lists every problem with line and key."""
    return _load(path, Rubric)


def load_authors_rubric(path: Path) -> AuthorsRubric:
    """Load and validate the texts of mode authors. Raises BadInput as ``load_rubric`` does."""
    return _load(path, AuthorsRubric)


def _load(path: Path, model: type[RubricT]) -> RubricT:
    document, lines = read_yaml_file(path)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise validation_error(path, error, lines) from error


def rubric_version(rubric: Rubric | AuthorsRubric, file: FileRef) -> str:
    """Return the rubric's version plus eight digits of the file's digest, for table rows.

    The digits distinguish an edited rubric with an unchanged version number.
    """
    return f"{rubric.version}-{file.sha256[:8]}"


def find_rubric(settings: JudgeSettings) -> Path:
    """Return the path of the rubric of the settings, or else of the mode's built-in one.

    Raises BadInput for a missing or invalid file.
    """
    path = settings.rubric
    if path is not None and not path.is_file():
        raise BadInput(
            f"no file {path}", where="settings, key judge.rubric", fix="Correct the path."
        )
    if settings.mode == "authors":
        path = path or DEFAULT_AUTHORS_RUBRIC
        load_authors_rubric(path)
    else:
        path = path or DEFAULT_RUBRIC
        load_rubric(path)
    return path
