"""Stage ``scores``: one row per video and metric, also for broken videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mimix_core import tables
from mimix_core.benchmark import scores_stage
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.settings import ScoreSettings
from mimix_core.tables import CLIPS, SAMPLES, SCORES, Reason, Row, failed, ok
from tests.benchmark.test_metrics import DYNAMIC, QUALITY, SMOOTH, pan, still
from tests.factories import clip, table_ref, video

pytestmark = pytest.mark.slow

SETTINGS = ScoreSettings(metrics=(DYNAMIC, SMOOTH, QUALITY))


def sample(prompt_id: str, make=ok) -> Row:
    return make(
        prompt_id=prompt_id,
        category="single",
        prompt="",
        characters=[],
        backbone="tiny-random-wan",
        seed=0,
        file=f"samples/{prompt_id}.mp4",
        sha256="",
        frames=25,
        width=200,
        height=120,
    )


@pytest.fixture
def inputs(tmp_path: Path) -> scores_stage.ScoreInputs:
    folder = tmp_path / "samples"
    video(folder / "samples" / "still.mp4", still())
    video(folder / "samples" / "flat.mp4", np.full((25, 64, 64, 3), 90, np.uint8))
    (folder / "samples" / "broken.mp4").write_bytes(b"no video")
    rows = [sample(name) for name in ("still", "flat", "broken")]
    rows.append(sample("never", lambda **v: failed(Reason.GENERATION_FAILED, "out of memory", **v)))
    video(tmp_path / "clips" / "clips" / "pan.mp4", pan(3.0))
    clips = table_ref(tmp_path / "clips", CLIPS, [clip("pan")])
    return scores_stage.ScoreInputs(
        unit="all", samples=table_ref(folder, SAMPLES, rows), clips=(clips,)
    )


def test_every_video_has_a_row_per_metric(store: Store, inputs: scores_stage.ScoreInputs) -> None:
    ref = run_stage(store, scores_stage.STAGE, inputs, SETTINGS).ref
    rows = {(row["video_id"], row["metric"]): row for row in tables.read(ref.path, SCORES)}
    assert len(rows) == ref.counts.rows_in == 4 * 3
    assert {video_id for video_id, _ in rows} == {"still", "flat", "broken", "pan"}
    bad = {key: row["reason"] for key, row in rows.items() if row["status"] != "ok"}
    assert bad == {
        ("flat", QUALITY): "metric_failed",
        **{("broken", metric): "metric_failed" for metric in (DYNAMIC, SMOOTH, QUALITY)},
    }
    assert rows["still", DYNAMIC]["value"] == 0.0
    assert rows["pan", DYNAMIC]["value"] == 1.0
    assert rows["pan", DYNAMIC]["kind"] == "clip"
    assert rows["still", SMOOTH]["kind"] == "sample"
    assert rows["still", SMOOTH]["value"] > 0.99


def test_a_video_is_decoded_once(
    store: Store, inputs: scores_stage.ScoreInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    true_read = scores_stage.read_rgb

    def counting(path: Path, **options):
        decoded.append(path.name)
        return true_read(path, **options)

    monkeypatch.setattr(scores_stage, "read_rgb", counting)
    run_stage(store, scores_stage.STAGE, inputs, SETTINGS)
    assert sorted(decoded) == ["broken.mp4", "flat.mp4", "pan.mp4", "still.mp4"]


@pytest.mark.e2e
def test_scores_are_reproducible(inputs: scores_stage.ScoreInputs, tmp_path: Path) -> None:
    refs = [
        run_stage(Store(tmp_path / name), scores_stage.STAGE, inputs, ScoreSettings()).ref
        for name in ("a", "b")
    ]
    assert refs[0].sha256 == refs[1].sha256


def test_an_unknown_metric_is_rejected_before_decoding(
    inputs: scores_stage.ScoreInputs, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="unknown metric aesthetic_quality/beauty"):
        scores_stage.run(inputs, ScoreSettings(metrics=("aesthetic_quality/beauty",)), tmp_path)
