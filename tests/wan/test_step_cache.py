"""A step cache reuses what the blocks hardly change, and nothing below its threshold's reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from mimix_core.engine.cache_key import canonical_json
from mimix_core.errors import BadInput
from mimix_core.settings import SampleSettings
from mimix_core.wan import model_registry, videos_stage
from mimix_core.wan.generation import video_generator
from mimix_core.wan.generation.component_folders import ComponentFolders
from mimix_core.wan.generation.device_plan import DevicePlan
from mimix_core.wan.generation.step_cache import StepCache
from mimix_core.wan.generation.video_generator import VideoGenerator
from mimix_core.wan.generation.video_split import VideoSplit, plan_split
from tests.wan.video_inputs import COMPONENTS, PROMPTS, SETTINGS, adapter, inputs

PROMPT = PROMPTS[0].render()
STEPS = 12


class Gain(nn.Module):
    """A block that multiplies the tokens, and counts its calls."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.calls = 0

    def forward(self, hidden: torch.Tensor, text: object) -> torch.Tensor:
        self.calls += 1
        return hidden * self.factor


def run(cache: StepCache, value: float) -> float:
    return float(cache(torch.full((1, 2, 3), value), "text").mean())


def test_the_other_blocks_change_is_reused_while_the_first_ones_is_alike() -> None:
    first, second = Gain(2.0), Gain(3.0)
    cache = StepCache(nn.ModuleList([first, second]), threshold=0.1, passes=1)
    assert run(cache, 1.0) == 6.0
    # The first block adds 1.05 instead of 1: 5 % more. The others added 4 in the last pass.
    assert run(cache, 1.05) == pytest.approx(2.1 + 4.0)
    # 9 % more than in the last complete pass, however little since the reused one.
    assert run(cache, 1.09) == pytest.approx(2.18 + 4.0)
    assert run(cache, 1.11) == pytest.approx(6.66)
    assert (first.calls, second.calls) == (4, 2)
    assert (cache.computed, cache.reused) == (2, 2)


def test_each_pass_of_a_step_has_its_own_cache_until_the_next_video() -> None:
    cache = StepCache(nn.ModuleList([Gain(2.0), Gain(3.0)]), threshold=0.1, passes=2)
    assert [run(cache, value) for value in (1.0, 5.0)] == [6.0, 30.0]
    assert [run(cache, value) for value in (1.05, 5.1)] == pytest.approx([6.1, 30.2])
    cache.reset()
    assert [run(cache, value) for value in (1.05, 5.1)] == pytest.approx([6.3, 30.6])
    assert (cache.computed, cache.reused) == (4, 2)


def generator(folder: Path, **changes: Any) -> VideoGenerator:
    torch.set_num_threads(1)
    components = ComponentFolders(
        backbone=model_registry.TINY, **{name: folder / name for name in COMPONENTS}
    )
    settings = SETTINGS.model_copy(update={"num_inference_steps": STEPS, **changes})
    return video_generator.load_generator(
        components, None, "", [PROMPT], settings, torch.device("cpu")
    )


@pytest.mark.slow
def test_a_tiny_threshold_changes_no_byte_and_a_larger_one_saves_passes(
    pipeline_folder: Path,
) -> None:
    plain = generator(pipeline_folder)
    wanted = plain.generate(PROMPT, 5)
    assert plain.count_passes() == {}
    exact = generator(pipeline_folder, step_cache=1e-9)
    assert np.array_equal(exact.generate(PROMPT, 5), wanted)
    assert exact.count_passes() == {"passes_computed": 2 * STEPS, "passes_reused": 0}
    # Random blocks change more from step to step than trained ones.
    fast = generator(pipeline_folder, step_cache=1.2)
    video = fast.generate(PROMPT, 5)
    counts = fast.count_passes()
    assert counts["passes_reused"] > STEPS / 2
    assert sum(counts.values()) == 2 * STEPS
    assert not np.array_equal(video, wanted)
    assert np.array_equal(fast.generate(PROMPT, 5), video), "nothing of another video is reused"
    assert fast.count_passes()["passes_reused"] == 2 * counts["passes_reused"]


def test_it_is_in_key_and_provenance_only_if_it_is_used(
    pipeline_folder: Path, tmp_path: Path
) -> None:
    given = inputs(pipeline_folder, tmp_path, adapter(pipeline_folder, train=False))
    for threshold in (None, 0.1):
        settings = SETTINGS.model_copy(update={"step_cache": threshold})
        made = videos_stage.video_provenance(PROMPTS[0], given, settings, ["digest"])
        for text in (made.to_json(), str(canonical_json(settings))):
            assert ("step_cache" in text) == (threshold is not None)


def test_it_is_refused_where_it_cannot_work(
    pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValidationError, match="few steps of solver euler"):
        SampleSettings(step_cache=0.1, solver="euler")
    large = model_registry.get_backbone("wan2.1-t2v-14b")
    chosen = SampleSettings(step_cache=0.1, gpus_per_video=2)
    assert plan_split(chosen, large) == VideoSplit(2, 1)
    with pytest.raises(BadInput, match=r"samples\.step_cache and samples\.gpus_per_video"):
        plan_split(chosen.model_copy(update={"gpus_per_video": 4}), large)
    streamed = DevicePlan(text_on_gpu=False, streamed=True, tiled=False)
    monkeypatch.setattr(video_generator, "plan_components", lambda *_: streamed)
    with pytest.raises(BadInput, match=r"samples\.step_cache: blocks that are streamed"):
        generator(pipeline_folder, step_cache=0.1)
