"""Build the rows of captions that a person wrote, of clips and of composites."""

from __future__ import annotations

from collections.abc import Mapping

from mimix_core.domain.caption_grammar import BadCaption, parse_caption, resolve_aliases
from mimix_core.stages.captions.caption_rows import caption_columns, row_with_reason
from mimix_core.stages.captions.caption_validation import CaptionRules, find_caption_problems
from mimix_core.tables import Reason, Row

HAND = "hand"


def hand_caption_row(clip_id: str, text: str, rules: CaptionRules, names: Mapping[str, str]) -> Row:
    """Return the row of a caption written by hand; an empty one leaves the clip out.

    ``names``: the character of each casefolded name and alias.
    """
    if not text:
        empty = caption_columns(clip_id, HAND, None, rules.style)
        return row_with_reason(Reason.LEFT_OUT_BY_HAND, "left out by hand", empty)
    try:
        caption = resolve_aliases(parse_caption(text), names)
    except BadCaption as error:
        empty = caption_columns(clip_id, HAND, None, rules.style)
        return row_with_reason(Reason.CAPTION_CHECK_FAILED, str(error), empty)
    problems = find_caption_problems(caption, rules)
    values = caption_columns(clip_id, HAND, caption, rules.style)
    reason = Reason.CAPTION_CHECK_FAILED if problems else None
    return row_with_reason(reason, "; ".join(problems), values)
