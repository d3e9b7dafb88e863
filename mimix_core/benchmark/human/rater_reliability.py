"""Find raters who do not look: by controls, by repeated pairs, and by the side they choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from mimix_core.benchmark.judge.judge_results import is_position_biased
from mimix_core.benchmark.judge.statistics import ConfidenceInterval, wilson_interval
from mimix_core.project.pair_ratings import Answer, PairKind, PairRating, count_answers

MIN_CONTROL_SHARE = 0.75
"""A rater who surely prefers noise, or sees no difference to it, in more controls is unusable."""

MIN_REPEAT_SHARE = 0.5
"""So is one who surely contradicts himself in more of the repeated pairs that had a winner."""


@dataclass(frozen=True)
class RaterReliability:
    """How one person rated.

    ``controls``: share of controls in which the video was preferred to noise in most aspects, and
    the noise in none. ``repeats``: share of answers with a winner that a repeated pair confirmed,
    with the sides exchanged. ``left``: share of the pairs with a better side on which that was the
    left one. ``seconds``: median a pair. ``problems``: why the ratings are unusable; empty if they
    are not.
    """

    rater: str
    pairs: int
    controls: ConfidenceInterval | None
    repeats: ConfidenceInterval | None
    left: ConfidenceInterval | None
    seconds: float
    problems: tuple[str, ...]

    @property
    def is_usable(self) -> bool:
        return not self.problems


def assess_raters(ratings: Sequence[PairRating]) -> list[RaterReliability]:
    """Assess each rater, in the order of their names."""
    names = sorted({rating.rater for rating in ratings})
    return [_assess(name, [one for one in ratings if one.rater == name]) for name in names]


def usable_ratings(ratings: Sequence[PairRating]) -> list[PairRating]:
    """Return the ratings of pairs, without controls, repeats, and raters who are unusable."""
    usable = {one.rater for one in assess_raters(ratings) if one.is_usable}
    return [one for one in ratings if one.kind is PairKind.PAIR and one.rater in usable]


def preferred_system(rating: PairRating, answer: Answer) -> str:
    """Return the system that an answer prefers; empty for a tie."""
    return {"left": rating.left, "right": rating.right, "tie": ""}[answer]


def _assess(rater: str, ratings: Sequence[PairRating]) -> RaterReliability:
    pairs = [one for one in ratings if one.kind is PairKind.PAIR]
    controls = _control_share([one for one in ratings if one.kind is PairKind.CONTROL])
    repeats = _repeat_share(pairs, [one for one in ratings if one.kind is PairKind.REPEAT])
    left = _left_share([one for one in ratings if one.kind is not PairKind.CONTROL])
    problems = []
    if left is not None and is_position_biased(left):
        side = "left" if left.mean > 0.5 else "right"
        share = max(left.mean, 1 - left.mean)
        problems.append(f"chose the {side} side in {share:.0%} of {left.n} pairs")
    if controls is not None and controls.high < MIN_CONTROL_SHARE:
        problems.append(
            f"preferred the video to noise in only {controls.mean:.0%} of {controls.n} controls"
        )
    if repeats is not None and repeats.high < MIN_REPEAT_SHARE:
        problems.append(
            f"confirmed only {repeats.mean:.0%} of {repeats.n} answers when asked again"
        )
    seconds = median(one.seconds for one in ratings)
    return RaterReliability(rater, len(pairs), controls, repeats, left, seconds, tuple(problems))


def _control_share(controls: Sequence[PairRating]) -> ConfidenceInterval | None:
    passed = 0
    for one in controls:
        left, right = count_answers(one.answers)
        video, noise = (right, left) if one.noise == "left" else (left, right)
        passed += noise == 0 and 2 * video > len(one.answers)
    return wilson_interval(passed, len(controls)) if controls else None


def _repeat_share(
    pairs: Sequence[PairRating], repeats: Sequence[PairRating]
) -> ConfidenceInterval | None:
    """Count pairs, not aspects, whose answers depend on each other: more confirmed than not."""
    first = {one.key[1:]: one for one in pairs}
    confirmed = decided = 0
    for repeat in repeats:
        before = first.get(repeat.key[1:])
        if before is None:
            continue
        both = [
            (preferred_system(before, before.answers[name]), preferred_system(repeat, answer))
            for name, answer in repeat.answers.items()
            if name in before.answers
        ]
        winners = [(one, other) for one, other in both if one and other]
        if not winners:
            continue
        decided += 1
        confirmed += 2 * sum(one == other for one, other in winners) >= len(winners)
    return wilson_interval(confirmed, decided) if decided else None


def _left_share(ratings: Sequence[PairRating]) -> ConfidenceInterval | None:
    """Count pairs, not aspects: four answers about one pair are not four choices of a side."""
    sides = [count_answers(one.answers) for one in ratings]
    decided = [left > right for left, right in sides if left != right]
    return wilson_interval(sum(decided), len(decided)) if decided else None
