"""Training logs: correct, and independent of interruptions."""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mimix_core.errors import BadInput, StageFailed
from mimix_core.media.decode import read_rgb
from mimix_core.settings import LoraSettings
from mimix_core.training import previews, stage, trackers, validation
from mimix_core.training.distributed import DistributedContext
from mimix_core.training.run_logger import LOG_FILE, SPEED_FILE, RunLogger
from mimix_core.training.worker_messages import (
    PreviewConfig,
    TrainingJob,
    TrainingSample,
    TrainingStopped,
)
from mimix_core.wan import flow_matching, lora, videos_stage
from mimix_core.wan.tensor_shards import TensorRef
from tests.training.factories import CARD, NAME, SETTINGS, WIDE, stage_inputs, write_samples

pytestmark = pytest.mark.slow

HERE = DistributedContext(0, 1, torch.device("cpu"), torch.float32)
NEGATIVE = "blurred, grey"
PROMPTS = ("[Character: Bunny], smiles. [scene-style:cartoon]", "Bunny sleeps")
PREVIEWED = LoraSettings(
    **SETTINGS.model_dump(exclude={"preview_interval", "preview_prompts"})
    | {
        "preview_interval": 2,
        "preview_prompts": PROMPTS,
        "preview_width": 32,
        "preview_height": 32,
        "preview_num_frames": 5,
        "preview_num_inference_steps": 2,
        "trackers": (),
    }
)


@dataclass(frozen=True)
class Step:
    train_loss: float
    grad_norm: float
    learning_rate: float
    losses: tuple[tuple[str, float, float], ...]
    region_share: float | None = None


def step_of(number: int, samples: tuple[TrainingSample, ...]) -> Step:
    """The same numbers for the same step: as a training that resumes exactly gives them."""
    numbers = random.Random(number)
    losses = tuple((s.sample_id, numbers.random(), numbers.random()) for s in samples)
    return Step(math.fsum(loss for *_, loss in losses), numbers.random(), 1e-4, losses)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingSample, ...]:
    return write_samples(tmp_path_factory.mktemp("samples"), [WIDE] * 5)


@pytest.fixture(scope="module")
def transformer(transformer_folder: Path):
    found = lora.load_transformer(transformer_folder, torch.float32)
    lora.attach_adapter(found, SETTINGS.rank, SETTINGS.alpha, SETTINGS.target_modules, 0)
    return found


def nowhere(name: str, **more) -> TrainingSample:
    ref = TensorRef(file=Path(), key="", shape=WIDE)
    return TrainingSample(
        **{"sample_id": name, "show": "s", "style": "cartoon", "characters": ()} | more,
        latents=ref,
        text=ref,
    )


def job(
    folder: Path, train, *, val=(), settings: LoraSettings = SETTINGS, preview=None
) -> TrainingJob:
    return TrainingJob(
        settings=settings,
        transformer=Path(),
        train=tuple(train),
        val=tuple(val),
        out=folder / "out",
        log_folder=folder / "journal",
        preview=preview,
        adapter_metadata=CARD,
    )


def run(asked: TrainingJob, transformer, first: int, last: int) -> RunLogger:
    """Steps ``first + 1`` to ``last`` of 6, as the loop runs them."""
    watch = RunLogger.start(asked, HERE, transformer, 6, first)
    if first == 0:
        watch.validate(0)
        watch.write_preview(0)
    for done in range(first + 1, last + 1):
        watch.log_step(done, step_of(done, asked.train), 0.5)
        if done % 2 == 0:
            watch.validate(done)
            watch.write_preview(done)
    return watch


def finished(watch: RunLogger) -> dict[str, str | int | float]:
    watch.job.out.mkdir(parents=True)
    return watch.finish()


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]


class Bare:
    """A transformer of which only the config is asked."""

    config: ClassVar = {"patch_size": (1, 2, 2)}


kills = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 9)), max_size=3)


@settings(max_examples=15, deadline=None)
@given(kills=kills)
def test_the_log_does_not_depend_on_interruptions(tmp_path_factory, kills) -> None:
    train = [nowhere("a"), nowhere("b", style="realistic", characters=("Tom", "Jerry"))]
    straight = job(tmp_path_factory.mktemp("straight"), train)
    finished(run(straight, Bare, 0, 6))
    ended = job(tmp_path_factory.mktemp("ended"), train)
    first = 0
    for last, checkpoint, torn in kills:
        run(ended, Bare, first, max(first, last))
        with (ended.log_folder / LOG_FILE).open("a") as log:
            log.write('{"step": 1, "train_loss": 0.'[: 3 * torn])
        first = max(first, min(checkpoint, last))
    finished(run(ended, Bare, first, 6))
    assert (ended.out / LOG_FILE).read_bytes() == (straight.out / LOG_FILE).read_bytes()
    speed = [json.loads(line) for line in (ended.log_folder / SPEED_FILE).read_text().splitlines()]
    assert [one["step"] for one in speed] == list(range(1, 7))
    assert not (ended.out / SPEED_FILE).exists()


def test_each_step_has_its_losses_by_style_and_character(tmp_path: Path) -> None:
    train = [
        nowhere("a", style="cartoon", characters=("Tom", "Jerry")),
        nowhere("b", style="cartoon", characters=("Tom", "Tom")),
        nowhere("c", style="realistic"),
    ]
    watch = RunLogger.start(job(tmp_path, train), HERE, Bare, 10)
    losses = (("a", 0.1, 1.0), ("b", 0.5, 2.0), ("c", 0.9, 6.0))
    note = watch.log_step(1, Step(3.0, 0.5, 1e-4, losses), 60.0)
    assert note == "loss 3.0000, 60.0 s per step, 9 min left"
    [record] = records(tmp_path / "journal")
    assert record == {
        "step": 1,
        "train_loss": 3.0,
        "grad_norm": 0.5,
        "lr": 1e-4,
        "style": {
            "cartoon": {"loss": 1.5, "samples": 2},
            "realistic": {"loss": 6.0, "samples": 1},
        },
        "character": {"Jerry": {"loss": 1.0, "samples": 1}, "Tom": {"loss": 1.5, "samples": 2}},
    }
    [speed] = [json.loads(line) for line in (tmp_path / "journal" / SPEED_FILE).open()]
    # 3 samples of 3 x 2 x 3 tokens in a minute; a CPU has no known peak to be a share of.
    assert speed["tokens_per_second"] == pytest.approx(54 / 60, abs=0.05)
    assert set(speed) == {"step", "seconds", "tokens_per_second", "memory_gb"}


def test_the_time_left_follows_the_recent_steps(tmp_path: Path) -> None:
    watch = RunLogger.start(job(tmp_path, [nowhere("a")]), HERE, Bare, 100)
    result = Step(1.0, 1.0, 1e-4, (("a", 0.5, 1.0),))
    assert watch.log_step(1, result, 600.0).endswith("600.0 s per step, 16 h 30 min left")
    for done in range(2, 40):
        note = watch.log_step(done, result, 60.0)
    assert note.endswith("60.0 s per step, 1 h 01 min left")


def test_an_incomplete_log_is_an_error(tmp_path: Path) -> None:
    asked = job(tmp_path, [nowhere("a")])
    run(asked, Bare, 0, 3)
    (tmp_path / "journal" / LOG_FILE).write_text("")
    with pytest.raises(StageFailed, match=r"log of the first 3 steps is incomplete.*Remove"):
        RunLogger.start(asked, HERE, Bare, 6, 3)


@pytest.mark.parametrize("line", ["{", "[]", '{"loss": 1}'])
def test_a_malformed_log_is_an_error(tmp_path: Path, line: str) -> None:
    asked = job(tmp_path, [nowhere("a")])
    run(asked, Bare, 0, 3)
    log = tmp_path / "journal" / LOG_FILE
    log.write_text(line + "\n" + log.read_text())
    with pytest.raises(StageFailed, match=f"{LOG_FILE}: a line is not a training record"):
        RunLogger.start(asked, HERE, Bare, 6, 3)


def test_held_out_losses_match_the_objective_and_are_computed_once(
    tmp_path: Path,
    samples: tuple[TrainingSample, ...],
    transformer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = job(tmp_path, samples[:2], val=samples[2:])
    watch = run(asked, transformer, 0, 2)
    assert transformer.training
    curve = {r["step"]: r for r in records(asked.log_folder) if "held_out_loss" in r}
    levels = [r for r in records(asked.log_folder) if "val_loss" in r and r["step"] == 2]
    assert [r["quantile"] for r in levels] == list(range(SETTINGS.validation_quantiles))
    mean = sum(r["val_loss"] for r in levels) / len(levels)
    assert curve[2]["held_out_loss"] == pytest.approx(mean) == watch.validate(2)
    groups = curve[2]["style"].values()
    assert sum(g["samples"] for g in groups) == 3
    assert sum(g["loss"] * g["samples"] for g in groups) / 3 == pytest.approx(mean)

    with torch.no_grad():
        sample, sigma = samples[3], flow_matching.validation_sigmas(3, SETTINGS.shift)[1]
        latents_CTHW, text_LD = validation.load_sample(sample)
        noise = flow_matching.draw_validation_noise(
            SETTINGS.seed, sample.sample_id, latents_CTHW.shape
        )
        alone = flow_matching.velocity_losses(
            transformer,
            latents_CTHW[None],
            flow_matching.pad_embeddings([text_LD]),
            torch.tensor([sigma]),
            noise[None],
            torch.float32,
        )
    loss_SQ = validation.validation_losses(transformer, samples[2:], SETTINGS, HERE)
    assert loss_SQ[1, 1].item() == alone.item()

    monkeypatch.setattr(validation, "validation_losses", lambda *_: pytest.fail("looked again"))
    again = RunLogger.start(asked, HERE, transformer, 6, 2)
    assert again.validate(2) == curve[2]["held_out_loss"]
    notes = finished(again)
    assert notes["held_out_loss_last"] == round(mean, 6)


def test_a_non_finite_held_out_loss_ends_the_run(
    tmp_path: Path, samples: tuple[TrainingSample, ...], transformer_folder: Path
) -> None:
    broken = lora.load_transformer(transformer_folder, torch.float32)
    with torch.no_grad():
        broken.proj_out.bias.fill_(float("nan"))
    watch = RunLogger.start(job(tmp_path, [], val=samples[:1]), HERE, broken, 6)
    with pytest.raises(StageFailed, match="non-finite held-out loss \(NaN or Inf\) after 0 steps"):
        watch.validate(0)


@pytest.fixture(scope="module")
def preview(transformer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> PreviewConfig:
    base = transformer_folder.parent
    path = tmp_path_factory.mktemp("prompts") / "prompts.safetensors"
    told = previews.embed_preview_prompts(
        path, PROMPTS, NEGATIVE, NAME, base / "tokenizer", base / "text_encoder"
    )
    assert told == ""
    return PreviewConfig(
        backbone=NAME, prompts=path, vae=base / "vae", scheduler=base / "scheduler", shift=3.0
    )


def test_a_preview_matches_the_pipelines_video(
    tmp_path: Path, transformer, preview: PreviewConfig, transformer_folder: Path
) -> None:
    from diffusers import UniPCMultistepScheduler, WanPipeline

    state = torch.get_rng_state()
    watch = RunLogger.start(
        job(tmp_path, [], settings=PREVIEWED, preview=preview), HERE, transformer, 6
    )
    watch.write_preview(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert transformer.training
    # The adapter is new, so it is silent: the bare backbone gives the same videos.
    pipeline = WanPipeline.from_pretrained(transformer_folder.parent)
    # Shift and negative prompt are those of the samples, not those of the scheduler's file.
    pipeline.scheduler = UniPCMultistepScheduler.from_config(
        pipeline.scheduler.config, flow_shift=3.0
    )
    own_shift = WanPipeline.from_pretrained(transformer_folder.parent)

    def distance(made: Path, number: int, pipeline: WanPipeline, negative: str) -> float:
        expected = tmp_path / "expected.mp4"
        frames_THWC = videos_stage.generate_video(
            pipeline,
            previews.preview_seed(PREVIEWED, number),
            prompt=PROMPTS[number],
            negative_prompt=negative,
            width=32,
            height=32,
            num_frames=5,
            num_inference_steps=2,
            guidance_scale=5.0,
        )
        videos_stage.write_video(expected, frames_THWC)
        return float(np.abs(read_rgb(made).astype(int) - read_rgb(expected)).mean())

    for number in range(len(PROMPTS)):
        made = tmp_path / "journal" / previews.preview_path(0, number)
        # A value or two of thousands falls on the other side of a half, and the codec follows: the
        # text was padded.
        apart = distance(made, number, pipeline, NEGATIVE)
        assert apart < 0.3
        assert distance(made, number, own_shift, NEGATIVE) > 3 * apart + 0.3
        assert distance(made, number, pipeline, "") > 3 * apart + 0.3
    noted = [r for r in records(tmp_path / "journal") if "preview" in r]
    assert [r["prompt"] for r in noted] == list(PROMPTS)
    assert noted[1]["preview"] == "previews/step-000000/1.mp4"


def test_previews_of_a_resumed_run_equal_those_of_an_uninterrupted_one(
    tmp_path: Path, transformer, preview: PreviewConfig
) -> None:
    straight, ended = (
        job(tmp_path / name, [nowhere("a")], settings=PREVIEWED, preview=preview)
        for name in ("straight", "ended")
    )
    finished(run(straight, transformer, 0, 4))
    run(ended, transformer, 0, 4)
    watch = RunLogger.start(ended, HERE, transformer, 6, 2)
    left = {p.parent.name for p in (tmp_path / "ended" / "journal").rglob("*.mp4")}
    assert left == {"step-000000", "step-000002"}
    watch.write_preview(2)  # is there already
    watch.loss_log.close()
    finished(run(ended, transformer, 2, 4))
    files = [p.relative_to(straight.out) for p in sorted(straight.out.rglob("*")) if p.is_file()]
    assert len(files) == 1 + 3 * 2
    for file in files:
        assert (ended.out / file).read_bytes() == (straight.out / file).read_bytes()


def test_preview_prompts_that_are_too_long_are_named(
    transformer_folder: Path, tmp_path: Path
) -> None:
    base = transformer_folder.parent
    long = "smiles " * 600
    told = previews.embed_preview_prompts(
        tmp_path / "p", ["Short.", long], "", NAME, base / "tokenizer", base / "text_encoder"
    )
    assert re.fullmatch(r"lora\.preview_prompts\[1\] \(\d+ tokens\)", told)
    assert int(re.findall(r"(\d+) tokens", told)[0]) > 600


def test_a_request_to_stop_ends_a_validation_and_previews_within_one_pass(
    tmp_path: Path,
    transformer,
    preview: PreviewConfig,
    samples: tuple[TrainingSample, ...],
) -> None:
    passes: list[str] = []
    hook = transformer.register_forward_hook(lambda *_: passes.append("pass"))
    watch = RunLogger.start(
        job(tmp_path, [], val=samples, settings=PREVIEWED, preview=preview), HERE, transformer, 6
    )
    try:
        with pytest.raises(TrainingStopped, match="in a validation, 2 levels done"):
            watch.validate(0, lambda: len(passes) >= 2)
        assert len(passes) == 2
        with pytest.raises(TrainingStopped, match="in the previews, 1 denoising steps"):
            watch.write_preview(0, lambda: True)
        # A denoising step with guidance is two passes.
        assert len(passes) == 4
    finally:
        hook.remove()
    assert transformer.training
    assert records(tmp_path / "journal") == []


def test_previews_without_prompts_or_of_unsupported_length_are_rejected() -> None:
    with pytest.raises(ValueError, match="preview_prompts is empty"):
        LoraSettings(preview_interval=5)
    with pytest.raises(ValueError, match="4k"):
        LoraSettings(preview_num_frames=16)


def test_previews_without_their_components_are_rejected_before_training(
    tmp_path: Path, transformer_folder: Path
) -> None:
    inputs = stage_inputs(tmp_path, transformer_folder)
    with pytest.raises(BadInput, match="previews are enabled, but the components"):
        stage.run(inputs, PREVIEWED, tmp_path)


def test_a_tracker_that_cannot_run_is_rejected_before_training(
    tmp_path: Path, transformer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    shown = SETTINGS.model_copy(update={"trackers": ("wandb",)})
    with pytest.raises(BadInput, match="wandb is not installed"):
        stage.run(stage_inputs(tmp_path, transformer_folder), shown, tmp_path)
