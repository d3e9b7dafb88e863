"""People's ratings of pairs of videos: an append-only file of JSON lines, read by `mimix bench`.

Every line says which videos were on which side, so a rating can be used without the plan that
asked for it. A pair that is rated again counts as rated last.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError, model_validator

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.errors import BadInput
from mimix_core.project.shared_log import SharedLog

Side = Literal["left", "right"]
Answer = Literal["left", "tie", "right"]

_TICK = timedelta(microseconds=1)
_Name = Annotated[str, Field(min_length=1, max_length=80)]


class PairKind(StrEnum):
    """Why a pair was shown.

    ``repeat``: the rater saw it before, with the sides exchanged. ``control``: a video against
    noise, which tells who does not look.
    """

    PAIR = "pair"
    REPEAT = "repeat"
    CONTROL = "control"


class RaterEnrolment(FrozenModel):
    """A person who rates, and the number that decides about order and sides of the pairs."""

    record: Literal["rater"]
    rater: _Name
    number: int = Field(ge=0)
    enrolled_at: AwareDatetime


class PairRating(FrozenModel):
    """One person's answers about one pair, with the systems as they were shown.

    ``noise``: the side that showed noise, of a control only; both sides then name the same system.
    ``answers``: by aspect. ``seconds``: from when the pair was shown.
    """

    record: Literal["rating"]
    rating_id: str = Field(default_factory=lambda: uuid.uuid4().hex, pattern=r"^[0-9a-f]{32}$")
    rated_at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    rater: _Name
    kind: PairKind
    prompt_id: str = Field(min_length=1, max_length=400)
    left: str = Field(min_length=1, max_length=400)
    right: str = Field(min_length=1, max_length=400)
    noise: Literal["", "left", "right"] = ""
    answers: dict[str, Answer] = Field(min_length=1)
    seconds: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _fits_the_kind(self) -> PairRating:
        if (self.kind is PairKind.CONTROL) != bool(self.noise):
            raise ValueError("noise belongs to a control, and only to it")
        if (self.kind is PairKind.CONTROL) != (self.left == self.right):
            raise ValueError("a pair has two systems, and a control only one")
        return self

    @property
    def key(self) -> PairKey:
        """Return what was shown, whichever way round."""
        return PairKey(self.kind, self.prompt_id, *sorted((self.left, self.right)))


class PairKey(tuple[str, str, str, str]):
    """Kind, prompt, and both systems in the order of their names."""

    __slots__ = ()

    def __new__(cls, kind: str, prompt_id: str, one: str, other: str) -> PairKey:
        return super().__new__(cls, (str(kind), prompt_id, *sorted((one, other))))


RatingLine = Annotated[RaterEnrolment | PairRating, Field(discriminator="record")]
_LINE: TypeAdapter[RaterEnrolment | PairRating] = TypeAdapter(RatingLine)


class RatingLog(SharedLog[RaterEnrolment | PairRating]):
    """The file of ratings. Any number of processes may append to it and read it at once."""

    numbers: dict[str, int]
    """The number of each rater."""

    latest: dict[tuple[str, PairKey], PairRating]
    """What counts, by rater and pair."""

    _newest: datetime
    _ids: set[str]

    def enrol(self, rater: str) -> int:
        """Return a person's number; a new person gets the next one."""
        self.refresh()
        if rater not in self.numbers:
            with self._exclusive():
                if rater not in self.numbers:
                    line = RaterEnrolment(
                        record="rater",
                        rater=rater,
                        number=len(self.numbers),
                        enrolled_at=datetime.now(UTC),
                    )
                    self._write([line])
        return self.numbers[rater]

    def append(self, rating: PairRating) -> None:
        """Append a rating; it is on disk on return. Times increase within the file."""
        with self._exclusive():
            at = max(rating.rated_at, self._newest + _TICK)
            self._write([rating.model_copy(update={"rated_at": at})])

    def rated(self, rater: str) -> dict[PairKey, PairRating]:
        """Return what a person has rated."""
        return {key: one for (name, key), one in self.latest.items() if name == rater}

    def _forget(self) -> None:
        self.numbers, self.latest, self._ids = {}, {}, set()
        self._newest = datetime.min.replace(tzinfo=UTC)

    def _parse(self, text: str) -> list[RaterEnrolment | PairRating]:
        return _parse_lines(text, self.path)

    def _accept(self, record: RaterEnrolment | PairRating) -> bool:
        if isinstance(record, RaterEnrolment):
            return self.numbers.setdefault(record.rater, record.number) == record.number
        if record.rating_id in self._ids:
            return False
        self._ids.add(record.rating_id)
        self._newest = max(self._newest, record.rated_at)
        before = self.latest.get((record.rater, record.key))
        if before is None or before.rated_at <= record.rated_at:
            self.latest[record.rater, record.key] = record
        return True


def read_pair_ratings(paths: Iterable[Path]) -> list[PairRating]:
    """Read what counts of files of ratings: of each person and pair the rating made last.

    The same line may be in several files. Raises BadInput for a missing file or a bad line.
    """
    latest: dict[tuple[str, PairKey], PairRating] = {}
    for path in paths:
        if not path.is_file():
            raise BadInput("no such file", where=str(path), fix="Name a file of ratings.")
        log = RatingLog(path)
        log.refresh()
        for key, rating in log.latest.items():
            if key not in latest or latest[key].rated_at <= rating.rated_at:
                latest[key] = rating
    return [latest[key] for key in sorted(latest)]


def count_answers(answers: Mapping[str, Answer]) -> tuple[int, int]:
    """Return for how many aspects the left and the right side are better."""
    values = list(answers.values())
    return values.count("left"), values.count("right")


def _parse_lines(text: str, source: Path) -> list[RaterEnrolment | PairRating]:
    records, problems = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append(_LINE.validate_json(line))
        except ValidationError as error:
            problems.append(f"line {number}: {error.errors()[0]['msg']}")
    if problems:
        raise BadInput(
            f"{len(problems)} of its lines are not ratings: {'; '.join(problems[:5])}",
            where=str(source),
            fix="Correct these lines, or restore the file from a backup.",
        )
    return records
