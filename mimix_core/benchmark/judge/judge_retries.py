"""Apply a person's decisions that failed ratings and comparisons are asked for again."""

from __future__ import annotations

from pathlib import Path

from mimix_core.benchmark.judge import pairwise, stage
from mimix_core.benchmark.judge.evaluation_plan import list_rating_tasks
from mimix_core.benchmark.judge.judge_inputs import JudgeInputs
from mimix_core.settings.judge_settings import JudgeSettings
from mimix_core.vlm.retries import read_retries


def with_rating_retries(inputs: JudgeInputs, settings: JudgeSettings, folder: Path) -> JudgeInputs:
    """Add how often each rating is to be asked for again; ``folder`` holds these decisions."""
    retries = read_retries(folder, stage.STAGE.name)
    return inputs.with_retries(retries, list_rating_tasks(inputs, settings))


def with_comparison_retries(
    inputs: JudgeInputs, settings: JudgeSettings, folder: Path
) -> JudgeInputs:
    """Add how often each comparison is to be asked for again; ``folder`` holds these decisions."""
    retries = read_retries(folder, pairwise.STAGE.name)
    ids = {comparison.id for comparison in pairwise.list_comparisons(inputs, settings)}
    return inputs.with_retries(retries, ids)
