"""What an adapter's file says of where it comes from."""

from __future__ import annotations

from typing import Any, Literal

from mimix_core import __version__
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey

GRAMMAR = "[Character: NAME], ACTION. ... CONTEXT. [scene-style:STYLE]"
"""How a prompt names characters and style, as in training (paper, section 3.1)."""


class Card(FrozenModel):
    """What an adapter was made of. ``settings``: those of the training that shape the result."""

    mimix: str = __version__
    base: str
    base_sha256: str
    rank: int
    alpha: float
    targets: tuple[str, ...]
    grammar: str = GRAMMAR
    characters: tuple[str, ...]
    styles: tuple[str, ...]
    dataset_sha256: str
    settings: dict[str, Any]
    weights: Literal["trained", "ema"] = "trained"


def shaping(settings: FrozenModel) -> dict[str, Any]:
    """The settings that the result depends on, as plain JSON."""
    fields = type(settings).model_fields
    immaterial = {
        name
        for name, info in fields.items()
        if any(isinstance(mark, ExcludeFromKey) for mark in info.metadata)
    }
    return settings.model_dump(mode="json", exclude=immaterial)
