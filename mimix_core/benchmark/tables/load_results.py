"""Load all scores and judgements: one value per system, metric and prompt.

Missing values have a reason: for each system and metric, every prompt has either a value or a
MissingValue.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq

from mimix_core import tables
from mimix_core.benchmark.characters.video_metrics import video_metrics
from mimix_core.benchmark.judge.judge_results import mean_ratings
from mimix_core.benchmark.systems import System, missing_prompts, unmatched_videos
from mimix_core.domain.prompts import PromptFile
from mimix_core.errors import BadInput
from mimix_core.project.pair_ratings import PairRating, read_pair_ratings
from mimix_core.settings.judge_settings import JudgeMode
from mimix_core.tables import CHARACTER_SCORES, SCORES, BaseRow, JudgementRow, PairwiseRow, Status
from mimix_core.tables.judge_tables import DUELS, JUDGEMENTS


@dataclass(frozen=True)
class JudgeInfo:
    """The model, rubric and dates behind the judge's values."""

    model: str
    rubric: str
    mode: JudgeMode
    first_date: str
    last_date: str


@dataclass(frozen=True)
class MissingValue:
    """A missing value and its reason."""

    system: str
    metric: str
    prompt_id: str
    reason: str


@dataclass(frozen=True)
class BenchmarkResults:
    """All values of all systems. ``values``: (system, metric) -> prompt id -> value.

    ``judgements`` and ``comparisons``: the judge's rows of these systems and prompts, including
    negative controls. ``ratings``: people's, of pairs of these systems. ``ignored_rows``: rows of
    other systems or prompts, by file.
    ``missing_videos``: prompts without a video, by system; ``unmatched_videos``: videos without a
    prompt, by system. Both contain only systems that have any.
    """

    prompts: PromptFile
    systems: tuple[str, ...]
    values: Mapping[tuple[str, str], Mapping[str, float]]
    missing_values: tuple[MissingValue, ...]
    judge: JudgeInfo | None
    judgements: tuple[JudgementRow, ...]
    comparisons: tuple[PairwiseRow, ...]
    ignored_rows: Mapping[str, int]
    missing_videos: Mapping[str, tuple[str, ...]]
    unmatched_videos: Mapping[str, tuple[str, ...]]
    ratings: tuple[PairRating, ...] = ()

    def metrics(self) -> tuple[str, ...]:
        """Return all metrics with a value or a missing value, sorted."""
        metrics = {metric for _, metric in self.values}
        return tuple(sorted(metrics | {missing.metric for missing in self.missing_values}))


def load_results(
    prompts: PromptFile,
    systems: Sequence[System],
    scores: Mapping[str, Sequence[Path]],
    judgements: Sequence[Path],
    comparisons: Sequence[Path],
    mode: JudgeMode | None,
    ratings: Sequence[Path] = (),
) -> BenchmarkResults:
    """Load all tables. ``scores``: system -> its tables; ``mode``: the judge's, if there are both.

    Raises BadInput for an invalid file, scores of an unknown system, duplicate values, or
    judgements of two judges.
    """
    names = [system.name for system in systems]
    unknown = sorted(set(scores) - set(names))
    if unknown:
        raise BadInput(
            f"there are scores of {unknown[0]!r}, which is not among the systems",
            where="--scores",
            fix=f"The systems are {', '.join(names)}.",
        )
    collector = _ResultCollector(
        ids=frozenset(prompt.id for prompt in prompts.prompts), systems=frozenset(names)
    )
    for name, paths in scores.items():
        for path in paths:
            collector.add_scores(name, path)
    rated = [row for path in judgements for row in collector.load_judgements(path)]
    judge = collector.add_judgements(rated, mode)
    pairs = [row for path in comparisons for row in collector.load_comparisons(path)]
    people = collector.load_ratings(ratings)
    missing_videos = {
        system.name: ids for system in systems if (ids := missing_prompts(system, prompts.prompts))
    }
    return BenchmarkResults(
        prompts=prompts,
        systems=tuple(names),
        values=collector.values,
        missing_values=tuple(_missing_values(prompts, names, collector, missing_videos)),
        judge=judge,
        judgements=tuple(rated),
        comparisons=tuple(pairs),
        ignored_rows=dict(collector.ignored_rows),
        missing_videos=missing_videos,
        unmatched_videos={
            system.name: files
            for system in systems
            if (files := unmatched_videos(system, prompts.prompts))
        },
        ratings=tuple(people),
    )


class _ResultCollector:
    """Collects values while the tables are read."""

    def __init__(self, ids: frozenset[str], systems: frozenset[str]) -> None:
        self.ids = ids
        self.systems = systems
        self.values: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
        self.missing_reasons: dict[tuple[str, str, str], str] = {}
        self.ignored_rows: dict[str, int] = defaultdict(int)

    def add_scores(self, system: str, path: Path) -> None:
        """Add a table of scores of one system's videos."""
        matched = 0
        for prompt_id, metric, value, reason in _read_scores(path):
            if prompt_id not in self.ids:
                self.ignored_rows[path.name] += 1
                continue
            matched += 1
            if (
                prompt_id in self.values[system, metric]
                or (system, metric, prompt_id) in self.missing_reasons
            ):
                raise BadInput(
                    f"duplicate value: {metric} of {prompt_id} for {system}",
                    where=str(path),
                    fix="Pass only one table per system and metric.",
                )
            self._put(system, metric, prompt_id, value, reason)
        if not matched:
            raise BadInput(
                "no video of this table belongs to a prompt",
                where=str(path),
                fix="Videos are named <prompt id>.mp4; check --prompts and --scores.",
            )

    def load_judgements(self, path: Path) -> list[JudgementRow]:
        """Load the ratings of these prompts and systems."""
        rows = tables.read(path, JUDGEMENTS)
        selected = [
            row for row in rows if row["prompt_id"] in self.ids and row["system"] in self.systems
        ]
        self._check_selection(path, JUDGEMENTS.name, len(rows), len(selected))
        return selected

    def load_comparisons(self, path: Path) -> list[PairwiseRow]:
        """Load the comparisons of these prompts and systems."""
        rows = tables.read(path, DUELS)
        selected = [
            row
            for row in rows
            if row["prompt_id"] in self.ids
            and {row["left_system"], row["right_system"]} <= self.systems
        ]
        self._check_selection(path, DUELS.name, len(rows), len(selected))
        return selected

    def load_ratings(self, paths: Sequence[Path]) -> list[PairRating]:
        """Load what people said about pairs of these prompts and systems."""
        ratings = read_pair_ratings(paths)
        selected = [
            one
            for one in ratings
            if one.prompt_id in self.ids and {one.left, one.right} <= self.systems
        ]
        for path in paths[:1]:
            self._check_selection(path, "ratings", len(ratings), len(selected))
        return selected

    def _check_selection(self, path: Path, table: str, total: int, selected: int) -> None:
        if total and not selected:
            raise BadInput(
                f"no {table} of these systems and prompts",
                where=str(path),
                fix="Use the system names that were used for judging.",
            )
        if total > selected:
            self.ignored_rows[path.name] += total - selected

    def add_judgements(
        self, rows: Sequence[JudgementRow], mode: JudgeMode | None
    ) -> JudgeInfo | None:
        """Add the judgements of one mode; the value of a video is the mean of its samples."""
        if not rows:
            return None
        modes: list[JudgeMode] = [
            one for one in get_args(JudgeMode) if any(row["mode"] == one for row in rows)
        ]
        if mode is None and len(modes) > 1:
            raise BadInput(
                f"the judgements are of modes {' and '.join(modes)}", fix="Select one with --mode."
            )
        selected_mode = mode or modes[0]
        selected = [row for row in rows if row["mode"] == selected_mode and not row["control"]]
        if not selected:
            raise BadInput(f"no judgement is of mode {selected_mode}", where="--mode")
        # Rows without an answer have no model: they do not indicate another judge.
        answered = [row for row in selected if row["status"] == Status.OK]
        judges = sorted({(row["model"], row["rubric_version"]) for row in answered})
        if len(judges) > 1:
            raise BadInput(
                "there are judgements of two judges: "
                + " and ".join(f"{model} with rubric {rubric}" for model, rubric in judges),
                fix="Ratings of two judges are never mixed: pass the tables of one judge.",
            )
        means = mean_ratings(selected, selected_mode)
        for row in selected:
            value = means.get(row["system"], {}).get(row["aspect"], {}).get(row["prompt_id"])
            self._put(
                row["system"],
                f"judge/{row['aspect']}",
                row["prompt_id"],
                value,
                _missing_reason(row),
            )
        if not judges:
            return JudgeInfo("no model", selected[0]["rubric_version"], selected_mode, "", "")
        dates = [row["asked_on"] for row in answered]
        return JudgeInfo(*judges[0], selected_mode, first_date=min(dates), last_date=max(dates))

    def _put(
        self, system: str, metric: str, prompt_id: str, value: float | None, reason: str
    ) -> None:
        if value is None:
            self.missing_reasons[system, metric, prompt_id] = reason
        else:
            self.values[system, metric][prompt_id] = value


def _read_scores(path: Path) -> Iterable[tuple[str, str, float | None, str]]:
    """Yield (prompt id, metric, value or None, missing reason) of any kind of score table."""
    from mimix_core.benchmark.vbench.evaluate import VBENCH

    try:
        metadata = pq.read_schema(path).metadata or {}
    except FileNotFoundError as error:
        raise BadInput("no such file", where=str(path), fix="Check the path.") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(f"not a readable table ({error})", where=str(path)) from error
    kind = metadata.get(b"mimix.table", b"").decode()
    if kind == CHARACTER_SCORES.name:
        yield from video_metrics(tables.read(path, CHARACTER_SCORES))
    elif kind == SCORES.name:
        for row in tables.read(path, SCORES):
            if row["kind"] == "sample":
                value = row["value"] if row["status"] == Status.OK else None
                yield row["video_id"], row["metric"], value, _missing_reason(row)
    else:
        for score in tables.read(path, VBENCH):
            value = score["score"] if score["status"] == Status.OK else None
            yield PurePath(score["video"]).stem, score["metric"], value, _missing_reason(score)


def _missing_reason(row: BaseRow) -> str:
    return str(row["reason"] or row["status"]).replace("_", " ")


def _missing_values(
    prompts: PromptFile,
    systems: Sequence[str],
    collector: _ResultCollector,
    missing_videos: Mapping[str, tuple[str, ...]],
) -> Iterable[MissingValue]:
    """Yield each prompt of each system without a value of a metric that any system has."""
    metrics = sorted(
        {metric for _, metric in collector.values}
        | {metric for _, metric, _ in collector.missing_reasons}
    )
    for system in systems:
        for metric in metrics:
            values = collector.values.get((system, metric), {})
            for prompt in prompts.prompts:
                if prompt.id in values:
                    continue
                reason = collector.missing_reasons.get((system, metric, prompt.id))
                if prompt.id in missing_videos.get(system, ()):
                    reason = "no video"
                yield MissingValue(system, metric, prompt.id, reason or "not asked")
