"""Export tables as CSV, Parquet, LaTeX and Markdown from the same cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mimix_core.benchmark.tables.table_model import ResultTable, TableCell, TableRow
from mimix_core.engine.text_escaping import escape_markdown, escape_spreadsheet

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


def to_csv(table: ResultTable) -> str:
    """Export unrounded values, bounds and counts, one line per row.

    Missing parts are empty: a quoted result has neither bounds nor counts, and is marked as not
    comparable to the rows of a run.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [name for name, _ in _number_columns(table)]
    writer.writerow([*table.label_headers, "comparable", *names])
    for row in table.rows:
        numbers = ["" if number is None else repr(number) for number in _row_numbers(row)]
        writer.writerow(
            [*map(escape_spreadsheet, row.labels), "no" if row.quoted else "yes", *numbers]
        )
    return out.getvalue()


def to_parquet(table: ResultTable) -> bytes:
    """Export what the CSV contains, with numbers as numbers and null for what is missing."""
    fields = [
        *(pa.field(header, pa.string()) for header in table.label_headers),
        pa.field("comparable", pa.bool_()),
        *(pa.field(name, kind) for name, kind in _number_columns(table)),
    ]
    columns: list[Sequence[Any]] = list(
        zip(*([*row.labels, not row.quoted, *_row_numbers(row)] for row in table.rows), strict=True)
    ) or [()] * len(fields)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, fields, strict=True)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _number_columns(table: ResultTable) -> list[tuple[str, pa.DataType]]:
    """Return name and type of the five columns of each metric."""
    parts = (
        *((part, pa.float64()) for part in ("", " low", " high")),
        *((part, pa.int64()) for part in (" n", " of")),
    )
    return [(f"{column.title}{part}", kind) for column in table.columns for part, kind in parts]


def _row_numbers(row: TableRow) -> list[float | int | None]:
    return [
        number
        for cell in row.cells
        for number in (cell.value, cell.low, cell.high, cell.n, cell.expected)
    ]


def to_latex(table: ResultTable) -> str:
    """Export a booktabs table with small intervals below the values of each row.

    Requires the packages booktabs and graphicx. Quoted rows have a dagger; notes follow the table.
    """
    best = table.best_cells()
    rows: list[str] = []
    for number, row in enumerate(table.rows):
        if number and row.labels[-1] != table.rows[number - 1].labels[-1]:
            rows.append(r"\midrule")
        rows += _latex_row(table, number, row, best)
    headers = " & ".join(
        _escape_latex(header)
        for header in (*table.label_headers, *(c.title for c in table.columns))
    )
    notes = " ".join(table.notes)
    caption = _escape_latex(f"{table.title}. {table.description}")
    dagger = r" $^\dagger$As printed in the paper." if any(row.quoted for row in table.rows) else ""
    return "\n".join(
        [
            r"\begin{table*}[t]",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{caption}}}\label{{tab:{table.key}}}",
            r"\resizebox{\textwidth}{!}{%",
            rf"\begin{{tabular}}{{{'l' * len(table.label_headers)}{'c' * len(table.columns)}}}",
            r"\toprule",
            rf"{headers} \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}}",
            *([rf"\par\smallskip{{\scriptsize {_escape_latex(notes)}{dagger}}}"] if notes else []),
            r"\end{table*}",
            "",
        ]
    )


def to_markdown(table: ResultTable) -> str:
    """Export a table for a Prefect artifact: value, interval, and count if values are missing."""
    best = table.best_cells()
    headers = [*table.label_headers, *(column.title for column in table.columns)]
    lines = [
        f"### {escape_markdown(table.title)}",
        "",
        _markdown_row(headers),
        _markdown_row(["---"] * len(table.label_headers) + ["---:"] * len(table.columns)),
    ]
    for number, row in enumerate(table.rows):
        texts = [escape_markdown(label) for label in row.labels]
        for column_index, (cell, column) in enumerate(zip(row.cells, table.columns, strict=True)):
            value = cell.format_value(column.decimals, signed=table.signed)
            value = f"**{value}**" if (number, column_index) in best else value
            details = "; ".join(_cell_details(cell, column.decimals, signed=table.signed))
            texts.append(f"{value} ({details})" if details else value)
        lines.append(_markdown_row(texts))
    return "\n".join([*lines, "", *(f"- {escape_markdown(note)}" for note in table.notes), ""])


def to_markdown_summary(tables_: Sequence[ResultTable], page: str) -> str:
    """Summarize a comparison for the Prefect UI: the paper's tables and the page's location."""
    paper_tables = [table for table in tables_ if table.key.startswith("table-")]
    return "\n".join(
        [*(to_markdown(table) for table in paper_tables), f"Complete comparison: {page}", ""]
    )


def _latex_row(
    table: ResultTable, number: int, row: TableRow, best: frozenset[tuple[int, int]]
) -> list[str]:
    labels = [_escape_latex(label) for label in row.labels]
    if row.quoted:
        labels[0] += r"$^\dagger$"
    values, detail_texts = [], []
    for column_index, (cell, column) in enumerate(zip(row.cells, table.columns, strict=True)):
        value = _escape_latex(cell.format_value(column.decimals, signed=table.signed))
        values.append(rf"\textbf{{{value}}}" if (number, column_index) in best else value)
        small = ", ".join(_cell_details(cell, column.decimals, signed=table.signed))
        detail_texts.append(rf"\scriptsize {_escape_latex(small)}" if small else "")
    lines = [rf"{' & '.join([*labels, *values])} \\"]
    if any(detail_texts):
        lines.append(rf"{' & '.join([''] * len(labels) + detail_texts)} \\")
    return lines


def _cell_details(cell: TableCell, decimals: int, *, signed: bool) -> list[str]:
    return [
        part
        for part in (cell.format_interval(decimals, signed=signed), cell.format_count())
        if part
    ]


def _escape_latex(text: str) -> str:
    return text.translate(_LATEX)


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
