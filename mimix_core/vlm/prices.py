"""Compute the cost of tokens, and estimate the cost of many requests."""

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
from mimix_core.vlm.protocol import ImagePart, ModelInput, TextPart, TokenUsage, VideoPart

MILLION = Decimal(1_000_000)


@cache
def _table() -> dict[str, Any]:
    text = files("mimix_core.vlm").joinpath("prices.yaml").read_text(encoding="utf-8")
    table = yaml.safe_load(text)
    assert isinstance(table, dict)
    return table


def model_price(settings: VlmSettings) -> PriceSettings | None:
    """Return the price of the model, from the settings or the price table; None if unknown.

    A dated name (``gpt-4o-2024-08-06``) has the price of the undated model. The table does not
    apply to models on servers other than the provider's. Raises BadInput for a budget without a
    known price, which could not be enforced.
    """
    price = settings.price or (_table_price(settings.model) if settings.base_url is None else None)
    if price is None and settings.budget_usd is not None:
        raise BadInput(
            f"a budget is set, but the price of the model {settings.model} is unknown",
            where="budget_usd",
            fix="set `price` (input, cached and output, in US dollars per million tokens)",
        )
    if price is None or settings.mode == "live" or settings.price is not None:
        return price
    share = Decimal(_table()["batch_share"])
    return PriceSettings(
        input=price.input * share, cached=price.cached * share, output=price.output * share
    )


def estimate_output_tokens(text: str) -> int:
    """Estimate the tokens of a received text, from above for most languages."""
    return -(-len(text.encode()) // 3)


def _table_price(model: str) -> PriceSettings | None:
    prices = _table()["models"].get(_undated(model))
    if prices is None:
        return None
    return PriceSettings(
        input=Decimal(prices[0]), cached=Decimal(prices[1]), output=Decimal(prices[2])
    )


def compute_cost(usage: TokenUsage, price: PriceSettings | None) -> Decimal | None:
    """Compute the cost of tokens in US dollars; None without a price."""
    if price is None:
        return None
    uncached_tokens = usage.input_tokens - usage.cached_tokens
    return (
        uncached_tokens * price.input
        + usage.cached_tokens * price.cached
        + usage.output_tokens * price.output
    ) / MILLION


def _undated(model: str) -> str:
    """Return a model's name without its date."""
    return re.sub(r"-\d{4}-\d{2}-\d{2}$", "", model.removeprefix("models/"))


# The providers' rules for images of up to 768 pixels, rounded up. A token is about four characters
# of English text; counting three gives an upper bound.
_CHARACTERS_PER_TOKEN = 3
_TILE, _TILE_TOKENS, _BASE_TOKENS = 512, 170, 85
_GEMINI_IMAGE_TOKENS = 258
GEMINI_VIDEO_FPS = 1.0
"""Gemini's own rate, for a video without one."""
_PART_TOKENS = 8


def estimate_input_tokens(request: ModelInput, settings: VlmSettings) -> int:
    """Return an upper estimate of a request's input tokens."""
    total = -(-len(json.dumps(request.schema)) // _CHARACTERS_PER_TOKEN)
    for message in request.messages:
        for part in message.parts:
            total += _PART_TOKENS + _part_tokens(part, settings)
    return total


def _part_tokens(part: TextPart | ImagePart | VideoPart, settings: VlmSettings) -> int:
    match part:
        case TextPart(text):
            return -(-len(text.encode()) // _CHARACTERS_PER_TOKEN)
        case ImagePart() if settings.backend == "openai":
            tiles = 0
            if part.detail != "low":
                width, height = _image_size(part.jpeg)
                tiles = min(8, -(-width // _TILE) * -(-height // _TILE))
            factor = float(_table()["picture_factor"].get(_undated(settings.model), 1))
            return math.ceil((_BASE_TOKENS + _TILE_TOKENS * tiles) * factor)
        case ImagePart():
            return _GEMINI_IMAGE_TOKENS
        case VideoPart():
            # Each frame counts as an image; the audio as 32 tokens per second.
            fps = GEMINI_VIDEO_FPS if part.fps is None else part.fps
            return int(_duration_seconds(part) * (_GEMINI_IMAGE_TOKENS * fps + 32)) + 300


def _image_size(jpeg: bytes) -> tuple[int, int]:
    """Return width and height of a JPEG. Raises BadInput if it is not readable."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(jpeg)) as image:
            return image.size
    except UnidentifiedImageError:
        raise BadInput("an image of a request is not readable") from None


def _duration_seconds(video: VideoPart) -> float:
    # Imported here: most processes that know prices read no video.
    import av

    from mimix_core.media.container import open_container

    with open_container(video.path) as container:
        return float((container.duration or 0) / av.time_base)


@dataclass(frozen=True)
class CostEstimate:
    """The estimated tokens and cost of ``requests`` requests; costs are None without a price.

    ``max_usd`` is the cost if every response has the maximum length.
    """

    requests: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal | None
    max_usd: Decimal | None


# A caption of a few characters is about 80 tokens of JSON; reasoning tokens are not included.
_TYPICAL_OUTPUT_TOKENS = 120


def estimate_cost(sample: Sequence[ModelInput], count: int, settings: VlmSettings) -> CostEstimate:
    """Estimate the cost of ``count`` requests from a sample, before any of them is sent.

    Assumes no input from the provider's cache. Raises BadInput for an empty sample.
    """
    if not sample:
        raise BadInput("no request to estimate from", fix="give at least one")
    price = model_price(settings)
    input_total = -(
        -sum(estimate_input_tokens(one, settings) for one in sample) * count // len(sample)
    )
    longest = sum(one.max_output_tokens + settings.reasoning_allowance for one in sample)
    max_output = -(-longest * count // len(sample))
    typical_output = min(max_output, _TYPICAL_OUTPUT_TOKENS * count)
    return CostEstimate(
        requests=count,
        input_tokens=input_total,
        output_tokens=typical_output,
        cost_usd=compute_cost(TokenUsage(input_total, 0, typical_output), price),
        max_usd=compute_cost(TokenUsage(input_total, 0, max_output), price),
    )
