"""Reuse composites that an earlier result rendered from the same inputs.

All composites are one table, because pairing depends on all episodes: a new show changes the key of
the table, but not the pixels of the pairs that are drawn again. Each result therefore lists what
its videos were rendered from, and later ones copy those that they need.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from mimix_core.engine.artifacts import FrozenModel, digest_file
from mimix_core.stages.composites.compositing import PasteOptions
from mimix_core.stages.composites.render_composite import (
    CompositeFiles,
    EncodingOptions,
    render_composite,
)
from mimix_core.stages.composites.scale_translate import ScaleTranslate
from mimix_core.stages.composites.stored_rows import StoredClip, StoredCutout

RENDERS_FILE = "renders.json"


class RenderedFiles(FrozenModel):
    """A rendered video and its sheet, relative to the result's folder, with their digests."""

    render_key: str
    video: str
    video_sha256: str
    sheet: str
    sheet_sha256: str


_RenderList = TypeAdapter(list[RenderedFiles])


@dataclass(frozen=True)
class PairToRender:
    """A placed pair: everything that its video depends on."""

    source: StoredClip
    cutout: StoredCutout
    background: StoredClip
    path: tuple[ScaleTranslate, ...]
    options: PasteOptions
    encoding: EncodingOptions

    def render_key(self, version: int) -> str:
        """Hash the pair's content and settings; ``version``: of the stage."""
        parts = [
            version,
            self.source.row["sha256"],
            digest_file(self.cutout.path),
            self.background.row["sha256"],
            [asdict(transform) for transform in self.path],
            asdict(self.options),
            asdict(self.encoding),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


EarlierRenders = Mapping[str, tuple[Path, RenderedFiles]]
"""Files of earlier results by render key, each with the folder of its result."""


def load_earlier_renders(results: Path | None) -> EarlierRenders:
    """Load the lists of all results below a folder, except unreadable ones."""
    files: dict[str, tuple[Path, RenderedFiles]] = {}
    for path in sorted(results.glob(f"*/{RENDERS_FILE}")) if results else ():
        try:
            listed = _RenderList.validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue  # written by another version, or damaged: its videos are rendered again
        files.update({entry.render_key: (path.parent, entry) for entry in listed})
    return files


@dataclass(frozen=True)
class RenderReuse:
    """Render the composites of a result below ``out``, or copy them from earlier results.

    ``keys``: of the files so far, by the names of video and sheet.
    """

    version: int
    earlier: EarlierRenders
    out: Path
    keys: dict[tuple[str, str], str] = field(default_factory=dict)

    def render(self, pair: PairToRender, video: str, sheet: str) -> None:
        """Write a video and its sheet. Raises the errors of ``render_composite``."""
        # Without its masks a pair has no key, and rendering it says what is missing.
        key = pair.render_key(self.version) if pair.cutout.path.exists() else ""
        if not self._copy(key, video, sheet):
            render_composite(
                CompositeFiles(pair.source.path, pair.cutout.path, pair.background.path),
                pair.path,
                pair.options,
                pair.encoding,
                self.out / video,
                self.out / sheet,
                Fraction(pair.background.row["rate_num"], pair.background.row["rate_den"]),
            )
        self.keys[(video, sheet)] = key

    def _copy(self, key: str, video: str, sheet: str) -> bool:
        """Copy files of an earlier result; return False if there are none, or damaged ones."""
        if key not in self.earlier:
            return False
        folder, entry = self.earlier[key]
        for source, sha256, target in (
            (folder / entry.video, entry.video_sha256, self.out / video),
            (folder / entry.sheet, entry.sheet_sha256, self.out / sheet),
        ):
            if not source.exists():
                return False
            shutil.copyfile(source, target)
            if digest_file(target) != sha256:
                return False
        return True

    def write_list(self) -> None:
        """List the files that are still there, for later results."""
        listed = [
            RenderedFiles(
                render_key=key,
                video=video,
                video_sha256=digest_file(self.out / video),
                sheet=sheet,
                sheet_sha256=digest_file(self.out / sheet),
            )
            for (video, sheet), key in sorted(self.keys.items())
            if (self.out / video).exists()
        ]
        (self.out / RENDERS_FILE).write_bytes(_RenderList.dump_json(listed, indent=1))
