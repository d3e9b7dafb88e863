"""What captioning will take, told before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from mimix_core.domain.timeline import CLIP_FRAMES, CLIP_RATE, clip_duration
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.caption_inputs import Dialogue, ShowFacts
from mimix_core.stages.captions.prompt_template import Prompt
from mimix_core.stages.captions.vlm_prompt import blank_pictures, brief, clip_text, question
from mimix_core.vlm import Estimate, Question, estimate

# Five seconds of talk without a pause are some twelve words; most clips have less.
_TALK = "a dozen words of talk, such as fill the five seconds of a clip"


@dataclass(frozen=True)
class ShowCost:
    """Clips of one show and what captioning them takes. ``exact``: the clips are there and counted;
    else the episodes' length bounds them."""

    show: str
    clips: int
    exact: bool
    takes: Estimate


def clips_at_most(seconds: Fraction, stride: Decimal | None) -> int:
    """How many clips an episode of that length can give, were it a single scene."""
    duration = clip_duration()
    if seconds < duration:
        return 0
    return int((seconds - duration) // (duration if stride is None else Fraction(stride))) + 1


def show_cost(
    show: ShowFacts,
    clips: int,
    *,
    exact: bool,
    prompt: Prompt,
    settings: CaptionSettings,
    size: tuple[int, int],
) -> ShowCost:
    """What ``clips`` clips of ``size`` (width, height) take: one request each, none asked again.

    Raises BadInput for a reference that is no image, or a budget without a known price.
    """
    sample = _sample(show, prompt, settings, size)
    return ShowCost(show.id, clips, exact, estimate([sample], clips, settings.vlm))


def _sample(
    show: ShowFacts, prompt: Prompt, settings: CaptionSettings, size: tuple[int, int]
) -> Question[Any]:
    """A request as a clip of the show has, with grey pictures."""
    clip = {
        "frames": CLIP_FRAMES,
        "rate_num": CLIP_RATE.numerator,
        "rate_den": CLIP_RATE.denominator,
    }
    briefing = brief(show, prompt, settings)
    heard = Dialogue(known=True, text=_TALK, lines=((0, 5000, _TALK),))
    text = clip_text(briefing, clip, dialogue=heard)
    messages = briefing.messages(text, *blank_pictures(briefing, *size))
    return question("sample", messages, show.roster(), show.style, settings)
