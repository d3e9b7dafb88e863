"""Optimizers by library: torch's AdamW, 8-bit AdamW (bitsandbytes) and Prodigy (prodigyopt).

The latter two keep their state per adapter, as each library defines it, so they run without
partitions (ZeRO stage 0). A checkpoint has all of their state, named ``state/<key>/<parameter>``
and ``group/<key>``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import torch

from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings

_PACKAGES = {"adamw8bit": ("bitsandbytes", "adamw8bit"), "prodigy": ("prodigyopt", "train")}
"""The package of each optimizer, and the extra of MiMix that installs it."""

_STATE, _GROUP = "state", "group"
_STEP = "step"
# What Prodigy carries from step to step for all parameters together: its estimate of the distance
# to the solution, the largest one, the numerator of the next, and the number of steps.
_GROUP_STATE = {"d": float, "d_max": float, "d_numerator": float, "k": int}

NamedParameters = Sequence[tuple[str, torch.nn.Parameter]]


def check_optimizer(settings: LoraSettings) -> None:
    """Raise BadInput if the optimizer's package is not installed."""
    if settings.optimizer not in _PACKAGES:
        return
    package, extra = _PACKAGES[settings.optimizer]
    if find_spec(package) is None:
        raise BadInput(
            f"{settings.optimizer} needs the package {package}, which is not installed",
            where="settings, key lora.optimizer",
            fix=f"pip install 'mimix[{extra}]', or set lora.optimizer to adamw.",
        )


def build_optimizer(adapters: NamedParameters, settings: LoraSettings) -> torch.optim.Optimizer:
    """Build the optimizer for the adapters; Prodigy as its authors advise for diffusion models."""
    check_optimizer(settings)
    weights = [weight for _, weight in adapters]
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adamw8bit":
        from bitsandbytes.optim import AdamW8bit

        quantized: torch.optim.Optimizer = AdamW8bit(weights, lr=rate, weight_decay=decay)
        return quantized
    if settings.optimizer == "prodigy":
        from prodigyopt import Prodigy

        adaptive: torch.optim.Optimizer = Prodigy(
            weights, lr=rate, weight_decay=decay, safeguard_warmup=True, use_bias_correction=True
        )
        return adaptive
    return torch.optim.AdamW(weights, lr=rate, weight_decay=decay)


def state_tensors(
    optimizer: torch.optim.Optimizer, adapters: NamedParameters
) -> dict[str, torch.Tensor]:
    """Return an optimizer's complete state on the CPU, after its first step."""
    tensors = {}
    for name, weight in adapters:
        for key, value in optimizer.state[weight].items():
            # A copy: parameters share tables of quantization levels.
            tensors[f"{_STATE}/{key}/{name}"] = torch.as_tensor(value).detach().cpu().clone()
    [group] = optimizer.param_groups
    for key in _GROUP_STATE:
        if key in group:
            tensors[f"{_GROUP}/{key}"] = torch.tensor(group[key], dtype=torch.float64)
    return tensors


def load_state(
    optimizer: torch.optim.Optimizer,
    adapters: NamedParameters,
    tensors: Mapping[str, torch.Tensor],
) -> None:
    """Set an optimizer's state to that of a checkpoint, before its first step."""
    parameters = dict(adapters)
    for full_name, value in tensors.items():
        kind, _, rest = full_name.partition("/")
        key, _, name = rest.partition("/")
        if kind == _STATE:
            weight = parameters[name]
            # Only the number of steps is a plain number in both libraries.
            optimizer.state[weight][key] = int(value) if key == _STEP else value.to(weight.device)
        elif kind == _GROUP:
            [group] = optimizer.param_groups
            group[key] = _GROUP_STATE[key](value.item())
