"""Break scores down by group, style pair, scene style and character, and compare systems."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from mimix_core.benchmark.tables.load_results import BenchmarkResults
from mimix_core.benchmark.tables.metric_columns import extra_columns
from mimix_core.benchmark.tables.row_builders import (
    build_breakdown_table,
    build_subject_table,
    group_by_subject,
    measured_columns,
)
from mimix_core.benchmark.tables.table_model import ResultTable, TableRow, paired_difference_cell
from mimix_core.domain.prompts import VideoPrompt, prompt_categories
from mimix_core.domain.score_metrics import RATES_NOISE_ABOVE_FOOTAGE


def build_group_table(results: BenchmarkResults) -> ResultTable:
    """Build the table by single and the paper's four groups, which overlap if origins are known."""
    origins = {origin.name: origin for origin in results.prompts.cast}

    def group(prompt: VideoPrompt) -> Collection[str]:
        if not origins:
            return (prompt.category,)
        return prompt_categories([origins[name] for name in prompt.characters])

    return build_breakdown_table(
        results,
        "groups",
        "By group",
        "The paper's groups overlap: characters of two styles are also of two series."
        if origins
        else "Each prompt counts for its category.",
        "Group",
        group,
        ("single", "inter-style", "intra-style", "inter-series", "intra-series"),
    )


def build_style_table(results: BenchmarkResults) -> ResultTable:
    """Build the table by the characters' styles; empty when the prompt file has no cast."""
    styles = {origin.name: origin.style.value for origin in results.prompts.cast}

    def pair(prompt: VideoPrompt) -> Collection[str]:
        names = sorted({styles[name] for name in prompt.characters}) if styles else []
        if len(prompt.characters) > 1 and len(names) == 1:
            names = names * 2
        return (" + ".join(names),) if names else ()

    return build_breakdown_table(
        results,
        "styles",
        "By style pair",
        "One style: a single character. Two styles: the styles of several characters.",
        "Styles",
        pair,
        ("cartoon", "realistic", "cartoon + cartoon", "cartoon + realistic"),
    )


def build_scene_table(results: BenchmarkResults) -> ResultTable:
    """Build the table by scene style, as requested by ``[scene-style:...]``."""
    return build_breakdown_table(
        results,
        "scenes",
        "By scene style",
        "The scene style that the prompt's tag requests, whatever the characters' styles.",
        "Scene",
        lambda prompt: (prompt.style.value,),
        ("cartoon", "realistic"),
    )


def build_character_table(results: BenchmarkResults) -> ResultTable:
    """Build the table by character: each prompt counts for all its characters."""
    names = [origin.name for origin in results.prompts.cast]
    return build_breakdown_table(
        results,
        "characters",
        "By character",
        "A prompt with several characters counts for each of them.",
        "Character",
        lambda prompt: prompt.characters,
        names,
    )


def build_difference_table(results: BenchmarkResults) -> ResultTable:
    """Build the table of paired differences of each system to the first, prompt by prompt."""
    columns = measured_columns(results)
    first, *others = results.systems
    lines = [
        TableRow(
            (f"{system} − {first}", subject),
            tuple(
                paired_difference_cell(
                    results.values.get((system, column.metric), {}),
                    results.values.get((first, column.metric), {}),
                    ids,
                )
                for column in columns
            ),
        )
        for subject, ids in group_by_subject(results).items()
        for system in others
        if ids
    ]
    return ResultTable(
        key="differences",
        title=f"Differences to {first}",
        description="Mean difference over the prompts for which both systems have a value. An "
        "interval without zero is a difference that other prompts are likely to show too; among "
        "many columns some occur by chance.",
        label_headers=("Systems", "Subject"),
        columns=columns,
        rows=tuple(lines),
        highlight_best=False,
        signed=True,
    )


def build_extra_metrics_table(results: BenchmarkResults) -> ResultTable:
    """Build the table of metrics that are not in the paper: corrected variants and stand-ins."""
    metrics = [metric for metric in results.metrics() if not metric.startswith("judge/")]
    columns = extra_columns(metrics)
    lower = [column.title for column in columns if not column.higher_is_better]
    table = build_subject_table(
        results,
        "further",
        "Further metrics",
        "Metrics that are not in the paper, each under the name of its implementation.",
        columns,
    )
    noisy = [column.title for column in columns if column.metric in RATES_NOISE_ABOVE_FOOTAGE]
    notes = [f"Lower is better: {', '.join(lower)}."] if lower else []
    if noisy:
        notes.append(
            "Rate pure noise above real footage, so compare versions of one model only: "
            f"{', '.join(noisy)}."
        )
    return replace(table, notes=tuple(notes))
