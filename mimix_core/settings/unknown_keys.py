"""Suggest the key that an unknown one in a settings file was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel

# Names of other trainers (musubi-tuner, kohya's scripts, diffusion-pipe) for settings of MiMix.
_OTHER_TRAINERS = {
    "blocks_to_swap": "lora.offload_blocks",
    "discrete_flow_shift": "lora.shift",
    "ema_rate": "lora.ema_decay",
    "gradient_accumulation_steps": "lora.global_batch_size",
    "lr": "lora.learning_rate",
    "lr_scheduler": "lora.schedule",
    "lr_warmup_steps": "lora.warmup_steps",
    "max_train_epochs": "lora.epochs",
    "mixed_precision": "lora.precision",
    "network_alpha": "lora.alpha",
    "network_dim": "lora.rank",
    "network_weights": "lora.initial_adapter",
    "num_repeats": "lora.show_repeats",
    "optimizer_type": "lora.optimizer",
    "sample_every_n_steps": "lora.preview_interval",
    "sample_prompts": "lora.preview_prompts",
    "save_every_n_epochs": "lora.epoch_adapter_interval",
    "save_every_n_steps": "lora.checkpoint_interval",
    "train_batch_size": "lora.micro_batch_size",
}

_MAX_SECTIONS = 3


def hint_for_unknown_key(model: type[BaseModel], key: Sequence[str | int]) -> str:
    """Return a hint at the key of ``model`` that ``key`` was probably meant to be, or nothing.

    What other trainers call so, else one in the same section that is spelled alike, else one of
    the same name in other sections.
    """
    *section, name = map(str, key)
    models = [model]
    for part in section:
        models = [inner for one in models for inner in _inner_models(one, part)]
    here = [field for one in models for field in one.model_fields]
    prefix = "".join(f"{part}." for part in section)
    alike = [f"{prefix}{field}" for field in difflib.get_close_matches(name, here, n=1)]
    elsewhere = [one for one in _all_keys(model) if one.rpartition(".")[2] == name]
    elsewhere = elsewhere[:_MAX_SECTIONS]
    other_trainers = [_OTHER_TRAINERS[name]] if name in _OTHER_TRAINERS else []
    meant = other_trainers or alike or elsewhere
    return f"; perhaps {' or '.join(meant)} is meant" if meant else ""


def _inner_models(model: type[BaseModel], key: str) -> list[type[BaseModel]]:
    """Return the models that the value of a key may have; of a list its own, by any index."""
    field = model.model_fields.get(key)
    if field is None:
        return [model] if key.isdecimal() else []
    return list(_models_in(field.annotation))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _all_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of all sections."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for inner in _models_in(field.annotation):
            yield from _all_keys(inner, f"{prefix}{name}.")
