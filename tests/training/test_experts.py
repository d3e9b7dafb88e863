"""A backbone of two experts: a training for each, on its own noise levels, with its own adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mimix_core.engine import progress
from mimix_core.engine.artifacts import digest_file, file_ref
from mimix_core.engine.cache_key import key_parts
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput, Transient
from mimix_core.media.decode import read_rgb
from mimix_core.settings import LoraSettings
from mimix_core.training import checkpoint, data_loader, previews, sample_schedule, stage
from mimix_core.training.worker_messages import PreviewConfig, TrainingStopped
from mimix_core.wan import flow_matching, lora_export, random_backbone
from mimix_core.wan.model_registry import TINY_EXPERTS, Expert
from tests.training import factories
from tests.training.test_stage import killed_at

pytestmark = pytest.mark.slow

SETTINGS = factories.SETTINGS.model_copy(update={"epochs": 2, "checkpoint_interval": 2})
"""With 9 samples 5 steps."""

EXPERTS: dict[str, Expert] = {expert.name: expert for expert in TINY_EXPERTS.experts}
RESULTS = (lora_export.ADAPTER_FILE, "log.jsonl")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experts") / "pipeline"
    random_backbone.build_random_backbone(0, folder, TINY_EXPERTS)
    return folder


@pytest.fixture(scope="module")
def inputs(pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, stage.LoraInputs]:
    """The inputs of each expert's training."""
    shared = factories.stage_inputs(
        tmp_path_factory.mktemp("inputs"), pipeline / "transformer", TINY_EXPERTS.name
    )
    return {
        name: shared.model_copy(
            update={
                "unit": name,
                "transformer": file_ref(pipeline / expert.component),
                "expert": name,
            }
        )
        for name, expert in EXPERTS.items()
    }


def train(
    given: stage.LoraInputs,
    settings: LoraSettings,
    out: Path,
    stop_asked: Callable[[], bool] = lambda: False,
) -> Path:
    job = stage.plan_training(given, settings, out).job
    job = job.model_copy(update={"rendezvous": out.parent / f"{out.name}.rendezvous"})
    factories.train_here(job, stop_asked)
    return out


def test_an_expert_is_trained_and_validated_at_its_own_noise_levels(
    inputs: dict[str, stage.LoraInputs], tmp_path: Path
) -> None:
    for name, expert in EXPERTS.items():
        job = stage.plan_training(inputs[name], SETTINGS, tmp_path).job
        assert job.levels == expert.levels
        sigmas = []
        for step in range(5):
            items = sample_schedule.plan_global_batch(
                job.train, step, epochs=2, batch_size=4, seed=0
            )
            for item in items:
                batch = data_loader.load_micro_batch([item], SETTINGS, job.levels)
                sigmas.append(float(batch.sigma_B))
        # Stratified over the range alone: nothing is drawn outside, and all of it is covered.
        low, high = expert.levels
        assert low <= min(sigmas) < max(sigmas) <= high
        quarter = (high - low) / 4
        assert min(sigmas) < low + quarter
        assert max(sigmas) > high - quarter
    used = flow_matching.validation_sigmas(3, SETTINGS.shift, EXPERTS["high-noise"].levels)
    assert min(used) > 0.875


def test_resumed_trainings_of_both_experts_have_the_same_bytes(
    inputs: dict[str, stage.LoraInputs], tmp_path: Path
) -> None:
    """Each is stopped in its own steps, and resumes from its own checkpoint, not the other's."""
    kept = {
        name: given.model_copy(update={"checkpoints": tmp_path / "checkpoints"})
        for name, given in inputs.items()
    }
    straight = {
        name: train(inputs[name], SETTINGS, tmp_path / f"{name}-straight") for name in EXPERTS
    }
    for number, name in enumerate(EXPERTS):
        asked = iter(range(1000))
        with pytest.raises(TrainingStopped):
            train(
                kept[name],
                SETTINGS,
                tmp_path / f"{name}-stopped",
                lambda asked=asked, last=14 + 5 * number: next(asked) > last,
            )
    folders = {name: stage.run_folder(kept[name], SETTINGS) for name in EXPERTS}
    assert folders["high-noise"] != folders["low-noise"]
    for folder in folders.values():
        assert folder is not None
        found = checkpoint.latest_checkpoint(folder, pytest.fail)
        assert found is not None
        assert 0 < found.step < 5
    # The other way round: the low-noise expert first.
    for name in reversed(EXPERTS):
        out = train(kept[name], SETTINGS, tmp_path / f"{name}-resumed")
        folder = folders[name]
        assert folder is not None
        for file in RESULTS:
            resumed = folder / "journal" / file if file == "log.jsonl" else out / file
            assert digest_file(resumed) == digest_file(straight[name] / file), (name, file)
    made = {name: lora_export.read_adapter(straight[name] / RESULTS[0]) for name in EXPERTS}
    assert {name: metadata.expert for name, (_, metadata) in made.items()} == {
        name: name for name in EXPERTS
    }
    adapters = [adapter for adapter, _ in made.values()]
    assert adapters[0].pairs.keys() == adapters[1].pairs.keys()
    assert not all(
        torch.equal(one[1], adapters[1].pairs[layer][1]) for layer, one in adapters[0].pairs.items()
    )


@pytest.mark.e2e
def test_a_run_killed_in_the_second_expert_keeps_the_first_and_resumes_the_second(
    inputs: dict[str, stage.LoraInputs], tmp_path: Path
) -> None:
    straight = train(inputs["low-noise"], SETTINGS, tmp_path / "straight")
    store = Store(tmp_path / "store")
    kept = {
        name: given.model_copy(update={"checkpoints": tmp_path / "checkpoints"})
        for name, given in inputs.items()
    }
    first = run_stage(store, stage.STAGE, kept["high-noise"], SETTINGS).ref
    with (
        progress.progress_listener(killed_at(3)),
        pytest.raises(Transient, match=r"was killed by SIGKILL"),
    ):
        run_stage(store, stage.STAGE, kept["low-noise"], SETTINGS)
    again = run_stage(store, stage.STAGE, kept["high-noise"], SETTINGS)
    assert (again.computed, again.ref.key) == (False, first.key)
    heard: list[int] = []
    with progress.progress_listener(lambda done, *_: heard.append(done)):
        second = run_stage(store, stage.STAGE, kept["low-noise"], SETTINGS).ref
    # It may have written another checkpoint before it was killed.
    assert 1 < heard[0] <= 5
    assert heard == list(range(heard[0], 6))
    for file in RESULTS:
        assert digest_file(second.folder / file) == digest_file(straight / file), file


def test_experts_have_keys_of_their_own_and_one_transformer_has_the_key_of_before(
    inputs: dict[str, stage.LoraInputs],
) -> None:
    keys = {name: stage.STAGE.key(given, SETTINGS) for name, given in inputs.items()}
    assert len(set(keys.values())) == 2
    # Which experts are trained is not in the key of one that is.
    chosen = SETTINGS.model_copy(update={"experts": ("low-noise",)})
    assert stage.STAGE.key(inputs["low-noise"], chosen) == keys["low-noise"]
    alone = inputs["high-noise"].model_copy(update={"expert": None})
    assert "inputs.expert" not in key_parts(alone, SETTINGS)
    assert stage.STAGE.key(alone, SETTINGS) not in keys.values()


def test_an_adapter_of_the_other_expert_is_not_started_from(
    inputs: dict[str, stage.LoraInputs], tmp_path: Path
) -> None:
    one = SETTINGS.model_copy(update={"epochs": 1, "validation_interval": 100})
    high = train(inputs["high-noise"], one, tmp_path / "high") / RESULTS[0]
    swapped = inputs["low-noise"].model_copy(update={"initial_adapter": file_ref(high)})
    with pytest.raises(BadInput, match="was trained on"):
        stage.plan_training(swapped, one, tmp_path / "low")


@pytest.mark.parametrize("name", list(EXPERTS))
def test_previews_have_the_other_expert_as_it_is(pipeline: Path, tmp_path: Path, name: str) -> None:
    """Before the first step the adapter is silent: the video is that of the bare backbone."""
    from diffusers import WanPipeline

    from mimix_core.training.distributed import DistributedContext
    from mimix_core.wan import lora, videos_stage

    settings = SETTINGS.model_copy(
        update={
            "preview_prompts": ("waves",),
            "preview_width": 32,
            "preview_height": 32,
            "preview_num_frames": 5,
            "preview_num_inference_steps": 3,
        }
    )
    prompts = tmp_path / "prompts.safetensors"
    previews.embed_preview_prompts(
        prompts,
        settings.preview_prompts,
        "bad",
        TINY_EXPERTS.name,
        pipeline / "tokenizer",
        pipeline / "text_encoder",
    )
    [other] = [expert for expert in EXPERTS.values() if expert.name != name]
    config = PreviewConfig(
        backbone=TINY_EXPERTS.name,
        prompts=prompts,
        vae=pipeline / "vae",
        scheduler=pipeline / "scheduler",
        shift=5.0,
        expert=EXPERTS[name].name,
        other_expert=pipeline / other.component,
    )
    trained = lora.load_transformer(pipeline / EXPERTS[name].component, torch.float32)
    lora.attach_adapter(trained, 4, 4, ["to_q"], 0)
    built = previews.build_preview_pipeline(trained, config, torch.device("cpu"))
    assert getattr(built, EXPERTS[name].component) is trained
    trained.train()
    here = DistributedContext(0, 1, torch.device("cpu"), torch.float32, None)
    previews.write_previews(
        built, config, settings, tmp_path, 0, context=here, stop_requested=lambda: False
    )
    assert trained.training
    assert not getattr(built, other.component).training
    bare = WanPipeline.from_pretrained(pipeline)
    bare.scheduler = built.scheduler
    calls = {"transformer": 0, "transformer_2": 0}
    for component in calls:

        def count(*_: object, component: str = component) -> None:
            calls[component] += 1

        getattr(bare, component).register_forward_pre_hook(count)
    frames_THWC = videos_stage.generate_video(
        bare,
        previews.preview_seed(settings, 0),
        prompt="waves",
        negative_prompt="bad",
        width=32,
        height=32,
        num_frames=5,
        num_inference_steps=3,
        guidance_scale=settings.preview_guidance_scale,
    )
    assert min(calls.values()) >= 2
    videos_stage.write_video(tmp_path / "bare.mp4", frames_THWC)
    made = read_rgb(tmp_path / previews.preview_path(0, 0)).astype(int)
    assert abs(made - read_rgb(tmp_path / "bare.mp4")).mean() < 0.3
