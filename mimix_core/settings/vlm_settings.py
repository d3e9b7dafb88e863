"""Settings of a vision-language model: which one, how it is asked, and what it may cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from mimix_core.engine.artifacts import Frozen
from mimix_core.engine.cache_key import Immaterial


class PriceSettings(Frozen):
    """US dollars for a million tokens. 0 for a server of your own."""

    input: Decimal = Field(ge=0)
    cached: Decimal = Field(ge=0, description="For input that the provider knew already.")
    output: Decimal = Field(ge=0)


class VlmSettings(Frozen):
    """Only what changes an answer is part of a stage key and of a question's digest."""

    backend: Literal["openai", "gemini", "google-generativeai"] = Field(
        "openai", description="openai: any server that speaks its chat completions."
    )
    model: str = Field("gpt-4o", min_length=1)
    temperature: float | None = Field(0.0, ge=0, le=2, description="null: not sent.")
    max_output_tokens: int = Field(1000, ge=1)
    reasoning_effort: str | None = Field(
        None, description="For models that reason: what they take, as `minimal`. null: not sent."
    )
    image_detail: Literal["auto", "low", "high"] = Field(
        "auto", description="openai: how closely a picture is looked at."
    )

    base_url: Annotated[str | None, Immaterial()] = Field(
        None, description="A server other than the provider's own, as http://localhost:8000/v1."
    )
    api_key_env: Annotated[str | None, Immaterial()] = Field(
        None,
        description="Name of the environment variable that holds the key. Not set: OPENAI_API_KEY "
        "or GEMINI_API_KEY for the provider's own server, no key for another one.",
    )
    mode: Annotated[Literal["live", "batch"], Immaterial()] = Field(
        "live", description="batch: OpenAI's Batch API, half the price, answers within 24 hours."
    )
    concurrency: Annotated[int, Immaterial()] = Field(8, ge=1, le=256)
    requests_per_minute: Annotated[int | None, Immaterial()] = Field(None, ge=1)
    tokens_per_minute: Annotated[int | None, Immaterial()] = Field(None, ge=1)
    timeout_seconds: Annotated[float, Immaterial()] = Field(120.0, gt=0, description="A request.")
    attempts: Annotated[int, Immaterial()] = Field(
        4, ge=1, description="Requests for a question while the server fails."
    )
    patience_seconds: Annotated[float, Immaterial()] = Field(
        1800.0, gt=0, description="A question that was rate limited for longer fails."
    )
    batch_requests: Annotated[int, Immaterial()] = Field(
        50_000, ge=1, le=50_000, description="In one batch; 200 MB end one, too."
    )
    batch_poll_seconds: Annotated[float, Immaterial()] = Field(30.0, gt=0)
    budget_usd: Annotated[Decimal | None, Immaterial()] = Field(
        None, ge=0, description="All that was ever spent in this workspace counts."
    )
    price: Annotated[PriceSettings | None, Immaterial()] = Field(
        None, description="Instead of the price table's, or of a model that is not in it."
    )

    @field_validator("base_url")
    @classmethod
    def _no_secret(cls, url: str | None) -> str | None:
        """Settings are shown and stored: no key may be in an address."""
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an address such as http://localhost:8000/v1 is asked for")
        if parts.username or parts.password or parts.query:
            raise ValueError("no key or password here: name their variable in api_key_env")
        return url
