"""From a plan to composites that have a place: whoever fits nowhere is told why, and replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from mimix_core.domain.splits import hash_uniform
from mimix_core.media import UnreadableVideo
from mimix_core.stages.composites.camera_motion import Camera, follow, known_in
from mimix_core.stages.composites.pairing import Pair, Plan
from mimix_core.stages.composites.placement import Cut, NoPlace, Placed, Scene, Wishes, place
from mimix_core.stages.composites.scale_translate import Boxes, Size
from mimix_core.stages.composites.yuv_frames import read_planes

_ROUND = 16
"""Pairs that are looked at together. Part of the plan: another number is another plan."""


@dataclass(frozen=True)
class Footage:
    """A clip, and what is known of who is in it."""

    path: Path
    size: Size
    characters: tuple[Boxes, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A cutout: its clip, its boxes in it, and the sides that the clip's frame cuts off."""

    clip_id: str
    boxes_N4: Boxes
    border: frozenset[str]


@dataclass(frozen=True)
class Chosen:
    """A pair that has its place, and whose cameras move."""

    pair: Pair
    placed: Placed
    source_moves: bool
    scene_moves: bool


@dataclass(frozen=True)
class Refused:
    """A pair that has none. ``broken``: one of the two clips cannot be read."""

    pair: Pair
    why: str
    broken: bool = False


class Chooser:
    """Places the pairs of plans. Each clip's camera is looked at once, when it is first needed."""

    def __init__(
        self,
        clips: Mapping[str, Footage],
        figures: Mapping[str, Figure],
        wishes: Wishes,
        *,
        seed: int,
        pool: Executor,
    ) -> None:
        self._clips, self._figures, self._wishes = clips, figures, wishes
        self._seed, self._pool = seed, pool
        self._cameras: dict[str, Camera | str] = {}

    def choose(self, plan: Plan) -> Iterator[Chosen | Refused]:
        """The plan's pairs, one after the other, until none are left.

        In rounds: how many are asked for changes nothing of what comes first.
        """
        while pairs := plan.take(_ROUND):
            self._look_at(
                clip_id
                for pair in pairs
                for clip_id in (self._figures[pair.cutout_id].clip_id, pair.background_id)
            )
            outcomes = [self._outcome(pair) for pair in pairs]
            for outcome in outcomes:
                if isinstance(outcome, Refused):
                    plan.refuse(outcome.pair)
            yield from outcomes

    def _look_at(self, clip_ids: Iterable[str]) -> None:
        new = sorted({name for name in clip_ids if name not in self._cameras})
        self._cameras.update(
            zip(new, self._pool.map(lambda name: camera_of(self._clips[name]), new), strict=True)
        )

    def _outcome(self, pair: Pair) -> Chosen | Refused:
        figure = self._figures[pair.cutout_id]
        source, scene = self._clips[figure.clip_id], self._clips[pair.background_id]
        cameras = self._cameras[figure.clip_id], self._cameras[pair.background_id]
        own, there = cameras
        if isinstance(own, str):
            return Refused(pair, own, broken=True)
        if isinstance(there, str):
            return Refused(pair, there, broken=True)
        for camera, what in ((own, "cutout's clip"), (there, "scene")):
            if not camera.clear:
                return Refused(pair, f"how the camera of the {what} moves cannot be told")
        try:
            placed = place(
                Cut(figure.boxes_N4, figure.border, source.size, own),
                Scene(scene.size, there, known_in(scene.characters, len(figure.boxes_N4))),
                self._wishes,
                self._chance(pair),
            )
        except (NoPlace, ValueError) as error:
            return Refused(pair, str(error))
        return Chosen(pair, placed, own.moves, there.moves)

    def _chance(self, pair: Pair) -> Callable[[str], float]:
        return lambda what: float(
            hash_uniform(self._seed, what, pair.cutout_id, pair.background_id)
        )


def camera_of(clip: Footage) -> Camera | str:
    """How a clip's camera moves; in words, why it cannot be read."""
    try:
        frames = read_planes(clip.path)
    except (UnreadableVideo, ValueError) as error:
        return str(error)
    return follow((planes.y_HW for planes in frames), known_in(clip.characters, len(frames)))
