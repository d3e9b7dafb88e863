"""What a vision-language model is sent for one clip; what all clips share stands first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

from mimix_core.domain.library import Style
from mimix_core.domain.timeline import clip_duration
from mimix_core.media.images import PictureSize, blank_jpeg, clip_jpegs, reference_jpeg
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.action_script import ScriptCaptioner, clip_span
from mimix_core.stages.captions.caption_inputs import CharacterFacts, Dialogue, ShowFacts
from mimix_core.stages.captions.prompt_template import Prompt
from mimix_core.stages.captions.response_schema import CaptionAnswer, answer_schema
from mimix_core.tables import Row
from mimix_core.vlm import Image, Message, Question, Text, Video

Parts = tuple[Text | Image | Video, ...]

SCRIPT_MARGIN = Fraction(2)
"""Seconds around a clip whose script lines are told: scripts are timed roughly."""


@dataclass(frozen=True)
class Briefing:
    """What every request about a show begins with, byte for byte: providers bill it less."""

    prompt: Prompt
    settings: CaptionSettings
    show: ShowFacts
    system: Message
    cast: Parts

    def messages(self, *parts: Text | Image | Video) -> tuple[Message, ...]:
        """The request about one clip. One user's message: some servers want strict turns."""
        return (self.system, Message("user", (*self.cast, *parts)))

    def image(self, jpeg: bytes) -> Image:
        return Image(jpeg, detail=self.settings.vlm.image_detail)


def picture_size(settings: CaptionSettings) -> PictureSize:
    return PictureSize(settings.picture_side, settings.jpeg_quality)


def brief(show: ShowFacts, prompt: Prompt, settings: CaptionSettings) -> Briefing:
    """The rules of the prompt, the show, its cast and their reference images.

    Raises BadInput for a reference that is no image.
    """
    system = Message("system", (Text(prompt.text("system")),))
    cast = Text(prompt.text("show", show=show.model_dump(mode="json")))
    briefing = Briefing(prompt, settings, show, system, (cast,))
    pictures = [part for one in show.characters for part in references(one, briefing)]
    return Briefing(prompt, settings, show, system, (cast, *pictures))


def references(character: CharacterFacts, briefing: Briefing) -> Parts:
    """A character's reference images, each after a line that says whom it shows."""
    size = picture_size(briefing.settings)
    label = Text(briefing.prompt.text("reference", name=character.name))
    return tuple(
        part
        for file in character.references
        for part in (label, briefing.image(reference_jpeg(file.path, size)))
    )


def clip_pictures(path: Path, clip: Row, briefing: Briefing) -> Parts:
    """What the model sees of a clip: frames, or the file. Raises UnreadableVideo."""
    settings = briefing.settings
    if settings.send == "video":
        return (Video(path, settings.video_fps, clip["sha256"]),)
    jpegs = clip_jpegs(path, clip["frames"], settings.frames, picture_size(settings))
    return tuple(briefing.image(jpeg) for jpeg in jpegs)


def blank_pictures(briefing: Briefing, width: int, height: int) -> Parts:
    """As many pictures as a clip has sent, grey, and as costly; for estimates."""
    settings = briefing.settings
    count = settings.frames
    if settings.send == "video":
        count = ceil(settings.video_fps * clip_duration())
    return (briefing.image(blank_jpeg(width, height, picture_size(settings))),) * count


def clip_text(
    briefing: Briefing,
    clip: Row,
    *,
    dialogue: Dialogue,
    script: Sequence[str] = (),
    plot: str = "",
    before: str = "",
) -> Text:
    """All that is said about one clip, before its pictures."""
    return Text(
        briefing.prompt.text(
            "clip",
            plot=plot,
            script=script,
            before=before,
            dialogue=[
                f"{start / 1000:.1f} to {end / 1000:.1f}: {text}"
                for start, end, text in dialogue.lines
            ],
            dialogue_known=dialogue.known,
            **shown(briefing, clip),
        )
    )


def shown(briefing: Briefing, clip: Row) -> dict[str, Any]:
    """How many pictures follow, and the seconds they cover, for the prompt."""
    settings = briefing.settings
    seconds = Fraction(clip["frames"] * clip["rate_den"], clip["rate_num"])
    frames = min(settings.frames, clip["frames"]) if settings.send == "frames" else 0
    return {"frames": frames, "seconds": f"{float(seconds):.2f}"}


def script_lines(script: ScriptCaptioner, clip: Row) -> list[str]:
    """What a script says about a clip's time and a little around it, in seconds of the clip."""
    start, end = clip_span(clip)
    from_, to = start - SCRIPT_MARGIN, end + SCRIPT_MARGIN
    lines = [
        f"{float(a.start - start):.1f} to {float(a.end - start):.1f}: {a.character} {a.action}"
        for a in script.actions
        if a.overlap(from_, to) > 0
    ]
    return lines + [
        f"{float(c.start - start):.1f} to {float(c.end - start):.1f}: {c.text}"
        for c in script.contexts
        if c.overlap(from_, to) > 0
    ]


def question(
    name: str,
    messages: tuple[Message, ...],
    roster: Sequence[str],
    style: Style,
    settings: CaptionSettings,
) -> Question[CaptionAnswer]:
    """The request itself: the answer's form allows no name but the roster's."""
    vlm = settings.vlm
    return Question(
        id=name,
        messages=messages,
        answer=CaptionAnswer,
        schema=answer_schema(roster, style),
        max_output_tokens=vlm.max_output_tokens,
        temperature=vlm.temperature,
        reasoning_effort=vlm.reasoning_effort,
    )
