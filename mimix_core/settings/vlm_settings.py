"""Settings of a vision-language model: model, sampling, rate limits and budget."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey

DEFAULT_REASONING_TOKENS = 8192
_REASONING_MODELS = re.compile(r"gemini-(?:2\.5|[3-9])|o[134](?:-|$)|gpt-5")
_OWN_FIELDS = {
    "model",
    "messages",
    "contents",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "reasoning_effort",
    "response_format",
    "seed",
    "stream",
    "n",
}


class PriceSettings(FrozenModel):
    """Prices in US dollars per million tokens; 0 for a self-hosted server."""

    input: Decimal = Field(ge=0, description="Price of a million input tokens.")
    cached: Decimal = Field(
        ge=0, description="Price of a million input tokens that come from the provider's cache."
    )
    output: Decimal = Field(ge=0, description="Price of a million output tokens.")


class VlmSettings(FrozenModel):
    """A vision-language model and how it is called.

    Only fields that affect the response are part of stage keys and request digests.
    """

    backend: Literal["openai", "gemini", "google-generativeai"] = Field(
        "openai",
        description="Client library; openai works with any server that offers the chat completions "
        "API.",
    )
    model: str = Field("gpt-4o", min_length=1, description="Model name as the provider spells it.")
    temperature: float | None = Field(
        0.0, ge=0, le=2, description="Sampling temperature; null omits it from requests."
    )
    max_output_tokens: int = Field(1000, ge=1, description="Maximum tokens of a response.")
    reasoning_effort: str | None = Field(
        None,
        description="Reasoning effort for models that support it, e.g. `minimal`; null omits it "
        "from requests.",
    )
    image_detail: Literal["auto", "low", "high"] = Field(
        "auto", description="Image resolution that the model works at; backend openai only."
    )
    seed: int | None = Field(
        None, description="Sampling seed, for servers that support one; null omits it."
    )
    response_format: Literal["json_schema", "json_object", "prompt"] = Field(
        "json_schema",
        description="How the form of the response is requested. json_schema sends a strict schema; "
        "json_object asks for any JSON object and states the schema in the prompt; prompt only "
        "states it there, for servers without structured output.",
    )
    extra_body: dict[str, Any] = Field(
        {},
        description="Further fields of the request's JSON body, e.g. {top_p: 0.9}. Fields that "
        "MiMix sends itself cannot be replaced.",
    )

    base_url: Annotated[str | None, ExcludeFromKey()] = Field(
        None,
        description="Address of a server other than the provider's, e.g. http://localhost:8000/v1.",
    )
    api_key_env: Annotated[str | None, ExcludeFromKey()] = Field(
        None,
        description="Environment variable with the API key. Empty: OPENAI_API_KEY or "
        "GEMINI_API_KEY for the provider's server, no key for any other server.",
    )
    headers_env: Annotated[dict[str, str], ExcludeFromKey()] = Field(
        {},
        description="Further HTTP headers of a request, each with the environment variable that "
        "holds its value, e.g. {X-Portal-Token: PORTAL_TOKEN}. Values are never stored or logged.",
    )
    output_limit: Annotated[
        Literal["auto", "max_tokens", "max_completion_tokens"], ExcludeFromKey()
    ] = Field(
        "auto",
        description="Name of the field that limits the response, backend openai only. auto: "
        "max_completion_tokens for OpenAI, max_tokens for any other server.",
    )
    reasoning_tokens: Annotated[int | None, ExcludeFromKey()] = Field(
        None,
        ge=0,
        description="Tokens added to max_output_tokens for what a model writes before its "
        "response. Empty: 8192 for Gemini 2.5 and later and OpenAI's reasoning models, else 0.",
    )
    mode: Annotated[Literal["live", "batch"], ExcludeFromKey()] = Field(
        "live",
        description="Request mode; batch uses OpenAI's Batch API at half the price, with responses "
        "within 24 hours.",
    )
    max_concurrency: Annotated[int, ExcludeFromKey()] = Field(
        8, ge=1, le=256, description="Maximum number of requests in flight."
    )
    requests_per_minute: Annotated[int | None, ExcludeFromKey()] = Field(
        None, ge=1, description="Request rate limit of the account. Empty: unlimited."
    )
    tokens_per_minute: Annotated[int | None, ExcludeFromKey()] = Field(
        None, ge=1, description="Token rate limit of the account. Empty: unlimited."
    )
    request_timeout_seconds: Annotated[float, ExcludeFromKey()] = Field(
        120.0, gt=0, description="Timeout of a single HTTP request in seconds."
    )
    max_attempts: Annotated[int, ExcludeFromKey()] = Field(
        4, ge=1, description="Maximum attempts for a request while the server returns errors."
    )
    rate_limit_timeout_seconds: Annotated[float, ExcludeFromKey()] = Field(
        1800.0, gt=0, description="Seconds after which a rate-limited request fails."
    )
    max_batch_requests: Annotated[int, ExcludeFromKey()] = Field(
        50_000,
        ge=1,
        le=50_000,
        description="Maximum requests of one batch; a batch is also limited to 200 MB.",
    )
    batch_poll_interval_seconds: Annotated[float, ExcludeFromKey()] = Field(
        30.0, gt=0, description="Seconds between two status queries of a running batch."
    )
    budget_usd: Annotated[Decimal | None, ExcludeFromKey()] = Field(
        None,
        ge=0,
        description="Spending limit in US dollars over all requests ever made from the workspace.",
    )
    price: Annotated[PriceSettings | None, ExcludeFromKey()] = Field(
        None,
        description="Price of the model; replaces the built-in price table and is required with a "
        "budget when the model is not in it.",
    )

    @property
    def reasoning_allowance(self) -> int:
        """Return the tokens that a response may use beyond ``max_output_tokens``."""
        if self.reasoning_tokens is not None:
            return self.reasoning_tokens
        reasons = _REASONING_MODELS.match(self.model.rsplit("/", 1)[-1])
        return DEFAULT_REASONING_TOKENS if reasons and self.reasoning_effort != "0" else 0

    @field_validator("extra_body")
    @classmethod
    def _reject_own_fields(cls, body: dict[str, Any]) -> dict[str, Any]:
        """Reject fields that other settings determine."""
        own = sorted(body.keys() & _OWN_FIELDS)
        if own:
            raise ValueError(f"{', '.join(own)} must not be in extra_body: other settings set it")
        return body

    @field_validator("base_url")
    @classmethod
    def _reject_credentials(cls, url: str | None) -> str | None:
        """Reject credentials in the address, because settings are displayed and stored."""
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected an address such as http://localhost:8000/v1")
        if parts.username or parts.password or parts.query:
            raise ValueError(
                "the address must not contain a key or password; name the variable that holds it "
                "in api_key_env"
            )
        return url
