"""Define the inputs of the stage ``videos``, and load the adapters among them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mimix_core.domain.prompts import VideoPrompt
from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey, OmitDefault
from mimix_core.settings import SampleSettings
from mimix_core.wan import model_registry

if TYPE_CHECKING:
    from mimix_core.wan.lora_formats import Adapter


class LowNoiseExpert(FrozenModel):
    """The low-noise one of a backbone's two experts, and its adapter if one was trained."""

    transformer: FileRef
    lora: TableRef | None = None


class VideoInputs(FrozenModel):
    """Prompts, the backbone's components and the adapter.

    ``transformer`` and ``lora``: those of the high-noise one of two experts, which may have no
    adapter. ``low_noise``: the other one, set if and only if there are two.
    ``partial_results``: folder of finished videos of interrupted units. ``layouts``: of the
    prompts, if videos start from cutouts. ``adapters``: the files that samples.adapters names.
    ``frame_rate``: of the videos.
    """

    unit: Annotated[str, ExcludeFromKey()]
    prompts: tuple[VideoPrompt, ...]
    backbone_name: str
    backbone_source: FileRef | None = None
    transformer: FileRef
    vae: FileRef
    text_encoder: FileRef
    tokenizer: FileRef
    scheduler: FileRef
    lora: TableRef | None
    low_noise: Annotated[LowNoiseExpert | None, OmitDefault()] = None
    layouts: Annotated[TableRef | None, OmitDefault()] = None
    adapters: Annotated[tuple[FileRef, ...], OmitDefault()] = ()
    frame_rate: Annotated[int, OmitDefault()] = int(CLIP_RATE)
    partial_results: Annotated[Path, ExcludeFromKey()]


def load_adapters(
    inputs: VideoInputs, settings: SampleSettings
) -> tuple[list[Adapter | None], list[str]]:
    """Load the adapter of each transformer, and the digest of the trained one's file.

    Raises BadInput for one of another base model, or that does not fit the backbone.
    """
    from mimix_core.wan.generation_adapters import load_generation_adapter

    transformers: list[tuple[str | None, FileRef, TableRef | None]] = [
        (None, inputs.transformer, inputs.lora)
    ]
    if inputs.low_noise is not None:
        low_noise = inputs.low_noise
        transformers = [
            ("high-noise", inputs.transformer, inputs.lora),
            ("low-noise", low_noise.transformer, low_noise.lora),
        ]
    loaded = [
        load_generation_adapter(
            model_registry.get_backbone(inputs.backbone_name),
            transformer.sha256,
            None if lora is None else (_adapter_file(lora), settings.adapter_weight),
            [
                (file.path, chosen.weight)
                for file, chosen in zip(inputs.adapters, settings.adapters, strict=True)
                if expert is None or chosen.expert in (None, expert)
            ],
        )
        for expert, transformer, lora in transformers
    ]
    return [adapter for adapter, _ in loaded], [digest for _, digest in loaded]


def _adapter_file(lora: TableRef) -> Path:
    from mimix_core.wan import lora_export

    return lora.folder / lora_export.ADAPTER_FILE


def adapter_files(inputs: VideoInputs) -> list[Path]:
    """List the files of all adapters, for errors."""
    refs = (inputs.lora, inputs.low_noise.lora if inputs.low_noise else None)
    trained = [_adapter_file(ref) for ref in refs if ref is not None]
    return [*trained, *(file.path for file in inputs.adapters)]
