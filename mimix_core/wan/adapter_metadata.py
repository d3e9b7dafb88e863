"""Metadata of an adapter file: what the adapter was trained from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, StringConstraints, model_serializer

from mimix_core import __version__
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.cache_key import is_excluded
from mimix_core.settings import ExpertName

CAPTION_GRAMMAR = "[Character: NAME], ACTION. ... CONTEXT. [scene-style:STYLE]"
"""Syntax in which a prompt names characters and style, as in training (paper, section 3.1)."""


MAX_RANK = 16384
"""More than the width of any layer: no adapter has such a rank."""

MAX_NAMES = 10_000

ShortText = Annotated[str, StringConstraints(max_length=1000)]


class AdapterMetadata(FrozenModel):
    """Provenance of an adapter, stored in its file.

    ``settings``: the training settings that affect the result. ``epoch``: the number of the epoch
    after which it was saved; None for the final one. ``expert``: the one of the base model's two
    transformers that it is for; None for a model of one. ``forgetting``: by old character, when a
    new one was added, the relative increase of its held-out loss. ``step``: after which it was
    saved, if not after the last one, since that exceeded ``lora.max_forgetting``.
    """

    mimix: ShortText = __version__
    base: ShortText
    base_sha256: ShortText
    rank: int = Field(ge=1, le=MAX_RANK)
    alpha: float = Field(gt=0, le=1e6, allow_inf_nan=False)
    targets: tuple[ShortText, ...] = Field(max_length=MAX_NAMES)
    grammar: ShortText = CAPTION_GRAMMAR
    characters: tuple[ShortText, ...] = Field(max_length=MAX_NAMES)
    styles: tuple[ShortText, ...] = Field(max_length=MAX_NAMES)
    dataset_sha256: ShortText
    settings: dict[str, Any]
    weights: Literal["trained", "ema"] = "trained"
    epoch: int | None = Field(None, ge=1)
    expert: ExpertName | None = None
    forgetting: dict[ShortText, float] | None = Field(None, max_length=MAX_NAMES)
    step: int | None = Field(None, ge=1)

    @model_serializer(mode="wrap")
    def _omit_none(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is None: the bytes are those from before these fields existed."""
        fields: dict[str, Any] = serialize(self)
        return {name: value for name, value in fields.items() if value is not None}


def result_settings(settings: FrozenModel) -> dict[str, Any]:
    """Return the settings that affect the result, as plain JSON: those of the stage key."""
    fields = type(settings).model_fields
    excluded = {name for name, info in fields.items() if is_excluded(info, getattr(settings, name))}
    return settings.model_dump(mode="json", exclude=excluded)
