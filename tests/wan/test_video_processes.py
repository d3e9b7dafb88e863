"""Several processes that generate a video together give the video of one process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from mimix_core import tables
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.media.decode import read_rgb
from mimix_core.settings import SampleSettings
from mimix_core.tables import SAMPLES
from mimix_core.wan import model_registry, videos_stage
from mimix_core.wan.generation.video_split import VideoSplit, plan_split
from tests.training.mochi_backbone import ENTRY as MOCHI
from tests.wan.test_videos_stage import RUN
from tests.wan.video_inputs import PROMPTS, SETTINGS, adapter, inputs

LARGE = model_registry.get_backbone("wan2.1-t2v-14b")


@pytest.mark.parametrize(
    ("changes", "split"),
    [
        ({}, VideoSplit(1, 1)),
        ({"gpus_per_video": 2}, VideoSplit(2, 1)),
        ({"gpus_per_video": 2, "guidance_scale": 1.0}, VideoSplit(1, 2)),
        ({"gpus_per_video": 2, "batched_guidance": True}, VideoSplit(1, 2)),
        ({"gpus_per_video": 5}, VideoSplit(1, 5)),
        ({"gpus_per_video": 8}, VideoSplit(2, 4)),
    ],
)
def test_the_passes_of_guidance_are_shared_before_the_tokens(
    changes: dict[str, Any], split: VideoSplit
) -> None:
    assert plan_split(SampleSettings(**changes), LARGE) == split


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gpus_per_video": 3}, "40 attention heads cannot be split into 3"),
        (
            {"gpus_per_video": 5, "width": 48, "height": 16, "num_frames": 1},
            "3 tokens of a video cannot be split into 5",
        ),
    ],
)
def test_what_cannot_be_split_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=rf"samples\.gpus_per_video: {said}"):
        plan_split(SampleSettings(**changes), LARGE)


def test_another_architecture_shares_guidance_alone() -> None:
    assert plan_split(SampleSettings(gpus_per_video=2), MOCHI) == VideoSplit(2, 1)
    with pytest.raises(BadInput, match="small-random-mochi cannot be split by tokens"):
        plan_split(SampleSettings(gpus_per_video=4), MOCHI)


def videos(ref: TableRef) -> dict[str, Path]:
    rows = tables.read(ref.path, SAMPLES)
    assert {row["status"] for row in rows} == {"ok"}
    return {row["prompt_id"]: ref.folder / row["file"] for row in rows}


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("processes", "changes", "max_difference"),
    [
        # Each process computes a whole pass: the same bytes.
        (2, {}, 0),
        (2, {"step_cache": 1.2, "num_inference_steps": 6}, 0),
        # Sums of fewer rows may be rounded in another order, in fp32: at most one level of 255.
        (2, {"guidance_scale": 1.0}, 1),
        (4, {}, 1),
    ],
)
def test_the_video_is_that_of_one_process(
    pipeline_folder: Path,
    tmp_path: Path,
    processes: int,
    changes: dict[str, Any],
    max_difference: int,
) -> None:
    given = inputs(pipeline_folder, tmp_path, adapter(pipeline_folder), prompts=PROMPTS[:1])
    settings = SETTINGS.model_copy(update={"threads": 1, "device": "cpu", **changes})
    alone = videos(run_stage(Store(tmp_path / "a"), videos_stage.STAGE, given, settings).ref)
    several = settings.model_copy(update={"gpus_per_video": processes})
    store = Store(tmp_path / "b")
    ref = run_stage(store, videos_stage.STAGE, given, several).ref
    wanted, found = (read_rgb(paths["one"]).astype(np.int16) for paths in (alone, videos(ref)))
    assert wanted.std() > 20
    assert np.abs(found - wanted).max() <= max_difference
    stats = store.record(ref).runtime_stats
    assert int(stats["guidance_branches"]) * int(stats["token_shards"]) == processes


@pytest.mark.e2e
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_generate_the_video_of_one(pipeline_folder: Path, tmp_path: Path) -> None:
    given = inputs(pipeline_folder, tmp_path, adapter(pipeline_folder), prompts=PROMPTS[:1])
    changes = {"device": "cuda", "precision": "bf16", "compile": "off", "adapter_mode": "merged"}
    settings = SETTINGS.model_copy(update=changes)
    alone = run_stage(Store(tmp_path / "a"), videos_stage.STAGE, given, settings).ref
    together = settings.model_copy(update={"gpus_per_video": 2})
    ref = run_stage(Store(tmp_path / "b"), videos_stage.STAGE, given, together).ref
    wanted, found = (read_rgb(videos(one)["one"]) for one in (alone, ref))
    assert np.array_equal(found, wanted)


@pytest.mark.e2e
def test_an_error_of_a_process_is_that_of_the_unit(pipeline_folder: Path, tmp_path: Path) -> None:
    given = inputs(pipeline_folder, tmp_path, adapter(pipeline_folder))
    changes = {"gpus_per_video": 2, "attention": "cudnn", "device": "cpu"}
    settings = SETTINGS.model_copy(update=changes)
    with pytest.raises(BadInput, match=r"samples\.attention.* needs a CUDA GPU"):
        run_stage(Store(tmp_path / "store"), videos_stage.STAGE, given, settings)


@pytest.mark.e2e
@pytest.mark.parametrize("victim", ["process", "unit"])
def test_a_kill_ends_all_processes(pipeline_folder: Path, tmp_path: Path, victim: str) -> None:
    given = inputs(pipeline_folder, tmp_path, adapter(pipeline_folder))
    changes = {"gpus_per_video": 2, "num_inference_steps": 10_000, "device": "cpu"}
    settings = SETTINGS.model_copy(update=changes)
    (tmp_path / "inputs.json").write_text(given.model_dump_json())
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    arguments = [str(tmp_path / name) for name in ("inputs.json", "settings.json", "store")]
    unit = subprocess.Popen([sys.executable, "-c", RUN, *arguments], stderr=subprocess.PIPE)
    processes = wait_for_connection(unit)
    if victim == "unit":
        unit.kill()
    else:
        processes[-1].kill()
    _, errors = unit.communicate()
    if victim == "process":
        assert b"Transient: generating together failed: process 1 terminated" in errors
    assert not psutil.wait_procs(processes, timeout=30)[1]


def wait_for_connection(unit: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Wait until both processes are connected; they are in the order of their ranks."""
    while True:
        assert unit.poll() is None
        found = [
            process
            for process in psutil.Process(unit.pid).children()
            if "spawn_main" in " ".join(process.cmdline())
        ]
        if len(found) == 2 and all(process.net_connections() for process in found):
            return sorted(found, key=lambda process: process.create_time())
        time.sleep(0.1)
