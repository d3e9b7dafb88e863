"""Merge LoRA files into weights by another program's own loader; ``perf/lora_loaders.py`` runs it.

``python perf/lora_peers.py NAME FOLDER WORK`` reads WORK/base.safetensors (weights under the names
of Wan's own code) and each WORK/adapter-LAYOUT.safetensors. It writes
WORK/NAME-LAYOUT.safetensors, or WORK/NAME-LAYOUT.txt with the error if the loader refuses the file.
None of the programs' code is part of MiMix: FOLDER is where it was fetched to.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

Weights = dict[str, torch.Tensor]
Loader = Callable[[Path, Path], Weights]
"""Merge the adapter at the first path into the weights of the work folder at the second."""


UNUSED = frozenset(
    {"alembic", "comfy", "comfy_aimdo", "comfy_api", "comfy_kitchen", "imageio", "kornia"}
    | {"moviepy", "remote_pdb", "spandrel", "torchaudio", "torchsde", "torchvision"}
)
"""Packages that the programs import beside their loaders: where one is missing, names of it are
placeholders, so that a loader can run without the program's whole environment."""


class _Placeholder(types.ModuleType):
    """A module in which every name is a class or a module of its own."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _PlaceholderFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Find what no other finder has found, if it belongs to ``UNUSED``."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name.partition(".")[0] in UNUSED:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        return _Placeholder(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def main(name: str, folder: str, work: Path) -> None:
    # It looks for packages when it is imported, and must not find placeholders.
    from transformers import PreTrainedModel  # noqa: F401

    sys.meta_path.append(_PlaceholderFinder())
    load = LOADERS[name](Path(folder))
    stem = name.replace(", ", "-")
    for path in sorted(work.glob("adapter-*.safetensors")):
        layout = path.stem.removeprefix("adapter-")
        try:
            merged = load(path, work)
        # Whatever another program raises is its answer.
        except Exception as error:
            (work / f"{stem}-{layout}.txt").write_text(f"{type(error).__name__}: {error}")
            continue
        save_file(
            {key: value.detach().contiguous().clone() for key, value in merged.items()},
            work / f"{stem}-{layout}.safetensors",
        )


class WanAttentionBlock(nn.Module):
    """A block of Wan, named as in its own code: loaders find it by this name."""


def own_modules(weights: Weights) -> nn.Module:
    """Build a tree of modules with linear layers of these weights under their names."""
    root = nn.Module()
    for name, weight in weights.items():
        *path, leaf = name.removesuffix(".weight").split(".")
        parent = root
        for depth, part in enumerate(path):
            if part not in parent._modules:
                block = depth == 1 and path[0] == "blocks"
                parent.add_module(part, WanAttentionBlock() if block else nn.Module())
            parent = parent._modules[part]
        outputs, inputs = weight.shape
        linear = nn.Linear(inputs, outputs, bias=False)
        linear.weight.data = weight.clone()
        parent.add_module(leaf, linear)
    return root.requires_grad_(False)


def _base(work: Path) -> Weights:
    weights: Weights = load_file(work / "base.safetensors")
    return weights


def diffusers(_folder: Path) -> Loader:
    """``WanPipeline.load_lora_weights`` and ``fuse_lora``."""
    from diffusers import WanPipeline

    from perf.lora_loaders import OUTSIDE_TARGETS, TARGETS, _linear_layers, _own_name

    def load(path: Path, work: Path) -> Weights:
        pipeline = WanPipeline.from_pretrained(work / "wan")
        layers = [
            name
            for name in _linear_layers(pipeline.transformer)
            if name.endswith(TARGETS) or name in OUTSIDE_TARGETS
        ]
        pipeline.load_lora_weights(path.parent, weight_name=path.name)
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
        modules = pipeline.transformer
        return {f"{_own_name(n)}.weight": modules.get_submodule(n).weight for n in layers}

    return load


def comfyui(folder: Path) -> Loader:
    """``comfy.lora``: the key map of the model, ``load_lora`` and ``calculate_weight``."""
    sys.path.insert(0, str(folder))
    from comfy.cli_args import args

    args.cpu = True
    import comfy.lora
    import comfy.lora_convert

    def load(path: Path, work: Path) -> Weights:
        base = _base(work)
        model = nn.Module()
        model.add_module("diffusion_model", own_modules(base))
        model.model_config = types.SimpleNamespace(unet_config={})
        keys = comfy.lora.model_lora_keys_unet(model, {})
        patches = comfy.lora.load_lora(comfy.lora_convert.convert_lora(load_file(path)), keys)
        if not patches:
            raise ValueError("no key of the file is in the model's key map")
        for key, patch in patches.items():
            name = key.removeprefix("diffusion_model.")
            base[name] = comfy.lora.calculate_weight(
                [(1.0, patch, 1.0, None, None)], base[name].clone(), key
            )
        return base

    return load


def musubi_tuner(folder: Path) -> Loader:
    """``load_safetensors_with_lora_and_fp8``, by which its generation loads Wan."""
    sys.path.insert(0, str(folder / "src"))
    from musubi_tuner.utils.lora_utils import (
        load_safetensors_with_lora_and_fp8,
    )

    def load(path: Path, work: Path) -> Weights:
        merged: Weights = load_safetensors_with_lora_and_fp8(
            str(work / "base.safetensors"), [load_file(path)], [1.0], False, torch.device("cpu")
        )
        return merged

    return load


def musubi_converter(folder: Path) -> Loader:
    """``convert_lora.py --target default``, then its loader."""
    load_default = musubi_tuner(folder)
    from musubi_tuner.convert_lora import convert

    def load(path: Path, work: Path) -> Weights:
        converted = work / "converted.safetensors"
        convert(str(path), str(converted), "default", None)
        return load_default(converted, work)

    return load


def diffusion_pipe(folder: Path) -> Loader:
    """``BasePipeline.load_adapter_weights`` into a model that peft has prepared, then merged."""
    sys.path[:0] = [str(folder), str(folder / "submodules" / "ComfyUI")]
    import models.base
    import peft

    # It asks DeepSpeed, only to print from one process.
    models.base.is_main_process = lambda: False

    def load(path: Path, work: Path) -> Weights:
        base, single = _base(work), work / "single"
        single.mkdir(exist_ok=True)
        (single / "adapter.safetensors").write_bytes(path.read_bytes())
        transformer = own_modules(base)
        # The rank is in its training's settings, not in the file.
        rank = min(min(tensor.shape) for tensor in load_file(path).values() if tensor.ndim)
        layers = [name.removesuffix(".weight") for name in base]
        config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=layers)
        model = peft.get_peft_model(transformer, config)
        pipeline = types.SimpleNamespace(transformer=transformer)
        models.base.BasePipeline.load_adapter_weights(pipeline, single)
        merged = model.merge_and_unload()
        return {name: merged.get_submodule(name[:-7]).weight for name in base}

    return load


def diffsynth_studio(folder: Path) -> Loader:
    """``GeneralLoRALoader.fuse_lora_to_base_model``."""
    general = _module(folder / "diffsynth" / "utils" / "lora" / "general.py")

    def load(path: Path, work: Path) -> Weights:
        model = own_modules(_base(work))
        general.GeneralLoRALoader().fuse_lora_to_base_model(model, load_file(path))
        return dict(model.state_dict())

    return load


def lightx2v(folder: Path) -> Loader:
    """``LoRALoader.apply_lora``."""
    loader = _module(folder / "lightx2v" / "utils" / "lora_loader.py")

    def load(path: Path, work: Path) -> Weights:
        base = _base(work)
        loader.LoRALoader().apply_lora(base, load_file(path))
        return base

    return load


def fast_video(folder: Path) -> Loader:
    """``LoRAPipeline.set_lora_adapter`` into its linear layers, named by its own mapping."""
    sys.path.insert(0, str(folder))
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1"}
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    import fastvideo.layers.lora.linear
    from fastvideo.configs.models.dits.wanvideo import (
        WanVideoArchConfig,
    )
    from fastvideo.layers.linear import ReplicatedLinear
    from fastvideo.models.loader.utils import (
        get_param_names_mapping,
    )
    from fastvideo.pipelines.lora_pipeline import LoRAPipeline

    from mimix_core.wan.lora_formats import diffusers_layer_name

    # It knows GPUs only.
    fastvideo.layers.lora.linear.get_local_torch_device = lambda: torch.device("cpu")

    class Pipeline(LoRAPipeline):
        def create_pipeline_stages(self, fastvideo_args: object) -> None:
            """Nothing is generated."""

    arch = WanVideoArchConfig()
    to_theirs = get_param_names_mapping(arch.param_names_mapping)

    def load(path: Path, work: Path) -> Weights:
        base = _base(work)
        theirs = {
            name: to_theirs(f"{diffusers_layer_name(name.removesuffix('.weight'))}.weight")[0]
            for name in base
        }
        transformer = own_modules({theirs[name]: weight for name, weight in base.items()})
        for name, module in list(transformer.named_modules()):
            if isinstance(module, nn.Linear):
                outputs, inputs = module.weight.shape
                layer = ReplicatedLinear(inputs, outputs, bias=False, params_dtype=torch.float32)
                layer.weight.data = module.weight.data.clone()
                transformer.set_submodule(name, layer)
        transformer.param_names_mapping = arch.param_names_mapping
        transformer.lora_param_names_mapping = arch.lora_param_names_mapping
        pipeline = Pipeline.__new__(Pipeline)
        pipeline.__dict__ |= {
            "modules": {"transformer": transformer},
            "training_mode": False,
            "lora_target_modules": None,
            "trainable_transformer_modules": {"transformer": transformer},
            "fastvideo_args": types.SimpleNamespace(
                training_mode=False, dit_layerwise_offload=False
            ),
            "exclude_lora_layers": {"transformer": arch.exclude_lora_layers},
            "lora_layers": {},
            "lora_adapters": {},
            "lora_adapter_paths": {},
            "device": torch.device("cpu"),
        }
        pipeline.set_lora_adapter("mimix", str(path))
        weights = {}
        for name in base:
            module = transformer.get_submodule(theirs[name].removesuffix(".weight"))
            weights[name] = getattr(module, "base_layer", module).weight
        return weights

    return load


def wan2gp(folder: Path) -> Loader:
    """``mmgp.offload.load_loras_into_model``, after ``WanModel.preprocess_loras``.

    FOLDER has both ``Wan2GP`` and the package ``mmgp``. The method is taken out of its module,
    which needs CUDA to be imported; the pair and scale that mmgp keeps for each layer are merged
    here, because it applies them only while a model runs on a GPU.
    """
    sys.path.insert(0, str(folder / "mmgp"))
    from mmgp import offload

    source = (folder / "Wan2GP" / "models" / "wan" / "modules" / "model.py").read_text()
    [method] = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name == "preprocess_loras"
    ]
    # The method asks the program's main module whether the model is an image-to-video one.
    main_module = types.ModuleType("wgp")
    main_module.test_class_i2v = lambda _: False
    sys.modules["wgp"] = main_module
    theirs: dict[str, Any] = {}
    exec(ast.unparse(method), theirs)

    def load(path: Path, work: Path) -> Weights:
        base = _base(work)
        model = own_modules(base)
        linears = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
        model._loras_model_data = {m: {} for m in linears.values()}
        model._loras_model_shortcuts = {}
        offload.load_loras_into_model(
            model,
            str(path),
            activate_all_loras=False,
            preprocess_sd=lambda tensors: theirs["preprocess_loras"](model, "t2v", tensors),
        )
        if model._loras_errors:
            raise ValueError(model._loras_errors)
        for name, module in linears.items():
            data = model._loras_model_data[module].get("0")
            if data is not None:
                base[f"{name}.weight"] = base[f"{name}.weight"] + data[4] * (data[1] @ data[0])
        return base

    return load


def _module(path: Path) -> Any:
    """Import one file by itself, without the package around it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


LOADERS: dict[str, Callable[[Path], Loader]] = {
    "diffusers": diffusers,
    "comfyui": comfyui,
    "musubi-tuner": musubi_tuner,
    "musubi-tuner, convert_lora": musubi_converter,
    "diffusion-pipe": diffusion_pipe,
    "diffsynth-studio": diffsynth_studio,
    "fastvideo": fast_video,
    "lightx2v": lightx2v,
    "wan2gp": wan2gp,
}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
