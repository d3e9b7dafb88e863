"""Summarize a run stage by stage, for the console, the Prefect UI and the caller."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mimix_core.engine.artifacts import Counts, FrozenModel
from mimix_core.engine.row_reasons import ReasonSummary
from mimix_core.engine.text_escaping import escape_markdown


class StageTotals(FrozenModel):
    """Totals of one stage in this run, over all its units.

    ``mostly_failed``: units with several rows of which more than half failed.
    ``reasons``: number of rows by reason. ``reason_summaries``: the same, the most common reason
    first, with the figures in the rows' details.
    """

    stage: str
    units: int
    computed: int
    counts: Counts
    reasons: dict[str, int]
    seconds: float
    mostly_failed: tuple[str, ...] = ()
    reason_summaries: tuple[ReasonSummary, ...] = ()

    @property
    def cached(self) -> bool:
        """Return whether every unit was cached."""
        return self.computed == 0


def sum_counts(counts: Sequence[Counts]) -> Counts:
    """Add up the counts of several units."""
    return Counts(
        rows_in=sum(c.rows_in for c in counts),
        ok=sum(c.ok for c in counts),
        rejected=sum(c.rejected for c in counts),
        failed=sum(c.failed for c in counts),
    )


class RunSummary(FrozenModel):
    """Totals of every stage of a flow run; the flow's result.

    ``notices``: files in the library's folders that were left out. ``adapter_folders``: folders of
    the trained adapters, of each expert one. ``video_folder``: folder of the generated videos.
    """

    stages: tuple[StageTotals, ...]
    notices: tuple[str, ...] = ()
    adapter_folders: tuple[Path, ...] = ()
    video_folder: Path | None = None

    @property
    def rows_with_reasons(self) -> int:
        """Return the number of rows of all stages that were rejected or failed."""
        return sum(line.counts.rejected + line.counts.failed for line in self.stages)

    @property
    def computed(self) -> int:
        """Return the number of computed units; 0 means that everything was cached."""
        return sum(line.computed for line in self.stages)

    @property
    def mostly_failed(self) -> tuple[StageTotals, ...]:
        """Return the stages of which most rows failed, in total or of a unit."""
        return tuple(
            line
            for line in self.stages
            if line.mostly_failed or 2 * line.counts.failed > line.counts.rows_in
        )

    def markdown(self, flow_name: str, seconds: float) -> str:
        """Format the summary as a Markdown table for the Prefect UI."""
        rows = [
            "| stage | units | computed | rows in | ok | rejected | failed | reasons | seconds |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: |",
        ]
        for line in self.stages:
            counts = line.counts
            reasons = ", ".join(
                f"{escape_markdown(reason)} {n}" for reason, n in line.reasons.items()
            )
            rows.append(
                f"| {escape_markdown(line.stage)} | {line.units} | {line.computed} "
                f"| {counts.rows_in} | {counts.ok} | {counts.rejected} | {counts.failed} "
                f"| {reasons} | {line.seconds:.1f} |"
            )
        left_out = (
            ["", *(f"- {escape_markdown(notice)}" for notice in self.notices)]
            if self.notices
            else []
        )
        return "\n".join([f"## {flow_name}: {seconds:.1f} s", "", *rows, *left_out])
