"""Backend ``vlm``: a vision-language model is shown some frames and asked for boxes.

The paper located cartoon characters with Gemini (section 3.2). All clips of an episode are asked at
once; what was answered once is never paid again (``mimix_core.vlm``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from mimix_core.engine import progress
from mimix_core.engine.artifacts import Frozen
from mimix_core.errors import BadInput, Transient
from mimix_core.media import UnreadableVideo, read_rgb
from mimix_core.media.images import GREY, PictureSize, encode, reference_rgb
from mimix_core.settings.locator_settings import VlmLocatorSettings
from mimix_core.stages.cutouts.locate.box_track import Located, Sighting, joined, nowhere, within
from mimix_core.stages.cutouts.locate.locator_inputs import VlmInputs
from mimix_core.tables import Row
from mimix_core.vlm import (
    Image,
    Message,
    Outcome,
    Question,
    RejectedRequest,
    Text,
    VlmError,
    ask_all,
    strict_schema,
)

Wanted = Sequence[tuple[Row, Sequence[str]]]
"""Clips, and the characters that are to be located in each."""

_SYSTEM = """\
You locate characters in frames of a film. You are shown reference images of its characters, then \
numbered frames of one shot, in order.

Give one box for each listed character in each frame in which it is seen. The box is the smallest \
upright rectangle that holds all of the character that is seen in the frame, ears, tail and limbs \
included, and of what it holds in its hands nothing more than needed. Its sides are fractions of \
the frame's width and height: left and top are 0 at the frame's left and top border, right and \
bottom are 1 at the opposite ones.

certainty: how sure you are, in percent, that this is the character and that the box is right. \
Give no box for a character that is not seen in a frame or that you cannot tell from another: a \
missing box does no harm, a wrong one does."""


class SeenBox(Frozen):
    """One box as the model gives it. ``frame`` counts from 1."""

    frame: int = Field(ge=1)
    character: str
    left: float = Field(ge=0, le=1)
    top: float = Field(ge=0, le=1)
    right: float = Field(ge=0, le=1)
    bottom: float = Field(ge=0, le=1)
    certainty: int = Field(ge=0, le=100)

    @model_validator(mode="after")
    def _is_a_box(self) -> Self:
        if not (self.left < self.right and self.top < self.bottom):
            raise ValueError("left is not less than right, or top not less than bottom")
        return self


class SeenBoxes(Frozen):
    """The model's answer about one clip."""

    boxes: tuple[SeenBox, ...]

    @model_validator(mode="after")
    def _one_a_frame(self) -> Self:
        twice = [
            f"{name} in frame {frame}"
            for (frame, name), n in Counter((b.frame, b.character) for b in self.boxes).items()
            if n > 1
        ]
        if twice:
            raise ValueError(f"more than one box of {', '.join(twice[:3])}")
        return self


class VlmLocator:
    """Asks for all clips when the first one is located. Scores are certainties."""

    def __init__(self, inputs: VlmInputs, folder: Path, wanted: Wanted) -> None:
        """Raises BadInput for a reference that is no image."""
        self._settings, self._answers, self._folder = inputs.settings, inputs.answers, folder
        self._wanted = {clip["clip_id"]: (clip, tuple(names)) for clip, names in wanted}
        known = {one.name: one for one in inputs.characters}
        self._known = known
        self._pictures = {
            name: tuple(self._image(reference_rgb(file.path, GREY)) for file in one.references)
            for name, one in known.items()
        }
        self._told: dict[str, dict[str, Located]] | None = None

    @property
    def name(self) -> str:
        return f"vlm/{self._settings.vlm.backend}"

    def locate(self, clip: Row, characters: Sequence[str]) -> dict[str, Located]:
        """Raises BadInput when the budget is spent or no request is taken, Transient when too many
        clips get no answer: all answers so far are kept.
        """
        if self._told is None:
            self._told = self._ask()
        told = self._told[clip["clip_id"]]
        return {name: told[name] for name in characters}

    def _ask(self) -> dict[str, dict[str, Located]]:
        told: dict[str, dict[str, Located]] = {}
        asked = {name: one for name, one in self._wanted.items() if one[1]}
        errors: dict[str, VlmError] = {}
        fresh = 0

        def questions() -> Iterator[Question[SeenBoxes]]:
            for clip, names in asked.values():
                try:
                    yield self._question(clip, names)
                except UnreadableVideo as error:
                    told[clip["clip_id"]] = {
                        name: nowhere(clip["frames"], str(error)) for name in names
                    }

        outcomes = ask_all(questions(), self._settings.vlm, self._answers, len(asked))
        for outcome in outcomes:
            clip, names = asked[outcome.id]
            if outcome.error is not None:
                errors[outcome.id] = outcome.error
            fresh += outcome.reply is not None and not outcome.reply.cached
            told[outcome.id] = self._read(outcome, clip, names)
            progress.advance(len(told), len(asked), f"{outcome.id} asked")
        self._not_an_outage(errors, len(asked), fresh)
        return told

    def _not_an_outage(self, errors: Mapping[str, VlmError], asked: int, fresh: int) -> None:
        """A clip that the server chokes on is its own failure; a server that takes none is not."""
        rejected = [e for e in errors.values() if isinstance(e, RejectedRequest)]
        if rejected and len(rejected) == asked:
            raise BadInput(
                f"the provider takes no request: {rejected[0]}",
                fix="See cutouts.vlm: the model may read no pictures, or no JSON schema",
            )
        gone = {name: e for name, e in errors.items() if isinstance(e, Transient)}
        bound = max(1, self._settings.unavailable_share * asked) if fresh else 0
        if len(gone) > bound:
            name, error = next(iter(sorted(gone.items())))
            raise Transient(
                f"{len(gone)} of {asked} clips got no answer, {name} for one: {error}. All other "
                "answers are kept: run it again"
            )

    def _read(
        self, outcome: Outcome[SeenBoxes], clip: Row, names: Sequence[str]
    ) -> dict[str, Located]:
        if outcome.reply is None:
            return {name: nowhere(clip["frames"], str(outcome.error)) for name in names}
        return tracks(outcome.reply.value, clip, names, self._settings)

    def _question(self, clip: Row, names: Sequence[str]) -> Question[SeenBoxes]:
        frames_NHWC = read_rgb(self._folder / clip["file"])
        numbers = evenly(len(frames_NHWC), self._settings.frames)
        shown: list[Text | Image] = []
        for place, number in enumerate(numbers, start=1):
            shown += [Text(f"Frame {place}"), self._image(frames_NHWC[number])]
        vlm = self._settings.vlm
        return Question(
            id=clip["clip_id"],
            messages=(
                Message("system", (Text(_SYSTEM),)),
                Message("user", (*self._cast(), Text(_asked_for(names)), *shown)),
            ),
            answer=SeenBoxes,
            schema=answer_schema(names, len(numbers)),
            max_output_tokens=vlm.max_output_tokens,
            temperature=vlm.temperature,
            reasoning_effort=vlm.reasoning_effort,
        )

    def _cast(self) -> list[Text | Image]:
        """The show's characters: the same in every request, so that providers bill it less."""
        parts: list[Text | Image] = []
        for name, one in self._known.items():
            said = f"Character {name}" + (f": {one.description}" if one.description else "")
            parts += [Text(said), *self._pictures[name]]
        return parts

    def _image(self, image_HWC: Any) -> Image:
        settings = self._settings
        data = encode(image_HWC, PictureSize(settings.picture_side, settings.jpeg_quality))
        return Image(data, detail=settings.vlm.image_detail)


def _asked_for(names: Sequence[str]) -> str:
    return f"Locate: {', '.join(names)}. The frames follow."


def answer_schema(names: Sequence[str], frames: int) -> dict[str, Any]:
    """The answer's form: no name but ``names``, no frame but 1 to ``frames``."""
    schema = strict_schema(SeenBoxes)
    box = schema["properties"]["boxes"]["items"]["properties"]
    box["character"]["enum"] = list(names)
    box["frame"]["maximum"] = frames
    return schema


def evenly(frames: int, count: int) -> list[int]:
    """``count`` frame numbers from the first to the last, evenly; all when there are no more."""
    count = min(count, frames)
    return [number * (frames - 1) // (count - 1) for number in range(count)]


def tracks(
    answer: SeenBoxes, clip: Row, names: Sequence[str], settings: VlmLocatorSettings
) -> dict[str, Located]:
    """The answer about a clip, as boxes over its frames.

    Boxes of somebody or of a frame that was not asked for, and those that the model is not sure of
    enough, count for nothing.
    """
    numbers = evenly(clip["frames"], settings.frames)
    width, height = clip["width"], clip["height"]
    seen: dict[str, dict[int, Sighting]] = {name: {} for name in names}
    for one in answer.boxes:
        if one.character not in seen or one.frame > len(numbers):
            continue
        sides = (one.left * width, one.top * height, one.right * width, one.bottom * height)
        box = within(sides, width, height)
        if box is not None and one.certainty >= settings.min_certainty:
            seen[one.character][numbers[one.frame - 1]] = Sighting(box, one.certainty / 100)
    return {name: joined(found, clip["frames"], settings.max_gap) for name, found in seen.items()}
