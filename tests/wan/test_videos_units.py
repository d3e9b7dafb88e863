"""Units of prompts run in several processes through Prefect and give one table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prefect import flow
from prefect.testing.utilities import prefect_test_harness

from mimix_core import tables
from mimix_core.domain.character import Character
from mimix_core.domain.library import Library, Show
from mimix_core.engine.artifacts import TableRef, file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.project.workspace import Workspace
from mimix_core.settings import AdapterSettings, Config, RunSettings, SampleSettings
from mimix_core.tables import SAMPLES
from mimix_core.wan import videos_stage
from tasks import evaluation
from tasks.base import Run
from tasks.training import PreparedBackbone
from tests.wan.test_sample_adapters import peer_adapter
from tests.wan.video_inputs import COMPONENTS, NAME, SETTINGS, adapter, inputs, prompt

pytestmark = pytest.mark.e2e


@pytest.fixture
def prefect_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PREFECT_RESULTS_LOCAL_STORAGE_PATH", str(tmp_path / "results"))
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    with prefect_test_harness(server_startup_timeout=120):
        yield


def workspace(folder: Path, samples: SampleSettings) -> Workspace:
    config = Config(
        library=folder / "library.yaml",
        workspace=folder,
        run=RunSettings(max_workers=2),
        samples=samples,
    )
    show = Show.model_construct(
        id="toons", title="T", style="cartoon", characters=(Character(name="Bunny"),), episodes=()
    )
    return Workspace(config, Library.model_construct(shows=(show,)), Store(folder / "store"), ())


def test_units_of_prompts_give_the_same_table_as_one_unit(
    prefect_server: None,
    tmp_path: Path,
    pipeline_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation, "MAX_VIDEOS_PER_UNIT", 2)
    prompts = tuple(prompt(f"p{number}") for number in range(3))
    path = tmp_path / "prompts.yaml"
    path.write_text(yaml.safe_dump({"prompts": [one.model_dump(mode="json") for one in prompts]}))
    peer = peer_adapter(tmp_path / "peer.safetensors")
    alone = inputs(
        pipeline_folder,
        tmp_path / "alone",
        adapter(pipeline_folder),
        prompts=prompts,
        adapters=(file_ref(peer),),
    )
    model = PreparedBackbone(NAME, alone.lora, {name: getattr(alone, name) for name in COMPONENTS})
    chosen = SETTINGS.model_copy(
        update={"prompts": path, "adapters": (AdapterSettings(path=peer, weight=0.5),)}
    )
    work = workspace(tmp_path, chosen)

    @flow
    def generating() -> TableRef:
        run = Run(work)
        made = evaluation.generate_samples(run, model, (alone.lora,))
        assert [ref.unit for ref in run.refs["videos"]] == ["1-2", "3-3"]
        return made

    ref = generating()
    assert not list((tmp_path / "parts" / "videos").iterdir()), "swept when all is committed"
    whole = run_stage(Store(tmp_path / "whole"), videos_stage.STAGE, alone, chosen).ref
    assert tables.read(ref.path, SAMPLES) == tables.read(whole.path, SAMPLES)
    assert ref.counts.ok == 3
    for row in tables.read(ref.path, SAMPLES):
        assert (ref.folder / row["file"]).stat().st_size > 0

    path.write_text(path.read_text().replace("Bunny", "Nobody"))

    @flow
    def refused() -> None:
        evaluation.generate_samples(Run(work), model, (alone.lora,))

    with pytest.raises(BadInput, match="no character is named 'Nobody'"):
        refused()
