"""Plan which pairs of videos a person rates: in which order, which side, and what checks on them.

Everything follows from the seed and the person's number. Persons 2k and 2k+1 see the same pairs in
the same order with the sides exchanged: each pair is rated both ways round, also by persons who
stop early, and any two of them have the same pairs to agree about.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from functools import cached_property
from itertools import combinations
from pathlib import Path

from pydantic import Field

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.project.pair_ratings import PairKey, PairKind, Side

PAIRS_BETWEEN_CHECKS = 8
"""After this many pairs come a control and a repeated pair, at places that cannot be guessed."""

MIN_DISTANCE = 3
"""A pair is repeated after at least this many others."""


class AspectQuestion(FrozenModel):
    """An aspect to rate. ``single_question``: what to ask about a prompt of one character."""

    name: str
    title: str
    question: str
    single_question: str


class RatedPrompt(FrozenModel):
    """A prompt and its videos, by system."""

    id: str
    text: str
    characters: int
    videos: dict[str, Path]


class NoiseControl(FrozenModel):
    """A video, and noise of its size and length."""

    prompt_id: str
    system: str
    noise: Path


class RatingTask(FrozenModel):
    """One pair to rate, as it is shown to one person. ``noise``: the side with noise."""

    kind: PairKind
    prompt_id: str
    left: str
    right: str
    noise: Side | None = None

    @property
    def key(self) -> PairKey:
        """Return what is shown, whichever way round."""
        return PairKey(self.kind, self.prompt_id, self.left, self.right)


class RatingPlan(FrozenModel):
    """All pairs that can be rated."""

    seed: int
    aspects: tuple[AspectQuestion, ...]
    prompts: tuple[RatedPrompt, ...]
    controls: tuple[NoiseControl, ...] = Field(min_length=1)

    @cached_property
    def digest(self) -> str:
        """Return a text that changes with the pairs, not with the folders of videos."""
        systems = [(prompt.id, sorted(prompt.videos)) for prompt in self.prompts]
        controls = [(one.prompt_id, one.system) for one in self.controls]
        text = json.dumps([self.seed, systems, controls])
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def prompts_by_id(self) -> dict[str, RatedPrompt]:
        """Return the prompts by their ids."""
        return {prompt.id: prompt for prompt in self.prompts}

    def pairs(self) -> list[tuple[str, str, str]]:
        """Return all pairs: prompt, and two systems in the order of their names."""
        return [
            (prompt.id, one, other)
            for prompt in self.prompts
            for one, other in combinations(sorted(prompt.videos), 2)
        ]

    def tasks(self, number: int) -> tuple[RatingTask, ...]:
        """Return what the person with this number rates, in order."""
        chance = random.Random(f"{self.digest}/{number // 2}")
        pairs = self.pairs()
        chance.shuffle(pairs)
        tasks: list[RatingTask] = []
        for start in range(0, len(pairs), PAIRS_BETWEEN_CHECKS):
            block = pairs[start : start + PAIRS_BETWEEN_CHECKS]
            shown = [self._pair(pair, number) for pair in block]
            control = self._control(start // PAIRS_BETWEEN_CHECKS, number, chance)
            place = chance.randrange(len(shown) + 1)
            if control.key not in {task.key for task in tasks}:
                shown.insert(place, control)
            tasks += shown
            repeated = self._repeat(tasks, chance)
            if repeated is not None:
                tasks.append(repeated)
        return tuple(tasks)

    def file(self, task: RatingTask, side: Side) -> Path:
        """Return the video on one side of a pair."""
        if task.noise == side:
            return next(
                one.noise
                for one in self.controls
                if (one.prompt_id, one.system) == (task.prompt_id, task.left)
            )
        system = task.left if side == "left" else task.right
        return self.prompts_by_id[task.prompt_id].videos[system]

    def _pair(self, pair: tuple[str, str, str], number: int) -> RatingTask:
        prompt_id, one, other = pair
        exchanged = self._coin(f"{prompt_id}\n{one}\n{other}") ^ (number % 2)
        left, right = (other, one) if exchanged else (one, other)
        return RatingTask(kind=PairKind.PAIR, prompt_id=prompt_id, left=left, right=right)

    def _control(self, count: int, number: int, chance: random.Random) -> RatingTask:
        control = self.controls[(count + number // 2) % len(self.controls)]
        side: Side = "right" if (chance.random() < 0.5) ^ bool(number % 2) else "left"
        return RatingTask(
            kind=PairKind.CONTROL,
            prompt_id=control.prompt_id,
            left=control.system,
            right=control.system,
            noise=side,
        )

    def _repeat(self, tasks: Sequence[RatingTask], chance: random.Random) -> RatingTask | None:
        repeated = {task.key[1:] for task in tasks if task.kind is PairKind.REPEAT}
        earlier = [
            task
            for task in tasks[:-MIN_DISTANCE]
            if task.kind is PairKind.PAIR and task.key[1:] not in repeated
        ]
        if not earlier:
            return None
        task = chance.choice(earlier)
        return RatingTask(
            kind=PairKind.REPEAT, prompt_id=task.prompt_id, left=task.right, right=task.left
        )

    def _coin(self, text: str) -> int:
        return hashlib.sha256(f"{self.seed}\n{text}".encode()).digest()[0] & 1


def select_controls(
    prompts: Sequence[RatedPrompt], seed: int, count: int
) -> list[tuple[str, str, Path]]:
    """Choose the videos that are shown against noise: prompt, system and file of each."""
    videos = [
        (prompt.id, system, path)
        for prompt in prompts
        for system, path in sorted(prompt.videos.items())
    ]
    return random.Random(f"controls/{seed}").sample(videos, min(count, len(videos)))
