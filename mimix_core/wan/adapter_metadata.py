"""Metadata of an adapter file: what the adapter was trained from."""

from __future__ import annotations

from typing import Any, Literal

from mimix_core import __version__
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey

CAPTION_GRAMMAR = "[Character: NAME], ACTION. ... CONTEXT. [scene-style:STYLE]"
"""Syntax in which a prompt names characters and style, as in training (paper, section 3.1)."""


class AdapterMetadata(FrozenModel):
    """Provenance of an adapter, stored in its file.

    ``settings``: the training settings that affect the result.
    """

    mimix: str = __version__
    base: str
    base_sha256: str
    rank: int
    alpha: float
    targets: tuple[str, ...]
    grammar: str = CAPTION_GRAMMAR
    characters: tuple[str, ...]
    styles: tuple[str, ...]
    dataset_sha256: str
    settings: dict[str, Any]
    weights: Literal["trained", "ema"] = "trained"


def result_settings(settings: FrozenModel) -> dict[str, Any]:
    """Return the settings that affect the result, as plain JSON."""
    fields = type(settings).model_fields
    excluded = {
        name
        for name, info in fields.items()
        if any(isinstance(marker, ExcludeFromKey) for marker in info.metadata)
    }
    return settings.model_dump(mode="json", exclude=excluded)
