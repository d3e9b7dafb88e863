"""Build all tables of a comparison."""

from __future__ import annotations

from collections.abc import Mapping

from mimix_core.benchmark.tables import breakdowns, human_tables, pairwise_tables, paper_tables
from mimix_core.benchmark.tables.load_results import BenchmarkResults
from mimix_core.benchmark.tables.table_model import ResultTable


def build_all_tables(
    results: BenchmarkResults, caption_formats: Mapping[str, str], ratios: Mapping[str, str]
) -> tuple[ResultTable, ...]:
    """Build all non-empty tables, those of the paper first.

    ``caption_formats`` and ``ratios`` are the rows of Tables 2 and 3: caption format or share of
    composites -> system. Raises BadInput for an unknown format, an invalid share or an unknown
    system.
    """
    candidates = [
        paper_tables.build_table_1(results),
        paper_tables.build_table_2(results, caption_formats),
        paper_tables.build_table_3(results, ratios),
        *([breakdowns.build_difference_table(results)] if len(results.systems) > 1 else []),
        breakdowns.build_group_table(results),
        breakdowns.build_style_table(results),
        breakdowns.build_scene_table(results),
        breakdowns.build_character_table(results),
        breakdowns.build_extra_metrics_table(results),
        pairwise_tables.build_win_rate_table(results),
        pairwise_tables.build_strength_table(results),
        pairwise_tables.build_control_table(results),
        *human_tables.build_human_tables(
            results.ratings,
            results.comparisons,
            results.judgements,
            None if results.judge is None else results.judge.mode,
        ),
    ]
    return tuple(table for table in candidates if table.rows and table.columns)
