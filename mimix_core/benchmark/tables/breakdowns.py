"""The same figures by group, styles, scene and character, and system against system."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from mimix_core.benchmark.tables.load_results import Evidence
from mimix_core.benchmark.tables.metric_columns import further
from mimix_core.benchmark.tables.row_builders import broken_down, by_subject, measured, subjects
from mimix_core.benchmark.tables.table_model import Line, Sheet, difference
from mimix_core.domain.prompts import Prompt, groups


def per_group(evidence: Evidence) -> Sheet:
    """Single, and the paper's four groups. They overlap where the homes are known."""
    homes = {home.name: home for home in evidence.prompts.cast}

    def group(prompt: Prompt) -> Collection[str]:
        if not homes:
            return (prompt.category,)
        return groups([homes[name] for name in prompt.characters])

    return broken_down(
        evidence,
        "groups",
        "By group",
        "The paper's groups overlap: characters of two styles are of two series as well."
        if homes
        else "Each prompt under the category it is filed under.",
        "Group",
        group,
        ("single", "inter-style", "intra-style", "inter-series", "intra-series"),
    )


def per_styles(evidence: Evidence) -> Sheet:
    """By the styles that the characters are of; empty where the file of prompts has no cast."""
    styles = {home.name: home.style.value for home in evidence.prompts.cast}

    def pair(prompt: Prompt) -> Collection[str]:
        own = sorted({styles[name] for name in prompt.characters}) if styles else []
        if len(prompt.characters) > 1 and len(own) == 1:
            own = own * 2
        return (" + ".join(own),) if own else ()

    return broken_down(
        evidence,
        "styles",
        "By style pair",
        "One style is one character; two are the styles that meet.",
        "Styles",
        pair,
        ("cartoon", "realistic", "cartoon + cartoon", "cartoon + realistic"),
    )


def per_scene(evidence: Evidence) -> Sheet:
    """By the style of the scene: what ``[scene-style:...]`` asked for."""
    return broken_down(
        evidence,
        "scenes",
        "By style of the scene",
        "What the style tag asked for, whoever is in the scene.",
        "Scene",
        lambda prompt: (prompt.style.value,),
        ("cartoon", "realistic"),
    )


def per_character(evidence: Evidence) -> Sheet:
    """By character: each prompt counts for every one of its characters."""
    names = [home.name for home in evidence.prompts.cast]
    return broken_down(
        evidence,
        "characters",
        "By character",
        "A prompt of several characters counts for each of them.",
        "Character",
        lambda prompt: prompt.characters,
        names,
    )


def differences(evidence: Evidence) -> Sheet:
    """Each system less the first, prompt by prompt: an interval without zero is a difference."""
    columns = measured(evidence)
    first, *others = evidence.systems
    lines = [
        Line(
            (f"{system} − {first}", subject),
            tuple(
                difference(
                    evidence.values.get((system, column.metric), {}),
                    evidence.values.get((first, column.metric), {}),
                    ids,
                )
                for column in columns
            ),
        )
        for subject, ids in subjects(evidence).items()
        for system in others
        if ids
    ]
    return Sheet(
        key="differences",
        title=f"Differences to {first}",
        lead="Over the prompts that both have a value of. An interval that leaves out zero is a "
        "difference that other prompts would show too; with many columns some do by chance.",
        heads=("Systems", "Subject"),
        columns=columns,
        lines=tuple(lines),
        marked=False,
        signed=True,
    )


def further_measures(evidence: Evidence) -> Sheet:
    """What is no column of the paper: corrected variants, and stand-ins under their own names."""
    metrics = [metric for metric in evidence.metrics() if not metric.startswith("judge/")]
    columns = further(metrics)
    lower = [column.title for column in columns if not column.higher_is_better]
    sheet = by_subject(
        evidence,
        "further",
        "Further measures",
        "Metrics that are no column of the paper, each under the name of what computes it.",
        columns,
    )
    return replace(sheet, notes=(f"Lower is better: {', '.join(lower)}.",) if lower else ())
