"""Read LoRA files of Wan that other programs wrote: names, scales and what cannot be applied.

Read are the layouts of diffusers, ComfyUI, kohya's tools (musubi-tuner), DiffSynth-Studio,
diffusion-pipe and FastVideo, by tensor names alone: names of layers are diffusers' or Wan's own,
with dots or underscores, with or without a prefix; halves are ``lora_A``/``lora_B`` or
``lora_down``/``lora_up``; alpha is a tensor, in diffusers' metadata, or the rank.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimix_core.errors import BadInput
from mimix_core.wan import model_registry
from mimix_core.wan.adapter_tensor_names import tensor_role
from mimix_core.wan.expected_tensors import expected_tensors
from mimix_core.wan.lora_formats import Adapter, adapter_from_pairs
from mimix_core.wan.model_registry import Backbone
from mimix_core.wan.safetensors_header import TensorEntry, read_header

if TYPE_CHECKING:
    import torch

_FIX = "Give a LoRA of Wan as a .safetensors file, in a layout of docs/lora.md."

_PEFT_PREFIX = "base_model.model."
_DIFFUSERS_METADATA = "lora_adapter_metadata"

_OTHER_KINDS = {
    ".dora_scale": "DoRA",
    ".lora_magnitude_vector": "DoRA",
    ".hada_w": "LoHa",
    ".lokr_w": "LoKr",
    ".lora_mid.": "a LoRA of convolutions",
    ".set_weight": "replacements of weights",
    ".lora_B.bias": "a LoRA with biases",
}


@dataclass
class AdapterLayer:
    """Where a layer's halves, alpha and magnitudes are in a file.

    ``down``, ``up``, ``alpha``, ``magnitude``: names of tensors; alpha may be missing, and a LoRA
    has no magnitudes, as a DoRA has.
    """

    down: str = ""
    up: str = ""
    alpha: str = ""
    magnitude: str = ""


@dataclass(frozen=True)
class AdapterFile:
    """A LoRA file by its header alone: the tensors of each layer, named as in diffusers.

    ``changes``: tensors that are added to whole parameters, by the parameter. ``prefixes``: those
    of the names in the file. ``metadata``: its header's metadata.
    """

    path: Path
    layers: Mapping[str, AdapterLayer]
    changes: Mapping[str, str]
    tensors: Mapping[str, TensorEntry]
    prefixes: tuple[str, ...]
    metadata: Mapping[str, str]

    def shape(self, layer: str) -> tuple[int, int]:
        """Return a layer's shape, outputs and inputs."""
        entry = self.layers[layer]
        return self.tensors[entry.up].shape[0], self.tensors[entry.down].shape[1]

    def rank(self, layer: str) -> int:
        return self.tensors[self.layers[layer].down].shape[0]

    @property
    def dtypes(self) -> list[str]:
        return sorted({self.tensors[entry.down].dtype for entry in self.layers.values()})


def read_adapter_file(path: Path) -> AdapterFile:
    """Read which layers a LoRA file has, without its weights.

    Raises BadInput for anything but a LoRA of Wan's linear layers, naming what it is instead and
    the tensors that MiMix cannot apply.
    """
    file = _read_layers(path)
    magnitudes = [entry.magnitude for entry in file.layers.values() if entry.magnitude]
    if magnitudes:
        raise _describe_unknown(path, magnitudes, len(file.tensors))
    return file


def _read_layers(path: Path) -> AdapterFile:
    """Read which layers a LoRA or a DoRA has; as ``read_adapter_file``."""
    tensors = read_header(path, _FIX)
    layers: dict[str, AdapterLayer] = {}
    changes: dict[str, str] = {}
    unknown, prefixes = [], set()
    for name in tensors:
        role = tensor_role(name)
        if role is None:
            unknown.append(name)
            continue
        prefixes.add(role.prefix)
        if role.part == "change":
            earlier, changes[role.target] = changes.get(role.target, ""), name
        else:
            entry = layers.setdefault(role.target, AdapterLayer())
            earlier = getattr(entry, role.part)
            setattr(entry, role.part, name)
        if earlier:
            raise BadInput(
                f"has two tensors for one part of {role.target}: {earlier} and {name}",
                where=str(path),
                fix=_FIX,
            )
    if unknown or not layers:
        raise _describe_unknown(path, unknown, len(tensors))
    metadata = read_file_metadata(path)
    file = AdapterFile(path, layers, changes, tensors, tuple(sorted(prefixes)), metadata)
    for layer in layers:
        _check_layer(file, layer)
    return file


def read_foreign_adapter(path: Path) -> Adapter:
    """Read a LoRA file of another program; its scale is in the weights, and alpha is the rank.

    Raises BadInput as ``read_adapter_file`` does, and for weights with NaN or Inf.
    """
    from mimix_core.wan import safetensors_io

    file = read_adapter_file(path)
    weights = safetensors_io.read_tensors(path)
    alphas = _alphas(file, weights)
    _refuse_stated_dora(file)
    pairs = {}
    for layer, entry in file.layers.items():
        down, up = weights[entry.down].float(), weights[entry.up].float()
        _check_finite(file, layer, down, up)
        pairs[layer] = (down, up * (alphas[layer] / file.rank(layer)))
    changes = {parameter: weights[name].float() for parameter, name in file.changes.items()}
    for parameter, change in changes.items():
        _check_finite(file, parameter, change)
    return replace(adapter_from_pairs(pairs), changes=changes)


def read_unscaled_adapter(path: Path) -> Adapter:
    """Read a LoRA or a DoRA of another program with its weights as they are stored.

    Raises BadInput as ``read_foreign_adapter`` does, for layers that differ in rank or alpha, and
    for changes of whole parameters.
    """
    from mimix_core.wan import safetensors_io

    file = _read_layers(path)
    if file.changes:
        raise BadInput(
            f"is not only a LoRA: it changes whole parameters, first {min(file.changes)}",
            where=str(path),
            fix="Give a LoRA of linear layers alone.",
        )
    weights = safetensors_io.read_tensors(path)
    ranks = sorted({file.rank(layer) for layer in file.layers})
    alphas = sorted(set(_alphas(file, weights).values()))
    if len(ranks) > 1 or len(alphas) > 1:
        raise BadInput(
            f"its layers differ in rank ({ranks}) or alpha ({alphas})", where=str(path), fix=_FIX
        )
    entries = dict(sorted(file.layers.items()))
    pairs = {name: (weights[entry.down], weights[entry.up]) for name, entry in entries.items()}
    magnitudes = {n: weights[entry.magnitude] for n, entry in entries.items() if entry.magnitude}
    if magnitudes and len(magnitudes) < len(pairs):
        raise BadInput(
            f"layer {min(set(pairs) - set(magnitudes))} has no magnitudes, but others have",
            where=str(path),
            fix=_FIX,
        )
    for layer, pair in pairs.items():
        _check_finite(file, layer, *pair, *([magnitudes[layer]] if magnitudes else []))
    return Adapter(pairs, alphas[0], magnitudes)


def read_alphas(file: AdapterFile) -> dict[str, float]:
    """Read each layer's alpha; it is the rank where the file states none."""
    from mimix_core.wan import safetensors_io

    names = [entry.alpha for entry in file.layers.values() if entry.alpha]
    weights = {name: safetensors_io.read_tensor(file.path, name) for name in names}
    _refuse_stated_dora(file)
    return _alphas(file, weights)


def misfit(file: AdapterFile, backbone: Backbone) -> str | None:
    """Say why a file does not fit a backbone; None if it fits, or the sizes are not known here."""
    shapes = expected_tensors(backbone.transformer.class_name, backbone.transformer.config)
    if shapes is None:
        return None
    for layer in file.layers:
        expected = shapes.get(f"{layer}.weight")
        if expected is None:
            return f"{backbone.name} has no layer {layer}"
        if expected != file.shape(layer):
            return (
                f"{layer} is {_times(file.shape(layer))} in the file, and "
                f"{_times(expected)} in {backbone.name}"
            )
    for parameter, name in file.changes.items():
        expected, found = shapes.get(parameter), file.tensors[name].shape
        if expected is None:
            return f"{backbone.name} has no parameter {parameter}"
        if expected != found:
            return (
                f"{parameter} is {_times(found)} in the file, and {_times(expected)} in "
                f"{backbone.name}"
            )
    return None


def check_fits(file: AdapterFile, backbone: Backbone) -> None:
    """Raise BadInput unless a file fits the backbone, naming those of the registry that it fits."""
    problem = misfit(file, backbone)
    if problem is not None:
        fitting = fitting_backbones(file)
        others = f"It fits {', '.join(fitting)}: s" if fitting else "S"
        raise BadInput(
            f"the adapter does not fit the backbone: {problem}",
            where=str(file.path),
            fix=f"{others}et backbone.name to a model that it was trained on, or leave it out.",
        )


def fitting_backbones(file: AdapterFile) -> list[str]:
    """List the backbones of the registry that a file fits by its layers' sizes."""
    known = model_registry.BACKBONES.values()
    return [backbone.name for backbone in known if misfit(file, backbone) is None]


def describe_layout(file: AdapterFile) -> str:
    """Name the programs whose layout a file has, with an example of its names."""
    as_diffusers = all(layer in entry.down for layer, entry in file.layers.items())
    prefix = file.prefixes[0] if len(file.prefixes) == 1 else ""
    if len(file.prefixes) > 1:
        program = f"mixed ({', '.join(file.prefixes)})"
    elif prefix.startswith("lora_unet_"):
        program = "kohya, musubi-tuner"
    elif prefix and not as_diffusers:
        program = "ComfyUI, diffusion-pipe"
    elif prefix:
        program = "diffusers"
    else:
        program = "diffusers, without a prefix" if as_diffusers else "DiffSynth-Studio"
    return f"{program}: {min(entry.down for entry in file.layers.values())}"


def _describe_unknown(path: Path, unknown: Sequence[str], total: int) -> BadInput:
    """Return the error for a file with tensors that cannot be applied."""
    if any(name.startswith(_PEFT_PREFIX) for name in unknown):
        return BadInput(
            "is saved by peft, which has the scale in another file (adapter_config.json)",
            where=str(path),
            fix="Save it with the pipeline's save_lora_weights, which writes one complete file.",
        )
    kinds = Counter(
        kind
        for name in unknown
        for kind in {kind for mark, kind in _OTHER_KINDS.items() if mark in name}
    )
    examples = ", ".join(sorted(unknown)[:3]) or "nothing"
    rest = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
    if kinds:
        named = ", ".join(f"{kind} ({count} tensors)" for kind, count in sorted(kinds.items()))
        return BadInput(
            f"is not only a LoRA: it has {named}, which MiMix does not apply: {examples}{rest}",
            where=str(path),
            fix="Give a LoRA of linear layers; a program that reads this kind may extract one.",
        )
    return BadInput(
        f"{len(unknown)} of its {total} tensors are not a LoRA of Wan's text-to-video "
        f"transformer: {examples}{rest}",
        where=str(path),
        fix=_FIX,
    )


def _check_layer(file: AdapterFile, layer: str) -> None:
    """Raise BadInput unless a layer has both halves, of two dimensions and one rank."""
    entry = file.layers[layer]
    if not (entry.down and entry.up):
        raise BadInput(
            f"layer {layer} has only one half of its pair", where=str(file.path), fix=_FIX
        )
    for half in (entry.down, entry.up):
        if "F" not in file.tensors[half].dtype:
            what = f"{half} is {file.tensors[half].dtype}, not a floating-point type"
            raise BadInput(what, where=str(file.path), fix=_FIX)
    down, up = file.tensors[entry.down].shape, file.tensors[entry.up].shape
    if len(down) != 2 or len(up) != 2 or down[0] != up[1] or not all((*down, *up)):
        raise BadInput(
            f"the halves of layer {layer} do not match: {_times(down)} and {_times(up)}",
            where=str(file.path),
            fix=_FIX,
        )
    if entry.alpha and not _is_one_number(file.tensors[entry.alpha]):
        raise BadInput(f"{entry.alpha} is not one number", where=str(file.path), fix=_FIX)


def _is_one_number(tensor: TensorEntry) -> bool:
    return tensor.shape in ((), (1,)) and not tensor.dtype.startswith("C")


def _check_finite(file: AdapterFile, target: str, *weights: torch.Tensor) -> None:
    if not all(bool(weight.isfinite().all()) for weight in weights):
        raise BadInput(
            f"the adapter contains non-finite values (NaN or Inf) in {target}",
            where=str(file.path),
            fix="Download the file again, or ask whoever trained it.",
        )


def _alphas(file: AdapterFile, weights: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return the alpha of each layer; it is the rank where the file states none."""
    stated = _diffusers_alphas(file)
    alphas = {}
    for layer, entry in file.layers.items():
        rank = float(file.rank(layer))
        alpha = float(weights[entry.alpha]) if entry.alpha else stated.get(layer, rank)
        if not 0 < alpha < 1e6:
            raise BadInput(f"alpha of {layer} is {alpha}", where=str(file.path), fix=_FIX)
        alphas[layer] = alpha
    return alphas


def _refuse_stated_dora(file: AdapterFile) -> None:
    """Raise BadInput for a DoRA by its metadata alone, whose magnitudes are missing."""
    if _diffusers_metadata(file).get("transformer.use_dora"):
        raise BadInput(
            "is a DoRA by its metadata, which MiMix does not apply",
            where=str(file.path),
            fix="Give a LoRA.",
        )


def _diffusers_alphas(file: AdapterFile) -> dict[str, float]:
    """Return the alphas in diffusers' metadata by layer: a general one and exceptions."""
    stated = _diffusers_metadata(file)
    try:
        alpha = stated.get("transformer.lora_alpha")
        patterns = dict(stated.get("transformer.alpha_pattern") or {})
        rank_stabilized = bool(stated.get("transformer.use_rslora"))
        alphas = {}
        for layer in file.layers:
            match = (value for key, value in patterns.items() if f".{layer}".endswith(f".{key}"))
            value = next(match, alpha)
            if value is not None:
                alphas[layer] = float(value) * (file.rank(layer) ** 0.5 if rank_stabilized else 1)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise _unreadable_metadata(file, error) from error
    return alphas


def _diffusers_metadata(file: AdapterFile) -> dict[str, Any]:
    """Return what diffusers' metadata states; empty without it."""
    try:
        stated = json.loads(file.metadata.get(_DIFFUSERS_METADATA, "{}"))
    except ValueError as error:
        raise _unreadable_metadata(file, error) from error
    if not isinstance(stated, dict):
        raise _unreadable_metadata(file, TypeError("not a mapping"))
    return stated


def _unreadable_metadata(file: AdapterFile, error: Exception) -> BadInput:
    return BadInput(
        f"its metadata of diffusers cannot be read ({error})", where=str(file.path), fix=_FIX
    )


def read_file_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file's header; raises BadInput for another file."""
    from safetensors import SafetensorError, safe_open

    read_header(path, _FIX)
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise BadInput(f"not a safetensors file ({error})", where=str(path), fix=_FIX) from error


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
