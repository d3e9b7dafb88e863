"""Score videos in several dimensions: decode each video once, save each score at once.

While one video is scored, a thread decodes the next. An interrupted run resumes: scores in the
cache file beside the table are not computed again.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimix_core import tables
from mimix_core.benchmark.metric_errors import Unmeasurable
from mimix_core.benchmark.vbench import score_cache, vbench_weights
from mimix_core.benchmark.vbench.dimensions import Dimension
from mimix_core.benchmark.vbench.video_jobs import VideoJob
from mimix_core.benchmark.vbench.video_reader import DecodedVideo, read_video
from mimix_core.engine import progress
from mimix_core.engine.artifacts import digest_file
from mimix_core.engine.atomic_io import fsync_path
from mimix_core.media.probe import UnreadableVideo
from mimix_core.tables import BaseRow, Reason, Row, table

if TYPE_CHECKING:
    import torch


class VBenchRow(BaseRow):
    """One row of the table ``vbench``."""

    score_id: str  # video/dimension
    video: str  # path below the folder of videos
    dimension: str  # VBench's name, or a variant's full name
    metric: str  # dimension/backend
    score: float | None  # null when it failed
    weights: str  # first 16 digits of each weights file's sha256, joined by +


VBENCH = table("vbench", 1, VBenchRow, id="score_id", parent="video")


@dataclass
class EvaluationSummary:
    """Counts and times of a run.

    ``scored``, ``cached``, ``failed``: numbers of scores. ``seconds``, ``videos``: by metric, the
    time spent and the videos scored in it. ``decode_seconds``: time of the decoding thread;
    ``decode_wait_seconds``: the part of it that scoring waited for.
    """

    scored: int = 0
    cached: int = 0
    failed: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    videos: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    decode_seconds: float = 0.0
    decode_wait_seconds: float = 0.0


def evaluate_videos(
    jobs: Sequence[VideoJob],
    dimensions: Sequence[Dimension],
    weights_dir: Path,
    out: Path,
    device: torch.device,
    warn: Callable[[str], None] = lambda _: None,
) -> EvaluationSummary:
    """Score every video in every dimension and write the table to ``out``.

    The cache file ``<out>.journal`` stays beside it, so that the same call resumes and a later call
    can add dimensions. ``warn`` receives messages for the user. Raises MissingModel naming all
    missing weights, and BadInput for weights of another network, before any video is read.
    """
    files = list(dict.fromkeys(name for d in dimensions for name in d.files))
    vbench_weights.check_weights(weights_dir, files)
    digests = {name: digest_file(weights_dir / name) for name in files}
    for name, digest in digests.items():
        if vbench_weights.is_published(name, digest) is False:
            warn(f"{name} is not the published file (sha256 {digest[:16]}...)")
    summary = EvaluationSummary()
    with score_cache.open_score_cache(out.with_name(out.name + ".journal")) as cache:
        plan = _plan_scores(jobs, dimensions, digests, device)
        models = _load_models(
            [d for _, keys in plan for d, key in keys.items() if cache.get(key) is None],
            weights_dir,
            device,
        )
        rows: list[Row] = []
        for number, (job, keys, video) in enumerate(_decode_ahead(plan, cache, summary)):
            progress.report_progress(number, len(jobs), job.name)
            for dimension, key in keys.items():
                columns = _key_columns(job, dimension, digests)
                cached = cache.get(key)
                if cached is not None:
                    summary.cached += 1
                    rows.append(tables.ok(**columns, score=cached))
                    continue
                rows.append(_score_row(dimension, models, video, columns, summary))
                if rows[-1]["score"] is not None:
                    cache.put(key, rows[-1]["score"])
        progress.report_progress(len(jobs), len(jobs))
        _write_table(out, rows, score_cache.score_key(digests, [d.metric for d in dimensions]))
    return summary


ScorePlan = list[tuple[VideoJob, dict[Dimension, str]]]
DecodeFailure = UnreadableVideo | OSError


def _plan_scores(
    jobs: Sequence[VideoJob],
    dimensions: Sequence[Dimension],
    digests: dict[str, str],
    device: torch.device,
) -> ScorePlan:
    """Pair each job with the cache key of each of its scores."""
    plan: ScorePlan = []
    for job in jobs:
        video_digest = _digest_video(job.path)
        keys = {
            d: score_cache.score_key(
                d.metric,
                d.version,
                [digests[name] for name in d.files],
                video_digest,
                job.prompt if d.reads_prompt else "",
                device.type,
            )
            for d in dimensions
        }
        plan.append((job, keys))
    return plan


def _digest_video(path: Path) -> str:
    """Return the SHA-256 of a video; empty for an unreadable file, which fails when decoded."""
    try:
        return digest_file(path)
    except OSError:
        return ""


def _load_models(
    dimensions: Sequence[Dimension], weights_dir: Path, device: torch.device
) -> dict[str, Any]:
    """Load the models of the dimensions, each once."""
    by_model = {d.model_key: d for d in dimensions}
    return {key: d.load(weights_dir, device) for key, d in by_model.items()}


def _decode_ahead(
    plan: ScorePlan, cache: score_cache.ScoreCache, summary: EvaluationSummary
) -> Iterator[tuple[VideoJob, dict[Dimension, str], DecodedVideo | DecodeFailure | None]]:
    """Yield each job with its video or decoding error, or None if all its scores are cached.

    The next video is decoded while the caller works on this one.
    """

    def decode(job: VideoJob) -> DecodedVideo | DecodeFailure:
        begun = time.perf_counter()
        try:
            return read_video(job.path, job.prompt)
        except (UnreadableVideo, OSError) as error:
            return error
        finally:
            summary.decode_seconds += time.perf_counter() - begun

    with ThreadPoolExecutor(1) as pool:

        def submit(index: int) -> Future[DecodedVideo | DecodeFailure] | None:
            if index >= len(plan):
                return None
            job, keys = plan[index]
            needed = any(cache.get(key) is None for key in keys.values())
            return pool.submit(decode, job) if needed else None

        ahead = submit(0)
        for index, (job, keys) in enumerate(plan):
            begun = time.perf_counter()
            video = ahead.result() if ahead is not None else None
            summary.decode_wait_seconds += time.perf_counter() - begun
            ahead = submit(index + 1)
            yield job, keys, video


def _key_columns(job: VideoJob, dimension: Dimension, digests: dict[str, str]) -> Row:
    return {
        "score_id": f"{job.name}/{dimension.name}",
        "video": job.name,
        "dimension": dimension.name,
        "metric": dimension.metric,
        "weights": "+".join(digests[name][:16] for name in dimension.files),
    }


def _score_row(
    dimension: Dimension,
    models: dict[str, Any],
    video: DecodedVideo | DecodeFailure | None,
    columns: Row,
    summary: EvaluationSummary,
) -> Row:
    begun = time.perf_counter()
    try:
        if isinstance(video, UnreadableVideo | OSError):
            return _failed_row(video, columns, summary)
        if video is None:
            raise AssertionError("a video with missing scores was not decoded")
        value = dimension.scorer()(models[dimension.model_key], video)
        if not math.isfinite(value):
            raise Unmeasurable(f"the value is {value}")
    except (Unmeasurable, RuntimeError, ValueError) as error:
        return _failed_row(error, columns, summary)
    summary.scored += 1
    summary.videos[dimension.metric] += 1
    summary.seconds[dimension.metric] += time.perf_counter() - begun
    return tables.ok(**columns, score=float(value))


def _failed_row(error: Exception, columns: Row, summary: EvaluationSummary) -> Row:
    summary.failed += 1
    reason = error.reason if isinstance(error, UnreadableVideo) else Reason.METRIC_FAILED
    if isinstance(error, OSError):
        reason = Reason.UNREADABLE_VIDEO
    return tables.failed(reason, f"{type(error).__name__}: {error}", **columns, score=None)


def _write_table(out: Path, rows: Sequence[Row], key: str) -> None:
    """Write the table completely or not at all."""
    part = out.with_name(f".{out.name}.new")
    try:
        tables.write(part, VBENCH, rows, stage_key=key)
        fsync_path(part)
        part.replace(out)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    fsync_path(out.parent)
