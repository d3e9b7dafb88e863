"""Training as a Prefect task: killed, resumed from its checkpoint, and cleaned up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from prefect import flow
from prefect.testing.utilities import prefect_test_harness

from mimix_core import tables
from mimix_core.domain.library import Library
from mimix_core.engine.artifacts import TableRef, file_ref
from mimix_core.engine.store import Store
from mimix_core.project.workspace import Workspace
from mimix_core.settings import Config, RunSettings
from mimix_core.tables import LORA
from mimix_core.wan import lora_export, random_backbone
from mimix_core.wan.model_registry import TINY_EXPERTS
from tasks import evaluation, training
from tasks.base import Run
from tests.training import factories
from tests.wan.test_precompute import made

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", autouse=True)
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    results = tmp_path_factory.mktemp("prefect-results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_RESULTS_LOCAL_STORAGE_PATH", str(results))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with prefect_test_harness(server_startup_timeout=120):
            yield


def kill_after_a_checkpoint(checkpoints: Path, killed: list[int]) -> None:
    """End the training process by SIGKILL as soon as its first checkpoint is there."""
    deadline = time.monotonic() + 300
    while not list(checkpoints.glob("*/step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for process in psutil.Process().children(recursive=True):
        if "mimix_core.training" in process.cmdline():
            process.kill()
            killed.append(process.pid)


def test_a_killed_training_is_tried_again_from_its_checkpoint(tmp_path: Path) -> None:
    random_backbone.build_random_backbone(0, tmp_path / "pipeline")
    inputs = factories.stage_inputs(tmp_path / "inputs", tmp_path / "pipeline" / "transformer")
    config = Config(
        library=tmp_path / "library.yaml",
        workspace=tmp_path / "workspace",
        run=RunSettings(retries=1),
        lora=factories.SETTINGS,
    )
    (tmp_path / "workspace").mkdir()
    store = Store(tmp_path / "workspace" / "store")
    work = Workspace(config, Library.model_construct(shows=()), store, ())
    components = {"transformer": file_ref(tmp_path / "pipeline" / "transformer")}
    model = training.PreparedBackbone(factories.NAME, inputs.dataset, components)
    checkpoints, killed = tmp_path / "workspace" / "checkpoints", []

    @flow
    def train() -> TableRef:
        [ref] = training.train_lora(
            Run(work), inputs.dataset, inputs.latents, inputs.embeddings, model
        )
        return ref

    killer = threading.Thread(target=kill_after_a_checkpoint, args=(checkpoints, killed))
    killer.start()
    ref = train()
    killer.join()
    assert len(killed) == 1
    rows = tables.read(ref.path, LORA)
    assert sum(row["status"] == "ok" for row in rows) == 12
    assert "resuming after step" in (ref.folder / "train.log").read_text()
    [folder] = checkpoints.iterdir()
    assert not list(folder.glob("step-*")), "a committed run needs no checkpoints"
    assert (folder / "journal" / "log.jsonl").read_bytes() == (
        ref.folder / "log.jsonl"
    ).read_bytes()


@pytest.mark.e2e
def test_middle_frames_are_encoded_beside_the_videos_and_mixed_in(tmp_path: Path) -> None:
    pipeline = tmp_path / "pipeline"
    random_backbone.build_random_backbone(0, pipeline)
    inputs = factories.stage_inputs(tmp_path / "inputs", pipeline / "transformer")
    names = [f"clip{n:02d}" for n in range(9)]
    clips = made(tmp_path / "clips", dict.fromkeys(names, (9, 48, 32)))
    components = {name: file_ref(pipeline / name) for name in ("transformer", "vae")}
    model = training.PreparedBackbone(factories.NAME, inputs.dataset, components)
    (tmp_path / "workspace").mkdir()

    def train(ratio: float) -> tuple[training.EncodedLatents, TableRef]:
        used = factories.SETTINGS.model_copy(update={"image_ratio": ratio, "epochs": 1})
        config = Config(
            library=tmp_path / "library.yaml", workspace=tmp_path / "workspace", lora=used
        )
        store = Store(tmp_path / "workspace" / "store")
        work = Workspace(config, Library.model_construct(shows=()), store, ())

        @flow
        def encode_and_train() -> tuple[training.EncodedLatents, TableRef]:
            run = Run(work)
            latents = training.encode_latents(run, [clips], model)
            [ref] = training.train_lora(
                run,
                inputs.dataset,
                latents.videos,
                inputs.embeddings,
                model,
                image_latents=latents.images,
            )
            return latents, ref

        return encode_and_train()

    plain, alone = train(0.0)
    mixed, ref = train(1.0)
    assert plain.images == []
    assert [table.key for table in plain.videos] == [table.key for table in mixed.videos]
    [images] = mixed.images
    assert {tuple(row["shape"]) for row in tables.read(images.path, tables.LATENTS)} == {
        (16, 1, 4, 6)
    }
    store = Store(tmp_path / "workspace" / "store")
    assert store.record(ref).notes["images"] == "9 per epoch, of 9"
    assert "images" not in store.record(alone).notes
    metadata, _ = lora_export.read_metadata(ref.folder / lora_export.ADAPTER_FILE)
    assert metadata.settings["image_ratio"] == 1.0
    metadata, _ = lora_export.read_metadata(alone.folder / lora_export.ADAPTER_FILE)
    assert "image_ratio" not in metadata.settings


def test_experts_are_trained_one_after_the_other_and_generate_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = tmp_path / "pipeline"
    random_backbone.build_random_backbone(0, pipeline, TINY_EXPERTS)
    inputs = factories.stage_inputs(
        tmp_path / "inputs", pipeline / "transformer", TINY_EXPERTS.name
    )
    few = factories.SETTINGS.model_copy(update={"epochs": 1})
    components = {name: file_ref(pipeline / name) for name in TINY_EXPERTS.components}
    model = training.PreparedBackbone(TINY_EXPERTS.name, inputs.dataset, components)
    (tmp_path / "workspace").mkdir()

    def trained(*experts: str) -> tuple[TableRef, ...]:
        config = Config(
            library=tmp_path / "library.yaml",
            workspace=tmp_path / "workspace",
            lora=few.model_copy(update={"experts": experts}),
        )
        store = Store(tmp_path / "workspace" / "store")
        work = Workspace(config, Library.model_construct(shows=()), store, ())

        @flow
        def train() -> tuple[TableRef, ...]:
            return training.train_lora(
                Run(work), inputs.dataset, inputs.latents, inputs.embeddings, model
            )

        return train()

    [low] = trained("low-noise")
    assert "warning lora: only 3 optimizer steps in all" in capsys.readouterr().out
    both = trained("high-noise", "low-noise")
    assert [ref.unit for ref in both] == ["high-noise", "low-noise"]
    # What was trained alone before is what the training of both has.
    assert both[1].key == low.key
    for ref, component in zip(both, ("transformer", "transformer_2"), strict=True):
        metadata, _ = lora_export.read_metadata(ref.folder / lora_export.ADAPTER_FILE)
        assert metadata.expert == ref.unit
        assert metadata.base_sha256 == components[component].sha256
    high, expert = evaluation._split_experts(model, both)
    assert high == both[0]
    assert expert is not None
    assert expert.lora == low
    assert expert.transformer == components["transformer_2"]
    assert evaluation._split_experts(model, [low])[0] is None
