"""Send one small request to each configured vision-language model, before thousands are sent."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel

from mimix_core.diagnostics.machine_check import MachineCheck
from mimix_core.errors import MimixError
from mimix_core.settings import Config
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm import ChatMessage, ImagePart, TextPart, VlmRequest, run_requests, strict_schema

_PROMPT = "Which colour fills the image? Respond in the requested form."


class TrialResponse(BaseModel):
    """The colour of the image."""

    color: Literal["red", "green", "blue"]


def run_trial_requests(config: Config) -> Iterator[MachineCheck]:
    """Ask each model that the settings configure; requests are paid for and in the ledger."""
    models: dict[str, VlmSettings] = {}
    if config.captions.backend == "vlm":
        models["captions.vlm"] = config.captions.vlm
    if "vlm" in (config.cutouts.locator_cartoon, config.cutouts.locator_realistic):
        models["cutouts.vlm"] = config.cutouts.vlm.vlm
    if config.judge.vlm is not None:
        models["judge.vlm"] = config.judge.vlm
    if not models:
        yield MachineCheck(name="trial request", state="ok", finding="no model is configured")
    for key, vlm in models.items():
        yield _ask(key, vlm, config)


def _ask(key: str, vlm: VlmSettings, config: Config) -> MachineCheck:
    quick = vlm.model_copy(
        update={"mode": "live", "max_attempts": 1, "rate_limit_timeout_seconds": 30.0}
    )
    started = time.monotonic()
    try:
        [outcome] = run_requests([_trial_request(vlm)], quick, config.workspace / "answers")
    except MimixError as error:
        return MachineCheck(name=f"trial request {key}", state="no", finding=str(error))
    name, seconds = f"trial request {key}", time.monotonic() - started
    if outcome.error is not None:
        text = f"; the model wrote: {outcome.error.text[:200]}" if outcome.error.text else ""
        return MachineCheck(name=name, state="no", finding=f"{outcome.error}{text}")
    assert outcome.response is not None
    usage = outcome.response.usage
    cost = "unknown" if outcome.cost_usd is None else f"{outcome.cost_usd:.4f} dollars"
    finding = (
        f"{outcome.response.model}: {seconds:.1f} s, {usage.input_tokens} input and "
        f"{usage.output_tokens} output tokens, cost {cost}"
    )
    if outcome.response.value.color != "red":
        return MachineCheck(
            name=name,
            state="limited",
            finding=f"{finding}; it called a red image {outcome.response.value.color}",
            fix="The model may not receive images: check that it supports them",
        )
    return MachineCheck(name=name, state="ok", finding=finding)


def _trial_request(vlm: VlmSettings) -> VlmRequest[TrialResponse]:
    from PIL import Image

    jpeg = io.BytesIO()
    Image.new("RGB", (64, 64), (255, 0, 0)).save(jpeg, "JPEG")
    image = ImagePart(jpeg.getvalue(), detail=vlm.image_detail)
    return VlmRequest(
        id="trial",
        messages=(ChatMessage("user", (TextPart(_PROMPT), image)),),
        response_model=TrialResponse,
        schema=strict_schema(TrialResponse),
        max_output_tokens=vlm.max_output_tokens,
        temperature=vlm.temperature,
        reasoning_effort=vlm.reasoning_effort,
        # A new response each time: a cached one would say nothing about the server.
        retry=time.time_ns(),
    )
