"""Costs of requests, estimated and actual."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pytest
from PIL import Image as Picture

from mimix_core.errors import BadInput
from mimix_core.settings.vlm_settings import PriceSettings, VlmSettings
from mimix_core.vlm import ChatMessage, ImagePart, TextPart, TokenUsage, estimate_cost, model_price
from mimix_core.vlm.prices import compute_cost, estimate_input_tokens
from tests.vlm.fake_provider import PRICE, question


def settings(**given: Any) -> VlmSettings:
    return VlmSettings.model_validate(given)


def test_cached_input_costs_less_and_reasoning_is_output() -> None:
    assert compute_cost(TokenUsage(1_000_000, 400_000, 10_000), PRICE) == Decimal("1.68")


def test_a_dated_model_costs_what_the_model_does() -> None:
    dated = model_price(settings(model="gpt-4o-2024-08-06"))
    assert dated == model_price(settings(model="gpt-4o"))
    assert dated is not None
    assert dated.input == Decimal("2.50")


def test_a_batch_costs_half_unless_its_price_was_given() -> None:
    whole, half = model_price(settings()), model_price(settings(mode="batch"))
    assert whole is not None
    assert half is not None
    assert half.output * 2 == whole.output
    assert model_price(settings(mode="batch", price=PRICE)) == PRICE


def test_a_model_of_the_table_on_another_server_has_no_price() -> None:
    assert model_price(settings(model="gpt-4o", base_url="http://localhost:1/v1")) is None


def test_a_budget_that_cannot_be_kept_is_an_error() -> None:
    with pytest.raises(BadInput, match="the price of the model nobody-knows is unknown"):
        model_price(settings(model="nobody-knows", budget_usd=5))
    assert model_price(settings(model="nobody-knows")) is None


def test_without_a_price_the_cost_is_unknown_and_not_nothing() -> None:
    assert compute_cost(TokenUsage(1, 0, 1), None) is None
    assert estimate_cost([question("x")], 10, settings(model="nobody-knows")).cost_usd is None


def jpeg(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Picture.new("RGB", (width, height)).save(out, "JPEG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("backend", "detail", "tokens"),
    [("openai", "auto", 255), ("openai", "low", 85), ("gemini", "auto", 258)],
)
def test_tokens_of_a_picture(backend: str, detail: Any, tokens: int) -> None:
    def asked(*parts: Any) -> int:
        messages = (ChatMessage("user", parts),)
        return estimate_input_tokens(question("x", messages=messages), settings(backend=backend))

    picture = ImagePart(jpeg(512, 288), detail)
    assert asked(picture, picture) - asked(picture) == pytest.approx(tokens, abs=10)


def test_an_estimate_scales_a_sample() -> None:
    zero = PriceSettings(input=Decimal(1), cached=Decimal(1), output=Decimal(0))
    sample = [question("x", messages=(ChatMessage("user", (TextPart("a" * 3_000),)),))]
    few, many = (estimate_cost(sample, count, settings(price=zero)) for count in (1, 52_000))
    assert few.cost_usd is not None
    assert many.cost_usd == few.cost_usd * 52_000
    assert many.input_tokens == pytest.approx(52_000 * 1_000, rel=0.1)


def test_bytes_that_are_no_picture_are_an_error() -> None:
    messages = (ChatMessage("user", (ImagePart(b"no picture"),)),)
    with pytest.raises(BadInput, match="image of a request is not readable"):
        estimate_input_tokens(question("x", messages=messages), settings())
