"""Load a locator from outside MiMix (docs/extending/locator.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimix_core.engine.extensions import load_extension
from mimix_core.errors import BadInput
from mimix_core.stages.cutouts.locate.box_track import Locator
from mimix_core.stages.cutouts.locate.locator_inputs import (
    CharacterReference,
    CustomLocatorInputs,
)


@dataclass(frozen=True)
class CustomLocator:
    """A locator from outside MiMix; ``name`` is the dotted name of its module.

    ``create(characters, folder)`` loads what it needs and returns the locator of one episode:
    ``characters`` are all of the show, ``folder`` is that of the clip files.
    """

    name: str
    create: Callable[[Sequence[CharacterReference], Path], Locator]


def load_custom_locator(inputs: CustomLocatorInputs, folder: Path) -> Locator:
    """Import a locator. Raises BadInput when the module does not define one of its name."""
    setting = "cutouts.locator_cartoon or locator_realistic"
    custom = load_extension(inputs.module, "LOCATOR", CustomLocator, setting=setting)
    if custom.name != inputs.module:
        raise BadInput(
            f"the locator of module {inputs.module} is named {custom.name}",
            where=f"settings, key {setting}",
            fix="Give it the dotted name of its module.",
        )
    return custom.create(inputs.characters, folder)
