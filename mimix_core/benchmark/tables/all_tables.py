"""Every sheet of a comparison."""

from __future__ import annotations

from collections.abc import Mapping

from mimix_core.benchmark.tables import breakdowns, pairwise_tables, paper_tables
from mimix_core.benchmark.tables.load_results import Evidence
from mimix_core.benchmark.tables.table_model import Sheet


def all_sheets(
    evidence: Evidence, arms: Mapping[str, str], ratios: Mapping[str, str]
) -> tuple[Sheet, ...]:
    """Every sheet that has a line, the paper's first.

    Raises BadInput for an arm or a share that is none, or whose system is not compared.
    """
    sheets = [
        paper_tables.table_1(evidence),
        paper_tables.table_2(evidence, arms),
        paper_tables.table_3(evidence, ratios),
        *([breakdowns.differences(evidence)] if len(evidence.systems) > 1 else []),
        breakdowns.per_group(evidence),
        breakdowns.per_styles(evidence),
        breakdowns.per_scene(evidence),
        breakdowns.per_character(evidence),
        breakdowns.further_measures(evidence),
        pairwise_tables.duel_rates(evidence),
        pairwise_tables.duel_strengths(evidence),
        pairwise_tables.judge_card(evidence),
    ]
    return tuple(sheet for sheet in sheets if sheet.lines and sheet.columns)
