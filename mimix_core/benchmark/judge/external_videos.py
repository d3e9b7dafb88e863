"""Judging folders of videos, whoever made them: from files to inputs and settings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mimix_core.benchmark.judge.judge_inputs import JudgeInputs, folder_videos, load_cast
from mimix_core.benchmark.judge.rubric import default_or
from mimix_core.benchmark.systems import parse_systems
from mimix_core.domain.library import invalid, read_yaml
from mimix_core.domain.prompts import load_prompts
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.settings.judge_settings import JudgeSettings


class _Chosen(BaseModel):
    """Of a settings file what is for the judge; the rest is another command's."""

    model_config = ConfigDict(extra="ignore")

    judge: JudgeSettings


def read_settings(path: Path) -> JudgeSettings:
    """The key ``judge`` of a settings file, which may hold nothing else; its paths made absolute.

    Raises BadInput that names every problem, with its line and key.
    """
    document, lines = read_yaml(path)
    try:
        settings = _Chosen.model_validate(document).judge
    except ValidationError as error:
        raise invalid(path, error, lines) from error
    if settings.rubric is None:
        return settings
    return settings.model_copy(update={"rubric": path.resolve().parent / settings.rubric})


def read_inputs(
    systems: Iterable[str], prompts: Path, library: Path, settings: JudgeSettings, work: Path
) -> JudgeInputs:
    """All that is judged: ``systems`` as NAME=FOLDER. ``work`` keeps answers and digests of files.

    Raises BadInput for what is wrong in any of the files, before anything is asked.
    """
    store = store_of(work)
    cast = load_cast(library, store.source)
    wanted = load_prompts(prompts, tuple(one.name for one in cast))
    return JudgeInputs(
        prompts=wanted,
        cast=cast,
        systems=tuple(folder_videos(one, wanted, store.source) for one in parse_systems(systems)),
        rubric=store.source(default_or(settings.rubric)),
        answers=work / "answers",
    )


def store_of(work: Path) -> Store:
    """The store of a working folder. Raises BadInput when it cannot be made there."""
    store = Store(work / "store")
    try:
        store.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot be made ({error.strerror})", where=str(work)) from error
    return store
