"""The finished videos of a unit under way: what a killed one finds when it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mimix_core.engine.artifacts import digest_file
from mimix_core.wan.generation.provenance import Recipe


@dataclass(frozen=True)
class Kept:
    """Videos in a folder that one process at a time works in (``cache.unit_parts``).

    A file is named by its recipe's digest and its own: ``<recipe>.<sha256>.mp4``. So what a crash
    of the machine left half on disk, or anything else, is never taken for a whole video.
    """

    folder: Path

    def find(self, recipe: Recipe) -> Path | None:
        """The whole video of that recipe, if it is there."""
        for path in sorted(self.folder.glob(f"{recipe.digest()}.*.mp4")):
            if digest_file(path) == path.name.split(".")[1]:
                return path
        return None

    def keep(self, recipe: Recipe, write: Callable[[Path], None]) -> Path:
        """Keep the video that ``write(path)`` makes; what that raises goes through."""
        unfinished = self.folder / f"{recipe.digest()}.unfinished"
        write(unfinished)
        path = self.folder / f"{recipe.digest()}.{digest_file(unfinished)}.mp4"
        unfinished.replace(path)
        return path
