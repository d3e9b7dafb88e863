"""Long tables are split into units and over processes without changing the result."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import flow
from prefect.testing.utilities import prefect_test_harness

from mimix_core import tables
from mimix_core.domain.library import Library
from mimix_core.engine.artifacts import Counts, TableRef, file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.project.workspace import Workspace
from mimix_core.settings import Config, RunSettings
from mimix_core.tables import LATENTS
from mimix_core.wan import latents_stage, tensor_shards
from tasks import training
from tasks.base import Run
from tests.wan.conftest import CAPTIONS as TEXTS
from tests.wan.test_precompute import LONG, NAME, caption_table, latent_inputs, made


@given(st.integers(0, 6000))
def test_the_units_of_a_table_cover_it_and_respect_the_limit(usable: int) -> None:
    counts = Counts(rows_in=usable + 3, ok=usable, rejected=2, failed=1)
    table = TableRef(
        stage="composites", unit="all", key="k", sha256="s", path=Path("t"), counts=counts
    )
    shares = training.split_latent_units(table)
    assert len({unit for unit, _ in shares}) == len(shares)
    if usable <= training.MAX_LATENTS_PER_UNIT:
        assert shares == [("all", None)]
        return
    spans = [span for _, span in shares if span is not None]
    assert [row for span in spans for row in range(*span)] == list(range(usable))
    lengths = [end - begin for begin, end in spans]
    assert max(lengths) <= training.MAX_LATENTS_PER_UNIT
    assert max(lengths) - min(lengths) <= 1


@pytest.fixture
def prefect_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PREFECT_RESULTS_LOCAL_STORAGE_PATH", str(tmp_path / "results"))
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    with prefect_test_harness(server_startup_timeout=120):
        yield


class UnitProcesses(threading.Thread):
    """Looks how many unit processes this one has at a time."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.05):
            self.most = max(self.most, sum(_is_unit(path) for path in Path("/proc").glob("[0-9]*")))


def _is_unit(process: Path) -> bool:
    try:
        parent = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
        return (
            parent == os.getpid()
            and b"mimix_core.engine.worker" in (process / "cmdline").read_bytes()
        )
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.e2e
def test_two_workers_split_the_units_of_a_table(
    prefect_server: None,
    tmp_path: Path,
    pipeline_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(training, "MAX_LATENTS_PER_UNIT", 3)
    clips = made(tmp_path / "clips", {f"c{n}": (9, 64, 32) for n in range(11)})
    config = Config(
        library=tmp_path / "library.yaml", workspace=tmp_path, run=RunSettings(max_workers=2)
    )
    work = Workspace(config, Library.model_construct(shows=()), Store(tmp_path / "store"), ())
    captions = caption_table(tmp_path / "captions", {"a": TEXTS[0], "b": LONG})
    parts = ("vae", "text_encoder", "tokenizer")
    model = training.PreparedBackbone(
        NAME, clips, {p: file_ref(pipeline_folder / p) for p in parts}
    )

    @flow
    def precompute() -> tuple[list[TableRef], list[TableRef]]:
        run = Run(work)
        refs = training.encode_latents(run, [clips], model).videos
        return refs, training.embed_captions(run, [captions], model)

    watch = UnitProcesses()
    watch.start()
    refs, [embedded] = precompute()
    watch.over.set()
    watch.join()
    assert embedded.counts.ok == 2
    assert "embeddings (one): 1 captions are truncated to 512 tokens" in capsys.readouterr().out
    assert watch.most == 2
    assert [ref.unit for ref in refs] == [f"one {n}/4" for n in (1, 2, 3, 4)]
    for stage in ("latents", "embeddings"):
        assert not list((tmp_path / "parts" / stage).iterdir()), "swept when all is committed"

    alone = run_stage(
        Store(tmp_path / "alone"),
        latents_stage.STAGE,
        latent_inputs(clips, pipeline_folder),
        config.latents,
    ).ref
    together = [row for ref in refs for row in tables.read(ref.path, LATENTS)]
    expected = tables.read(alone.path, LATENTS)
    assert [row["sample_id"] for row in together] == [row["sample_id"] for row in expected]
    assert [row["sha256"] for row in together] == [row["sha256"] for row in expected]
    for ref in refs:
        for row in tables.usable(tables.read(ref.path, LATENTS)):
            assert tensor_shards.read_latents(tensor_shards.tensor_ref(ref, row)).shape == (
                16,
                3,
                4,
                8,
            )
