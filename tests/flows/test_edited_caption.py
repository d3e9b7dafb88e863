"""An edited caption computes its own row, its own embedding and what follows, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mimix_core import tables
from mimix_core.engine import registry
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.store import Store
from mimix_core.project.item_decisions import DecisionLog, ItemKind
from mimix_core.settings import load_config
from mimix_core.stages.composites import earlier_renders
from mimix_core.tables import Row
from tests.flows.small_project import Project, decide, refs_of

pytestmark = pytest.mark.e2e

TRAINING = """\
backbone: {name: tiny-random-wan}
latents: {width: 64, height: 32}
lora:
  {rank: 2, alpha: 2, epochs: 1, global_batch_size: 4, precision: fp32, validation_interval: 50,
   checkpoint_interval: 50, threads: 1}
"""
WRITTEN = "[Character: Tom], dances. [scene-style:cartoon]"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two shows of three clips each, trained on."""
    made = Project(tmp_path_factory.mktemp("project"))
    settings = made.settings.read_text().replace('ratio: "0.5"', 'ratio: "0.2"')
    made.settings.write_text(settings + TRAINING)
    made.add_show("toons", "cartoon", "Tom", acts=True, seed=1, clips=3)
    made.add_show("people", "realistic", "Clara", acts=True, seed=2, clips=3)
    computed = made.run(train=True)
    assert {"latents toons", "latents all", "embeddings all", "lora all"} <= computed
    return made


@pytest.fixture
def decisions(project: Project) -> Iterator[DecisionLog]:
    log = DecisionLog(load_config(project.settings).decisions)
    yield log
    log.path.unlink()


def rows_by_id(refs: list[TableRef]) -> dict[str, Row]:
    """All rows of a stage by id, without the folder that their files are in."""
    table = registry.get_stage(refs[0].stage).table
    return {
        row[table.id]: {name: value for name, value in row.items() if name not in table.locations}
        for ref in refs
        for row in tables.read(ref.path, table)
    }


def changed_rows(
    before: dict[str, list[TableRef]], after: dict[str, list[TableRef]], stage: str
) -> set[str]:
    old, new = rows_by_id(before[stage]), rows_by_id(after[stage])
    return {name for name in {*old, *new} if old.get(name) != new.get(name)}


def clips_of_tom(refs: dict[str, list[TableRef]]) -> list[str]:
    captions = rows_by_id(refs["captions"])
    return [name for name, row in captions.items() if "Tom" in row["caption"]]


def clips_in_composites(refs: dict[str, list[TableRef]]) -> dict[str, set[str]]:
    """The composites that each clip is in."""
    found: dict[str, set[str]] = {}
    for name, row in rows_by_id(refs["composites"]).items():
        for side in ("source_clip_id", "background_clip_id"):
            if row["status"] == "ok":
                found.setdefault(row[side], set()).add(name)
    return found


def effort(project: Project, refs: list[TableRef], name: str) -> list[Any]:
    store = Store(load_config(project.settings).workspace / "store")
    return [store.record(ref).runtime_stats[name] for ref in refs]


def test_one_edited_caption_encodes_one_embedding(
    project: Project, decisions: DecisionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = refs_of(project, train=True)
    used = clips_in_composites(before)
    clip = next(name for name in clips_of_tom(before) if name not in used)
    rendered: list[str] = []
    render = earlier_renders.render_composite
    monkeypatch.setattr(
        earlier_renders,
        "render_composite",
        lambda *values: (rendered.append(str(values[-1])), render(*values)),
    )
    decide(decisions, ItemKind.CLIP, clip, "edit", caption=WRITTEN)
    assert project.run(train=True) == {
        "captions toons",
        "composites all",  # paired anew from the captions: the same pairs, so nothing is rendered
        "recaptions all",  # composed anew from the captions: the same, since none has this clip
        "embeddings toons",
        "dataset all",
        "lora all",
    }
    after = refs_of(project, train=True)
    for stage in ("captions", "embeddings", "dataset"):
        assert changed_rows(before, after, stage) == {clip}, stage
    for stage in ("composites", "recaptions", "latents"):
        assert changed_rows(before, after, stage) == set(), stage
    assert rendered == []
    [toons_ref] = [ref for ref in after["embeddings"] if ref.unit == "toons"]
    assert effort(project, [toons_ref], "encoded") == [1]
    assert effort(project, [toons_ref], "reused") == [2]


def test_captions_of_composites_follow_the_edited_clip(
    project: Project, decisions: DecisionLog
) -> None:
    before = refs_of(project, train=True)
    used = clips_in_composites(before)
    clip = next(name for name in clips_of_tom(before) if name in used)
    concerned = used[clip]
    decide(decisions, ItemKind.CLIP, clip, "edit", caption=WRITTEN)
    computed = project.run(train=True)
    after = refs_of(project, train=True)
    assert changed_rows(before, after, "captions") == {clip}
    assert changed_rows(before, after, "recaptions") == concerned
    assert changed_rows(before, after, "embeddings") == {clip, *concerned}
    assert sum(effort(project, after["embeddings"], "encoded")[-1:]) == len(concerned)
    assert not {unit for unit in computed if unit.startswith(("latents", "cutouts", "clips"))}
    assert changed_rows(before, after, "composites") == set()
