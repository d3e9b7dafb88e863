"""What a run did, stage by stage: for the console, the Prefect UI and the caller."""

from __future__ import annotations

from collections.abc import Sequence

from mimix_core.engine.artifacts import Counts, FrozenModel


class StageTotals(FrozenModel):
    """How one stage went in this run, over all its units."""

    stage: str
    units: int
    computed: int
    counts: Counts
    reasons: dict[str, int]
    seconds: float

    @property
    def cached(self) -> bool:
        return self.computed == 0


def sum_counts(counts: Sequence[Counts]) -> Counts:
    """Sum of the units' counts."""
    return Counts(
        rows_in=sum(c.rows_in for c in counts),
        ok=sum(c.ok for c in counts),
        rejected=sum(c.rejected for c in counts),
        failed=sum(c.failed for c in counts),
    )


class RunSummary(FrozenModel):
    """What a flow run did, stage by stage; the flow's result.

    ``notices``: what was found in the library's folders and left out.
    """

    stages: tuple[StageTotals, ...]
    notices: tuple[str, ...] = ()

    @property
    def computed(self) -> int:
        """Units that were computed now; 0 means that everything was there already."""
        return sum(line.computed for line in self.stages)

    def markdown(self, flow_name: str, seconds: float) -> str:
        """The summary as a table for the Prefect UI."""
        rows = [
            "| stage | units | computed | rows in | ok | rejected | failed | why | seconds |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: |",
        ]
        for line in self.stages:
            counts = line.counts
            why = ", ".join(f"{reason} {n}" for reason, n in line.reasons.items())
            rows.append(
                f"| {line.stage} | {line.units} | {line.computed} | {counts.rows_in} | {counts.ok} "
                f"| {counts.rejected} | {counts.failed} | {why} | {line.seconds:.1f} |"
            )
        left_out = ["", *(f"- {notice}" for notice in self.notices)] if self.notices else []
        return "\n".join([f"## {flow_name}: {seconds:.1f} s", "", *rows, *left_out])
