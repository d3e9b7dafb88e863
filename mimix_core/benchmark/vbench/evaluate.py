"""Videos x dimensions: each video decoded once, each score on disk before the next is begun.

While one video is scored a thread decodes the next. A killed run goes on where it stopped: scores
that the journal beside the table has are not made again.
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
from mimix_core.benchmark.vbench import score_cache, vbench_weights
from mimix_core.benchmark.vbench.dimensions import Dimension
from mimix_core.benchmark.vbench.video_jobs import Job
from mimix_core.benchmark.vbench.video_reader import Unmeasurable, Video, read
from mimix_core.engine import progress
from mimix_core.media.probe import UnreadableVideo
from mimix_core.tables import Reason, Row
from mimix_core.tables.rows import FLOAT, TEXT, Table, columns

if TYPE_CHECKING:
    import torch

_COLUMNS = columns(
    ("score_id", TEXT),  # video/dimension
    ("video", TEXT),  # path below the folder of videos
    ("dimension", TEXT),  # VBench's name, or a variant's whole name
    ("metric", TEXT),  # dimension/backend
    ("score", FLOAT),  # null when it failed
    ("weights", TEXT),  # sha256 of each file, its first 16 digits, joined by +
)
_PLACE = _COLUMNS.get_field_index("score")
VBENCH = Table(
    "vbench",
    1,
    _COLUMNS.set(_PLACE, _COLUMNS.field(_PLACE).with_nullable(True)),
    id="score_id",
    parent="video",
)


@dataclass
class Tally:
    """What a run did. ``seconds``: by metric, and ``videos``: how many were scored in them;
    ``decode_seconds``: of the decoding thread; ``waited_seconds``: of those, what scoring waited
    for."""

    scored: int = 0
    kept: int = 0
    failed: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    videos: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    decode_seconds: float = 0.0
    waited_seconds: float = 0.0


def run(
    jobs: Sequence[Job],
    dimensions: Sequence[Dimension],
    weights_dir: Path,
    out: Path,
    device: torch.device,
    say: Callable[[str], None] = lambda _: None,
) -> Tally:
    """Score every job in every dimension and write the table to ``out``.

    Beside it stays ``<out>.journal``, by which the same call goes on, or takes up further
    dimensions. ``say`` gets lines for people. Raises MissingModel naming all weights that are
    missing, and BadInput for weights of something else, before any video is read.
    """
    vbench_weights.check(weights_dir, [name for d in dimensions for name in d.files])
    digests = {
        name: vbench_weights.sha256(weights_dir / name)
        for name in dict.fromkeys(name for d in dimensions for name in d.files)
    }
    for name, digest in digests.items():
        if vbench_weights.published(name, digest) is False:
            say(f"{name} is not the published file (sha256 {digest[:16]}...)")
    tally = Tally()
    with score_cache.opened(out.with_name(out.name + ".journal")) as done:
        plan = _plan(jobs, dimensions, digests, device)
        models = _models(
            [d for _, keys in plan for d, k in keys.items() if done.get(k) is None],
            weights_dir,
            device,
        )
        rows: list[Row] = []
        for number, (job, keys, video) in enumerate(_decoded(plan, done, tally)):
            progress.advance(number, len(jobs), job.name)
            for dimension, key in keys.items():
                known = done.get(key)
                same = _same(job, dimension, digests)
                if known is not None:
                    tally.kept += 1
                    rows.append(tables.ok(**same, score=known))
                    continue
                rows.append(_scored(dimension, models, video, same, tally))
                if rows[-1]["score"] is not None:
                    done.note(key, rows[-1]["score"])
        progress.advance(len(jobs), len(jobs))
        _write(out, rows, score_cache.key_of(digests, [d.metric for d in dimensions]))
    return tally


Plan = list[tuple[Job, dict[Dimension, str]]]
Failure = UnreadableVideo | OSError


def _plan(
    jobs: Sequence[Job],
    dimensions: Sequence[Dimension],
    digests: dict[str, str],
    device: torch.device,
) -> Plan:
    """Each job with the key of each of its scores."""
    plan: Plan = []
    for job in jobs:
        content = _content(job.path)
        keys = {
            d: score_cache.key_of(
                d.metric,
                d.version,
                [digests[name] for name in d.files],
                content,
                job.prompt if d.reads_prompt else "",
                device.type,
            )
            for d in dimensions
        }
        plan.append((job, keys))
    return plan


def _content(path: Path) -> str:
    """The digest of a video, empty where there is none to be read: it will fail when decoded."""
    try:
        return vbench_weights.sha256(path)
    except OSError:
        return ""


def _models(wanted: Sequence[Dimension], weights_dir: Path, device: torch.device) -> dict[str, Any]:
    """The models of the dimensions, each loaded once."""
    return {d.model: d.load(weights_dir, device) for d in {d.model: d for d in wanted}.values()}


def _decoded(
    plan: Plan, done: score_cache.Journal, tally: Tally
) -> Iterator[tuple[Job, dict[Dimension, str], Video | Failure | None]]:
    """Each job with its video, or with why it cannot be read; None where nothing is left to score.

    The next video is decoded while the caller works on this one.
    """

    def decode(job: Job) -> Video | Failure:
        begun = time.perf_counter()
        try:
            return read(job.path, job.prompt)
        except (UnreadableVideo, OSError) as error:
            return error
        finally:
            tally.decode_seconds += time.perf_counter() - begun

    with ThreadPoolExecutor(1) as pool:

        def begin(place: int) -> Future[Video | Failure] | None:
            if place >= len(plan):
                return None
            job, keys = plan[place]
            left = any(done.get(key) is None for key in keys.values())
            return pool.submit(decode, job) if left else None

        ahead = begin(0)
        for place, (job, keys) in enumerate(plan):
            begun = time.perf_counter()
            video = ahead.result() if ahead is not None else None
            tally.waited_seconds += time.perf_counter() - begun
            ahead = begin(place + 1)
            yield job, keys, video


def _same(job: Job, dimension: Dimension, digests: dict[str, str]) -> Row:
    return {
        "score_id": f"{job.name}/{dimension.name}",
        "video": job.name,
        "dimension": dimension.name,
        "metric": dimension.metric,
        "weights": "+".join(digests[name][:16] for name in dimension.files),
    }


def _scored(
    dimension: Dimension,
    models: dict[str, Any],
    video: Video | Failure | None,
    same: Row,
    tally: Tally,
) -> Row:
    begun = time.perf_counter()
    try:
        if isinstance(video, UnreadableVideo | OSError):
            return _failed(video, same, tally)
        if video is None:
            raise AssertionError("a video with scores left was not decoded")
        value = dimension.scorer()(models[dimension.model], video)
        if not math.isfinite(value):
            raise Unmeasurable(f"the value is {value}")
    except (Unmeasurable, RuntimeError, ValueError) as error:
        return _failed(error, same, tally)
    tally.scored += 1
    tally.videos[dimension.metric] += 1
    tally.seconds[dimension.metric] += time.perf_counter() - begun
    return tables.ok(**same, score=float(value))


def _failed(error: Exception, same: Row, tally: Tally) -> Row:
    tally.failed += 1
    reason = error.reason if isinstance(error, UnreadableVideo) else Reason.METRIC_FAILED
    if isinstance(error, OSError):
        reason = Reason.UNREADABLE_VIDEO
    return tables.failed(reason, f"{type(error).__name__}: {error}", **same, score=None)


def _write(out: Path, rows: Sequence[Row], key: str) -> None:
    """The whole table or none: written beside ``out``, then renamed."""
    fresh = out.with_name(f".{out.name}.new")
    try:
        tables.write(fresh, VBENCH, rows, stage_key=key)
        fresh.replace(out)
    finally:
        with suppress(FileNotFoundError):
            fresh.unlink()
