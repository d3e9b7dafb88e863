"""Factories of two systems, four prompts, and tables with values for computation by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mimix_core import tables
from mimix_core.benchmark.systems import System
from mimix_core.benchmark.vbench.evaluate import VBENCH
from mimix_core.domain.prompts import PromptFile
from mimix_core.tables import Reason, Row
from mimix_core.tables.judge_tables import DUELS, JUDGEMENTS

PROMPTS = PromptFile.model_validate(
    {
        "version": "four",
        "cast": [
            {"name": "Tom", "show": "tom-and-jerry", "style": "cartoon"},
            {"name": "Jerry", "show": "tom-and-jerry", "style": "cartoon"},
            {"name": "Mary", "show": "young-sheldon", "style": "realistic"},
        ],
        "prompts": [
            {
                "id": name,
                "category": category,
                "characters": cast,
                "actions": [{"name": who, "action": "waves"} for who in cast],
                "setting": "A kitchen",
                "style": style,
            }
            for name, category, cast, style in (
                ("p1", "single", ["Tom"], "cartoon"),
                ("p2", "single", ["Mary"], "realistic"),
                ("p3", "intra-series", ["Tom", "Jerry"], "cartoon"),
                ("p4", "inter-style", ["Tom", "Mary"], "realistic"),
            )
        ],
    }
)

IDS = tuple(prompt.id for prompt in PROMPTS.prompts)

QUALITY, SMOOTH = "imaging_quality/musiq", "motion_smoothness/amt-s"


def system(folder: Path, name: str, ids: Sequence[str] = IDS) -> System:
    """Create a system's folder whose videos contain their own names."""
    own = folder / name
    own.mkdir(parents=True)
    for prompt_id in ids:
        (own / f"{prompt_id}.mp4").write_text(f"{name} {prompt_id}")
    return System(name, own)


def scores(path: Path, values: Mapping[str, Mapping[str, float | None]]) -> Path:
    """Write a table of VBench scores: metric -> prompt id -> value, or None if it failed."""
    rows = []
    for metric, by_prompt in values.items():
        for prompt_id, value in by_prompt.items():
            columns: Row = {
                "score_id": f"{prompt_id}.mp4/{metric}",
                "video": f"{prompt_id}.mp4",
                "dimension": metric.split("/")[0],
                "metric": metric,
                "weights": "",
            }
            rows.append(
                tables.failed(Reason.METRIC_FAILED, "broken", **columns, score=None)
                if value is None
                else tables.ok(**columns, score=value)
            )
    tables.write(path, VBENCH, rows, stage_key="key")
    return path


def _answer_columns(**values: object) -> Row:
    defaults: Row = {
        "analysis": "",
        "model": "judge-1",
        "asked_on": "2026-01-02",
        "rubric_version": "1",
        "attempts": 1,
        "input_tokens": 1,
        "output_tokens": 1,
        "cost_usd": 0.0,
    }
    return {**defaults, **values}


def judgement(
    system: str,
    prompt_id: str,
    aspect: str,
    value: float | None,
    *,
    sample: int = 0,
    control: str = "",
    mode: str = "strict",
    **other: object,
) -> Row:
    """Build one rating; a value of None means a missing answer."""
    video = f"{system}/{prompt_id}" + (f"~{control}" if control else "")
    row = _answer_columns(
        judgement_id=f"{video}/{mode}/{aspect}/{sample}",
        system=system,
        video_id=video,
        prompt_id=prompt_id,
        category="single",
        control=control,
        mode=mode,
        aspect=aspect,
        sample=sample,
        value=value,
        **other,
    )
    if value is None:
        unanswered = {**row, "model": "", "asked_on": ""}
        return tables.failed(Reason.METRIC_FAILED, "no answer", **unanswered)
    return tables.ok(**row)


def _with_status(winner: str | None, row: Row) -> Row:
    if winner is None:
        unanswered = {**row, "model": "", "asked_on": ""}
        return tables.failed(Reason.METRIC_FAILED, "no answer", **unanswered)
    return tables.ok(**row)


def judgements(path: Path, rows: Sequence[Row]) -> Path:
    """Write a table of ratings."""
    tables.write(path, JUDGEMENTS, rows, stage_key="key")
    return path


def duels(path: Path, winners: Mapping[str, Sequence[str | None]]) -> Path:
    """Write comparisons of ``a`` (left) and ``b``: prompt id -> the winner in each order.

    A winner of None means a missing answer.
    """
    rows = [
        _with_status(
            winner,
            _answer_columns(
                duel_id=f"{prompt_id}/a~b/motion/{sample}",
                prompt_id=prompt_id,
                category="single",
                aspect="motion",
                left_system="a",
                right_system="b",
                first="right" if sample % 2 else "left",
                sample=sample,
                winner=winner,
            ),
        )
        for prompt_id, both in winners.items()
        for sample, winner in enumerate(both)
    ]
    tables.write(path, DUELS, rows, stage_key="key")
    return path
