"""Checks over whole tables of captions, whoever wrote or edited them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from mimix_core import tables
from mimix_core.domain.caption_grammar import BadCaption, parse
from mimix_core.stages.captions.caption_rows import caption_of
from mimix_core.stages.captions.caption_validation import Rules, most_shared, problems
from mimix_core.stages.captions.overrides import plainly
from mimix_core.tables import Reason, Row


@dataclass(frozen=True)
class Review:
    """What was found in a table. ``alarm``: a caption that too many clips share, or nothing."""

    checked: int
    without: int
    problems: Mapping[str, Sequence[str]]
    alarm: str = ""


def review(
    rows: Iterable[Row], rules_for: Callable[[Row], Rules | None], *, same_caption_alarm: int
) -> Review:
    """Check all usable captions. ``rules_for`` gives None for a clip that nothing is known of."""
    rows = list(rows)
    usable = list(tables.usable(rows))
    found = {}
    for row in usable:
        wrong = row_problems(row, rules_for(row))
        if wrong:
            found[row["clip_id"]] = wrong
    shared, times = most_shared(row["caption"] for row in usable)
    alarm = ""
    if times >= same_caption_alarm:
        alarm = f"{times} of {len(usable)} clips have one caption: {shared}"
    return Review(len(usable), len(rows) - len(usable), found, alarm)


def row_problems(row: Row, rules: Rules | None) -> list[str]:
    """What is wrong with one row: its parts and its text must be one valid caption."""
    if rules is None:
        return ["it is of no episode of the library"]
    try:
        caption = parse(row["caption"])
        parts = caption_of(row)
    except (BadCaption, ValidationError) as error:
        return [plainly(error)]
    if parts != caption:
        return ["the caption and its actions, context and style say different things"]
    return problems(caption, rules)


def seen_in(cutouts: Iterable[Iterable[Row]]) -> dict[str, set[str]]:
    """clip_id -> the characters that were located there, of each table of cut-outs.

    A table in which nobody was located says nothing: nobody looked, or nothing was to look with.
    """
    found: dict[str, set[str]] = {}
    for table in cutouts:
        rows = list(table)
        if all(row["reason"] == Reason.NOT_LOCATED for row in rows):
            continue
        for row in rows:
            seen = found.setdefault(row["clip_id"], set())
            if row["reason"] != Reason.NOT_LOCATED:
                seen.add(row["character"])
    return found
