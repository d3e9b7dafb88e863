"""Sheets as CSV, LaTeX and Markdown: the same cells, rounded in one place."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from mimix_core.benchmark.tables.table_model import Cell, Line, Sheet

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "[": "{[}",
        "]": "{]}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "–": "--",
        "−": "$-$",
    }
)


def as_csv(sheet: Sheet) -> str:
    """One row a line; a column's value, bounds and counts side by side, unrounded.

    Empty where there is nothing: a quoted figure has no bounds and no counts. It is comparable with
    no line of a run.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    named = [
        f"{column.title}{part}"
        for column in sheet.columns
        for part in ("", " low", " high", " n", " of")
    ]
    writer.writerow([*sheet.heads, "comparable", *named])
    for line in sheet.lines:
        numbers = [
            "" if number is None else repr(number)
            for cell in line.cells
            for number in (cell.value, cell.low, cell.high, cell.n, cell.of)
        ]
        writer.writerow([*line.labels, "no" if line.quoted else "yes", *numbers])
    return out.getvalue()


def as_latex(sheet: Sheet) -> str:
    """A booktabs table: the values of a line, and below them in small their intervals.

    Wants the packages booktabs and graphicx. What is quoted has a dagger; notes follow the table.
    """
    best = sheet.best()
    rows: list[str] = []
    for number, line in enumerate(sheet.lines):
        if number and line.labels[-1] != sheet.lines[number - 1].labels[-1]:
            rows.append(r"\midrule")
        rows += _latex_line(sheet, number, line, best)
    heads = " & ".join(_latex(head) for head in (*sheet.heads, *(c.title for c in sheet.columns)))
    notes = " ".join(sheet.notes)
    dagger = r" $^\dagger$As printed in the paper." if any(x.quoted for x in sheet.lines) else ""
    return "\n".join(
        [
            r"\begin{table*}[t]",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{_latex(f'{sheet.title}. {sheet.lead}')}}}\label{{tab:{sheet.key}}}",
            r"\resizebox{\textwidth}{!}{%",
            rf"\begin{{tabular}}{{{'l' * len(sheet.heads)}{'c' * len(sheet.columns)}}}",
            r"\toprule",
            rf"{heads} \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}}",
            *([rf"\par\smallskip{{\scriptsize {_latex(notes)}{dagger}}}"] if notes else []),
            r"\end{table*}",
            "",
        ]
    )


def as_markdown(sheet: Sheet) -> str:
    """A table for a Prefect artifact: value, interval, and the count where not all is there."""
    best = sheet.best()
    heads = [*sheet.heads, *(column.title for column in sheet.columns)]
    lines = [
        f"### {_cell(sheet.title)}",
        "",
        _row(heads),
        _row(["---"] * len(sheet.heads) + ["---:"] * len(sheet.columns)),
    ]
    for number, line in enumerate(sheet.lines):
        shown = [_cell(label) for label in line.labels]
        for place, (cell, column) in enumerate(zip(line.cells, sheet.columns, strict=True)):
            value = cell.text(column.decimals, signed=sheet.signed)
            value = f"**{value}**" if (number, place) in best else value
            beside = "; ".join(_beside(cell, column.decimals, signed=sheet.signed))
            shown.append(f"{value} ({beside})" if beside else value)
        lines.append(_row(shown))
    return "\n".join([*lines, "", *(f"- {_cell(note)}" for note in sheet.notes), ""])


def summary(sheets: Sequence[Sheet], page: str) -> str:
    """What a run leaves in the Prefect UI: the paper's tables, and where the whole page is."""
    shown = [sheet for sheet in sheets if sheet.key.startswith("table-")]
    return "\n".join(
        [*(as_markdown(sheet) for sheet in shown), f"The whole comparison: {page}", ""]
    )


def _latex_line(
    sheet: Sheet, number: int, line: Line, best: frozenset[tuple[int, int]]
) -> list[str]:
    labels = [_latex(label) for label in line.labels]
    if line.quoted:
        labels[0] += r"$^\dagger$"
    values, below = [], []
    for place, (cell, column) in enumerate(zip(line.cells, sheet.columns, strict=True)):
        value = _latex(cell.text(column.decimals, signed=sheet.signed))
        values.append(rf"\textbf{{{value}}}" if (number, place) in best else value)
        small = ", ".join(_beside(cell, column.decimals, signed=sheet.signed))
        below.append(rf"\scriptsize {_latex(small)}" if small else "")
    found = [rf"{' & '.join([*labels, *values])} \\"]
    if any(below):
        found.append(rf"{' & '.join([''] * len(labels) + below)} \\")
    return found


def _beside(cell: Cell, decimals: int, *, signed: bool) -> list[str]:
    return [part for part in (cell.range(decimals, signed=signed), cell.count()) if part]


def _latex(text: str) -> str:
    return text.translate(_LATEX)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    """Text that cannot end a cell of the table, or begin a link or a tag."""
    for mark in "\\|[]<>*_`":
        text = text.replace(mark, f"\\{mark}")
    return text
