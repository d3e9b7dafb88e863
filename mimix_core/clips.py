"""Clips: 81 frames at exactly 16/s, of one scene, cropped to the overlay rectangle and fitted.

Frame k of a clip that starts at t0 is the last source frame with PTS <= t0 + k/16. The episode is
decoded once, forward, and feeds whichever clips are due; each clip is decoded back after writing.
Source: paper, section 3.3 (81 frames, 16 fps, scene by scene).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

from mimix_core import ids, progress, tables
from mimix_core.errors import BadInput
from mimix_core.keys import Immaterial
from mimix_core.media import (
    ClipWriter,
    EncodeFailed,
    ProofFailed,
    Rect,
    Shape,
    Shaper,
    UnreadableVideo,
    fit,
    open_video,
    prove_clip,
)
from mimix_core.refs import FileRef, Frozen, TableRef, digest_file
from mimix_core.settings import ClipSettings, exact
from mimix_core.stage import Stage, StageReport
from mimix_core.tables import Reason, Row, Status
from mimix_core.timeline import CLIP_FRAMES, CLIP_RATE, Span, clip_duration, clip_starts, grid

_DECODE_THREADS = 2


class ClipInputs(Frozen):
    """One episode, its scenes and its overlay rectangle."""

    unit: Annotated[str, Immaterial()]
    video: FileRef
    scenes: TableRef
    overlays: TableRef


@dataclass(frozen=True)
class Plan:
    """A clip to be made. ``ticks``: per frame the last source PTS it may show, rising."""

    scene: Row
    ticks: Sequence[int]


def run(inputs: ClipInputs, settings: ClipSettings, out: Path) -> StageReport:
    """One row per clip; a usable scene without one has a row that says why."""
    scenes = list(tables.usable(tables.read(inputs.scenes.path, tables.SCENES)))
    overlay = tables.read(inputs.overlays.path, tables.OVERLAYS)[0]
    if overlay["status"] != Status.OK:
        return StageReport([_unfit(scene, overlay) for scene in scenes], rows_in=len(scenes))
    area = Rect(*(overlay[f"crop_{name}"] for name in ("x", "y", "width", "height")))
    shape = fit(area, settings.width, settings.height, settings.fit)
    planned = [(scene, plan(scene, settings)) for scene in scenes]
    rows = [_too_short(scene, settings) for scene, plans in planned if not plans]
    plans = [one for _, several in planned for one in several]
    rows += _make(inputs, settings, shape, plans, out)
    return StageReport(rows, rows_in=sum(max(1, len(several)) for _, several in planned))


STAGE = Stage(
    name="clips",
    version=1,
    inputs=ClipInputs,
    settings=ClipSettings,
    table=tables.CLIPS,
    run=run,
)


def plan(scene: Row, settings: ClipSettings) -> list[Plan]:
    """All clips a scene holds, in order."""
    time_base = Fraction(scene["time_base_num"], scene["time_base_den"])
    starts = clip_starts(
        Span(scene["start_pts"], scene["end_pts"], time_base),
        stride=None if settings.stride is None else exact(settings.stride),
        margin=exact(settings.margin),
    )
    return [Plan(scene, [int(time // time_base) for time in grid(start)]) for start in starts]


class FrameFeed:
    """Hands out, for rising ticks, the last of a stream of frames with PTS <= tick.

    Looks one frame ahead, so it holds two frames whatever the length of the stream. Raises
    UnreadableVideo when the stream starts after the first tick.
    """

    def __init__(self, frames: Iterable[Any]) -> None:
        self._frames: Iterator[Any] = iter(frames)
        self._shown = next(self._frames, None)
        self._next = next(self._frames, None)

    def at(self, tick: int) -> Any:
        while self._next is not None and self._next.pts <= tick:
            self._shown, self._next = self._next, next(self._frames, None)
        if self._shown is None or self._shown.pts > tick:
            raise UnreadableVideo(f"no frame at or before PTS {tick}")
        return self._shown


@dataclass
class _Draft:
    """A clip on its way: source PTS and shaped pictures of its frames so far."""

    plan: Plan
    pts: list[int] = field(default_factory=list)
    pictures: list[Any] = field(default_factory=list)
    problem: str = ""

    @property
    def clip_id(self) -> str:
        # A clip without a first frame goes by the tick that frame would have had.
        start = self.pts[0] if self.pts else self.plan.ticks[0]
        return ids.clip_id(self.plan.scene["episode_id"], start)


def _make(
    inputs: ClipInputs, settings: ClipSettings, shape: Shape, plans: Sequence[Plan], out: Path
) -> list[Row]:
    """Decode the episode once and make all planned clips; one row each.

    Whole clips wait for a free encoder: ``encoders`` + 1 clips of pictures are held at most
    (48 MB each at 832x480).
    """
    if not plans:
        return []
    (out / "clips").mkdir()
    drafts = [_Draft(one) for one in plans]
    rows: list[Row] = []
    broken = ""
    with ThreadPoolExecutor(settings.encoders) as pool:
        waiting: deque[Future[Row]] = deque()

        def collect(left: int) -> None:
            while len(waiting) > left:
                rows.append(waiting.popleft().result())
                progress.advance(len(rows), len(drafts), "clips written")

        try:
            for draft in _filled(inputs, shape, drafts):
                waiting.append(pool.submit(_write, draft, settings, shape, out))
                collect(settings.encoders)
        except UnreadableVideo as error:
            broken = error.what
        collect(0)
    rows += [
        tables.failed(Reason.UNREADABLE_VIDEO, broken, **_clip_values(draft, shape))
        for draft in drafts
        if len(draft.pts) < CLIP_FRAMES and not draft.problem
    ]
    return rows


def _filled(inputs: ClipInputs, shape: Shape, drafts: Sequence[_Draft]) -> Iterator[_Draft]:
    """Decode once, forward; give out each draft with its last frame or its first problem."""
    # All frames of all clips in the order the decoder gives them; clips may overlap.
    wanted = sorted(
        (tick, number) for number, draft in enumerate(drafts) for tick in draft.plan.ticks
    )
    opened: set[int] = set()
    with open_video(inputs.video.path, threads=_DECODE_THREADS) as video:
        shaper = Shaper(video.info, shape)
        feed = FrameFeed(video.frames())
        for tick, number in wanted:
            draft = drafts[number]
            if draft.problem:
                continue
            frame = feed.at(tick)
            scene = draft.plan.scene
            if not scene["start_pts"] <= frame.pts < scene["end_pts"]:
                draft.problem = f"frame {len(draft.pts)} is of another scene"
                yield draft
                continue
            if not draft.pts:
                if frame.pts in opened:
                    raise BadInput(
                        f"two clips start on the same source frame (PTS {frame.pts})",
                        where=inputs.unit,
                        fix="Set clips.stride to more than a source frame lasts.",
                    )
                opened.add(frame.pts)
            repeated = draft.pts and draft.pts[-1] == frame.pts
            draft.pictures.append(draft.pictures[-1] if repeated else shaper(frame))
            draft.pts.append(frame.pts)
            if len(draft.pts) == CLIP_FRAMES:
                yield draft


def _write(draft: _Draft, settings: ClipSettings, shape: Shape, out: Path) -> Row:
    """Encode a draft, decode it back, and give its row."""
    pictures, draft.pictures = draft.pictures, []
    values = _clip_values(draft, shape)
    path = out / "clips" / f"{draft.clip_id}.mp4"
    if draft.problem:
        return tables.failed(Reason.PROOF_FAILED, draft.problem, **values)
    try:
        with ClipWriter(
            path, shape.width, shape.height, crf=settings.crf, preset=settings.preset
        ) as writer:
            for picture in pictures:
                writer.write(picture)
        prove_clip(path, shape.width, shape.height)
    except EncodeFailed as error:
        return tables.failed(Reason.ENCODE_FAILED, str(error), **values)
    except ProofFailed as error:
        path.unlink()
        return tables.failed(Reason.PROOF_FAILED, str(error), **values)
    values |= {"file": path.relative_to(out).as_posix(), "sha256": digest_file(path)}
    return tables.ok(**values)


def _clip_values(draft: _Draft, shape: Shape) -> Row:
    """The columns of a clip that has no file (yet)."""
    crop = shape.crop
    return _values(draft.plan.scene) | {
        "clip_id": draft.clip_id,
        "source_pts": draft.pts,
        "crop": [crop.x, crop.y, crop.width, crop.height],
        "width": shape.width,
        "height": shape.height,
        "frames": len(draft.pts),
    }


def _too_short(scene: Row, settings: ClipSettings) -> Row:
    seconds = (scene["end_pts"] - scene["start_pts"]) * Fraction(
        scene["time_base_num"], scene["time_base_den"]
    )
    needed = clip_duration() + 2 * exact(settings.margin)
    detail = f"{float(seconds):.3f} s long, {float(needed):.3f} s needed"
    return tables.rejected(Reason.SCENE_TOO_SHORT, detail, **_values(scene))


def _unfit(scene: Row, overlay: Row) -> Row:
    """The row of a scene whose episode has no usable overlay rectangle."""
    if overlay["status"] == Status.REJECTED:
        return tables.rejected(Reason(overlay["reason"]), overlay["detail"], **_values(scene))
    detail = f"overlays: {overlay['reason']}: {overlay['detail']}"
    return tables.failed(Reason.UPSTREAM_FAILED, detail, **_values(scene))


def _values(scene: Row) -> Row:
    """The columns of a scene that has no clip."""
    names = (
        "scene_id",
        "episode_id",
        "show",
        "style",
        "origin_pts",
        "time_base_num",
        "time_base_den",
    )
    return {name: scene[name] for name in names} | {
        "clip_id": ids.clip_id(scene["episode_id"], scene["start_pts"]),
        "source_pts": [],
        "source_width": scene["width"],
        "source_height": scene["height"],
        "crop": [],
        "width": 0,
        "height": 0,
        "frames": 0,
        "rate_num": CLIP_RATE.numerator,
        "rate_den": CLIP_RATE.denominator,
        "file": "",
        "sha256": "",
    }
