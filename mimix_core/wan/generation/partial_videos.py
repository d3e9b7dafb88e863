"""Store the finished videos of a running unit, from which a killed unit resumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mimix_core.engine.artifacts import digest_file
from mimix_core.wan.generation.provenance import VideoProvenance


@dataclass(frozen=True)
class PartialVideos:
    """Videos by provenance, in a folder that one process at a time uses.

    See ``tensor_shards.open_partial_results``. File names hold the digests of the provenance and of
    the file, ``<provenance>.<sha256>.mp4``, which detects incomplete files after a machine crash.
    """

    folder: Path

    def get(self, provenance: VideoProvenance) -> Path | None:
        """Return the video with that provenance; None if it is missing or incomplete."""
        for path in sorted(self.folder.glob(f"{provenance.digest()}.*.mp4")):
            if digest_file(path) == path.name.split(".")[1]:
                return path
        return None

    def put(self, provenance: VideoProvenance, write: Callable[[Path], None]) -> Path:
        """Store the video that ``write(path)`` writes; exceptions of ``write`` propagate."""
        temporary = self.folder / f"{provenance.digest()}.unfinished"
        write(temporary)
        path = self.folder / f"{provenance.digest()}.{digest_file(temporary)}.mp4"
        temporary.replace(path)
        return path
