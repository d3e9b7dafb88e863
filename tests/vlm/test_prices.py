"""What it costs, before and after."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pytest
from PIL import Image as Picture

from mimix_core.errors import BadInput
from mimix_core.settings.vlm_settings import PriceSettings, VlmSettings
from mimix_core.vlm import Image, Message, Text, Usage, estimate, price_of
from mimix_core.vlm.prices import cost, input_tokens
from tests.vlm.standin import PRICE, question


def settings(**given: Any) -> VlmSettings:
    return VlmSettings.model_validate(given)


def test_cached_input_costs_less_and_reasoning_is_output() -> None:
    assert cost(Usage(1_000_000, 400_000, 10_000), PRICE) == Decimal("1.68")


def test_a_dated_model_costs_what_the_model_does() -> None:
    dated = price_of(settings(model="gpt-4o-2024-08-06"))
    assert dated == price_of(settings(model="gpt-4o"))
    assert dated is not None
    assert dated.input == Decimal("2.50")


def test_a_batch_costs_half_unless_its_price_was_given() -> None:
    whole, half = price_of(settings()), price_of(settings(mode="batch"))
    assert whole is not None
    assert half is not None
    assert half.output * 2 == whole.output
    assert price_of(settings(mode="batch", price=PRICE)) == PRICE


def test_a_model_of_the_table_on_another_server_has_no_price() -> None:
    assert price_of(settings(model="gpt-4o", base_url="http://localhost:1/v1")) is None


def test_a_budget_that_cannot_be_kept_is_an_error() -> None:
    with pytest.raises(BadInput, match="no price of the model nobody-knows"):
        price_of(settings(model="nobody-knows", budget_usd=5))
    assert price_of(settings(model="nobody-knows")) is None


def test_without_a_price_the_cost_is_unknown_and_not_nothing() -> None:
    assert cost(Usage(1, 0, 1), None) is None
    assert estimate([question("x")], 10, settings(model="nobody-knows")).cost_usd is None


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
        messages = (Message("user", parts),)
        return input_tokens(question("x", messages=messages), settings(backend=backend))

    picture = Image(jpeg(512, 288), detail)
    assert asked(picture, picture) - asked(picture) == pytest.approx(tokens, abs=10)


def test_an_estimate_scales_a_sample() -> None:
    zero = PriceSettings(input=Decimal(1), cached=Decimal(1), output=Decimal(0))
    sample = [question("x", messages=(Message("user", (Text("a" * 3_000),)),))]
    few, many = (estimate(sample, count, settings(price=zero)) for count in (1, 52_000))
    assert few.cost_usd is not None
    assert many.cost_usd == few.cost_usd * 52_000
    assert many.input_tokens == pytest.approx(52_000 * 1_000, rel=0.1)


def test_bytes_that_are_no_picture_are_an_error() -> None:
    messages = (Message("user", (Image(b"no picture"),)),)
    with pytest.raises(BadInput, match="picture"):
        input_tokens(question("x", messages=messages), settings())
