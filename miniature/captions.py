"""Captions of scenes in MiMix's grammar (``mimix_core.domain.caption_grammar``).

This module repeats the rendering of that grammar so that the package runs where only torch and
diffusers are installed; a test holds the two to the same text.
"""

from __future__ import annotations

from collections.abc import Sequence

from miniature.scenes import BACKGROUNDS, Scene


def caption(scene: Scene, described: Sequence[bool]) -> str:
    """Render a scene's caption with both tags.

    ``described``: for each figure, whether its attributes are spelled out. Without them, a name
    alone says who it is, as in the captions of a show.
    """
    parts = []
    for figure, phrase, spelled_out in zip(scene.cast, scene.phrases(), described, strict=True):
        action = f"{figure.description()}, {phrase}" if spelled_out else phrase
        parts.append(f"[Character: {figure.name}], {action}.")
    parts.append(f"{BACKGROUNDS[scene.background]}.")
    return " ".join([*parts, f"[scene-style:{scene.style}]"])
