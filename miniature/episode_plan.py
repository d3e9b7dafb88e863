"""What happens in an episode of a show: shots of its characters, joined by cuts and dissolves."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise

from miniature import figures, scenes
from miniature.figures import CASTS, Figure
from miniature.scenes import FRAMES, TOGETHER, Scene

RATE = 16
DISSOLVE_FRAMES = 6
LEAD_FRAMES = 3
"""Frames of a shot before its scene begins, and after it has ended."""

_FADE_SLACK = 5
"""As many frames more beside a dissolve, whose ends nobody sees to the frame."""

_SOLO_SHARE = 0.4
_DISSOLVE_SHARE = 0.3


@dataclass(frozen=True)
class Shot:
    """A shot: its scene, and its frames in the episode.

    ``first`` and ``end``: the frames that show this shot, ``end`` exclusive. ``fade_in`` and
    ``fade_out``: frames of dissolves among them, in which the neighboring shot shows too.
    """

    scene: Scene
    first: int
    end: int
    fade_in: int
    fade_out: int

    @property
    def clear(self) -> tuple[int, int]:
        """The frames that show nothing but this shot, the second number exclusive."""
        return self.first + self.fade_in, self.end - self.fade_out

    @property
    def before(self) -> int:
        """Number of frames before the scene's first."""
        return _edge_frames(self.fade_in)

    @property
    def after(self) -> int:
        """Number of frames after the scene's last."""
        return _edge_frames(self.fade_out)


def _edge_frames(fade: int) -> int:
    """Return the number of a shot's frames outside of its scene, at an end with such a dissolve."""
    return LEAD_FRAMES + (fade + _FADE_SLACK if fade else 0)


def plan_episodes(style: str, episodes: int, shots: int, seed: int) -> Iterator[list[Shot]]:
    """Plan the episodes of a show.

    Pairs of its cast meet in turn, each with every action before one comes again; nobody of another
    show is ever in them. The same arguments give the same episodes, and a larger number of
    episodes begins with those of a smaller one.
    """
    meetings = _meetings(random.Random(f"{seed} {style}"), style)
    for episode in range(episodes):
        rng = random.Random(f"{seed} {style} {episode}")
        yield join_scenes(rng, [_draw_scene(rng, style, meetings) for _ in range(shots)])


def _meetings(rng: random.Random, style: str) -> Iterator[tuple[tuple[Figure, Figure], str]]:
    """Yield pairs and what the first does to the second, without end."""
    pairs = list(combinations(CASTS[style], 2))
    all_meetings = [
        (pair if forward else pair[::-1], action)
        for pair in pairs
        for action in TOGETHER
        for forward in (True, False)
    ]
    while True:
        rng.shuffle(all_meetings)
        yield from all_meetings


def _draw_scene(
    rng: random.Random, style: str, meetings: Iterator[tuple[tuple[Figure, Figure], str]]
) -> Scene:
    if rng.random() < _SOLO_SHARE:
        return scenes.draw_scene(rng, [rng.choice(CASTS[style])], style)
    pair, action = next(meetings)
    return scenes.draw_scene(rng, pair, style, together=action)


def join_scenes(rng: random.Random, drawn: list[Scene]) -> list[Shot]:
    """Plan the shots of scenes that follow each other by cuts and some dissolves."""
    # Nobody could say where a shot ends that dissolves into another of the same background.
    joints = [
        DISSOLVE_FRAMES
        if rng.random() < _DISSOLVE_SHARE and one.background != two.background
        else 0
        for one, two in pairwise(drawn)
    ]
    planned: list[Shot] = []
    for scene, fade_in, fade_out in zip(drawn, [0, *joints], [*joints, 0], strict=True):
        first = planned[-1].end - fade_in if planned else 0
        frames = _edge_frames(fade_in) + FRAMES + _edge_frames(fade_out)
        planned.append(Shot(scene, first, first + frames, fade_in, fade_out))
    return planned


def dialogue(scene: Scene) -> str:
    """Return what is said in a scene: a line for the subtitles."""
    if len(scene.cast) == 1:
        return f"{scene.cast[0].name} is here!"
    other = scene.cast[1]
    return {
        "approach": f"Hello, {other.name}!",
        "push": f"Out of my way, {other.name}!",
        "hand over": f"This ball is for you, {other.name}.",
        "jump over": f"Watch out, {other.name}!",
    }[scene.together or "approach"]


def shows() -> dict[str, str]:
    """Return the title of each show, by its style."""
    return {figures.CARTOON: "Flat Friends", figures.REALISTIC: "Grainy Street"}
