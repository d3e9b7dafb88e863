"""The state of a running studio: the index, the decisions, and what changed when."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from mimix_core.project.item_decisions import (
    DecisionAction,
    DecisionLog,
    ItemDecision,
    ItemKey,
    ItemKind,
    ItemState,
)
from mimix_core.studio.item_index import ItemIndex, ItemQuery
from mimix_core.studio.track_items import proposals_folder

DECIDABLE = frozenset(kind.value for kind in ItemKind)

CaptionCheck = Callable[[Mapping[str, Any], Mapping[str, Any], str], list[str]]
"""Lists the problems of a new caption: of the index's ``meta``, an item as the page shows it, and
the caption."""


@dataclass(frozen=True)
class Conflict:
    """A decision that was made while the page still showed an earlier state of the item."""

    kind: str
    item: str
    reviewer: str
    action: str


class StudioSession:
    """One studio. All methods may be called from several threads.

    ``store``: folder that the files of the index are relative to. ``check_caption``: see
    ``CaptionCheck``. ``reviewer``: who decides if the page does not say.
    """

    def __init__(
        self,
        index: Path,
        decisions: Path,
        store: Path,
        *,
        check_caption: CaptionCheck,
        reviewer: str,
    ) -> None:
        self.store = store.resolve()
        self.workspace = self.store.parent
        self._proposals = proposals_folder(self.workspace)
        self.reviewer = reviewer
        self._check_caption = check_caption
        self.log = DecisionLog(decisions)
        self._lock = Lock()
        self._changes: list[ItemKey] = []
        self.log.refresh()
        self.index = ItemIndex(index)
        self._apply(self.log.ledger.items())

    @property
    def version(self) -> int:
        """Return a number that grows with every change of a decision."""
        return len(self._changes)

    def open_index(self, path: Path) -> bool:
        """Show the items of another index; return False if it is the one that is shown."""
        if path == self.index.path:
            return False
        index = ItemIndex(path)
        with self._lock:
            for key in self.log.ledger.items():
                index.set_state(*key, self.log.ledger.state(*key))
            self.index = index
        return True

    def refresh(self) -> None:
        """Take over decisions that other processes have made."""
        before = self.log.ledger
        added = self.log.refresh()
        if self.log.ledger is not before:
            with self._lock:
                self.index.clear_states()
            self._apply([*before.items(), *self.log.ledger.items()])
        elif added:
            self._apply([(one.kind, one.item) for one in added])

    def caption_problems(self, item: Mapping[str, Any], caption: str) -> list[str]:
        """List the problems of a new caption for an item."""
        return self._check_caption(self.index.meta, item, caption)

    def changes_since(self, version: int) -> list[ItemKey]:
        """Return the items on which anything was decided since that version."""
        return list(dict.fromkeys(self._changes[max(0, version) :]))

    def decide(
        self, decisions: Sequence[ItemDecision], expected: Sequence[str]
    ) -> tuple[list[ItemDecision], list[Conflict]]:
        """Save decisions. ``expected``: per decision, the id of the verdict or edit on the page.

        All are saved. A conflict is reported where another person has decided in between.
        """
        self.refresh()
        conflicts = []
        for decision, seen in zip(decisions, expected, strict=True):
            current = self._current(decision)
            if current is None or current.decision_id == seen:
                continue
            if current.reviewer != decision.reviewer:
                conflicts.append(
                    Conflict(
                        decision.kind.value,
                        decision.item,
                        current.reviewer,
                        current.action.value,
                    )
                )
        added = self.log.append(decisions)
        self._apply([(one.kind, one.item) for one in added])
        return added, conflicts

    def undo(self, ids: Sequence[str], reviewer: str) -> list[ItemDecision]:
        """Take decisions back; unknown ones and those that are taken back already do not count."""
        self.refresh()
        ledger = self.log.ledger
        taken_back = [
            ItemDecision(
                reviewer=reviewer,
                kind=decision.kind,
                item=decision.item,
                action=DecisionAction.UNDO,
                undoes=decision.decision_id,
            )
            for decision in (ledger.by_id.get(name) for name in ids)
            if decision is not None
            and decision.action is not DecisionAction.UNDO
            and not ledger.is_undone(decision)
        ]
        added = self.log.append(taken_back)
        self._apply([(one.kind, one.item) for one in added])
        return added

    def state(self, kind: str, item: str) -> dict[str, Any] | None:
        """Return what counts for an item, as the page shows it; None without decisions."""
        if kind not in DECIDABLE:
            return None
        state = self.log.ledger.state(ItemKind(kind), item)
        if not state.decisions:
            return None
        return self._describe(kind, item, state)

    def item_page(self, query: ItemQuery, offset: int, limit: int) -> str:
        """Return a page of items with their states, as JSON."""
        positions = self.index.select(query)
        rows = self.index.rows(list(positions[offset : offset + limit]))
        items = []
        for text in rows:
            # The texts are JSON already; of them only the id is needed here.
            state = None
            if self.log.ledger.by_id:
                row = json.loads(text)
                state = self.state(row["kind"], row["id"])
            items.append(f'{{"item":{text},"state":{json.dumps(state, ensure_ascii=False)}}}')
        head = {"total": len(positions), "offset": offset, "version": self.version}
        return f'{json.dumps(head)[:-1]},"items":[{",".join(items)}]}}'

    def source(self, item: Mapping[str, Any]) -> Path | None:
        """Return the video of the episode that an item comes from; None if it is not there."""
        path = self.index.meta.get("sources", {}).get(item["episode"])
        return Path(path) if path is not None and Path(path).is_file() else None

    def file(self, kind: str, name: str, role: str) -> Path | None:
        """Return the path of an item's file: one that the index names, inside of its folder."""
        relative = self.index.file(kind, name, role)
        if relative is None:
            return None
        root = self._proposals if kind == ItemKind.TRACK else self.store
        path = Path(os.path.normpath(root / relative))
        if not path.is_relative_to(root) or not path.is_file():
            return None
        # The folder of a stage may be a link to another disk; nothing below it leads elsewhere.
        folder = root / path.relative_to(root).parts[0]
        return path if Path(os.path.realpath(path)).is_relative_to(folder.resolve()) else None

    def _current(self, decision: ItemDecision) -> ItemDecision | None:
        return self.log.ledger.state(decision.kind, decision.item).counterpart(decision)

    def _describe(self, kind: str, item: str, state: ItemState) -> dict[str, Any]:
        position = self.index.position(kind, item)
        return {
            "verdict": None if state.verdict is None else _describe(state.verdict),
            "edit": None if state.edit is None else _describe(state.edit),
            "crop": None if state.crop is None else _describe(state.crop),
            "name": None if state.name is None else _describe(state.name),
            "disputed": state.disputed,
            "changed": position is not None and self.index.is_changed(position),
        }

    def _apply(self, keys: Sequence[ItemKey]) -> None:
        with self._lock:
            for key in dict.fromkeys(keys):
                self.index.set_state(*key, self.log.ledger.state(*key))
            self._changes += keys


def _describe(decision: ItemDecision) -> dict[str, Any]:
    return {
        "id": decision.decision_id,
        "action": decision.action.value,
        "by": decision.reviewer,
        "at": decision.decided_at.isoformat(timespec="seconds"),
        "reason": decision.reason,
        "caption": decision.caption,
        "crop": decision.crop,
        "character": decision.character,
    }
