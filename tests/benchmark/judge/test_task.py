"""Judging a run's generated videos as a task of a flow."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import yaml
from prefect import flow
from prefect.testing.utilities import prefect_test_harness

from mimix_core import tables
from mimix_core.benchmark.judge import stage as judge_stage
from mimix_core.benchmark.judge.judge_retries import with_rating_retries
from mimix_core.domain.character import Character
from mimix_core.domain.library import Library, Show
from mimix_core.engine.artifacts import TableRef, digest_file
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.project.workspace import Workspace
from mimix_core.settings import Config, JudgeSettings, SampleSettings
from mimix_core.tables import JUDGEMENTS, SAMPLES, Reason
from mimix_core.vlm.retries import Retry, add_retries
from tasks import judgements
from tasks.base import Run
from tasks.cached_run import MissingResult, ReadOnlyRun
from tests.benchmark.judge import factories
from tests.factories import table_ref
from tests.vlm.fake_provider import FakeProvider

PROMPTS = (factories.prompt(0, "Tom"), factories.prompt(1, "Jerry", "Mr. Bean"))


def workspace(folder: Path, judge: JudgeSettings) -> Workspace:
    folder.mkdir(exist_ok=True)
    cast = factories.cast(folder / "cast")
    shows = tuple(
        Show.model_construct(
            id=f"show-{number}",
            title=one.show,
            style=one.style,
            characters=(
                Character(
                    name=one.name,
                    description=one.description,
                    references=tuple(file.path for file in one.references),
                ),
            ),
            episodes=(),
        )
        for number, one in enumerate(cast)
    )
    prompts = folder / "prompts.yaml"
    prompts.write_text(
        yaml.safe_dump({"prompts": [one.model_dump(mode="json") for one in PROMPTS]})
    )
    config = Config(
        library=folder / "library.yaml",
        workspace=folder / "workspace",
        samples=SampleSettings(prompts=prompts),
        judge=judge,
    )
    store = Store(folder / "workspace" / "store")
    store.root.mkdir(parents=True)
    return Workspace(config, Library.model_construct(shows=shows), store, ())


def samples(folder: Path) -> TableRef:
    """The first prompt's video; the second one's could not be generated."""
    made = factories.system(folder / "made", "samples", PROMPTS).videos
    rows = []
    for one in PROMPTS:
        values = {
            "prompt_id": one.id,
            "category": one.category,
            "prompt": one.render(),
            "characters": list(one.characters),
            "backbone": "test",
            "seed": 0,
            "file": f"samples/{one.id}.mp4",
            "sha256": made[one.id].sha256,
            "frames": factories.FRAMES,
            "width": 64,
            "height": 48,
        }
        rows.append(
            tables.ok(**values)
            if one is PROMPTS[0]
            else tables.failed(Reason.GENERATION_FAILED, "out of memory", **values)
        )
    return table_ref(folder / "made", SAMPLES, rows)


def test_samples_become_a_system_with_reasons_for_missing_videos(tmp_path: Path) -> None:
    work = workspace(tmp_path, factories.settings(FakeProvider("http://127.0.0.1:9")))
    ref = samples(tmp_path)
    given = judgements.build_judge_inputs(work, ref)
    [ours] = given.systems
    assert {name: file.sha256 for name, file in ours.videos.items()} == {
        "p000": digest_file(ref.folder / "samples" / "p000.mp4")
    }
    assert ours.missing == {"p001": "generation_failed: out of memory"}
    assert [one.name for one in given.cast] == list(factories.COLORS)
    assert judgements.judge_samples(Run(workspace(tmp_path / "b", JudgeSettings())), ref) is None
    # A person's decisions about these ratings, and one about a video of another system.
    folder = work.config.workspace
    now = datetime.datetime.now(datetime.UTC)
    ids = ["ours/p000/paper/motion/0", "ours/p000/paper/motion/0", "other/p000/paper/motion/0"]
    add_retries(folder, [Retry(stage="judgements", id=i, reason="x", at=now) for i in ids])
    add_retries(folder, [Retry(stage="captions", id=ids[0], reason="x", at=now)])
    asked = with_rating_retries(given, work.config.judge, folder)
    assert asked.retries == {"ours/p000/paper/motion/0": 2}
    assert judgements.judgements_task.name == judge_stage.STAGE.name


@pytest.mark.e2e
def test_a_flow_judges_its_samples(
    server: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_RESULTS_LOCAL_STORAGE_PATH", str(tmp_path / "results"))
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    work = workspace(tmp_path, factories.settings(server))

    @flow
    def judged() -> TableRef | None:
        return judgements.judge_samples(Run(work), samples(tmp_path))

    with prefect_test_harness(server_startup_timeout=120):
        ref = judged()
    assert ref is not None
    rows = tables.read(ref.path, JUDGEMENTS)
    assert len(rows) == 8
    found = {(row["prompt_id"], row["aspect"]): row for row in rows}
    assert found["p000", "identity"]["value"] == 10
    assert found["p000", "identity"]["system"] == "ours"
    assert found["p001", "motion"]["reason"] == "no_video"
    assert found["p001", "motion"]["detail"] == "generation_failed: out of memory"


@pytest.mark.e2e
def test_the_next_run_asks_again_what_a_person_decided(
    server: FakeProvider, tmp_path: Path
) -> None:
    work = workspace(tmp_path, factories.settings(server))
    ref, folder, settings = samples(tmp_path), work.config.workspace, work.config.judge
    fault = "text:I see no video."
    server.control(faults={"The aspect: Motion-P": [fault, "right"]})
    name = "ours/p000/paper/motion/0"

    def judged() -> dict[str, str | None]:
        """Compute what the next run would, and look it up as a run does."""
        inputs = with_rating_retries(judgements.build_judge_inputs(work, ref), settings, folder)
        run_stage(work.store, judge_stage.STAGE, inputs, settings)
        found = judgements.judge_samples(ReadOnlyRun(work), ref)
        assert found is not None
        return {row["judgement_id"]: row["reason"] for row in tables.read(found.path, JUDGEMENTS)}

    assert judged()[name] == judged()[name] == "answer_invalid"
    assert len(server.counts()["right"]) == 3
    now = datetime.datetime.now(datetime.UTC)
    add_retries(folder, [Retry(stage="judgements", id=name, reason="answer_invalid", at=now)])
    with pytest.raises(MissingResult):
        judgements.judge_samples(ReadOnlyRun(work), ref)
    assert judged()[name] is None
    assert sum(map(len, server.counts()["asked"].values())) == 5
