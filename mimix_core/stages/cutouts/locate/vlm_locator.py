"""Backend ``vlm``: ask a vision-language model for boxes in some frames of each clip.

The paper located cartoon characters with Gemini (section 3.2). All clips of an episode are sent in
one batch; a response is paid once and cached (``mimix_core.vlm``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from mimix_core.engine import progress
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.media import UnreadableVideo, read_rgb
from mimix_core.media.images import (
    GRAY,
    JpegOptions,
    encode_jpeg,
    evenly_spaced_indices,
    load_reference_image,
)
from mimix_core.settings.locator_settings import VlmLocatorSettings
from mimix_core.stages.cutouts.locate.box_track import (
    BoxDetection,
    BoxTrack,
    clip_box,
    empty_track,
    interpolate_detections,
)
from mimix_core.stages.cutouts.locate.locator_inputs import VlmLocatorInputs
from mimix_core.tables import ClipRow
from mimix_core.vlm import (
    ChatMessage,
    ImagePart,
    TextPart,
    VlmOutcome,
    VlmRequest,
    run_requests,
    strict_schema,
)
from mimix_core.vlm.failure_policy import FailurePolicy

ClipCharacters = Sequence[tuple[ClipRow, Sequence[str]]]
"""Clips, each with the characters to locate in it."""

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


# The docstrings of PredictedBox and PredictedBoxes are sent to the model as descriptions of the
# schema: changing them invalidates cached responses.
class PredictedBox(FrozenModel):
    """One box as the model gives it. ``frame`` counts from 1."""

    frame: int = Field(ge=1)
    character: str
    left: float = Field(ge=0, le=1)
    top: float = Field(ge=0, le=1)
    right: float = Field(ge=0, le=1)
    bottom: float = Field(ge=0, le=1)
    certainty: int = Field(ge=0, le=100)

    @model_validator(mode="after")
    def _check_sides(self) -> Self:
        if not (self.left < self.right and self.top < self.bottom):
            raise ValueError("left is not less than right, or top not less than bottom")
        return self


class PredictedBoxes(FrozenModel):
    """The model's answer about one clip."""

    boxes: tuple[PredictedBox, ...]

    @model_validator(mode="after")
    def _check_duplicates(self) -> Self:
        duplicates = [
            f"{name} in frame {frame}"
            for (frame, name), n in Counter((b.frame, b.character) for b in self.boxes).items()
            if n > 1
        ]
        if duplicates:
            raise ValueError(f"more than one box of {', '.join(duplicates[:3])}")
        return self


class VlmLocator:
    """Locate characters with a vision-language model; scores are its certainties.

    The first call of ``locate`` sends the requests of all clips.
    """

    def __init__(self, inputs: VlmLocatorInputs, folder: Path, requests: ClipCharacters) -> None:
        """Raises BadInput for an unreadable reference image."""
        self._settings, self._folder = inputs.settings, folder
        self._response_cache = inputs.response_cache
        self._requests = {clip["clip_id"]: (clip, tuple(names)) for clip, names in requests}
        self._characters = {character.name: character for character in inputs.characters}
        self._reference_images = {
            name: tuple(
                self._image(load_reference_image(file.path, GRAY)) for file in character.references
            )
            for name, character in self._characters.items()
        }
        self._tracks: dict[str, dict[str, BoxTrack]] | None = None

    @property
    def name(self) -> str:
        return f"vlm/{self._settings.vlm.backend}"

    def locate(self, clip: ClipRow, characters: Sequence[str]) -> dict[str, BoxTrack]:
        """Raises BadInput when the budget is spent or the provider rejects every request, Transient
        when too many clips get no response. Responses so far stay in the cache.
        """
        if self._tracks is None:
            self._tracks = self._locate_all()
        tracks = self._tracks[clip["clip_id"]]
        return {name: tracks[name] for name in characters}

    def _locate_all(self) -> dict[str, dict[str, BoxTrack]]:
        tracks: dict[str, dict[str, BoxTrack]] = {}
        pending = {clip_id: request for clip_id, request in self._requests.items() if request[1]}
        policy = FailurePolicy(
            self._settings.max_failure_rate,
            items="clips",
            rejection_fix="Check cutouts.vlm: the model may not support images or a JSON schema.",
        )

        def build_requests() -> Iterator[VlmRequest[PredictedBoxes]]:
            for clip, names in pending.values():
                try:
                    yield self._build_request(clip, names)
                except UnreadableVideo as error:
                    tracks[clip["clip_id"]] = {
                        name: empty_track(clip["frames"], str(error)) for name in names
                    }

        outcomes = run_requests(
            build_requests(), self._settings.vlm, self._response_cache, len(pending)
        )
        with policy.apply(
            "cutouts.vlm", lambda: f"{len(tracks)} of {len(pending)} clips are located"
        ) as tally:
            for outcome in outcomes:
                clip, names = pending[outcome.id]
                tally.record(outcome)
                tracks[outcome.id] = self._parse_outcome(outcome, clip, names)
                progress.report_progress(len(tracks), len(pending), f"{outcome.id} asked")
        return tracks

    def _parse_outcome(
        self, outcome: VlmOutcome[PredictedBoxes], clip: ClipRow, names: Sequence[str]
    ) -> dict[str, BoxTrack]:
        if outcome.response is None:
            return {name: empty_track(clip["frames"], str(outcome.error)) for name in names}
        return build_tracks(outcome.response.value, clip, names, self._settings)

    def _build_request(self, clip: ClipRow, names: Sequence[str]) -> VlmRequest[PredictedBoxes]:
        frames_NHWC = read_rgb(self._folder / clip["file"])
        numbers = evenly_spaced_indices(len(frames_NHWC), self._settings.num_frames)
        frames: list[TextPart | ImagePart] = []
        for position, number in enumerate(numbers, start=1):
            frames += [TextPart(f"Frame {position}"), self._image(frames_NHWC[number])]
        vlm = self._settings.vlm
        return VlmRequest(
            id=clip["clip_id"],
            messages=(
                ChatMessage("system", (TextPart(_SYSTEM),)),
                ChatMessage("user", (*self._cast_parts(), TextPart(_instruction(names)), *frames)),
            ),
            response_model=PredictedBoxes,
            schema=box_response_schema(names, len(numbers)),
            max_output_tokens=vlm.max_output_tokens,
            temperature=vlm.temperature,
            reasoning_effort=vlm.reasoning_effort,
        )

    def _cast_parts(self) -> list[TextPart | ImagePart]:
        """The show's characters, identical in every request so providers can cache the prefix."""
        parts: list[TextPart | ImagePart] = []
        for name, character in self._characters.items():
            description = f": {character.description}" if character.description else ""
            label = f"Character {name}{description}"
            parts += [TextPart(label), *self._reference_images[name]]
        return parts

    def _image(self, image_HWC: Any) -> ImagePart:
        settings = self._settings
        data = encode_jpeg(image_HWC, JpegOptions(settings.image_size, settings.jpeg_quality))
        return ImagePart(data, detail=settings.vlm.image_detail)


def _instruction(names: Sequence[str]) -> str:
    return f"Locate: {', '.join(names)}. The frames follow."


def box_response_schema(names: Sequence[str], frames: int) -> dict[str, Any]:
    """Build the response schema: only ``names``, only frames 1 to ``frames``."""
    schema = strict_schema(PredictedBoxes)
    box = schema["properties"]["boxes"]["items"]["properties"]
    box["character"]["enum"] = list(names)
    box["frame"]["maximum"] = frames
    return schema


def build_tracks(
    response: PredictedBoxes, clip: ClipRow, names: Sequence[str], settings: VlmLocatorSettings
) -> dict[str, BoxTrack]:
    """Convert the response for a clip to box tracks.

    Boxes of characters or frames outside the request, and those below the minimum certainty, are
    ignored.
    """
    numbers = evenly_spaced_indices(clip["frames"], settings.num_frames)
    width, height = clip["width"], clip["height"]
    detections: dict[str, dict[int, BoxDetection]] = {name: {} for name in names}
    for predicted in response.boxes:
        if predicted.character not in detections or predicted.frame > len(numbers):
            continue
        sides = (
            predicted.left * width,
            predicted.top * height,
            predicted.right * width,
            predicted.bottom * height,
        )
        box = clip_box(sides, width, height)
        if box is not None and predicted.certainty >= settings.min_confidence:
            frame = numbers[predicted.frame - 1]
            detections[predicted.character][frame] = BoxDetection(box, predicted.certainty / 100)
    return {
        name: interpolate_detections(found, clip["frames"], settings.max_gap)
        for name, found in detections.items()
    }
