"""What adding a character costs, computed from verdicts whose answer is known."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from mimix_core.errors import BadInput
from miniature.study import addition_figures
from miniature.study.addition_figures import BEFORE, COMPARED
from miniature.study.additions import TrainingRow
from miniature.study.arms import ADDED
from miniature.study.figures import REFERENCE, read_csv
from miniature.study.figures import RESULTS as RECORDED
from miniature.study.scoring import VideoRow


@pytest.fixture(scope="module")
def rows() -> list[VideoRow]:
    """Verdicts of training all again as those of four arms: before, two additions, and itself."""
    recorded = read_csv(RECORDED / "miniature_videos.csv")
    whole = [row for row in recorded if row["arm"] == REFERENCE]
    made = list(whole)
    for arm in COMPARED[:-1]:
        kept_so_far = 0
        for row in whole:
            new = ADDED in row["characters"]
            changes = {"arm": arm}
            if new and arm == BEFORE:
                absent = [
                    flag and name != ADDED
                    for flag, name in zip(row["present"], row["characters"], strict=True)
                ]
                changes |= {"all_kept": False, "present": absent}
            if arm == "eighth-added" and not new and row["all_kept"]:
                kept_so_far += 1
                changes |= {"all_kept": kept_so_far % 10 > 0}
            made.append({**row, **changes})  # type: ignore[typeddict-item]
    return made


TRAININGS = [
    TrainingRow(arm, seed, steps, "Pim +1.0 %" if arm.startswith("eighth") else "", "")
    for seed in range(3)
    for arm, steps in zip(COMPARED, (500 + seed, 170 + seed, 140, 600), strict=True)
]


def test_losses_gains_and_steps_are_those_of_the_verdicts(rows: list[VideoRow]) -> None:
    found = {one.arm: one for one in addition_figures.addition_figures(rows, TRAININGS)}
    assert set(found) == set(COMPARED)
    old = [r for r in rows if r["arm"] == REFERENCE and ADDED not in r["characters"]]
    share = sum(row["all_kept"] for row in old) / len(old)
    lost = sum(row["all_kept"] for row in old) // 10 / len(old)
    added, whole, before = found["eighth-added"], found[REFERENCE], found[BEFORE]
    assert before.old is not None
    assert added.old is not None
    assert added.change is not None
    assert before.old.mean == pytest.approx(share)
    assert added.old.mean == pytest.approx(share - lost)
    assert added.change.mean == pytest.approx(-lost)
    assert added.change.low <= -lost <= added.change.high < 0
    assert before.new is not None
    assert (before.new.mean, before.new_present) == (0, 0)
    assert whole.new_present is not None
    assert whole.new_present > 0.5
    assert added.to_reference is not None
    assert added.to_reference.mean == 0
    assert (added.seeds, added.steps) == (3, 171)
    assert added.steps_share == pytest.approx(172 / 600), "the largest of the seeds"
    text = addition_figures.markdown(list(found.values()), TRAININGS)
    assert "| optimizer steps | 501 | 171 | 140 | 600 |" in text
    assert "- eighth-added, seed 2: held-out loss Pim +1.0 %" in text
    recorded = addition_figures.recorded_figures(list(found.values()))
    assert recorded["eighth_added_change"] == pytest.approx(-lost, abs=1e-4)
    assert recorded["eighth_added_steps_share"] == pytest.approx(0.2867, abs=1e-4)
    assert recorded["added_old_before"] == pytest.approx(share, abs=1e-4)


def test_arms_that_were_not_run_are_left_out(rows: list[VideoRow]) -> None:
    some = [row for row in rows if row["arm"] in (BEFORE, "eighth-added")]
    found = addition_figures.addition_figures(some, [t for t in TRAININGS if t.arm != REFERENCE])
    assert [one.arm for one in found] == [BEFORE, "eighth-added"]
    assert found[1].steps_share is None
    assert found[1].to_reference is None
    assert "| of training all again | – | – |" in addition_figures.markdown(found, TRAININGS)


def test_a_training_that_comes_twice_is_an_error(tmp_path: Path) -> None:
    for name, part in (("one", TRAININGS[:3]), ("two", TRAININGS[2:])):
        (tmp_path / f"{name}.json").write_text(json.dumps([asdict(row) for row in part]))
    assert addition_figures.read_trainings([tmp_path / "one.json"]) == TRAININGS[:3]
    with pytest.raises(BadInput, match="comes twice"):
        addition_figures.read_trainings([tmp_path / "one.json", tmp_path / "two.json"])
