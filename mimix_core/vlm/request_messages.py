"""Define the messages between the calling process and the worker: one line of JSON each.

Responses are not sent: the worker writes them to the response cache, and the caller reads them
there.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.protocol import ModelInput
from mimix_core.vlm.serialized_errors import SerializedFatalError, SerializedRequestError

MAX_LINE_BYTES = 2**28
"""Far above any request that a provider accepts."""


class StartWorker(FrozenModel):
    """Start sending with these settings; the first message to the worker."""

    type: Literal["start"] = "start"
    settings: VlmSettings
    cache_folder: Path


class SendRequest(FrozenModel):
    """Send a request, unless the cache has a response with its digest."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    type: Literal["send"] = "send"
    number: int
    digest: str
    model_input: ModelInput


class EndOfRequests(FrozenModel):
    """No more requests will follow: batches can be created."""

    type: Literal["end"] = "end"


class ResponseCached(FrozenModel):
    """The response to a request is in the cache; ``is_new`` unless it was there before."""

    type: Literal["cached"] = "cached"
    number: int
    is_new: bool


class RequestFailed(FrozenModel):
    """A request that ended without a response."""

    type: Literal["failed"] = "failed"
    number: int
    error: SerializedRequestError
    attempts: int
    spent_usd: Decimal | None


class WorkerFailed(FrozenModel):
    """No more requests can be sent: wrong settings or key, an exhausted budget, or a bug.

    ``number``: the request that met the error, if it was one.
    """

    type: Literal["worker_failed"] = "worker_failed"
    number: int | None
    error: SerializedFatalError | SerializedRequestError


class StatusUpdate(FrozenModel):
    """Describes what the worker waits for."""

    type: Literal["status"] = "status"
    text: str


ToWorker = StartWorker | SendRequest | EndOfRequests
FromWorker = ResponseCached | RequestFailed | WorkerFailed | StatusUpdate

_to_worker: TypeAdapter[ToWorker] = TypeAdapter(Annotated[ToWorker, Field(discriminator="type")])
_from_worker: TypeAdapter[FromWorker] = TypeAdapter(
    Annotated[FromWorker, Field(discriminator="type")]
)


def encode_message(message: ToWorker | FromWorker) -> bytes:
    """Serialize a message to a line."""
    return message.model_dump_json().encode() + b"\n"


def parse_message_to_worker(line: bytes) -> ToWorker:
    """Parse a line that the caller wrote."""
    return _to_worker.validate_json(line)


def parse_message_from_worker(line: bytes) -> FromWorker:
    """Parse a line that the worker wrote."""
    return _from_worker.validate_json(line)
