"""Schedule the learning rate over optimizer steps, by a pure function of the step."""

from __future__ import annotations

import math

from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings


def learning_rate_at(step: int, total_steps: int, settings: LoraSettings) -> float:
    """Return the learning rate of optimizer step ``step`` (from 0) of ``total_steps``.

    It rises linearly to ``settings.learning_rate`` in the warm-up's last step. Then it is constant,
    or falls from that value in the next step towards 0, which it would have after the last step: in
    a straight line (linear) or along half a cosine wave (Loshchilov and Hutter, arXiv 1608.03983,
    without restarts).
    """
    peak, warmup = settings.learning_rate, settings.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    if settings.schedule == "constant":
        return peak
    done = (step - warmup) / (total_steps - warmup)
    return peak * (
        1 - done if settings.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    )


def check_schedule(total_steps: int, settings: LoraSettings) -> None:
    """Raise BadInput for a schedule whose warm-up leaves no step in which the rate can fall."""
    if settings.schedule != "constant" and settings.warmup_steps >= total_steps:
        raise BadInput(
            f"the warm-up takes {settings.warmup_steps} steps, but the training only has "
            f"{total_steps}: the learning rate would never fall",
            where="settings, key lora.warmup_steps",
            fix="Lower it, or set lora.schedule to constant.",
        )
