"""Check a folder in diffusers layout before any work: the model in it, and that it is complete.

Only configs, indexes, the headers of the weight files and samples of their values are read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mimix_core.errors import BadInput
from mimix_core.wan.expected_tensors import expected_tensors
from mimix_core.wan.model_files import describe_replacement, list_folder, read_config, read_json
from mimix_core.wan.model_registry import Backbone, NetworkSpec
from mimix_core.wan.weight_files import (
    StoredTensor,
    check_blocks,
    check_sampled_values,
    check_tensors,
    list_tensors,
)

_TOKENIZER_FILES = ("tokenizer.json", "spiece.model")


def check_backbone_folder(folder: Path, backbone: Backbone) -> dict[str, dict[str, StoredTensor]]:
    """Raise BadInput unless ``folder`` holds a complete backbone in diffusers layout.

    Each network's configuration is compared with its entry in ``model_registry``, its weight files
    with their index and with their headers, and its tensors with its configuration. Returns the
    tensors of each network.
    """
    command = backbone.folder_command(str(folder))
    fix = f"Get it again with `{command}`." if command else "Build it again."
    present = {path.name for path in list_folder(folder, fix)}
    _check_present("model_index.json", present, folder, fix)
    _check_pipeline(folder, backbone, fix)
    for component in backbone.components:
        _check_present(component, present, folder, fix)
    _check_scheduler(folder / "scheduler" / "scheduler_config.json", backbone.scheduler, fix)
    networks = backbone.networks
    configs = {
        name: _check_config(folder / name / "config.json", network, backbone, fix)
        for name, network in networks.items()
    }
    _check_tokenizer(folder / "tokenizer", configs["text_encoder"].get("vocab_size"), fix)
    return {
        name: _check_network(folder / name, network, configs[name], fix)
        for name, network in networks.items()
    }


def _check_present(part: str, present: Collection[str], folder: Path, fix: str) -> None:
    if part not in present:
        raise BadInput(f"{part} is missing", where=str(folder), fix=fix)


def _check_network(
    folder: Path, network: NetworkSpec, config: Mapping[str, Any], fix: str
) -> dict[str, StoredTensor]:
    """Check the weights of a network against its config, and return its tensors."""
    tensors = list_tensors(folder, fix)
    check_blocks(folder, tensors, config, fix)
    try:
        expected = expected_tensors(network.class_name, {**config, **network.config})
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"does not define the size of {network.class_name} ({type(error).__name__}: {error})",
            where=str(folder / "config.json"),
            fix=fix,
        ) from error
    if expected is not None:
        check_tensors(folder, tensors, expected, fix)
    check_sampled_values(tensors, fix)
    return tensors


def _check_pipeline(folder: Path, backbone: Backbone, fix: str) -> None:
    """Raise BadInput for a pipeline of another class, or with other components."""
    path = folder / "model_index.json"
    index = read_config(path, fix)
    instead = f"Set backbone.path to the folder of {backbone.name} (`{backbone.folder_command()}`)."
    if backbone.boundary is None:
        _check_one_transformer(folder, index, backbone, instead)
    differences = []
    if backbone.boundary is not None and index.get("boundary_ratio") != backbone.boundary:
        differences.append(
            f"its boundary_ratio is {index.get('boundary_ratio')}, not {backbone.boundary}"
        )
    if index.get("_class_name") not in (backbone.pipeline_class, *backbone.other_pipelines):
        differences.append(
            f"its class is {index.get('_class_name')}, not {backbone.pipeline_class}"
        )
    if index.get("expand_timesteps") and not backbone.expand_timesteps:
        differences.append("it has a timestep per token (expand_timesteps), as Wan2.2-TI2V-5B")
    for name, network in backbone.networks.items():
        component = index.get(name)
        if name == "transformer_2" and component in (None, [None, None]):
            differences.append("it has no transformer_2")
        elif component in (None, [], [None, None]):
            continue
        elif not isinstance(component, list) or network.class_name not in component:
            differences.append(f"its {name} is {component}, not {network.class_name}")
    if differences:
        raise BadInput(
            f"this pipeline is not that of {backbone.name}: {'; '.join(differences)}",
            where=str(path),
            fix=instead,
        )


def _check_one_transformer(
    folder: Path, index: Mapping[str, Any], backbone: Backbone, instead: str
) -> None:
    """Raise BadInput for a pipeline of two transformers."""
    second = index.get("transformer_2")
    found = []
    if (folder / "transformer_2").exists():
        found.append("a folder transformer_2")
    if second and second != [None, None]:
        found.append("transformer_2 in model_index.json")
    if index.get("boundary_ratio") is not None:
        found.append(f"boundary_ratio {index['boundary_ratio']} in model_index.json")
    if found:
        raise BadInput(
            f"holds a model of two transformers, as Wan2.2-T2V-A14B, not {backbone.name}: it has "
            f"{' and '.join(found)}",
            where=str(folder),
            fix=f"Set backbone.name to the model in this folder, e.g. wan2.2-t2v-a14b. Or: "
            f"{instead}",
        )


def _check_scheduler(path: Path, scheduler: NetworkSpec, fix: str) -> None:
    """Raise BadInput for a scheduler that is not one of the backbone's flow matching."""
    config = read_config(path, fix)
    differences = [
        f"{key} is {config.get(key)}, not {value}"
        for key, value in scheduler.config.items()
        if config.get(key) != value
    ]
    if differences:
        raise BadInput(
            f"is not a scheduler of flow matching: {'; '.join(differences)}",
            where=str(path),
            fix=fix,
        )


def _check_config(
    path: Path, network: NetworkSpec, backbone: Backbone, fix: str
) -> Mapping[str, Any]:
    """Read a network's config. Raises BadInput where it differs from the registry's entry."""
    config = read_config(path, fix)
    # diffusers writes the first key, transformers the second.
    architectures = config.get("architectures")
    names = [
        config.get("_class_name"),
        *(architectures if isinstance(architectures, list) else [architectures]),
    ]
    class_name = next((name for name in names if name), None)
    differences = []
    if class_name != network.class_name:
        differences.append(f"its class is {class_name}, not {network.class_name}")
    for key, value in network.config.items():
        expected = list(value) if isinstance(value, tuple) else value
        if config.get(key) != expected:
            differences.append(f"{key} is {config.get(key)}, not {expected}")
    if differences:
        raise BadInput(
            f"this {path.parent.name} is not that of {backbone.name}: {'; '.join(differences)}",
            where=str(path),
            fix="Set backbone.name to the model in this folder, or backbone.path to the folder "
            f"of {backbone.name}.",
        )
    return config


def _check_tokenizer(folder: Path, vocabulary_size: Any, fix: str) -> None:
    """Raise BadInput unless the tokenizer can be loaded and its ids are those of the encoder."""
    present = {path.name: path for path in list_folder(folder, fix)}
    if not present:
        raise BadInput("the folder is empty", where=str(folder), fix=fix)
    for name, path in present.items():
        if name.endswith(".json"):
            read_json(path, fix)
    pieces = present.get("spiece.model")
    if pieces is not None:
        _check_sentencepiece(pieces, fix)
    if not isinstance(vocabulary_size, int):
        return  # An encoder of another kind, which has a tokenizer of its own.
    if not any(name in present for name in _TOKENIZER_FILES):
        raise BadInput(
            f"neither {' nor '.join(_TOKENIZER_FILES)} is there", where=str(folder), fix=fix
        )
    if "tokenizer.json" not in present or find_spec("tokenizers") is None:
        return
    from tokenizers import Tokenizer

    path = present["tokenizer.json"]

    try:
        size = Tokenizer.from_file(str(path)).get_vocab_size()
    except Exception as error:  # The library raises nothing more specific.
        raise BadInput(
            f"is not a tokenizer ({str(error)[:200]})", where=str(path), fix=fix
        ) from error
    if size > vocabulary_size:
        raise BadInput(
            f"has {size} tokens, but the text encoder only {vocabulary_size}: it is the tokenizer "
            "of another model",
            where=str(path),
            fix=fix,
        )


def _check_sentencepiece(path: Path, fix: str) -> None:
    """Raise BadInput unless a file is a complete protobuf message, as SentencePiece's models are.

    Only the lengths of its fields are read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot be read ({error.strerror})", where=str(path), fix=fix) from error
    replacement = describe_replacement(content[:256])
    if replacement is None and not _is_message(content):
        replacement = f"is not a complete SentencePiece model ({len(content)} bytes)"
    if replacement is not None:
        raise BadInput(replacement, where=str(path), fix=fix)


def _is_message(content: bytes) -> bool:
    """Return whether bytes are a sequence of length-delimited protobuf fields up to their end."""
    place = 0
    while place < len(content):
        if content[place] & 7 != 2:
            return False
        place, length, shift = place + 1, 0, 0
        while True:
            if place >= len(content) or shift > 28:
                return False
            byte = content[place]
            length |= (byte & 127) << shift
            place, shift = place + 1, shift + 7
            if byte < 128:
                break
        place += length
    return 0 < place == len(content)
