"""Captions from a time-coded script: a person's word, no model.

The file (YAML; times are seconds of play from the episode's first frame, as exact decimals)::

    actions:
      - {start: "0.0", end: "6.4", character: Bunny, action: "sniffs a flower"}
    context:
      - {start: "0.0", end: "9.8", text: "a green meadow"}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Self

from pydantic import BeforeValidator, ValidationError, model_validator

from mimix_core.domain.caption_grammar import Action, Caption, CharacterAction, Context
from mimix_core.domain.library import Style, invalid, read_yaml
from mimix_core.domain.timeline import clip_duration, exact_seconds
from mimix_core.engine.artifacts import FileRef, Frozen
from mimix_core.errors import BadInput
from mimix_core.tables import Row

Seconds = Annotated[Fraction, BeforeValidator(exact_seconds)]


class _Timed(Frozen):
    start: Seconds
    end: Seconds

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"ends at {float(self.end):g} s, not after its start")
        return self

    def overlap(self, start: Fraction, end: Fraction) -> Fraction:
        """Seconds shared with [start, end)."""
        return max(Fraction(0), min(self.end, end) - max(self.start, start))


class TimedAction(_Timed):
    character: str
    action: Action


class TimedContext(_Timed):
    text: Context


class _ScriptFile(Frozen):
    actions: tuple[TimedAction, ...] = ()
    context: tuple[TimedContext, ...] = ()


@dataclass(frozen=True)
class ScriptCaptioner:
    """Captions a clip with the actions and the place that the script gives for its time."""

    actions: Sequence[TimedAction]
    contexts: Sequence[TimedContext]
    style: Style
    min_overlap: Fraction
    name: str = "script"

    def caption(self, clip: Row) -> Caption | None:
        """None when nobody acts for ``min_overlap`` seconds of the clip."""
        start, end = clip_span(clip)
        acting = [a for a in self.actions if a.overlap(start, end) >= self.min_overlap]
        if not acting:
            return None
        place = max(self.contexts, key=lambda c: c.overlap(start, end), default=None)
        context = place.text if place is not None and place.overlap(start, end) > 0 else ""
        return Caption(
            actions=tuple(CharacterAction(name=a.character, action=a.action) for a in acting),
            context=context[:1].upper() + context[1:],
            style=self.style,
        )


def clip_span(clip: Row) -> tuple[Fraction, Fraction]:
    """Start and end of a clip in seconds of play from its episode's first frame."""
    time_base = Fraction(clip["time_base_num"], clip["time_base_den"])
    start = (clip["source_pts"][0] - clip["origin_pts"]) * time_base
    return start, start + clip_duration()


def read_script(
    file: FileRef | None, *, names: Mapping[str, str], style: Style, min_overlap: Fraction
) -> ScriptCaptioner:
    """Read a script; ``names`` gives the roster's name for each name and alias (casefolded).

    Without a file no clip gets a caption. Raises BadInput naming the line of each problem.
    """
    if file is None:
        return ScriptCaptioner((), (), style, min_overlap)
    document, lines = read_yaml(file.path)
    try:
        script = _ScriptFile.model_validate(document)
    except ValidationError as error:
        raise invalid(file.path, error, lines) from error
    actions: list[TimedAction] = []
    unknown: list[str] = []
    for index, action in enumerate(script.actions):
        name = names.get(action.character.casefold())
        if name is None:
            line = lines[("actions", index, "character")]
            unknown.append(f"line {line}: nobody is called {action.character!r} in this show")
        else:
            actions.append(action.model_copy(update={"character": name}))
    if unknown:
        raise BadInput(
            "; ".join(unknown),
            where=str(file.path),
            fix=f"Known: {', '.join(sorted(set(names.values())))}.",
        )
    # Stable: actions that start together stay in the order of the file.
    actions.sort(key=lambda action: action.start)
    return ScriptCaptioner(tuple(actions), script.context, style, min_overlap)
