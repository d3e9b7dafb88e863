"""Caption clips from a time-coded action script written by a person, without a model.

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

from mimix_core.domain.caption_grammar import ActionText, Caption, CharacterAction, ContextText
from mimix_core.domain.library import Style
from mimix_core.domain.timeline import clip_duration, parse_seconds
from mimix_core.engine.artifacts import FileRef, FrozenModel
from mimix_core.engine.yaml_files import find_line, read_yaml_file, validation_error
from mimix_core.errors import BadInput
from mimix_core.tables import ClipRow

ExactSeconds = Annotated[Fraction, BeforeValidator(parse_seconds)]


class _TimeRange(FrozenModel):
    start: ExactSeconds
    end: ExactSeconds

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"ends at {float(self.end):g} s, not after its start")
        return self

    def overlap(self, start: Fraction, end: Fraction) -> Fraction:
        """Return the seconds in common with [start, end)."""
        return max(Fraction(0), min(self.end, end) - max(self.start, start))


class TimedAction(_TimeRange):
    """An action of a character from ``start`` to ``end``."""

    character: str
    action: ActionText


class TimedContext(_TimeRange):
    """The context from ``start`` to ``end``."""

    text: ContextText


class ActionScriptFile(FrozenModel):
    """An action script: who does what when, and where it happens."""

    actions: tuple[TimedAction, ...] = ()
    context: tuple[TimedContext, ...] = ()


@dataclass(frozen=True)
class ScriptCaptioner:
    """Captions clips with the actions and the context of the script at the clip's time."""

    actions: Sequence[TimedAction]
    contexts: Sequence[TimedContext]
    style: Style
    min_overlap: Fraction
    name: str = "script"

    def caption_clip(self, clip: ClipRow) -> Caption | None:
        """Caption a clip; None when no action overlaps it by ``min_overlap`` seconds."""
        start, end = clip_time_range(clip)
        acting = [a for a in self.actions if a.overlap(start, end) >= self.min_overlap]
        if not acting:
            return None
        longest = max(self.contexts, key=lambda c: c.overlap(start, end), default=None)
        context = longest.text if longest is not None and longest.overlap(start, end) > 0 else ""
        return Caption(
            actions=tuple(CharacterAction(name=a.character, action=a.action) for a in acting),
            context=context[:1].upper() + context[1:],
            style=self.style,
        )


def clip_time_range(clip: ClipRow) -> tuple[Fraction, Fraction]:
    """Return a clip's start and end in seconds of play from its episode's first frame."""
    time_base = Fraction(clip["time_base_num"], clip["time_base_den"])
    start = (clip["source_pts"][0] - clip["origin_pts"]) * time_base
    return start, start + clip_duration(
        clip["frames"], Fraction(clip["rate_num"], clip["rate_den"])
    )


def load_action_script(
    file: FileRef | None, *, names: Mapping[str, str], style: Style, min_overlap: Fraction
) -> ScriptCaptioner:
    """Load an action script; without a file no clip gets a caption.

    ``names``: the roster's name for each casefolded name and alias. Raises BadInput with the line
    of each problem.
    """
    if file is None:
        return ScriptCaptioner((), (), style, min_overlap)
    document, lines = read_yaml_file(file.path)
    try:
        script = ActionScriptFile.model_validate(document)
    except ValidationError as error:
        raise validation_error(file.path, error, lines) from error
    actions: list[TimedAction] = []
    unknown: list[str] = []
    for index, action in enumerate(script.actions):
        name = names.get(action.character.casefold())
        if name is None:
            line = find_line(lines, ("actions", index, "character"))
            unknown.append(f"line {line}: no character of this show is named {action.character!r}")
        else:
            actions.append(action.model_copy(update={"character": name}))
    if unknown:
        raise BadInput(
            "; ".join(unknown),
            where=str(file.path),
            fix=f"Known: {', '.join(sorted(set(names.values())))}.",
        )
    # A stable sort: actions that start together stay in the order of the file.
    actions.sort(key=lambda action: action.start)
    return ScriptCaptioner(tuple(actions), script.context, style, min_overlap)
