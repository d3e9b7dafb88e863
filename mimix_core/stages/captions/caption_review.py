"""Check complete tables of captions, written by any captioner or edited by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from mimix_core import tables
from mimix_core.domain.caption_grammar import BadCaption, caption_from_row, parse_caption
from mimix_core.stages.captions.caption_validation import (
    CaptionRules,
    find_caption_problems,
    most_common_caption,
)
from mimix_core.stages.captions.overrides import format_validation_error
from mimix_core.tables import CaptionRow, CutoutRow, Reason


@dataclass(frozen=True)
class CaptionReview:
    """The result of checking a table.

    ``checked``: number of captions. ``uncaptioned``: number of clips without one. ``problems``: by
    clip_id. ``repetition_warning``: names a caption that too many clips share, or is empty.
    """

    checked: int
    uncaptioned: int
    problems: Mapping[str, Sequence[str]]
    repetition_warning: str = ""


def review_captions(
    rows: Iterable[CaptionRow],
    rules_for: Callable[[CaptionRow], CaptionRules | None],
    *,
    identical_caption_warning_count: int,
) -> CaptionReview:
    """Check all usable captions. ``rules_for`` returns None for a clip of no known episode."""
    rows = list(rows)
    usable = list(tables.usable(rows))
    problems = {}
    for row in usable:
        row_problems = find_row_problems(row, rules_for(row))
        if row_problems:
            problems[row["clip_id"]] = row_problems
    shared, count = most_common_caption(row["caption"] for row in usable)
    warning = ""
    if count >= identical_caption_warning_count:
        warning = f"{count} of {len(usable)} clips have the same caption: {shared}"
    return CaptionReview(len(usable), len(rows) - len(usable), problems, warning)


def find_row_problems(row: CaptionRow, rules: CaptionRules | None) -> list[str]:
    """List the problems of one row: its parts and its text must be the same valid caption."""
    if rules is None:
        return ["the clip belongs to no episode of the library"]
    try:
        caption = parse_caption(row["caption"])
        parts = caption_from_row(row)
    except (BadCaption, ValidationError) as error:
        return [format_validation_error(error)]
    if parts != caption:
        return ["the caption differs from its actions, context and style"]
    return find_caption_problems(caption, rules)


def located_characters(cutout_tables: Iterable[Iterable[CutoutRow]]) -> dict[str, set[str]]:
    """Map each clip_id of the cutout tables to the characters located in the clip.

    A table without any located character is ignored: there was no locator or no reference image.
    """
    located: dict[str, set[str]] = {}
    for table in cutout_tables:
        rows = list(table)
        if all(row["reason"] == Reason.NOT_LOCATED for row in rows):
            continue
        for row in rows:
            characters = located.setdefault(row["clip_id"], set())
            if row["reason"] != Reason.NOT_LOCATED:
                characters.add(row["character"])
    return located
