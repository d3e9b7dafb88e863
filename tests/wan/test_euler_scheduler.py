"""Few steps: Euler at the levels that distilled adapters are trained at, one pass a step."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from mimix_core.engine.cache_key import canonical_json
from mimix_core.settings import SampleSettings
from mimix_core.wan import model_registry
from mimix_core.wan.generation import sampling, video_generator
from mimix_core.wan.generation.component_folders import ComponentFolders
from mimix_core.wan.generation.euler_scheduler import EqualStepsEulerScheduler
from tests.wan.video_inputs import COMPONENTS, PROMPTS, SETTINGS, adapter

pytestmark = pytest.mark.slow

PROMPT = PROMPTS[0].render()


@pytest.mark.parametrize(("steps", "shift"), [(4, 5.0), (8, 5.0), (4, 3.0), (1, 5.0)])
def test_levels_are_equal_steps_of_unshifted_time(steps: int, shift: float) -> None:
    scheduler = EqualStepsEulerScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    plain = [1 - step / steps for step in range(steps)]
    expected = [shift * level / (1 + (shift - 1) * level) for level in plain]
    assert scheduler.sigmas.tolist() == pytest.approx([*expected, 0.0], abs=1e-6)
    assert scheduler.timesteps.tolist() == pytest.approx([1000 * level for level in expected])


def test_four_steps_are_four_passes_of_eulers_method(pipeline_folder: Path) -> None:
    folders = {name: pipeline_folder / name for name in COMPONENTS}
    components = ComponentFolders(backbone=model_registry.TINY, **folders)
    few = SETTINGS.model_copy(
        update={"solver": "euler", "num_inference_steps": 4, "guidance_scale": 1.0}
    )
    weights = adapter(pipeline_folder)
    generator = video_generator.load_generator(
        components, weights, "adapter", [PROMPT], few, torch.device("cpu")
    )
    pipeline, text_1LD = generator.pipeline, generator.embeddings[PROMPT]
    passes: list[float] = []
    hook = pipeline.transformer.register_forward_pre_hook(
        lambda _module, _inputs, named: passes.append(float(named["timestep"][0])),
        with_kwargs=True,
    )
    found_BCTHW = sampling.denoise(
        pipeline,
        7,
        prompt_embeds=text_1LD,
        guidance_scale=1.0,
        width=few.width,
        height=few.height,
        num_frames=few.num_frames,
        num_inference_steps=4,
    )
    hook.remove()
    levels = [5 * level / (1 + 4 * level) for level in (1, 0.75, 0.5, 0.25, 0)]
    assert passes == pytest.approx([1000 * level for level in levels[:-1]])
    latents_BCTHW = sampling.draw_noise(7, found_BCTHW.shape[1:])[None]
    for level, following in pairwise(levels):
        with torch.no_grad():
            velocity_BCTHW = pipeline.transformer(
                hidden_states=latents_BCTHW,
                timestep=torch.tensor([1000 * level]),
                encoder_hidden_states=text_1LD,
                return_dict=False,
            )[0]
        latents_BCTHW = latents_BCTHW + (following - level) * velocity_BCTHW
    assert torch.allclose(found_BCTHW, latents_BCTHW, atol=1e-4)


def test_the_solver_is_in_the_key_only_if_it_is_not_the_default() -> None:
    assert "solver" not in str(canonical_json(SampleSettings()))
    assert "euler" in str(canonical_json(SampleSettings(solver="euler")))
