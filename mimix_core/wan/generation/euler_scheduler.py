"""Euler's method in equal steps of unshifted time, for which distilled adapters are trained."""

from __future__ import annotations

from typing import Any

import numpy as np
from diffusers import FlowMatchEulerDiscreteScheduler


class EqualStepsEulerScheduler(FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """Euler scheduler whose noise levels are 1, 1 - 1/n, ... 1/n before the timestep shift.

    diffusers' own spaces them between 1 and the smallest trained level. A model that is distilled
    to few steps knows only its own levels: with 4 steps they are those of timesteps 1000, 750, 500
    and 250 of step-distilled adapters of Wan (LightX2V, ``WanStepDistillScheduler``).
    """

    def set_timesteps(
        self, num_inference_steps: int, device: Any = None, **_unused: object
    ) -> None:
        """Set the noise levels of ``num_inference_steps`` steps."""
        levels = np.linspace(1.0, 1.0 / num_inference_steps, num_inference_steps)
        super().set_timesteps(sigmas=levels.tolist(), device=device)
