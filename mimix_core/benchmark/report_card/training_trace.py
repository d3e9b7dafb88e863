"""Trace a video to the training samples behind it: by nearest frames, and by captions."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mimix_core.benchmark.report_card.pair_scores import PairVideo
from mimix_core.domain.library import Style
from mimix_core.domain.splits import Split
from mimix_core.tables import CharacterScoreRow, DatasetRow, Status

TraceKind = Literal["nearest-frame", "composite", "clip"]

COMPOSITES = 2
"""Composites shown behind a video."""

_TAG = re.compile(r"\[[^\]]*\]")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class TracedSample:
    """A training sample behind a video, and why it is.

    ``characters``: those that it was found for. ``frame``: the one that a pose is nearest to.
    ``similarity``: of poses for a nearest frame, of captions otherwise. ``sample``: None for a
    clip that is not in the dataset any more.
    """

    kind: TraceKind
    characters: tuple[str, ...]
    sample_id: str
    sample: DatasetRow | None
    similarity: float
    frame: int | None = None
    copied: bool = False

    @property
    def trained_on(self) -> bool:
        """Whether the sample is in the training split."""
        return self.sample is not None and is_training_row(self.sample)


class TrainingIndex:
    """The samples of the dataset, found by id, by characters, and by words of their captions."""

    def __init__(self, dataset: Iterable[DatasetRow]) -> None:
        self._rows = {row["sample_id"]: row for row in dataset}
        self._training = [row for row in self._rows.values() if is_training_row(row)]
        self._training.sort(key=lambda row: row["sample_id"])
        words = [Counter(caption_words(row["caption"])) for row in self._training]
        seen = Counter(word for counts in words for word in counts)
        self._weights = {word: math.log(1 + len(words) / n) for word, n in seen.items()}
        self._postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for number, counts in enumerate(words):
            for word, weight in self._vector(counts).items():
                self._postings[word].append((number, weight))
        self._by_character: dict[str, set[int]] = defaultdict(set)
        for number, row in enumerate(self._training):
            for name in row["characters"]:
                self._by_character[name].add(number)

    def composites_of(self, names: Collection[str], background: Style | None = None) -> int:
        """Count the composites in training that show all of the characters."""
        return sum(
            self._training[number]["kind"] == "composite"
            and background in (None, self._training[number]["style"])
            for number in self._with_characters(names)
        )

    def clips_of(self, name: str) -> int:
        """Count the original clips in training that show a character."""
        return sum(
            self._training[number]["kind"] == "original"
            for number in self._by_character.get(name, ())
        )

    def trace(self, video: PairVideo) -> list[TracedSample]:
        """Find the nearest frame of each character, composites of both, and a clip of each.

        Composites and clips are those with the most similar captions (cosine of TF-IDF weights of
        words, without tags). A sample comes once, for the first of these reasons.
        """
        names = [row["character"] for row in video.scores]
        found = [one for row in video.scores if (one := self._nearest_frame(row)) is not None]
        similarities = self._similarities(video.prompt.render())
        found += self._most_similar("composite", names, similarities, COMPOSITES, found)
        for name in names:
            found += self._most_similar("clip", [name], similarities, 1, found)
        return found

    def _nearest_frame(self, row: CharacterScoreRow) -> TracedSample | None:
        if not row["nearest_clip"]:
            return None
        return TracedSample(
            "nearest-frame",
            (row["character"],),
            row["nearest_clip"],
            self._rows.get(row["nearest_clip"]),
            row["copy_similarity"] or 0.0,
            row["nearest_frame"],
            row["copied"] is True,
        )

    def _most_similar(
        self,
        kind: TraceKind,
        names: Sequence[str],
        similarities: Mapping[int, float],
        most: int,
        found: Sequence[TracedSample],
    ) -> list[TracedSample]:
        wanted = "composite" if kind == "composite" else "original"
        used = {one.sample_id for one in found}
        numbers = [
            number
            for number in self._with_characters(names)
            if self._training[number]["kind"] == wanted
            and self._training[number]["sample_id"] not in used
        ]
        best = sorted(numbers, key=lambda number: (-similarities.get(number, 0.0), number))[:most]
        rows = [(self._training[number], similarities.get(number, 0.0)) for number in best]
        return [
            TracedSample(kind, tuple(names), row["sample_id"], row, round(similarity, 4))
            for row, similarity in rows
        ]

    def _with_characters(self, names: Collection[str]) -> set[int]:
        every = set(range(len(self._training)))
        return every.intersection(*(self._by_character.get(name, set()) for name in names))

    def _similarities(self, text: str) -> dict[int, float]:
        """Return the cosine of a text and each training caption that shares a word with it."""
        totals: dict[int, float] = defaultdict(float)
        for word, weight in self._vector(Counter(caption_words(text))).items():
            for number, other in self._postings[word]:
                totals[number] += weight * other
        return totals

    def _vector(self, counts: Mapping[str, int]) -> dict[str, float]:
        """Weigh words by TF-IDF, to unit length; words of no caption do not count."""
        weighted = {
            word: n * self._weights[word] for word, n in counts.items() if word in self._weights
        }
        length = math.sqrt(sum(weight * weight for weight in weighted.values()))
        return {word: weight / length for word, weight in weighted.items()}


def is_training_row(row: DatasetRow) -> bool:
    """Check whether a sample of the dataset is trained on."""
    return row["status"] == Status.OK and row["split"] == Split.TRAIN


def caption_words(caption: str) -> list[str]:
    """Return the words of a caption in lower case, without its tags."""
    return _WORD.findall(_TAG.sub(" ", caption).lower())
