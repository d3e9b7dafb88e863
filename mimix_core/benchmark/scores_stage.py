"""Stage ``scores``: every metric of every generated video, and of real clips for scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mimix_core import tables
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.errors import MissingModel
from mimix_core.media.decode import read_rgb
from mimix_core.media.probe import UnreadableVideo
from mimix_core.settings import ScoreSettings
from mimix_core.tables import CLIPS, SAMPLES, SCORES, Reason, Row

if TYPE_CHECKING:
    from mimix_core.benchmark.metrics import Measure


class ScoreInputs(FrozenModel):
    """Generated videos, and tables of real clips that give the metrics a scale.

    ``weights``: the files that the chosen metrics load from ``settings.weights``.
    """

    unit: Annotated[str, ExcludeFromKey()]
    samples: TableRef
    clips: tuple[TableRef, ...] = ()
    weights: tuple[FileRef, ...] = ()


def weights_files(settings: ScoreSettings) -> tuple[Path, ...]:
    """The files that the chosen metrics load; none when all that they need ships in packages.

    Raises BadInput for an unknown metric, MissingModel for files that are not there.
    """
    from mimix_core.benchmark.metrics import chosen
    from mimix_core.benchmark.vbench import vbench_weights

    names = list(
        dict.fromkeys(name for metric in chosen(settings.metrics) for name in metric.files)
    )
    if not names:
        return ()
    if settings.weights is None:
        raise MissingModel(
            "the chosen metrics need VBench's weights",
            where="settings, key scores.weights",
            fix="Write the folder that has them (docs/vbench.md), or choose other metrics.",
        )
    vbench_weights.check(settings.weights, names)
    return tuple(settings.weights / name for name in sorted(set(names)))


def run(inputs: ScoreInputs, settings: ScoreSettings, out: Path) -> StageReport:
    """One row per video and metric; what cannot be measured fails.

    Each video is decoded once, and once more where VBench's dimensions are chosen: their pixels are
    those of VBench's readers. Writes no files. Raises BadInput for an unknown metric, MissingModel
    for one whose weights are not installed.
    """
    import cv2
    import torch

    from mimix_core.benchmark.metrics import Resources, chosen
    from mimix_core.engine.torch_runtime import select_device

    # The flow's search runs in as many stripes as there are threads, and depends on their borders.
    cv2.setNumThreads(settings.threads)
    torch.set_num_threads(settings.threads)
    weights_files(settings)
    resources = Resources(settings.weights, select_device(settings.device))
    measures = {metric.name: metric.prepare(resources) for metric in chosen(settings.metrics)}
    videos = [
        (ref.folder / row["file"], row[table.id], kind, row.get("prompt", ""))
        for ref, table, kind in [
            (inputs.samples, SAMPLES, "sample"),
            *((ref, CLIPS, "clip") for ref in inputs.clips),
        ]
        for row in tables.usable(tables.read(ref.path, table))
    ]
    rows: list[Row] = []
    for number, (path, video_id, kind, prompt) in enumerate(videos):
        progress.advance(number, len(videos), video_id)
        rows += score(path, video_id, kind, measures, settings.threads, prompt)
    progress.advance(len(videos), len(videos))
    return StageReport(rows=rows, rows_in=len(videos) * len(measures))


def score(
    path: Path,
    video_id: str,
    kind: str,
    measures: Mapping[str, Measure],
    threads: int,
    prompt: str = "",
) -> list[Row]:
    """The rows of one video. A video that cannot be read fails in every metric."""
    from mimix_core.benchmark.metrics import Footage, Unmeasurable

    rows: list[Row] = []
    unreadable = ""
    try:
        footage = Footage(read_rgb(path, threads=threads), prompt, path)
    except UnreadableVideo as error:
        unreadable = str(error)
    for metric, measure in measures.items():
        same: Row = {
            "score_id": f"{video_id}/{metric}",
            "video_id": video_id,
            "kind": kind,
            "metric": metric,
        }
        try:
            if unreadable:
                raise Unmeasurable(unreadable)
            value = measure(footage)
            if not math.isfinite(value):
                raise Unmeasurable(f"the value is {value}")
        except (Unmeasurable, UnreadableVideo, RuntimeError, ValueError) as error:
            detail = f"{type(error).__name__}: {error}"
            rows.append(tables.failed(Reason.METRIC_FAILED, detail, **same, value=0.0))
        else:
            rows.append(tables.ok(**same, value=value))
    return rows


STAGE = Stage(
    name="scores",
    title="Scores",
    description="Measure generated videos and real footage with the same metrics.",
    row_noun="measurements",
    phase=Phase.EVALUATION,
    upstream=("samples", "duplicates"),
    resources=frozenset({Resource.CPU, Resource.GPU}),
    version=2,
    inputs=ScoreInputs,
    settings=ScoreSettings,
    table=SCORES,
    run=run,
)
