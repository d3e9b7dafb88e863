"""Build the paper's Tables 1 to 3: its printed rows and the rows of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mimix_core.benchmark.tables.load_results import BenchmarkResults
from mimix_core.benchmark.tables.metric_columns import paper_columns
from mimix_core.benchmark.tables.paper_results import (
    CAPTION_FORMATS,
    PROMPTS_NOTE,
    PaperTableKey,
    format_judge_note,
    load_paper_results,
)
from mimix_core.benchmark.tables.row_builders import MULTIPLE, build_cells, group_by_subject
from mimix_core.benchmark.tables.table_model import ResultTable, TableCell, TableRow
from mimix_core.errors import BadInput

INTERVALS_NOTE = (
    "The means of a column are over the same prompts for all systems with any value: a prompt "
    "without a value of one of them is excluded for all. Each mean has its 95 % interval over "
    "prompts, and the number of prompts if some are missing."
)
DIMENSIONS_NOTE = (
    "VBench columns are its dimensions computed on each complete video, one per prompt: not "
    "VBench-Long, and not VBench's own prompts."
)


def build_table_1(results: BenchmarkResults) -> ResultTable:
    """Build the paper's comparison of systems, by one or several characters."""
    quoted = load_paper_results().get_table("table-1")
    columns = paper_columns(quoted.columns)
    rows: list[TableRow] = []
    for subject, ids in group_by_subject(results).items():
        rows += [
            TableRow(
                (f"{row.labels[0]} (paper)", subject),
                tuple(map(TableCell, row.values)),
                quoted=True,
            )
            for row in quoted.rows
            if row.labels[1] == subject
        ]
        rows += [
            TableRow((system, subject), build_cells(results, system, columns, ids))
            for system in results.systems
            if ids
        ]
    return ResultTable(
        key="table-1",
        title="Table 1. Systems compared",
        description="The paper's nine metrics. The best of the compared systems is bold.",
        label_headers=("Method", "Subject"),
        columns=columns,
        rows=tuple(rows),
        notes=_notes(results),
    )


def build_table_2(results: BenchmarkResults, arms: Mapping[str, str]) -> ResultTable:
    """Build the ablation of caption tags. ``arms``: caption format -> system trained on it."""
    return _build_ablation_table(
        results,
        "table-2",
        "Table 2. Caption formats",
        "Which tags captions and prompts contain.",
        ("Caption format", "Source"),
        {variant: (title, arms.get(variant)) for variant, title in CAPTION_FORMATS.items()},
        _check_formats(arms, CAPTION_FORMATS, "--format"),
    )


def build_table_3(results: BenchmarkResults, ratios: Mapping[str, str]) -> ResultTable:
    """Build the ablation of composites. ``ratios``: e.g. ``10%`` -> system trained with them."""
    printed = [row.labels[0] for row in load_paper_results().get_table("table-3").rows]
    shares = {share: (share, ratios.get(share)) for share in [*printed, *ratios]}
    ordered = dict(sorted(shares.items(), key=lambda item: _parse_percent(item[0])))
    return _build_ablation_table(
        results,
        "table-3",
        "Table 3. Share of composites",
        "Share of training clips that show a character in a scene of the other style.",
        ("Share", "Source"),
        ordered,
        dict(ratios),
    )


def _build_ablation_table(
    results: BenchmarkResults,
    number: PaperTableKey,
    title: str,
    description: str,
    label_headers: tuple[str, str],
    arms: Mapping[str, tuple[str, str | None]],
    assigned: Mapping[str, str],
) -> ResultTable:
    unknown = sorted(set(assigned.values()) - set(results.systems))
    if unknown:
        raise BadInput(
            f"unknown system {unknown[0]!r}",
            where=title,
            fix=f"The systems are {', '.join(results.systems)}.",
        )
    printed = {row.labels[0]: row for row in load_paper_results().get_table(number).rows}
    columns = paper_columns(load_paper_results().get_table(number).columns)
    ids = group_by_subject(results)[MULTIPLE]
    compared = sorted({system for _, system in arms.values() if system is not None})
    rows: list[TableRow] = []
    for arm, (label, system) in arms.items():
        if arm in printed:
            rows.append(
                TableRow((label, "paper"), tuple(map(TableCell, printed[arm].values)), quoted=True)
            )
        if system is not None:
            cells = build_cells(results, system, columns, ids, compared)
            rows.append(TableRow((label, "run"), cells))
    run_note = (
        f"Rows of the run: {', '.join(f'{arm} is {name}' for arm, name in assigned.items())}."
        if assigned
        else "No system was assigned to one of these rows: only the paper's rows are shown."
    )
    subject_note = (
        "The paper does not state which videos its ablations cover; the run's cover those with "
        "several characters."
    )
    return ResultTable(
        number,
        title,
        description,
        label_headers,
        columns,
        tuple(rows),
        (run_note, subject_note, *_notes(results)),
    )


def _notes(results: BenchmarkResults) -> tuple[str, ...]:
    judge = () if results.judge is None else (format_judge_note(results.judge),)
    return (INTERVALS_NOTE, PROMPTS_NOTE, *judge, DIMENSIONS_NOTE)


def _check_formats(
    arms: Mapping[str, str], known: Collection[str], option: str
) -> Mapping[str, str]:
    unknown = sorted(set(arms) - set(known))
    if unknown:
        raise BadInput(
            f"unknown caption format {unknown[0]!r}",
            where=option,
            fix=f"Use one of {', '.join(known)}.",
        )
    return arms


def _parse_percent(share: str) -> float:
    try:
        if not share.endswith("%"):
            raise ValueError
        return float(share[:-1])
    except ValueError:
        raise BadInput(
            f"{share!r} is not a percentage", where="--ratio", fix="Write e.g. 10%."
        ) from None
