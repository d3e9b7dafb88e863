"""Stage ``scores``: score generated videos, and real clips for scale, with every metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mimix_core import tables
from mimix_core.benchmark.metric_errors import Unmeasurable
from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.extensions import extension_source
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.errors import MissingModel
from mimix_core.media.decode import read_rate, read_rgb
from mimix_core.media.probe import UnreadableVideo
from mimix_core.settings import ScoreSettings
from mimix_core.tables import CLIPS, SAMPLES, SCORES, Reason, Row

if TYPE_CHECKING:
    from mimix_core.benchmark.metrics import MetricFunction


class ScoreInputs(FrozenModel):
    """Generated videos, and tables of real clips that give the metrics a scale.

    ``weights``: the files that the selected metrics load from ``settings.weights``.
    ``extensions``: the source files of metrics from outside MiMix.
    """

    unit: Annotated[str, ExcludeFromKey()]
    samples: TableRef
    clips: tuple[TableRef, ...] = ()
    weights: tuple[FileRef, ...] = ()
    extensions: tuple[FileRef, ...] = ()


def required_weights(settings: ScoreSettings) -> tuple[Path, ...]:
    """List the weights files that the selected metrics load, apart from those in packages.

    Raises BadInput for an unknown metric, MissingModel for missing files.
    """
    from mimix_core.benchmark.metrics import select_metrics
    from mimix_core.benchmark.vbench import vbench_weights

    names = list(
        dict.fromkeys(name for metric in select_metrics(settings.metrics) for name in metric.files)
    )
    if not names:
        return ()
    if settings.weights is None:
        raise MissingModel(
            "the selected metrics need VBench's weights",
            where="settings, key scores.weights",
            fix="Set it to the folder of the weights (docs/vbench.md), or select other metrics.",
        )
    vbench_weights.check_weights(settings.weights, names)
    return tuple(settings.weights / name for name in sorted(set(names)))


@dataclass(frozen=True)
class VideoToScore:
    """One video to score. ``kind``: sample or clip; ``prompt`` is empty for real clips."""

    path: Path
    id: str
    kind: str
    prompt: str = ""


def extension_files(settings: ScoreSettings) -> tuple[Path, ...]:
    """List the source files of the selected metrics that come from outside MiMix."""
    from mimix_core.benchmark.metrics import metric_module

    modules = [metric_module(name) for name in sorted(settings.metrics)]
    sources = [extension_source(module) for module in modules if module is not None]
    return tuple(source for source in sources if source is not None)


def run(inputs: ScoreInputs, settings: ScoreSettings, out: Path) -> StageReport:
    """Score every video with every metric: one row each, failed without a value.

    Each video is decoded once, and a second time when VBench's dimensions are selected, because
    VBench's readers convert pixels differently. Writes no files. Raises BadInput for an unknown
    metric, MissingModel for a metric with missing weights.
    """
    import cv2
    import torch

    from mimix_core.benchmark.metrics import MetricResources, select_metrics
    from mimix_core.engine.torch_runtime import select_device

    # DIS flow is computed in one stripe per thread, and its values depend on the stripes' borders.
    cv2.setNumThreads(settings.threads)
    torch.set_num_threads(settings.threads)
    required_weights(settings)
    resources = MetricResources(settings.weights, select_device(settings.device))
    selected = select_metrics(settings.metrics)
    metrics = {metric.name: metric.build(resources) for metric in selected}
    videos = _videos_to_score(inputs)
    rows: list[Row] = []
    for number, video in enumerate(videos):
        progress.report_progress(number, len(videos), video.id)
        rows += score_video(video, metrics, settings.threads)
    progress.report_progress(len(videos), len(videos))
    fooled = [metric.name for metric in selected if metric.rates_noise_above_footage]
    notes = {"rate_noise_above_footage": ", ".join(fooled)} if fooled else {}
    return StageReport(rows=rows, rows_in=len(videos) * len(metrics), notes=notes)


def _videos_to_score(inputs: ScoreInputs) -> list[VideoToScore]:
    """List the usable samples, then the usable clips."""
    samples, folder = inputs.samples, inputs.samples.folder
    videos = [
        VideoToScore(folder / row["file"], row["prompt_id"], "sample", row["prompt"])
        for row in tables.usable(tables.read(samples.path, SAMPLES))
    ]
    for clips in inputs.clips:
        videos += [
            VideoToScore(clips.folder / row["file"], row["clip_id"], "clip")
            for row in tables.usable(tables.read(clips.path, CLIPS))
        ]
    return videos


def score_video(
    video: VideoToScore, metrics: Mapping[str, MetricFunction], threads: int
) -> list[Row]:
    """Score one video with every metric. An unreadable video fails in all of them."""
    from mimix_core.benchmark.metrics import VideoFeatures

    rows: list[Row] = []
    unreadable = ""
    try:
        features = VideoFeatures(
            read_rgb(video.path, threads=threads),
            video.prompt,
            video.path,
            read_rate(video.path) or CLIP_RATE,
        )
    except UnreadableVideo as error:
        unreadable = str(error)
    for name, measure in metrics.items():
        columns: Row = {
            "score_id": f"{video.id}/{name}",
            "video_id": video.id,
            "kind": video.kind,
            "metric": name,
        }
        try:
            if unreadable:
                raise Unmeasurable(unreadable)
            value = measure(features)
            if not math.isfinite(value):
                raise Unmeasurable(f"the value is {value}")
        except (Unmeasurable, UnreadableVideo, RuntimeError, ValueError) as error:
            detail = f"{type(error).__name__}: {error}"
            rows.append(tables.failed(Reason.METRIC_FAILED, detail, **columns, value=0.0))
        else:
            rows.append(tables.ok(**columns, value=value))
    return rows


STAGE = Stage(
    name="scores",
    title="Scores",
    description="Measure generated videos and real footage with the same metrics.",
    row_noun="measurements",
    phase=Phase.EVALUATION,
    upstream=("samples", "duplicates"),
    resources=frozenset({Resource.CPU, Resource.GPU}),
    version=3,
    inputs=ScoreInputs,
    settings=ScoreSettings,
    table=SCORES,
    run=run,
)
