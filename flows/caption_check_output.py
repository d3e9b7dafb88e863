"""Print the result of ``mimix captions check``."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from flows.console import print_line
from mimix_core.engine.row_reasons import ReasonTally
from mimix_core.stages.captions.caption_review import CaptionReview
from mimix_core.tables import CaptionRow, Status
from tasks.console_progress import format_reasons


def print_caption_review(name: str, review: CaptionReview, rows: Sequence[CaptionRow]) -> None:
    """Print the counts of one table, its problems, and why clips have no caption."""
    state = f"[red]{len(review.problems)} with problems[/red]" if review.problems else "no problems"
    if not review.checked:
        state = "[red]nothing to check[/red]" if rows else "[red]no clips[/red]"
    print_line(
        f"{escape(name)}: {review.checked} captions, {state}; {review.uncaptioned} clips without"
    )
    tally = ReasonTally()
    for row in rows:
        if row["status"] != Status.OK:
            tally.add(row["status"], row["reason"] or "", row["detail"] or "")
    for line in format_reasons(tally.summaries()):
        print_line(escape(line))
    for clip_id, problems in review.problems.items():
        print_line(f"  {escape(clip_id)}: {escape('; '.join(problems))}")
    if review.repetition_warning:
        print_line(f"  [yellow]warning[/yellow] {escape(review.repetition_warning)}")
