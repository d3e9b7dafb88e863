"""What was measured: every score and every judgement, one value per system, metric and prompt.

What is missing is counted with its reason: the values of a metric and its gaps together are the
prompts, each once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mimix_core import tables
from mimix_core.benchmark.judge.judge_results import Mode, ratings
from mimix_core.benchmark.systems import System, missing_prompts, unmatched_videos
from mimix_core.domain.prompts import PromptFile
from mimix_core.errors import BadInput
from mimix_core.tables import SCORES, Row, Status
from mimix_core.tables.judge_tables import DUELS, JUDGEMENTS


@dataclass(frozen=True)
class Judge:
    """Who gave the judge's values."""

    model: str
    rubric: str
    mode: str
    first_asked: str
    last_asked: str


@dataclass(frozen=True)
class Gap:
    """A value that is not there, and why."""

    system: str
    metric: str
    prompt_id: str
    why: str


@dataclass(frozen=True)
class Evidence:
    """All values of all systems. ``values``: (system, metric) -> prompt id -> value.

    ``judgements`` and ``duels``: the judge's rows about these systems and prompts, its negative
    controls included. ``left_out``: rows of the files that belong to no system or prompt of this
    comparison, by file. ``absent``: by system, the prompts it has no video of; ``strays``:
    by system, the videos of its folder that no prompt names. Neither has a system without any.
    """

    prompts: PromptFile
    systems: tuple[str, ...]
    values: Mapping[tuple[str, str], Mapping[str, float]]
    gaps: tuple[Gap, ...]
    judge: Judge | None
    judgements: tuple[Row, ...]
    duels: tuple[Row, ...]
    left_out: Mapping[str, int]
    absent: Mapping[str, tuple[str, ...]]
    strays: Mapping[str, tuple[str, ...]]

    def metrics(self) -> tuple[str, ...]:
        """All metrics that any system was asked for, sorted."""
        asked = {metric for _, metric in self.values} | {gap.metric for gap in self.gaps}
        return tuple(sorted(asked))


def gather(
    prompts: PromptFile,
    systems: Sequence[System],
    scores: Mapping[str, Sequence[Path]],
    judgements: Sequence[Path],
    duels: Sequence[Path],
    mode: Mode | None,
) -> Evidence:
    """Read all tables. ``scores``: system -> its tables; ``mode``: which of the judge's, if both.

    Raises BadInput for a file that is not what it should be, scores of a system that is not
    compared, a value that stands twice, or judgements of two judges.
    """
    names = [system.name for system in systems]
    strangers = sorted(set(scores) - set(names))
    if strangers:
        raise BadInput(
            f"there are scores of {strangers[0]!r}, which is no --system",
            where="--scores",
            fix=f"The systems are {', '.join(names)}.",
        )
    book = _Book(ids=frozenset(prompt.id for prompt in prompts.prompts), systems=frozenset(names))
    for name, paths in scores.items():
        for path in paths:
            book.take_scores(name, path)
    rows = [row for path in judgements for row in book.rows_of(path, JUDGEMENTS)]
    judge = book.take_judgements(rows, mode)
    fought = [row for path in duels for row in book.rows_of(path, DUELS)]
    absent = {one.name: gone for one in systems if (gone := missing_prompts(one, prompts.prompts))}
    return Evidence(
        prompts=prompts,
        systems=tuple(names),
        values=book.values,
        gaps=tuple(_gaps(prompts, names, book, absent)),
        judge=judge,
        judgements=tuple(rows),
        duels=tuple(fought),
        left_out=dict(book.left_out),
        absent=absent,
        strays={one.name: found for one in systems if (found := unmatched_videos(one, prompts.prompts))},
    )


class _Book:
    """Collects values while the tables are read."""

    def __init__(self, ids: frozenset[str], systems: frozenset[str]) -> None:
        self.ids = ids
        self.systems = systems
        self.values: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
        self.why: dict[tuple[str, str, str], str] = {}
        self.left_out: dict[str, int] = defaultdict(int)

    def take_scores(self, system: str, path: Path) -> None:
        """Take a table of scores of one system's videos."""
        known = 0
        for prompt_id, metric, value, why in _score_rows(path):
            if prompt_id not in self.ids:
                self.left_out[path.name] += 1
                continue
            known += 1
            if prompt_id in self.values[system, metric] or (system, metric, prompt_id) in self.why:
                raise BadInput(
                    f"{metric} of {prompt_id} stands twice for {system}",
                    where=str(path),
                    fix="Give each system one table for each metric.",
                )
            self._put(system, metric, prompt_id, value, why)
        if not known:
            raise BadInput(
                "no video of this table is named by a prompt",
                where=str(path),
                fix="Videos are named <prompt id>.mp4; check --prompts and --scores.",
            )

    def rows_of(self, path: Path, table: tables.Table) -> list[Row]:
        """The rows of a judge's table that belong to these prompts and systems."""
        columns = ("left_system", "right_system") if table is DUELS else ("system",)
        rows = tables.read(path, table)
        own = [
            row
            for row in rows
            if row["prompt_id"] in self.ids and all(row[c] in self.systems for c in columns)
        ]
        if rows and not own:
            raise BadInput(
                f"no {table.name} of these systems and prompts",
                where=str(path),
                fix="Name the systems as they were named to the judge.",
            )
        if len(rows) > len(own):
            self.left_out[path.name] += len(rows) - len(own)
        return own

    def take_judgements(self, rows: Sequence[Row], mode: Mode | None) -> Judge | None:
        """Take the judgements of one mode: the mean of a video's samples is its value."""
        if not rows:
            return None
        modes: list[Mode] = sorted({row["mode"] for row in rows})
        if mode is None and len(modes) > 1:
            raise BadInput("both modes of the judge are given", fix="Choose with --mode.")
        wanted = mode or modes[0]
        own = [row for row in rows if row["mode"] == wanted and not row["control"]]
        if not own:
            raise BadInput(f"no judgement is of the mode {wanted}", where="--mode")
        # A row without an answer names no model, and so no other judge either.
        answered = [row for row in own if row["status"] == Status.OK]
        judges = sorted({(row["model"], row["rubric_version"]) for row in answered})
        if len(judges) > 1:
            raise BadInput(
                "there are judgements of two judges: "
                + " and ".join(f"{model} with rubric {rubric}" for model, rubric in judges),
                fix="Figures of two judges are never mixed: give the tables of one.",
            )
        told = ratings(own, wanted)
        for row in own:
            value = told.get(row["system"], {}).get(row["aspect"], {}).get(row["prompt_id"])
            self._put(row["system"], f"judge/{row['aspect']}", row["prompt_id"], value, _why(row))
        if not judges:
            return Judge("no model", own[0]["rubric_version"], wanted, "", "")
        dates = [row["asked_on"] for row in answered]
        return Judge(*judges[0], wanted, first_asked=min(dates), last_asked=max(dates))

    def _put(self, system: str, metric: str, prompt_id: str, value: float | None, why: str) -> None:
        if value is None:
            self.why[system, metric, prompt_id] = why
        else:
            self.values[system, metric][prompt_id] = value


def _score_rows(path: Path) -> Iterable[tuple[str, str, float | None, str]]:
    """(prompt id, metric, value or None, why there is none) of either kind of score table."""
    from mimix_core.benchmark.vbench.evaluate import VBENCH

    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(f"not a readable table ({error})", where=str(path)) from error
    if metadata.get(b"mimix.table") == SCORES.name.encode():
        for row in tables.read(path, SCORES):
            if row["kind"] == "sample":
                yield row["video_id"], row["metric"], _number(row, "value"), _why(row)
    else:
        for row in tables.read(path, VBENCH):
            yield PurePath(row["video"]).stem, row["metric"], _number(row, "score"), _why(row)


def _number(row: Mapping[str, Any], column: str) -> float | None:
    return float(row[column]) if row["status"] == Status.OK else None


def _why(row: Mapping[str, Any]) -> str:
    return str(row["reason"] or row["status"]).replace("_", " ")


def _gaps(
    prompts: PromptFile,
    systems: Sequence[str],
    book: _Book,
    absent: Mapping[str, tuple[str, ...]],
) -> Iterable[Gap]:
    """Each prompt of each system that a metric, asked of any system, has no value for."""
    metrics = sorted({metric for _, metric in book.values} | {metric for _, metric, _ in book.why})
    for system in systems:
        for metric in metrics:
            values = book.values.get((system, metric), {})
            for prompt in prompts.prompts:
                if prompt.id in values:
                    continue
                why = book.why.get((system, metric, prompt.id))
                if prompt.id in absent.get(system, ()):
                    why = "no video"
                yield Gap(system, metric, prompt.id, why or "not asked")
