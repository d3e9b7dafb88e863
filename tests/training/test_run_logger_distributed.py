"""Logging in real training processes: work is distributed, and rank 0 writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.media.decode import read_rgb
from mimix_core.training import previews, stage, validation
from mimix_core.training.distributed import DistributedContext
from mimix_core.training.worker_messages import PreviewConfig, TrainingJob
from mimix_core.wan import lora
from tests.training.factories import NAME, SETTINGS, WIDE, stage_inputs, write_samples
from tests.training.test_run_logger import HERE, PREVIEWED, PROMPTS, job, records

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

PROGRAM = """
import sys
from pathlib import Path
import torch
from mimix_core.training.worker_messages import TrainingJob
from tests.training.test_run_logger_distributed import watch
torch.distributed.init_process_group(
    "gloo", init_method="file://" + sys.argv[2], rank=int(sys.argv[3]), world_size=2
)
print(watch(TrainingJob.model_validate_json(Path(sys.argv[1]).read_text()), int(sys.argv[3])))
torch.distributed.destroy_process_group()
"""


def watch(asked: TrainingJob, rank: int) -> list[float | None]:
    """Look at a run that begins, and at the same again; gives what this process was told."""
    from mimix_core.training.run_logger import RunLogger

    context = DistributedContext(
        rank, 2, torch.device("cpu"), torch.float32, torch.distributed.group.WORLD
    )
    transformer = lora.load_transformer(asked.transformer, torch.float32)
    lora.attach_adapter(transformer, SETTINGS.rank, SETTINGS.alpha, SETTINGS.target_modules, 0)
    told = []
    for _ in range(2):
        begun = RunLogger.start(asked, context, transformer, 4)
        told.append(begun.validate(0))
        begun.write_preview(0)
    begun.finish()
    return told


def test_the_stage_writes_previews_next_to_its_adapter(
    tmp_path: Path, transformer_folder: Path
) -> None:
    base = transformer_folder.parent
    parts = stage.PreviewComponents(
        **{
            name: file_ref(base / name)
            for name in ("vae", "text_encoder", "tokenizer", "scheduler")
        },
        negative_prompt="",
        shift=5.0,
    )
    inputs = stage_inputs(tmp_path / "inputs", transformer_folder).model_copy(
        update={"preview": parts, "checkpoints": tmp_path / "checkpoints"}
    )
    # 9 samples, 4 a step: three steps, looked at before, after 2 and at the end.
    settings = PREVIEWED.model_copy(update={"epochs": 1})
    done = run_stage(Store(tmp_path / "store"), stage.STAGE, inputs, settings).ref
    shown = [(r["step"], r["prompt"]) for r in records(done.folder) if "preview" in r]
    assert shown == [(step, prompt) for step in (0, 2, 3) for prompt in PROMPTS]
    videos = {
        step: read_rgb(done.folder / previews.preview_path(step, 0)).astype(int)
        for step in (0, 2, 3)
    }
    assert videos[0].shape == (5, 32, 32, 3)
    assert abs(videos[3] - videos[0]).max() > 3  # it has learned something
    [journal] = (tmp_path / "checkpoints").glob("*/journal")
    assert {path.name for path in journal.iterdir()} == {"log.jsonl", "speed.jsonl", "previews"}


def test_two_processes_log_the_same_as_one(tmp_path: Path, transformer_folder: Path) -> None:
    base = transformer_folder.parent
    prompts = tmp_path / "prompts.safetensors"
    # Three of each: a process that has none left still takes its turn.
    held_out = write_samples(tmp_path / "samples", [WIDE] * 3)
    asked = job(
        tmp_path,
        [],
        val=held_out,
        settings=PREVIEWED.model_copy(
            update={"preview_prompts": (*PREVIEWED.preview_prompts, "third")}
        ),
        preview=PreviewConfig(
            backbone=NAME,
            prompts=prompts,
            vae=base / "vae",
            scheduler=base / "scheduler",
            shift=5.0,
        ),
    ).model_copy(update={"transformer": transformer_folder})
    previews.embed_preview_prompts(
        prompts,
        asked.settings.preview_prompts,
        "",
        NAME,
        base / "tokenizer",
        base / "text_encoder",
    )
    asked.out.mkdir()
    (tmp_path / "job.json").write_text(asked.model_dump_json())
    command = [sys.executable, "-c", PROGRAM, tmp_path / "job.json", tmp_path / "meet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([*command, str(rank)], env=environment, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    said = [json.loads(process.communicate(timeout=300)[0].splitlines()[-1]) for process in running]
    assert [process.returncode for process in running] == [0, 0]

    transformer = lora.load_transformer(transformer_folder, torch.float32)
    lora.attach_adapter(transformer, SETTINGS.rank, SETTINGS.alpha, SETTINGS.target_modules, 0)
    alone = validation.validation_losses(transformer, held_out, SETTINGS, HERE).mean().item()
    assert said == [[pytest.approx(alone)] * 2] * 2
    [mean] = [r for r in records(asked.out) if "held_out_loss" in r]
    assert mean["held_out_loss"] == pytest.approx(alone)
    made = sorted(p.name for p in (asked.out / "previews" / "step-000000").iterdir())
    assert made == ["0.mp4", "1.mp4", "2.mp4"]
