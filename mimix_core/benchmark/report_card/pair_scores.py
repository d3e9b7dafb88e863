"""Group the scores of characters by pair and background, and compute shares with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from mimix_core.benchmark.characters.character_verdicts import Identity
from mimix_core.benchmark.judge.statistics import wilson_interval
from mimix_core.benchmark.tables.table_model import TableCell
from mimix_core.domain.library import Style
from mimix_core.domain.prompts import CharacterOrigin, VideoPrompt
from mimix_core.tables import CharacterScoreRow, Status

Criterion = Literal["there", "identity", "style", "all"]

CRITERIA: dict[Criterion, str] = {
    "there": "Both there",
    "identity": "Identity kept",
    "style": "Style kept",
    "all": "All",
}
"""What is asked of both characters of a video, with the titles of the columns."""

_FAULTS = {Identity.ABSENT: 3, Identity.SWAPPED: 3, Identity.MIXED: 2}
"""How bad it is that a character is not itself; a lost style or a double counts as 1."""


@dataclass(frozen=True)
class PairVideo:
    """Two asked-for characters of one video, ``scores`` in the order of the pair."""

    prompt: VideoPrompt
    scores: tuple[CharacterScoreRow, CharacterScoreRow]

    def meets(self, criterion: Criterion) -> bool | None:
        """Return whether both characters meet a criterion; None if it was not measured.

        A style is not measured if all shows have the same one; then ``all`` ignores it.
        """
        if criterion == "there":
            return all(row["identity"] != Identity.ABSENT for row in self.scores)
        if criterion == "identity":
            return all(row["identity"] == Identity.RIGHT for row in self.scores)
        styles = [own_style(row) for row in self.scores]
        if criterion == "style":
            return None if None in styles else all(styles)
        return bool(self.meets("identity")) and False not in styles

    def severity(self) -> tuple[int, float]:
        """Return how bad the video is, for sorting: its faults, then distance over limit."""
        ratios = [
            row["distance"] / row["limit"]
            for row in self.scores
            if row["distance"] is not None and row["limit"]
        ]
        return sum(map(count_faults, self.scores)), max(ratios, default=0.0)


def own_style(row: CharacterScoreRow) -> bool | None:
    """Return whether a character has the style of its own show: False if it is absent."""
    return False if row["identity"] == Identity.ABSENT else row["in_own_style"]


def count_faults(row: CharacterScoreRow) -> int:
    """Weigh what is wrong with one character of a video; 0 if nothing is."""
    present = row["identity"] != Identity.ABSENT
    lost_style = present and row["in_own_style"] is False
    return _FAULTS.get(Identity(row["identity"]), 0) + lost_style + (row["count"] > 1)


@dataclass(frozen=True)
class PairCell:
    """All videos of a pair with one background, the worst first.

    ``expected``: prompts that ask for it; those without scores are not in ``videos``.
    """

    first: CharacterOrigin
    second: CharacterOrigin
    background: Style
    videos: tuple[PairVideo, ...]
    expected: int

    def share(self, criterion: Criterion) -> TableCell:
        """Return the share of videos that meet a criterion, with Wilson's interval."""
        return share_cell([video.meets(criterion) for video in self.videos], self.expected)

    def share_of(self, flags: Iterable[bool]) -> TableCell:
        """Return the share of videos with a flag, with Wilson's interval."""
        return share_cell(list(flags), self.expected)

    def took(self, number: int) -> TableCell:
        """Return in how many videos one of the two (0 or 1) looks like the other one."""
        other = (self.second, self.first)[number].name
        return self.share_of(video.scores[number]["looks_like"] == other for video in self.videos)

    def doubled(self) -> TableCell:
        """Return in how many videos one of the two is there more than once."""
        return self.share_of(any(row["count"] > 1 for row in video.scores) for video in self.videos)

    def copied(self) -> TableCell:
        """Return in how many videos one of the two is nearly a training frame."""
        return self.share_of(
            any(row["copied"] is True for row in video.scores) for video in self.videos
        )


@dataclass(frozen=True)
class Pair:
    """Two characters, in the library's order, with a cell for each background."""

    first: CharacterOrigin
    second: CharacterOrigin
    cells: tuple[PairCell, ...]

    @property
    def mixes_shows(self) -> bool:
        """Whether the two are of different shows."""
        return self.first.show != self.second.show

    def order(self) -> tuple[bool, float, str, str]:
        """Return the sort key: pairs of two shows first, then the lowest share of all criteria."""
        videos = [video for cell in self.cells for video in cell.videos]
        share = sum(bool(video.meets("all")) for video in videos) / len(videos) if videos else 2.0
        return not self.mixes_shows, share, self.first.name, self.second.name


@dataclass(frozen=True)
class LookCounts:
    """What became of one asked-for character in all its videos with several characters.

    ``swapped`` and ``mixed``: by whose looks it has. ``styles_lost``: background -> (videos in
    which it is there in another style, videos in which its style was measured).
    """

    origin: CharacterOrigin
    videos: int
    right: int
    absent: int
    swapped: Mapping[str, int]
    mixed: Mapping[str, int]
    styles_lost: Mapping[str, tuple[int, int]]


def share_cell(flags: Sequence[bool | None], expected: int) -> TableCell:
    """Return the share of flags that are true, of those measured, with Wilson's interval."""
    measured = [flag for flag in flags if flag is not None]
    if not measured:
        return TableCell(None, n=0, expected=expected)
    interval = wilson_interval(sum(measured), len(measured))
    return TableCell(interval.mean, interval.low, interval.high, n=len(measured), expected=expected)


def group_pairs(
    prompts: Sequence[VideoPrompt],
    origins: Sequence[CharacterOrigin],
    scores: Sequence[CharacterScoreRow],
) -> list[Pair]:
    """Build every pair of characters x background, sorted for reading: the worst pairs first.

    A prompt of three characters counts in each of its three pairs.
    """
    rows = {(row["video_id"], row["character"]): row for row in scores}
    pairs = []
    for first, second in combinations(origins, 2):
        asked = [one for one in prompts if {first.name, second.name} <= set(one.characters)]
        cells = []
        for style in Style:
            own = [prompt for prompt in asked if prompt.style is style]
            videos = [
                PairVideo(prompt, found)
                for prompt in own
                if (found := _scored_pair(rows, prompt.id, (first.name, second.name)))
            ]
            ordered = sorted(videos, key=lambda video: video.prompt.id)
            ordered.sort(key=PairVideo.severity, reverse=True)
            cells.append(PairCell(first, second, style, tuple(ordered), len(own)))
        pairs.append(Pair(first, second, tuple(cells)))
    return sorted(pairs, key=Pair.order)


def _scored_pair(
    rows: Mapping[tuple[str, str], CharacterScoreRow], video_id: str, names: tuple[str, str]
) -> tuple[CharacterScoreRow, CharacterScoreRow] | None:
    first, second = (rows.get((video_id, name)) for name in names)
    if first is None or second is None:
        return None
    return (first, second) if first["status"] == second["status"] == Status.OK else None


def count_looks(
    prompts: Sequence[VideoPrompt],
    origins: Sequence[CharacterOrigin],
    scores: Sequence[CharacterScoreRow],
) -> list[LookCounts]:
    """Count who took whose looks, and where styles were lost, in videos of several characters."""
    several = {prompt.id for prompt in prompts if len(set(prompt.characters)) > 1}
    usable = [row for row in scores if row["video_id"] in several and row["status"] == Status.OK]
    counts = []
    for origin in origins:
        own = [row for row in usable if row["character"] == origin.name]
        identities = Counter(row["identity"] for row in own)
        styles: dict[str, tuple[int, int]] = {}
        for style in Style:
            measured = [
                row["in_own_style"]
                for row in own
                if row["scene_style"] == style.value
                and row["identity"] != Identity.ABSENT
                and row["in_own_style"] is not None
            ]
            styles[style.value] = (measured.count(False), len(measured))
        counts.append(
            LookCounts(
                origin,
                len(own),
                identities[Identity.RIGHT],
                identities[Identity.ABSENT],
                _count_by_looks(own, Identity.SWAPPED),
                _count_by_looks(own, Identity.MIXED),
                styles,
            )
        )
    return counts


def _count_by_looks(rows: Iterable[CharacterScoreRow], identity: Identity) -> Mapping[str, int]:
    return Counter(row["looks_like"] for row in rows if row["identity"] == identity)


def count_unscored(
    prompts: Sequence[VideoPrompt], scores: Sequence[CharacterScoreRow]
) -> dict[str, int]:
    """Count asked-for characters of videos with several characters that have no scores, by why."""
    rows = {(row["video_id"], row["character"]): row for row in scores}
    reasons: Counter[str] = Counter()
    for prompt in prompts:
        names = dict.fromkeys(prompt.characters)
        for name in names if len(names) > 1 else ():
            row = rows.get((prompt.id, name))
            if row is None:
                reasons["not in the table of scores"] += 1
            elif row["status"] != Status.OK:
                reasons[str(row["reason"]).replace("_", " ")] += 1
    return dict(sorted(reasons.items()))
