"""Stage ``recaptions``: captions of composites, composed from those of their two sources.

The paper asks its captioner again, told who was pasted where; with scripts the answer is known:
the background's caption, and what the pasted character does in its own clip.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from mimix_core import progress, tables
from mimix_core.captions.checks import problems
from mimix_core.captions.grammar import Caption, parse
from mimix_core.captions.stage import columns
from mimix_core.keys import Immaterial
from mimix_core.library import Style
from mimix_core.refs import Frozen, TableRef
from mimix_core.settings import CaptionSettings
from mimix_core.stage import Stage, StageReport
from mimix_core.tables import Reason, Row

BACKEND = "script-composed"


class RecaptionInputs(Frozen):
    """The composites, and the captions of all clips they were made from."""

    unit: Annotated[str, Immaterial()]
    composites: TableRef
    captions: tuple[TableRef, ...]


def compose(background: Caption, source: Caption, character: str) -> Caption:
    """The background's caption with the actions of ``character`` from ``source`` added.

    Place and style are the background's. Raises ValueError when the source's caption does not
    name the character.
    """
    pasted = tuple(action for action in source.actions if action.name == character)
    if not pasted:
        raise ValueError(f"the source's caption does not name {character!r}")
    return background.model_copy(update={"actions": (*background.actions, *pasted)})


def run(inputs: RecaptionInputs, settings: CaptionSettings, out: Path) -> StageReport:
    """One row per ok composite; its ``clip_id`` is the composite's id."""
    captions = {
        row["clip_id"]: parse(row["caption"])
        for ref in inputs.captions
        for row in tables.usable(tables.read(ref.path, tables.CAPTIONS))
    }
    composites = list(tables.usable(tables.read(inputs.composites.path, tables.COMPOSITES)))
    rows = []
    for done, composite in enumerate(composites, start=1):
        rows.append(_row(composite, captions, settings))
        progress.advance(done, len(composites), composite["composite_id"])
    return StageReport(rows, rows_in=len(composites))


def _row(composite: Row, captions: dict[str, Caption], settings: CaptionSettings) -> Row:
    name, style = composite["composite_id"], Style(composite["style"])
    sources = (composite["background_clip_id"], composite["source_clip_id"])
    missing = [clip_id for clip_id in sources if clip_id not in captions]
    if missing:
        detail = f"no caption of {' and '.join(missing)}"
        return tables.failed(Reason.UPSTREAM_FAILED, detail, **columns(name, BACKEND, None, style))
    background, source = (captions[clip_id] for clip_id in sources)
    try:
        caption = compose(background, source, composite["character"])
    except ValueError as error:
        empty = columns(name, BACKEND, None, style)
        return tables.failed(Reason.CAPTION_CHECK_FAILED, str(error), **empty)
    wrong = problems(
        caption,
        roster={*background.names(), composite["character"]},
        style=style,
        # Two captions that were each allowed this many words.
        max_words=2 * settings.max_words,
    )
    values = columns(name, BACKEND, caption, style)
    if wrong:
        return tables.failed(Reason.CAPTION_CHECK_FAILED, "; ".join(wrong), **values)
    return tables.ok(**values)


STAGE = Stage(
    name="recaptions",
    version=1,
    inputs=RecaptionInputs,
    settings=CaptionSettings,
    table=tables.CAPTIONS,
    run=run,
)
