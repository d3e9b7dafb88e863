"""Build the request for one clip's caption; the part that all clips of a show share comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any, TypedDict

from mimix_core.domain.library import Style
from mimix_core.media.images import (
    JpegOptions,
    encode_clip_jpegs,
    encode_gray_jpeg,
    load_reference_jpeg,
)
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.action_script import ScriptCaptioner, clip_time_range
from mimix_core.stages.captions.caption_inputs import CharacterProfile, ClipDialogue, ShowProfile
from mimix_core.stages.captions.prompt_template import PromptTemplate
from mimix_core.stages.captions.response_schema import CaptionResponse, build_response_schema
from mimix_core.tables import ClipRow
from mimix_core.vlm import ChatMessage, ImagePart, TextPart, VideoPart, VlmRequest

MessageParts = tuple[TextPart | ImagePart | VideoPart, ...]

SCRIPT_MARGIN = Fraction(2)
"""Seconds around a clip from which script lines are included: script times are approximate."""


class ClipVideo(TypedDict):
    """The columns of a clip's or composite's row that a request needs."""

    frames: int
    rate_num: int
    rate_den: int
    sha256: str


@dataclass(frozen=True)
class ShowPrompt:
    """The common start of all requests about a show, byte for byte: cached input costs less."""

    template: PromptTemplate
    settings: CaptionSettings
    show: ShowProfile
    system: ChatMessage
    cast: MessageParts

    def build_messages(self, *parts: TextPart | ImagePart | VideoPart) -> tuple[ChatMessage, ...]:
        """Build the messages about one clip, with a single user message.

        Some servers require that user and assistant alternate.
        """
        return (self.system, ChatMessage("user", (*self.cast, *parts)))

    def image_part(self, jpeg: bytes) -> ImagePart:
        """Return the image with the detail level of the settings."""
        return ImagePart(jpeg, detail=self.settings.vlm.image_detail)


def jpeg_options(settings: CaptionSettings) -> JpegOptions:
    """Return the size and quality of the images in requests."""
    return JpegOptions(settings.image_size, settings.jpeg_quality)


def build_show_prompt(
    show: ShowProfile, template: PromptTemplate, settings: CaptionSettings
) -> ShowPrompt:
    """Build the instructions, the show and its cast with their reference images.

    Raises BadInput for a reference that is not an image.
    """
    system = ChatMessage("system", (TextPart(template.render("system")),))
    cast = TextPart(template.render("show", show=show.model_dump(mode="json")))
    prompt = ShowPrompt(template, settings, show, system, (cast,))
    references = [part for c in show.characters for part in reference_parts(c, prompt)]
    return ShowPrompt(template, settings, show, system, (cast, *references))


def reference_parts(character: CharacterProfile, prompt: ShowPrompt) -> MessageParts:
    """Return a character's reference images, each after a line with the character's name."""
    options = jpeg_options(prompt.settings)
    label = TextPart(prompt.template.render("reference", name=character.name))
    return tuple(
        part
        for file in character.references
        for part in (label, prompt.image_part(load_reference_jpeg(file.path, options)))
    )


def clip_image_parts(path: Path, clip: ClipVideo, prompt: ShowPrompt) -> MessageParts:
    """Return a clip's frames or, by the settings, its video. Raises UnreadableVideo."""
    settings = prompt.settings
    if settings.visual_input == "video":
        return (VideoPart(path, settings.video_fps, clip["sha256"]),)
    jpegs = encode_clip_jpegs(path, clip["frames"], settings.num_frames, jpeg_options(settings))
    return tuple(prompt.image_part(jpeg) for jpeg in jpegs)


def blank_image_parts(
    prompt: ShowPrompt, seconds: Fraction, width: int, height: int
) -> MessageParts:
    """Return as many gray images as a clip of ``seconds`` has in a request, to estimate costs."""
    settings = prompt.settings
    count = settings.num_frames
    if settings.visual_input == "video":
        count = ceil(settings.video_fps * seconds)
    return (prompt.image_part(encode_gray_jpeg(width, height, jpeg_options(settings))),) * count


def clip_text_part(
    prompt: ShowPrompt,
    clip: ClipVideo,
    *,
    dialogue: ClipDialogue,
    script: Sequence[str] = (),
    plot: str = "",
    previous_caption: str = "",
) -> TextPart:
    """Render the text about one clip, which precedes its images."""
    return TextPart(
        prompt.template.render(
            "clip",
            plot=plot,
            script=script,
            before=previous_caption,
            dialogue=[
                f"{start / 1000:.1f} to {end / 1000:.1f}: {text}"
                for start, end, text in dialogue.lines
            ],
            dialogue_known=dialogue.available,
            **visual_input_values(prompt, clip),
        )
    )


def visual_input_values(prompt: ShowPrompt, clip: ClipVideo) -> dict[str, Any]:
    """Return the template's values for the number of images and the seconds that they cover."""
    settings = prompt.settings
    seconds = Fraction(clip["frames"] * clip["rate_den"], clip["rate_num"])
    frames = min(settings.num_frames, clip["frames"]) if settings.visual_input == "frames" else 0
    return {"frames": frames, "seconds": f"{float(seconds):.2f}"}


def nearby_script_lines(script: ScriptCaptioner, clip: ClipRow) -> list[str]:
    """Return the script's lines within ``SCRIPT_MARGIN`` of a clip, in seconds of the clip."""
    start, end = clip_time_range(clip)
    first, last = start - SCRIPT_MARGIN, end + SCRIPT_MARGIN
    lines = [
        f"{float(a.start - start):.1f} to {float(a.end - start):.1f}: {a.character} {a.action}"
        for a in script.actions
        if a.overlap(first, last) > 0
    ]
    return lines + [
        f"{float(c.start - start):.1f} to {float(c.end - start):.1f}: {c.text}"
        for c in script.contexts
        if c.overlap(first, last) > 0
    ]


def build_caption_request(
    name: str,
    messages: tuple[ChatMessage, ...],
    roster: Sequence[str],
    style: Style,
    settings: CaptionSettings,
    retry: int = 0,
) -> VlmRequest[CaptionResponse]:
    """Build the request with a response schema that allows only names of the roster."""
    vlm = settings.vlm
    return VlmRequest(
        id=name,
        messages=messages,
        response_model=CaptionResponse,
        schema=build_response_schema(roster, style),
        max_output_tokens=vlm.max_output_tokens,
        temperature=vlm.temperature,
        reasoning_effort=vlm.reasoning_effort,
        retry=retry,
    )
