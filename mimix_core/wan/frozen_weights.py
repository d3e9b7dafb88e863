"""Check that the frozen weights can be stored, computed and placed as the settings say."""

from __future__ import annotations

from importlib.util import find_spec

from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings

WAN_CLASS = "WanTransformer3DModel"
# Settings that are implemented for Wan alone, with the values that any architecture supports.
_WAN_ONLY = {
    "fp8": (False,),
    "frozen_weights": ("full",),
    "offload_blocks": ("auto", 0),
    "offload_activations_gb": ("auto", 0),
}


def check_frozen_weights(settings: LoraSettings, class_name: str) -> None:
    """Raise BadInput for what a transformer of this class or this installation cannot do."""
    for key, supported in _WAN_ONLY.items():
        if class_name != WAN_CLASS and getattr(settings, key) not in supported:
            value = str(supported[0]).lower()
            raise BadInput(
                f"{key} is not implemented for {class_name}",
                where=f"settings, key lora.{key}",
                fix=f"Set lora.{key} to {value}; only Wan supports it.",
            )
    if settings.frozen_weights == "nf4" and find_spec("bitsandbytes") is None:
        raise BadInput(
            "nf4 needs the package bitsandbytes, which is not installed",
            where="settings, key lora.frozen_weights",
            fix="pip install 'mimix[nf4]', or set lora.frozen_weights to int8.",
        )
