"""Decisions on datasets carry who and when; the last one counts and none is lost."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mimix_core.errors import BadInput
from mimix_core.project.dataset_review import (
    DatasetDecision,
    current_user,
    load_decision,
    load_decisions,
    save_decision,
)


def test_a_no_after_a_yes_counts_and_both_are_recorded(tmp_path: Path) -> None:
    save_decision(tmp_path, "k", DatasetDecision(approved=True, reviewer="Ann"))
    save_decision(tmp_path, "k", DatasetDecision(approved=False, reviewer="Bob", note="too dark"))
    decisions = load_decisions(tmp_path, "k")
    assert [(d.approved, d.reviewer) for d in decisions] == [(True, "Ann"), (False, "Bob")]
    assert all(datetime.now(UTC) - d.decided_at < timedelta(minutes=1) for d in decisions)
    decision = load_decision(tmp_path, "k")
    assert decision is not None and not decision.approved
    assert str(decision).startswith("rejected by Bob at ")
    assert str(decision).endswith("UTC: too dark")
    assert load_decisions(tmp_path, "another") == ()


def test_the_answer_to_one_form_is_recorded_once(tmp_path: Path) -> None:
    """A run that is started again reads its form again, maybe after a later decision."""
    answer = DatasetDecision(approved=True, source="flow run 1, form 0")
    save_decision(tmp_path, "k", answer)
    save_decision(tmp_path, "k", DatasetDecision(approved=False, reviewer="Bob"))
    save_decision(tmp_path, "k", answer)
    decision = load_decision(tmp_path, "k")
    assert decision is not None and decision.reviewer == "Bob"


def test_decisions_made_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(24):
            decision = DatasetDecision(approved=number % 2 == 0, reviewer=str(number))
            pool.submit(save_decision, tmp_path, "k", decision)
    assert {d.reviewer for d in load_decisions(tmp_path, "k")} == {str(n) for n in range(24)}


def test_a_file_of_an_earlier_version_and_one_that_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "reviews" / "k.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"approved": True, "note": "looked at all"}))
    then = time.time() - 3600
    os.utime(path, (then, then))
    [earlier] = load_decisions(tmp_path, "k")
    assert earlier.approved and earlier.note == "looked at all"
    assert abs(earlier.decided_at.timestamp() - then) < 2
    path.write_text("{")
    with pytest.raises(BadInput, match=r"k\.json"):
        load_decision(tmp_path, "k")


def test_the_user_of_the_shell_has_a_name() -> None:
    assert current_user()
