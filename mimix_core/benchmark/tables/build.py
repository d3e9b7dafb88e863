"""Every sheet of a comparison."""

from __future__ import annotations

from collections.abc import Mapping

from mimix_core.benchmark.tables import breakdowns, duels, published
from mimix_core.benchmark.tables.evidence import Evidence
from mimix_core.benchmark.tables.sheets import Sheet


def all_sheets(
    evidence: Evidence, arms: Mapping[str, str], ratios: Mapping[str, str]
) -> tuple[Sheet, ...]:
    """Every sheet that has a line, the paper's first.

    Raises BadInput for an arm or a share that is none, or whose system is not compared.
    """
    sheets = [
        published.table_1(evidence),
        published.table_2(evidence, arms),
        published.table_3(evidence, ratios),
        *([breakdowns.differences(evidence)] if len(evidence.systems) > 1 else []),
        breakdowns.per_group(evidence),
        breakdowns.per_styles(evidence),
        breakdowns.per_scene(evidence),
        breakdowns.per_character(evidence),
        breakdowns.further_measures(evidence),
        duels.duel_rates(evidence),
        duels.duel_strengths(evidence),
        duels.judge_card(evidence),
    ]
    return tuple(sheet for sheet in sheets if sheet.lines and sheet.columns)
