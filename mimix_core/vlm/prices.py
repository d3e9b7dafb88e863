"""What tokens cost, and what a run of many questions will."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from mimix_core.errors import BadInput
from mimix_core.settings.vlm_settings import PriceSettings, VlmSettings
from mimix_core.vlm.protocol import Image, Question, Text, Usage, Video

MILLION = Decimal(1_000_000)


@cache
def _table() -> dict[str, Any]:
    text = files("mimix_core.vlm").joinpath("prices.yaml").read_text(encoding="utf-8")
    table = yaml.safe_load(text)
    assert isinstance(table, dict)
    return table


def price_of(settings: VlmSettings) -> PriceSettings | None:
    """The price of the settings' model: theirs, else the table's; None when nobody knows it.

    A dated name (``gpt-4o-2024-08-06``) costs what the model does. A model on another server than
    the provider's own is never taken for one of the table. Raises BadInput for a budget that
    cannot be kept because the price is not known.
    """
    price = settings.price or (_listed(settings.model) if settings.base_url is None else None)
    if price is None and settings.budget_usd is not None:
        raise BadInput(
            f"a budget is set, but no price of the model {settings.model} is known",
            where="budget_usd",
            fix="set `price` (input, cached and output, US dollars for a million tokens)",
        )
    if price is None or settings.mode == "live" or settings.price is not None:
        return price
    share = Decimal(_table()["batch_share"])
    return PriceSettings(
        input=price.input * share, cached=price.cached * share, output=price.output * share
    )


def _listed(model: str) -> PriceSettings | None:
    found = _table()["models"].get(_plain(model))
    if found is None:
        return None
    return PriceSettings(
        input=Decimal(found[0]), cached=Decimal(found[1]), output=Decimal(found[2])
    )


def cost(usage: Usage, price: PriceSettings | None) -> Decimal | None:
    """US dollars for these tokens; None without a price."""
    if price is None:
        return None
    fresh = usage.input_tokens - usage.cached_tokens
    return (
        fresh * price.input
        + usage.cached_tokens * price.cached
        + usage.output_tokens * price.output
    ) / MILLION


def _plain(model: str) -> str:
    """A model's name without its date."""
    return re.sub(r"-\d{4}-\d{2}-\d{2}$", "", model.removeprefix("models/"))


# By the providers' own rules for pictures of up to 768 pixels, rounded up; a text token is about
# four letters of English, so that three of them are never too few.
_LETTERS_A_TOKEN = 3
_TILE, _TILE_TOKENS, _BASE_TOKENS = 512, 170, 85
_GEMINI_PICTURE_TOKENS = 258
_PART_TOKENS = 8


def input_tokens(question: Question[Any], settings: VlmSettings) -> int:
    """An upper guess at the tokens of what is sent. The reply tells the true count."""
    total = -(-len(json.dumps(question.schema)) // _LETTERS_A_TOKEN)
    for message in question.messages:
        for part in message.parts:
            total += _PART_TOKENS + _part_tokens(part, settings)
    return total


def _part_tokens(part: Text | Image | Video, settings: VlmSettings) -> int:
    match part:
        case Text(text):
            return -(-len(text.encode()) // _LETTERS_A_TOKEN)
        case Image() if settings.backend == "openai":
            tiles = 0
            if part.detail != "low":
                width, height = _size(part.jpeg)
                tiles = min(8, -(-width // _TILE) * -(-height // _TILE))
            factor = float(_table()["picture_factor"].get(_plain(settings.model), 1))
            return math.ceil((_BASE_TOKENS + _TILE_TOKENS * tiles) * factor)
        case Image():
            return _GEMINI_PICTURE_TOKENS
        case Video():
            # Each frame is a picture; the sound is 32 tokens a second.
            return int(_seconds(part) * (_GEMINI_PICTURE_TOKENS * part.fps + 32)) + 300


def _size(jpeg: bytes) -> tuple[int, int]:
    """Width and height. Raises BadInput for bytes that are no picture."""
    from PIL import Image as Picture
    from PIL import UnidentifiedImageError

    try:
        with Picture.open(io.BytesIO(jpeg)) as picture:
            return picture.size
    except UnidentifiedImageError:
        raise BadInput("a picture of a question cannot be read as one") from None


def _seconds(video: Video) -> float:
    import av

    with av.open(str(video.path)) as container:
        return float((container.duration or 0) / av.time_base)


@dataclass(frozen=True)
class Estimate:
    """What ``questions`` questions will take. ``cost_usd`` is None when no price is known.

    ``most_usd``: when every answer is as long as it may be.
    """

    questions: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal | None
    most_usd: Decimal | None


# A caption of a few characters is some 80 tokens of JSON; what reasoning adds is not in it.
_USUAL_OUTPUT_TOKENS = 120


def estimate(sample: Sequence[Question[Any]], count: int, settings: VlmSettings) -> Estimate:
    """Scale a sample of questions up to ``count``, before any of them is sent.

    Nothing is taken as cached by the provider. Raises BadInput for an empty sample.
    """
    if not sample:
        raise BadInput("no question to estimate from", fix="give at least one")
    price = price_of(settings)
    asked = -(-sum(input_tokens(one, settings) for one in sample) * count // len(sample))
    most = -(-sum(one.max_output_tokens for one in sample) * count // len(sample))
    usual = min(most, _USUAL_OUTPUT_TOKENS * count)
    return Estimate(
        questions=count,
        input_tokens=asked,
        output_tokens=usual,
        cost_usd=cost(Usage(asked, 0, usual), price),
        most_usd=cost(Usage(asked, 0, most), price),
    )
