"""Stage ``captions``: one caption per clip, written by a backend, checked here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import Field

from mimix_core import progress, tables
from mimix_core.captions.checks import problems
from mimix_core.captions.grammar import Caption, render
from mimix_core.captions.script import read_script
from mimix_core.keys import Immaterial
from mimix_core.library import Style
from mimix_core.names import names_of
from mimix_core.refs import FileRef, Frozen, TableRef
from mimix_core.settings import CaptionSettings, exact
from mimix_core.stage import Stage, StageReport
from mimix_core.tables import Reason, Row


class CaptionInputs(Frozen):
    """One episode's clips, and all that is known about what happens in them.

    ``roster``: the show's characters. ``aliases``: other name -> name of the roster.
    """

    unit: Annotated[str, Immaterial()]
    show_title: str
    style: Style
    roster: tuple[str, ...]
    aliases: dict[str, str] = Field(default_factory=dict)
    clips: TableRef
    transcripts: TableRef
    script: FileRef | None = None
    plot: str = ""


class Captioner(Protocol):
    """Says what a clip shows."""

    @property
    def name(self) -> str: ...

    def caption(self, clip: Row) -> Caption | None:
        """None when there is nothing to say about the clip."""


def run(inputs: CaptionInputs, settings: CaptionSettings, out: Path) -> StageReport:
    """One row per ok clip: a checked caption, or why there is none.

    Raises BadInput when the script is not readable or names somebody unknown.
    """
    captioner: Captioner = read_script(
        inputs.script,
        names=names_of(inputs.roster, inputs.aliases),
        style=inputs.style,
        min_overlap=exact(settings.min_overlap),
    )
    clips = list(tables.usable(tables.read(inputs.clips.path, tables.CLIPS)))
    rows = []
    for done, clip in enumerate(clips, start=1):
        rows.append(_row(clip, captioner, inputs, settings))
        progress.advance(done, len(clips), clip["clip_id"])
    return StageReport(rows, rows_in=len(clips))


def _row(clip: Row, captioner: Captioner, inputs: CaptionInputs, settings: CaptionSettings) -> Row:
    caption = captioner.caption(clip)
    if caption is None:
        detail = (
            f"nobody acts for {settings.min_overlap} s of the clip"
            if inputs.script is not None
            else "the episode has no script"
        )
        empty = columns(clip["clip_id"], captioner.name, None, inputs.style)
        return tables.rejected(Reason.NO_ACTION_IN_SCRIPT, detail, **empty)
    values = columns(clip["clip_id"], captioner.name, caption, inputs.style)
    wrong = problems(
        caption, roster=inputs.roster, style=inputs.style, max_words=settings.max_words
    )
    if wrong:
        return tables.failed(Reason.CAPTION_CHECK_FAILED, "; ".join(wrong), **values)
    return tables.ok(**values)


def columns(clip_id: str, backend: str, caption: Caption | None, style: Style) -> dict[str, Any]:
    """The caption columns of a row of the captions table."""
    return {
        "clip_id": clip_id,
        "backend": backend,
        "caption": render(caption) if caption else "",
        "actions": [action.model_dump() for action in caption.actions] if caption else [],
        "context": caption.context if caption else "",
        "style": style.value,
    }


STAGE = Stage(
    name="captions",
    version=1,
    inputs=CaptionInputs,
    settings=CaptionSettings,
    table=tables.CAPTIONS,
    run=run,
)
