"""Clips that were made elsewhere: a folder that ``mimix dataset import`` fills, and its record.

``clips.jsonl`` has a line for each import of a video, and is only ever appended to; the last line
of a video counts. Videos are named by their content, so an import never replaces another file.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.input_files import file_exists
from mimix_core.engine.jsonl_log import MalformedLog, read_records
from mimix_core.errors import BadInput

CLIPS_FILE = "clips.jsonl"


class ImportedClip(FrozenModel):
    """One line of ``clips.jsonl``.

    ``file``: the video, in the same folder. ``name``: what it was called. ``caption``: empty if it
    had none. ``characters``: those that can appear in it; empty: all of the show. ``group``: clips
    of one group are in the same split.
    """

    file: str = Field(pattern=r"^[^./\\\x00-\x1f][^/\\\x00-\x1f]*$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    name: str
    caption: str = ""
    characters: tuple[str, ...] = ()
    group: str


def read_imported_clips(folder: Path) -> list[ImportedClip]:
    """Return the clips of a folder in the order of their first import; none if it does not exist.

    Raises BadInput if a line is not readable.
    """
    path = folder / CLIPS_FILE
    if not file_exists(path):
        return []
    try:
        records = [ImportedClip.model_validate(record) for record in read_records(path)]
    except (MalformedLog, ValidationError, UnicodeDecodeError) as error:
        raise BadInput(
            "a line is not an imported clip", where=str(path), fix="Restore it from a backup."
        ) from error
    return list({clip.sha256: clip for clip in records}.values())
