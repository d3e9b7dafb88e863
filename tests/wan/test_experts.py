"""Generation with two experts: each at its noise levels, with its adapter and its guidance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mimix_core import tables
from mimix_core.engine.artifacts import digest_file, file_ref
from mimix_core.engine.cache_key import key_parts
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.settings import AdapterSettings, SampleSettings
from mimix_core.tables import LORA, SAMPLES
from mimix_core.wan import lora, lora_export, model_registry, random_backbone, videos_stage
from mimix_core.wan.generation import provenance, video_generator
from mimix_core.wan.generation.component_folders import ComponentFolders
from mimix_core.wan.generation.device_plan import DevicePlan, MemoryEstimate, plan_device
from mimix_core.wan.generation.expert_swap import ExpertSwap
from mimix_core.wan.lora_formats import Adapter
from tests.factories import table_ref
from tests.wan.test_lora import trained
from tests.wan.test_lora_export import card
from tests.wan.test_sample_adapters import peer_adapter
from tests.wan.video_inputs import PROMPTS, SETTINGS

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
BACKBONE = model_registry.TINY_EXPERTS
COMPONENTS = {"high-noise": "transformer", "low-noise": "transformer_2"}
CHOSEN = SETTINGS.model_copy(
    update={"num_inference_steps": 4, "guidance_scale": 4.0, "guidance_scale_low_noise": 3.0}
)
PROMPT = PROMPTS[0].render()


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experts") / "pipeline"
    random_backbone.build_random_backbone(0, folder, BACKBONE)
    return folder


@pytest.fixture(scope="module")
def files(pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The adapter file of each expert, in a folder as the lora stage leaves it."""
    made = {}
    for number, (name, component) in enumerate(COMPONENTS.items()):
        transformer = lora.load_transformer(pipeline / component, torch.float32)
        lora.attach_adapter(transformer, 4, 4, ["to_q", "to_v"], number)
        trained(transformer)
        metadata = card(
            base=BACKBONE.name, base_sha256=file_ref(pipeline / component).sha256, expert=name
        )
        path = tmp_path_factory.mktemp(name) / "lora" / lora_export.ADAPTER_FILE
        path.parent.mkdir()
        adapter = lora_export.build_adapter(dict(lora.adapter_parameters(transformer)), 4.0)
        metadata = metadata.model_copy(update={"rank": adapter.rank, "alpha": 4.0})
        lora_export.write_adapter(path, adapter, metadata)
        made[name] = path
    return made


def load(
    pipeline: Path, adapters: dict[str, Path], settings: SampleSettings = CHOSEN
) -> video_generator.VideoGenerator:
    torch.set_num_threads(1)
    names = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler", "transformer_2")
    read: dict[str, Adapter] = {
        name: lora_export.read_adapter(path)[0] for name, path in adapters.items()
    }
    return video_generator.load_generator(
        ComponentFolders(backbone=BACKBONE, **{name: pipeline / name for name in names}),
        read.get("high-noise"),
        "adapters",
        [PROMPT],
        settings,
        CPU,
        read.get("low-noise"),
    )


def count_calls(pipeline: Any) -> dict[str, list[float]]:
    """Record the timesteps at which each transformer of a pipeline is called."""
    calls: dict[str, list[float]] = {component: [] for component in COMPONENTS.values()}
    for component, heard in calls.items():

        def hear(
            _module: object, _args: object, given: dict[str, Any], heard: list[float] = heard
        ) -> None:
            heard.append(float(given["timestep"].flatten()[0]))

        getattr(pipeline, component).register_forward_pre_hook(hear, with_kwargs=True)
    return calls


def test_each_expert_generates_at_its_levels_with_its_adapter_and_guidance(
    pipeline: Path, files: dict[str, Path]
) -> None:
    """As diffusers does with both adapters loaded by its own loader."""
    from diffusers import UniPCMultistepScheduler, WanPipeline

    generator = load(pipeline, files)
    calls = count_calls(generator.pipeline)
    video = generator.generate(PROMPT, 5).astype(np.int16)
    high, low = calls["transformer"], calls["transformer_2"]
    assert len(high) + len(low) == 2 * CHOSEN.num_inference_steps
    assert min(high) >= 875 > max(low)
    assert len(low) >= 2
    theirs = WanPipeline.from_pretrained(pipeline)
    theirs.set_progress_bar_config(disable=True)
    theirs.scheduler = UniPCMultistepScheduler.from_config(
        theirs.scheduler.config, flow_shift=CHOSEN.shift
    )
    theirs.load_lora_weights(files["high-noise"].parent, adapter_name="high")
    theirs.load_lora_weights(
        files["low-noise"].parent, adapter_name="low", load_into_transformer_2=True
    )
    expected = theirs(
        prompt=PROMPT,
        negative_prompt=CHOSEN.negative_prompt,
        width=32,
        height=32,
        num_frames=5,
        num_inference_steps=4,
        guidance_scale=4.0,
        guidance_scale_2=3.0,
        generator=torch.Generator().manual_seed(5),
    ).frames[0]
    assert abs(video - (255 * expected).round()).max() <= 1
    without = load(pipeline, {"high-noise": files["high-noise"]})
    assert without.runtime_stats["adapter_low_noise"] == "none"
    assert abs(without.generate(PROMPT, 5).astype(np.int16) - video).max() > 1
    equal = load(pipeline, files, CHOSEN.model_copy(update={"guidance_scale_low_noise": None}))
    assert abs(equal.generate(PROMPT, 5).astype(np.int16) - video).max() > 1


def test_batched_guidance_has_a_pass_per_step_of_either_expert(
    pipeline: Path, files: dict[str, Path]
) -> None:
    video = load(pipeline, files).generate(PROMPT, 5).astype(np.int16)
    batched = load(pipeline, files, CHOSEN.model_copy(update={"batched_guidance": True}))
    calls = count_calls(batched.pipeline)
    assert abs(batched.generate(PROMPT, 5).astype(np.int16) - video).max() <= 1
    assert [len(heard) for heard in calls.values()] == [2, 2]


def test_experts_that_take_turns_generate_the_same_video(
    pipeline: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    video = load(pipeline, files).generate(PROMPT, 5)
    monkeypatch.setattr(
        video_generator, "plan_components", lambda *_: DevicePlan(False, False, False, swapped=True)
    )
    turns = load(pipeline, files)
    assert turns.runtime_stats["swapped"] == 1
    for _ in range(2):
        assert np.array_equal(turns.generate(PROMPT, 5), video)


def test_only_the_expert_that_is_called_has_a_copy_on_the_device() -> None:
    experts = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]
    answers = [expert(torch.ones(1, 2)) for expert in experts]
    stored = [expert.weight.data_ptr() for expert in experts]
    swap = ExpertSwap(experts, CPU)
    for active in (0, 0, 1, 0):
        assert torch.equal(experts[active](torch.ones(1, 2)), answers[active])
        assert swap.active is experts[active]
        assert experts[active].weight.data_ptr() != stored[active]
        assert experts[1 - active].weight.data_ptr() == stored[1 - active]


def test_two_experts_of_14b_stay_on_80_gb_take_turns_on_48_and_are_streamed_on_24() -> None:
    gb = 10**9
    one = MemoryEstimate(
        text_encoder=11 * gb,
        transformer=int(28.6 * gb),
        vae=gb // 2,
        denoising=int(4.5 * gb),
        decoding=int(7.8 * gb),
        decoding_tiled=gb,
    )
    two = replace(one, transformers=2)
    assert plan_device(two, 79 * gb, "auto", "auto") == DevicePlan(True, False, False)
    assert plan_device(two, 47 * gb, "auto", "auto") == DevicePlan(True, False, False, swapped=True)
    assert plan_device(two, 23 * gb, "auto", "auto") == DevicePlan(True, True, False)
    assert plan_device(two, 47 * gb, "on", "auto").streamed
    assert not plan_device(one, 47 * gb, "auto", "auto").swapped


def video_inputs(
    pipeline: Path, files: dict[str, Path], folder: Path, **more: Any
) -> videos_stage.VideoInputs:
    refs = {}
    for name, path in files.items():
        ref = table_ref(folder / name, LORA, [])
        refs[name] = ref.model_copy(update={"path": path.parent / ref.path.name, "unit": name})
        (path.parent / ref.path.name).write_bytes(ref.path.read_bytes())
    names = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    return videos_stage.VideoInputs(
        unit="all",
        prompts=PROMPTS[:1],
        backbone_name=BACKBONE.name,
        **{name: file_ref(pipeline / name) for name in names},
        lora=refs.get("high-noise"),
        low_noise=videos_stage.LowNoiseExpert(
            transformer=file_ref(pipeline / "transformer_2"), lora=refs.get("low-noise")
        ),
        partial_results=folder / "parts",
        **more,
    )


def test_the_stage_generates_with_both_adapters_and_says_so_in_the_video(
    pipeline: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    peer = peer_adapter(tmp_path / "peer.safetensors")
    settings = CHOSEN.model_copy(
        update={"adapters": (AdapterSettings(path=peer, expert="low-noise"),)}
    )
    given = video_inputs(pipeline, files, tmp_path, adapters=(file_ref(peer),))
    ref = run_stage(Store(tmp_path / "store"), videos_stage.STAGE, given, settings).ref
    [row] = tables.read(ref.path, SAMPLES)
    assert row["status"] == "ok", row["detail"]
    said = provenance.read_provenance(ref.folder / row["file"])
    assert said.lora_sha256 == digest_file(files["high-noise"])
    assert said.low_noise_lora_sha256 == digest_file(files["low-noise"])
    assert (said.guidance, said.low_noise_guidance) == (4.0, 3.0)
    assert said.adapters == ((digest_file(peer), 1.0, "low-noise"),)
    parts = key_parts(given, settings)
    assert "inputs.low_noise.transformer" in parts
    swapped = video_inputs(
        pipeline,
        {"high-noise": files["low-noise"], "low-noise": files["high-noise"]},
        tmp_path / "swapped",
    )
    with pytest.raises(BadInput, match="was trained on"):
        videos_stage.run(swapped, CHOSEN, tmp_path)


def test_guidance_of_one_expert_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="either on for both experts or off"):
        SampleSettings(guidance_scale=5.0, guidance_scale_low_noise=1.0)
    assert SampleSettings(guidance_scale=1.0, guidance_scale_low_noise=1.0).low_noise_guidance == 1
    assert SampleSettings(guidance_scale=4.0).low_noise_guidance == 4.0
