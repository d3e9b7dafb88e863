"""Settings of the backbone, what is precomputed for it, and its LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mimix_core.keys import Immaterial
from mimix_core.refs import Frozen


class BackboneSettings(Frozen):
    """The text-to-video model. Any stand-in goes by its own name."""

    name: Literal["wan2.1-t2v-14b", "wan2.1-t2v-1.3b", "tiny-random-wan"] = "wan2.1-t2v-14b"
    path: Annotated[Path | None, Immaterial()] = Field(
        None, description="Folder in diffusers layout (WanPipeline)."
    )
    seed: int = Field(0, description="Of tiny-random-wan's weights.")


class LatentSettings(Frozen):
    """VAE means, computed once."""

    width: int | None = Field(None, multiple_of=16, description="Empty: the clips' own.")
    height: int | None = Field(None, multiple_of=16, description="Empty: the clips' own.")
    threads: int = Field(2, ge=1, description="CPU only; sums depend on it.")
    device: Annotated[Literal["auto", "cpu", "cuda"], Immaterial()] = "auto"

    @model_validator(mode="after")
    def _whole_size(self) -> LatentSettings:
        if (self.width is None) != (self.height is None):
            raise ValueError("give both width and height, or neither")
        return self


class EmbeddingSettings(Frozen):
    """UMT5 embeddings of the captions, computed once."""

    max_tokens: int = Field(512, ge=1, le=512, description="Longer captions are cut, as Wan does.")
    threads: int = Field(2, ge=1, description="CPU only; sums depend on it.")
    device: Annotated[Literal["auto", "cpu", "cuda"], Immaterial()] = "auto"


class LoraSettings(Frozen):
    """LoRA by DeepSpeed (paper, section 3.3)."""

    rank: int = Field(32, ge=1)
    alpha: int = Field(32, ge=1)
    targets: tuple[str, ...] = Field(
        ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"),
        description="Linear layers (diffusers' names, or the ends of them).",
    )
    epochs: int = Field(5, ge=1)
    batch: int = Field(64, ge=1, description="Samples of one optimizer step, over all GPUs.")
    micro_batch: int = Field(1, ge=1, description="Samples of one forward pass.")
    learning_rate: float = Field(1e-4, gt=0)
    warmup_steps: int = Field(0, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    shift: float = Field(5.0, gt=0, description="s' = shift s / (1 + (shift - 1) s)")
    precision: Literal["bf16", "fp32"] = "bf16"
    zero_stage: Literal[0, 1, 2] = 1
    processes: int = Field(1, ge=1, description="GPUs, or processes on a CPU; must share batch.")
    gradient_checkpointing: Annotated[bool, Immaterial()] = Field(
        True, description="Recompute blocks in the backward pass; needed at 14B."
    )
    validate_every: int = Field(50, ge=1, description="Optimizer steps.")
    validation_quantiles: int = Field(9, ge=1, description="Fixed noise levels of validation.")
    seed: int = 0
    threads: int = Field(2, ge=1, description="CPU only; sums depend on it.")
    device: Annotated[Literal["auto", "cpu", "cuda"], Immaterial()] = "auto"

    @model_validator(mode="after")
    def _batch_divides(self) -> LoraSettings:
        if self.batch % (self.processes * self.micro_batch):
            raise ValueError(
                f"batch ({self.batch}) must be a multiple of processes x micro_batch "
                f"({self.processes} x {self.micro_batch})"
            )
        return self
