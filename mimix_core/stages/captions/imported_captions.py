"""Build the rows of captions that came with clips made elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from mimix_core.domain.caption_grammar import BadCaption, Caption, parse_caption, resolve_aliases
from mimix_core.domain.library import Style
from mimix_core.stages.captions.caption_rows import caption_columns, row_with_reason
from mimix_core.stages.captions.caption_validation import CaptionRules, find_caption_problems
from mimix_core.tables import Reason, Row

IMPORTED = "imported"


def imported_caption_row(
    clip_id: str, text: str, rules: CaptionRules, names: Mapping[str, str], clips: int
) -> Row:
    """Return the row of a caption that came with a video, checked like any other.

    ``names``: the character of each casefolded name and alias. ``clips``: how many clips the video
    gave; a caption of more than one is rejected, as nothing tells what it says of each.
    """
    empty = caption_columns(clip_id, IMPORTED, None, rules.style)
    if clips > 1:
        detail = f"the caption is of a video that gave {clips} clips; import the clips one by one"
        return row_with_reason(Reason.CAPTION_CHECK_FAILED, detail, empty)
    try:
        caption = resolve_aliases(
            parse_imported_caption(text, tuple(rules.roster), rules.style), names
        )
    except BadCaption as error:
        return row_with_reason(Reason.CAPTION_CHECK_FAILED, str(error), empty)
    problems = find_caption_problems(caption, rules)
    values = caption_columns(clip_id, IMPORTED, caption, rules.style)
    reason = Reason.CAPTION_CHECK_FAILED if problems else None
    return row_with_reason(reason, "; ".join(problems), values)


def parse_imported_caption(text: str, roster: tuple[str, ...], style: Style) -> Caption:
    """Parse a caption with MiMix's tags, or plain text about the only character of the roster.

    Of plain text, the first sentence is what the character does, without the character's name at
    its start; the rest is the context. Raises BadCaption for plain text with several characters.
    """
    line = " ".join(text.split())
    if "[" in line:
        return parse_caption(line)
    if len(roster) != 1:
        raise BadCaption(
            "has no [Character: ...] tags, and it is not known which character it is about",
            where=repr(text),
            fix="Import it with one character (--character, or a column), or with tags.",
        )
    (name,) = roster
    body = line.rstrip(".!?…,;: ")
    if body.casefold().startswith(f"{name.casefold()} "):
        body = body[len(name) + 1 :]
    return parse_caption(f"[Character: {name}], {body}. [scene-style:{style.value}]")
