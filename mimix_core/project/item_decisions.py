"""People's decisions on clips, cutouts, composites, tracks and lines: an append-only JSONL file.

A decision names its item by an id that is derived from content (``mimix_core/domain/ids.py``), so
it outlives re-runs and changed settings, and says what its author saw: the digests of the video and
of the caption. Nothing is ever removed: undoing a decision is another line.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from mimix_core.domain.caption_grammar import BadCaption, parse_caption
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.errors import BadInput
from mimix_core.project.shared_log import SharedLog

_TICK = timedelta(microseconds=1)


class ItemKind(StrEnum):
    """What can be decided on. ``track``: a figure in an episode, not named yet.

    ``line``: a line of dialogue whose speaker is not known, or not rightly.
    """

    CLIP = "clip"
    CUTOUT = "cutout"
    COMPOSITE = "composite"
    TRACK = "track"
    LINE = "line"


class DecisionAction(StrEnum):
    """What a person decided. ``keep``: use a clip although it is a duplicate.

    ``crop``: cut a clip from another part of the source. ``name``: say whom a track shows
    or who speaks a line.
    """

    APPROVE = "approve"
    REJECT = "reject"
    KEEP = "keep"
    EDIT = "edit"
    CROP = "crop"
    NAME = "name"
    UNDO = "undo"


CropBox = tuple[
    Annotated[int, Field(ge=0)],
    Annotated[int, Field(ge=0)],
    Annotated[int, Field(ge=1)],
    Annotated[int, Field(ge=1)],
]
"""x, y, width and height of a crop in pixels of the source as displayed."""


ExemplarName = Annotated[str, Field(pattern=r"^[0-9a-f]{20}\.[a-z]{3,4}$")]


class ItemDecision(FrozenModel):
    """One decision of one person on one item.

    ``seen`` and ``seen_caption``: SHA-256 of the video and of the caption that were looked at.
    ``caption``: the new caption of an edit. ``crop``: where a clip is cut from the source.
    ``character``: whom a track shows or who speaks a line; empty: none of the cast.
    ``exemplars``: the pictures of a named track (``named_tracks``). ``undoes``: id of the decision
    that is taken back. ``batch``: common to the decisions that were made at once on a selection.
    """

    decision_id: str = Field(default_factory=lambda: uuid.uuid4().hex, pattern=r"^[0-9a-f]{32}$")
    decided_at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    reviewer: str = Field(min_length=1, max_length=80)
    kind: ItemKind
    item: str = Field(min_length=1, max_length=400)
    action: DecisionAction
    reason: str = Field("", max_length=500)
    caption: str = Field("", max_length=8000)
    crop: CropBox | None = None
    character: str = Field("", max_length=200)
    exemplars: tuple[ExemplarName, ...] = Field((), max_length=64)
    seen: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    seen_caption: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    undoes: str = Field("", pattern=r"^([0-9a-f]{32})?$")
    batch: str = Field("", max_length=32)

    @model_validator(mode="after")
    def _fits_the_action(self) -> ItemDecision:
        if (self.action is DecisionAction.EDIT) != bool(self.caption):
            raise ValueError("a caption belongs to the action edit, and only to it")
        if (self.action is DecisionAction.CROP) != (self.crop is not None):
            raise ValueError("a crop belongs to the action crop, and only to it")
        if self.action is DecisionAction.CROP and self.kind is not ItemKind.CLIP:
            raise ValueError("only a clip has a crop that can be moved")
        self._check_name()
        if (self.action is DecisionAction.UNDO) != bool(self.undoes):
            raise ValueError("undoes belongs to the action undo, and only to it")
        if self.action is DecisionAction.KEEP and self.kind is not ItemKind.CLIP:
            raise ValueError("only a clip can be kept although it is a duplicate")
        if self.action is DecisionAction.EDIT:
            if self.kind is ItemKind.CUTOUT:
                raise ValueError("a cutout has no caption")
            try:
                parse_caption(self.caption)
            except BadCaption as error:
                raise ValueError(error.what) from error
        return self

    def _check_name(self) -> None:
        if self.action is DecisionAction.UNDO:
            return
        if (self.action is DecisionAction.NAME) != (self.kind in (ItemKind.TRACK, ItemKind.LINE)):
            raise ValueError("a track or a line is named, and nothing else is")
        if self.action is not DecisionAction.NAME and (self.character or self.exemplars):
            raise ValueError("character and exemplars belong to the action name, and only to it")
        if self.kind is ItemKind.LINE and self.exemplars:
            raise ValueError("a line has no exemplars: it is one itself")
        if self.kind is ItemKind.TRACK and bool(self.character) != bool(self.exemplars):
            raise ValueError("a track that shows a character has exemplars, any other has none")

    @property
    def is_verdict(self) -> bool:
        """Return whether it says if the item is used, as opposed to how, or to an undo."""
        return self.action in (DecisionAction.APPROVE, DecisionAction.REJECT, DecisionAction.KEEP)


class ItemState(FrozenModel):
    """What counts for an item: its latest verdict, caption, crop and name.

    ``disputed``: the latest verdicts of two people differ.
    """

    verdict: ItemDecision | None = None
    edit: ItemDecision | None = None
    crop: ItemDecision | None = None
    name: ItemDecision | None = None
    disputed: bool = False

    @property
    def decisions(self) -> tuple[ItemDecision, ...]:
        """Return all decisions that count."""
        found = (self.verdict, self.edit, self.crop, self.name)
        return tuple(one for one in found if one is not None)

    def counterpart(self, decision: ItemDecision) -> ItemDecision | None:
        """Return the decision that counts now where ``decision`` would count."""
        others = {
            DecisionAction.EDIT: self.edit,
            DecisionAction.CROP: self.crop,
            DecisionAction.NAME: self.name,
        }
        return others.get(decision.action, self.verdict)

    @property
    def rejected(self) -> bool:
        """Return whether the item is left out."""
        return self.verdict is not None and self.verdict.action is DecisionAction.REJECT


ItemKey = tuple[ItemKind, str]


class DecisionLedger:
    """All decisions, and what follows from them: of each item the latest one that was not undone.

    Decisions of several files may be added in any order: their time counts.
    """

    def __init__(self, decisions: Iterable[ItemDecision] = ()) -> None:
        self.by_id: dict[str, ItemDecision] = {}
        self._of_item: dict[ItemKey, list[ItemDecision]] = {}
        self._undone: set[str] = set()
        for decision in decisions:
            self.add(decision)

    def add(self, decision: ItemDecision) -> bool:
        """Add a decision; return False if it is there already."""
        if decision.decision_id in self.by_id:
            return False
        self.by_id[decision.decision_id] = decision
        if decision.action is DecisionAction.UNDO:
            self._undone.add(decision.undoes)
        self._of_item.setdefault((decision.kind, decision.item), []).append(decision)
        return True

    def items(self) -> list[ItemKey]:
        """Return all items that anything was decided on."""
        return list(self._of_item)

    def history(self, kind: ItemKind, item: str) -> list[ItemDecision]:
        """Return all decisions on an item, the earliest first; undone ones and undoes included."""
        return sorted(self._of_item.get((kind, item), ()), key=_age)

    def is_undone(self, decision: ItemDecision) -> bool:
        """Return whether a decision was taken back."""
        return decision.decision_id in self._undone

    def state(self, kind: ItemKind, item: str) -> ItemState:
        """Return what counts for an item now."""
        valid = [one for one in self.history(kind, item) if not self.is_undone(one)]
        verdicts = [one for one in valid if one.is_verdict]
        latest = {one.action: one for one in valid}
        latest_of = {one.reviewer: one.action for one in verdicts}
        return ItemState(
            verdict=verdicts[-1] if verdicts else None,
            edit=latest.get(DecisionAction.EDIT),
            crop=latest.get(DecisionAction.CROP),
            name=latest.get(DecisionAction.NAME),
            disputed=len(set(latest_of.values())) > 1,
        )

    def states(self) -> dict[ItemKey, ItemState]:
        """Return what counts for every item with decisions."""
        return {key: self.state(*key) for key in self._of_item}

    def edited_captions(self) -> dict[str, str]:
        """Return the captions that people wrote, by clip or composite."""
        return {
            item: state.edit.caption
            for (_, item), state in self.states().items()
            if state.edit is not None
        }

    def moved_crops(self) -> dict[str, CropBox]:
        """Return where people want clips to be cut from the source, by clip."""
        return {
            item: state.crop.crop
            for (_, item), state in self.states().items()
            if state.crop is not None and state.crop.crop is not None
        }

    def named_tracks(self) -> dict[str, ItemDecision]:
        """Return the name that counts of each track; it may be none of the cast."""
        return self._names(ItemKind.TRACK)

    def named_lines(self) -> dict[str, str]:
        """Return who speaks each line that people decided on; empty: none of the cast."""
        return {item: name.character for item, name in self._names(ItemKind.LINE).items()}

    def _names(self, kind: ItemKind) -> dict[str, ItemDecision]:
        names = {item: self.state(kind, item).name for one, item in self._of_item if one is kind}
        return {item: name for item, name in names.items() if name is not None}

    def rejections(self, *kinds: ItemKind) -> dict[str, str]:
        """Return the items of these kinds that people left out, each with the reason."""
        return {
            item: state.verdict.reason
            for (kind, item), state in self.states().items()
            if kind in kinds and state.verdict is not None and state.rejected
        }

    def duplicates_to_keep(self) -> tuple[str, ...]:
        """Return the clips that people want although they are duplicates, sorted."""
        return tuple(
            sorted(
                item
                for (_, item), state in self.states().items()
                if state.verdict is not None and state.verdict.action is DecisionAction.KEEP
            )
        )


class DecisionLog(SharedLog[ItemDecision]):
    """The file of decisions. Any number of processes may append to it and read it at once."""

    ledger: DecisionLedger
    _latest: datetime

    def append(self, decisions: Sequence[ItemDecision]) -> list[ItemDecision]:
        """Append decisions and return them with their final times; they are on disk on return.

        A decision that the file has already is not added again. Times increase within the file,
        even if the clocks of two machines differ.
        """
        with self._exclusive():
            added = []
            for decision in decisions:
                if decision.decision_id in self.ledger.by_id:
                    continue
                at = max(decision.decided_at, self._latest + _TICK)
                stamped = decision.model_copy(update={"decided_at": at})
                self._latest = at
                added.append(stamped)
            self._write(added)
        return added

    def import_lines(self, decisions: Sequence[ItemDecision]) -> int:
        """Add decisions of another file with their own times; return how many were new."""
        with self._exclusive():
            by_id = {one.decision_id: one for one in decisions}
            new = [one for name, one in by_id.items() if name not in self.ledger.by_id]
            self._write(new)
        return len(new)

    def _forget(self) -> None:
        self.ledger = DecisionLedger()
        self._latest = datetime.min.replace(tzinfo=UTC)

    def _parse(self, text: str) -> list[ItemDecision]:
        return parse_decision_lines(text, self.path)

    def _accept(self, record: ItemDecision) -> bool:
        self._latest = max(self._latest, record.decided_at)
        return self.ledger.add(record)


def read_item_decisions(path: Path) -> DecisionLedger:
    """Read a file of decisions; empty if it does not exist. Raises BadInput for a bad line.

    An unchanged file is not parsed again: a run asks for each episode. Do not add to the result.
    """
    try:
        stats = path.stat()
    except FileNotFoundError:
        return DecisionLedger()
    return _read_version(path, (stats.st_dev, stats.st_ino, stats.st_size, stats.st_mtime_ns))


@lru_cache(maxsize=2)
def _read_version(path: Path, _version: tuple[int, ...]) -> DecisionLedger:
    log = DecisionLog(path)
    log.refresh()
    return log.ledger


def format_decision_lines(decisions: Iterable[ItemDecision]) -> str:
    """Format decisions as JSON lines, the earliest first."""
    return "".join(
        one.model_dump_json(exclude_defaults=True) + "\n" for one in sorted(decisions, key=_age)
    )


def parse_decision_lines(text: str, source: Path) -> list[ItemDecision]:
    """Parse decisions in JSON lines. Raises BadInput naming the bad lines of ``source``."""
    decisions, problems = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            decisions.append(ItemDecision.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            message = first["msg"].removeprefix("Value error, ")
            problems.append(f"line {number}: {f'{place}: ' if place else ''}{message}")
    if problems:
        shown = "; ".join(problems[:5])
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise BadInput(
            f"{len(problems)} of its lines are not decisions: {shown}{more}",
            where=str(source),
            fix="Correct these lines, or restore the file from a backup.",
        )
    return decisions


def _age(decision: ItemDecision) -> tuple[datetime, str]:
    return decision.decided_at, decision.decision_id
