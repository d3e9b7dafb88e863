"""Held-out losses of trainings with routed tokens beside those with all tokens."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from miniature.study import held_out_figures
from miniature.study.additions import TrainingRow
from miniature.study.figures import REFERENCE

ROWS = [
    TrainingRow(REFERENCE, 0, 740, "", "", 0.5, 0.40),
    TrainingRow(REFERENCE, 1, 740, "", "", 0.5, 0.20),
    TrainingRow("routed-50", 0, 740, "", "", 0.5, 0.44),
    TrainingRow("routed-50", 1, 740, "", "", 0.5, 0.21),
    TrainingRow("routed-50", 2, 740, "", "", 0.5, 0.28),
    TrainingRow("composites-0", 0, 700, "", "", 0.5, 0.1),
    TrainingRow("routed-50-longer", 0, 1110, "", ""),
]


def test_changes_are_of_the_same_seeds_and_trainings_without_losses_are_left_out() -> None:
    reference, routed = held_out_figures.held_out_figures(ROWS)
    assert (reference.arm, reference.seeds, reference.last) == (REFERENCE, 2, pytest.approx(0.3))
    assert reference.change == (0, 0, 0)
    assert (routed.arm, routed.seeds, routed.steps) == ("routed-50", 3, 740)
    assert routed.last == pytest.approx(0.31)
    assert routed.change == pytest.approx((0.075, 0.05, 0.1))
    (alone,) = held_out_figures.held_out_figures(ROWS[2:5])
    assert alone.change is None


def test_the_table_and_the_record_have_these_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trainings = tmp_path / "trainings.json"
    trainings.write_text(json.dumps([asdict(row) for row in ROWS]))
    record = tmp_path / "miniature.json"
    record.write_text(json.dumps({"figures": {"other": 1}, "units": {"other": "m"}}))
    monkeypatch.setattr(held_out_figures, "RESULTS", tmp_path)
    held_out_figures.main([str(trainings), "--record"])
    table = capsys.readouterr().out
    assert "| +0.0% (+0.0% to +0.0%) | +7.5% (+5.0% to +10.0%) |" in table
    found = json.loads(record.read_text())
    assert found["figures"] == {
        "other": 1,
        "held_out_loss_composites_10": 0.3,
        "held_out_loss_routed_50": 0.31,
        "held_out_change_routed_50": 0.075,
    }
    assert found["figures"].keys() == found["units"].keys()
