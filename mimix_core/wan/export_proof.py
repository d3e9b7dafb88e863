"""Prove that another program plays an exported adapter as MiMix does.

A proof is a small file beside the export: a prompt, a seed, the settings, and what the adapted
model gives for them, namely the velocity of the first step and thumbnails of three frames. Any
diffusers pipeline with the adapter loaded, by whatever loader, can be compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open

from mimix_core.engine.artifacts import FrozenModel, file_ref
from mimix_core.errors import BadInput
from mimix_core.settings import ExpertName
from mimix_core.wan import lora_export, safetensors_io
from mimix_core.wan.model_files import read_config
from mimix_core.wan.model_folder import check_backbone_folder
from mimix_core.wan.model_registry import BACKBONES, EXPERT_COMPONENTS

_METADATA_KEY = "mimix_proof"
_THUMBNAIL_SIDE = 64
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# In fp32 the order of sums alone differs; in bf16 each weight and each sum is rounded.
_MAX_VELOCITY_ERROR = {"fp32": 1e-3, "bf16": 5e-2}
_MAX_PIXEL_ERROR = {"fp32": 2, "bf16": 24}
# Loaders may compute an adapter in its own dtype within a model in fp32, where MiMix uses fp32:
# diffusers does, and differs by 1.4e-3 with a random adapter as strong as the model. One that
# multiplies alpha into rounded weights rounds them once more.
_MAX_ADAPTER_VELOCITY_ERROR, _MAX_ADAPTER_PIXEL_ERROR = 1e-2, 4


class ProofSettings(FrozenModel):
    """What to generate for a proof; the defaults take a few seconds on a GPU."""

    prompt: str
    negative_prompt: str = ""
    seed: int = 0
    width: int = Field(256, multiple_of=16)
    height: int = Field(256, multiple_of=16)
    num_frames: int = 17
    num_inference_steps: int = 8
    guidance_scale: float = 5.0
    precision: Literal["fp32", "bf16"] = "fp32"


class ExportProof(FrozenModel):
    """The settings of a proof, and the digest of the base model's transformer.

    ``expert``: the one of the base model's two that the adapter is for; the other one generates as
    it is. ``rounded_adapter``: whether the adapter's weights have fewer bits than fp32.
    """

    base: str
    base_sha256: str
    settings: ProofSettings
    rounded_adapter: bool = False
    expert: ExpertName | None = None

    @property
    def component(self) -> str:
        """Return the pipeline's name of the adapted transformer."""
        return _component(self.expert)


@dataclass(frozen=True)
class ProofValues:
    """``velocity_CTHW`` of the first step, fp32, and uint8 ``thumbnails_THWC`` of three frames."""

    velocity_CTHW: torch.Tensor
    thumbnails_THWC: torch.Tensor


@dataclass(frozen=True)
class ProofComparison:
    """How far a pipeline is from a proof.

    ``velocity_error``: the largest difference relative to the largest value. ``pixel_error``: the
    largest difference of the thumbnails, of 255.
    """

    velocity_error: float
    pixel_error: int
    max_velocity_error: float
    max_pixel_error: int

    @property
    def passed(self) -> bool:
        return (
            self.velocity_error <= self.max_velocity_error
            and self.pixel_error <= self.max_pixel_error
        )


def proof_path(adapter: Path) -> Path:
    """Return the path of the proof beside an adapter file."""
    return adapter.with_suffix(".proof.safetensors")


def check_base_folder(adapter: Path, base: Path) -> None:
    """Raise BadInput unless ``base`` is complete, with the transformer that it was trained on."""
    metadata, _ = lora_export.read_metadata(adapter)
    transformer = base / _component(metadata.expert)
    if not transformer.is_dir():
        raise BadInput(
            f"holds no folder {transformer.name}",
            where=str(base),
            fix="Give the folder of the base model in diffusers layout.",
        )
    lora_export.check_base_model(adapter, metadata.base, file_ref(transformer).sha256)
    # No module is imported because a file names it: models from outside MiMix are not checked.
    if metadata.base in BACKBONES:
        check_backbone_folder(base, BACKBONES[metadata.base])


def _component(expert: ExpertName | None) -> str:
    return "transformer" if expert is None else EXPERT_COMPONENTS[expert]


def load_base_pipeline(base: Path, precision: Literal["fp32", "bf16"]) -> Any:
    """Load the base model's pipeline, on a GPU if there is one; its VAE is in fp32.

    Two experts are on the GPU one at a time.
    """
    import diffusers

    from mimix_core.engine.torch_runtime import select_device

    vae_class = read_config(base / "vae" / "config.json").get("_class_name", "AutoencoderKLWan")
    vae = getattr(diffusers, vae_class).from_pretrained(base / "vae", torch_dtype=torch.float32)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        base, vae=vae, torch_dtype=_DTYPES[precision]
    )
    pipeline.set_progress_bar_config(disable=True)
    device = select_device("auto")
    if device.type == "cuda" and getattr(pipeline, "transformer_2", None) is not None:
        pipeline.enable_model_cpu_offload(device=device)
        return pipeline
    return pipeline.to(device)


def load_adapter_into(pipeline: Any, file: Path, proof: ExportProof) -> None:
    """Load an exported adapter with diffusers' own loader, for the expert of its proof."""
    into = {"load_into_transformer_2": True} if proof.component == "transformer_2" else {}
    pipeline.load_lora_weights(file.parent, weight_name=file.name, **into)


def write_proof(path: Path, adapter_file: Path, base: Path, settings: ProofSettings) -> None:
    """Generate with the adapter as MiMix attaches it, and write the proof.

    Raises BadInput for an adapter that does not fit the base model.
    """
    from mimix_core.wan.generation import adapter_merging

    adapter, metadata = lora_export.read_adapter(adapter_file)
    pipeline = load_base_pipeline(base, settings.precision)
    component = _component(metadata.expert)
    transformer = getattr(pipeline, component)
    adapter_merging.check_adapter(transformer, adapter, str(adapter_file))
    adapter_merging.attach_trained_adapter(transformer, adapter)
    values = generate_values(pipeline, settings, component)
    proof = ExportProof(
        base=metadata.base,
        base_sha256=metadata.base_sha256,
        settings=settings,
        rounded_adapter=any(down.dtype != torch.float32 for down, _ in adapter.pairs.values()),
        expert=metadata.expert,
    )
    safetensors_io.write_tensors(
        path,
        {"velocity": values.velocity_CTHW, "thumbnails": values.thumbnails_THWC},
        {"format": "pt", _METADATA_KEY: proof.model_dump_json(exclude_none=True)},
    )


def read_proof(path: Path) -> tuple[ExportProof, ProofValues]:
    """Read a proof. Raises BadInput for any other file."""
    fix = "Export the adapter again with --base."
    if not path.is_file():
        raise BadInput("there is no proof beside the adapter", where=str(path), fix=fix)
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            values = ProofValues(file.get_tensor("velocity"), file.get_tensor("thumbnails"))
        return ExportProof.model_validate_json(header.get(_METADATA_KEY, "")), values
    except (OSError, SafetensorError, ValidationError) as error:
        raise BadInput(f"is not a proof ({error})", where=str(path), fix=fix) from error


def compare_with_proof(pipeline: Any, proof: ExportProof, expected: ProofValues) -> ProofComparison:
    """Generate what a proof says with a pipeline that has the adapter loaded, and compare."""
    found = generate_values(pipeline, proof.settings, proof.component)
    precision = proof.settings.precision
    error = (found.velocity_CTHW - expected.velocity_CTHW).abs().max()
    pixels = (found.thumbnails_THWC.int() - expected.thumbnails_THWC.int()).abs().max()
    return ProofComparison(
        velocity_error=float(error / expected.velocity_CTHW.abs().max()),
        pixel_error=int(pixels),
        max_velocity_error=max(
            _MAX_VELOCITY_ERROR[precision],
            _MAX_ADAPTER_VELOCITY_ERROR if proof.rounded_adapter else 0.0,
        ),
        max_pixel_error=max(
            _MAX_PIXEL_ERROR[precision],
            _MAX_ADAPTER_PIXEL_ERROR if proof.rounded_adapter else 0,
        ),
    )


def generate_values(
    pipeline: Any, settings: ProofSettings, component: str = "transformer"
) -> ProofValues:
    """Generate with a diffusers pipeline, and keep the first velocity and three frames.

    ``component``: the transformer whose first velocity it is. The noise is drawn on the CPU. Raises
    BadInput if a value is not finite.
    """
    velocities: list[torch.Tensor] = []

    def keep_first(_module: Any, _inputs: Any, output: Any) -> None:
        if not velocities:
            velocities.append(output[0][0].detach().float().cpu())

    hook = getattr(pipeline, component).register_forward_hook(keep_first)
    try:
        frames_TCHW = pipeline(
            prompt=settings.prompt,
            negative_prompt=settings.negative_prompt,
            width=settings.width,
            height=settings.height,
            num_frames=settings.num_frames,
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            generator=torch.Generator().manual_seed(settings.seed),
            output_type="pt",
        ).frames[0]
    finally:
        hook.remove()
    if not bool(velocities[0].isfinite().all() and frames_TCHW.isfinite().all()):
        raise BadInput("the pipeline gives non-finite values (NaN or Inf)", where="the pipeline")
    chosen_TCHW = frames_TCHW[[0, len(frames_TCHW) // 2, -1]].float().cpu()
    small_TCHW = torch.nn.functional.interpolate(
        chosen_TCHW, (_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), mode="area"
    )
    thumbnails = (small_TCHW * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return ProofValues(velocities[0], thumbnails)


def default_prompt(adapter_file: Path) -> str:
    """Return a prompt with the first character and style of the adapter's training."""
    metadata, _ = lora_export.read_metadata(adapter_file)
    character = metadata.characters[0] if metadata.characters else "Somebody"
    style = metadata.styles[0] if metadata.styles else "realistic"
    return f"[Character: {character}], waves at the camera. [scene-style:{style}]"
