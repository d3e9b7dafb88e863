"""Settings of the backbone, what is precomputed for it, and its LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mimix_core.engine.artifacts import Frozen
from mimix_core.engine.cache_key import Immaterial


class BackboneSettings(Frozen):
    """The text-to-video model. Any stand-in goes by its own name."""

    name: Literal["wan2.1-t2v-14b", "wan2.1-t2v-1.3b", "wan2.2-ti2v-5b", "tiny-random-wan"] = (
        "wan2.1-t2v-14b"
    )
    path: Annotated[Path | None, Immaterial()] = Field(
        None, description="Folder in diffusers layout (WanPipeline)."
    )
    seed: int = Field(0, description="Of tiny-random-wan's weights.")


class LatentSettings(Frozen):
    """VAE means, computed once."""

    width: int | None = Field(None, multiple_of=16, description="Empty: the clips' own.")
    height: int | None = Field(None, multiple_of=16, description="Empty: the clips' own.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the VAE.")
    threads: int = Field(2, ge=1, description="CPU only; sums depend on it.")
    device: Annotated[Literal["auto", "cpu", "cuda"], Immaterial()] = "auto"

    @model_validator(mode="after")
    def _whole_size(self) -> LatentSettings:
        if (self.width is None) != (self.height is None):
            raise ValueError("give both width and height, or neither")
        return self


class EmbeddingSettings(Frozen):
    """UMT5 embeddings of the captions, computed once."""

    variant: Literal["both", "character", "scene-style", "no-tags"] = Field(
        "both", description="Tags that captions are embedded with (paper, table 2)."
    )
    max_tokens: int = Field(512, ge=2, le=512, description="Longer captions are cut, as Wan does.")
    batch_tokens: int = Field(
        8192, ge=1, description="Of one forward pass, padding included; last bits depend on it."
    )
    threads: int = Field(2, ge=1, description="CPU only; sums depend on it.")
    device: Annotated[Literal["auto", "cpu", "cuda"], Immaterial()] = "auto"


class LoraSettings(Frozen):
    """LoRA by DeepSpeed (paper, section 3.3)."""

    rank: int = Field(32, ge=1)
    alpha: int = Field(32, ge=1)
    targets: tuple[str, ...] = Field(
        ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"),
        description="Linear layers (diffusers' names, or ends of them). Empty: the backbone's own.",
    )
    epochs: int = Field(5, ge=1)
    batch: int = Field(64, ge=1, description="Samples of one optimizer step, over all GPUs.")
    micro_batch: int = Field(1, ge=1, description="Samples of one forward pass.")
    learning_rate: float = Field(1e-4, gt=0)
    warmup_steps: int = Field(0, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    timesteps: Literal["uniform", "logit_normal"] = Field(
        "uniform", description="Distribution of the noise level s, before the shift."
    )
    logit_mean: float = Field(0.0, description="Of logit_normal.")
    logit_std: float = Field(1.0, gt=0, description="Of logit_normal.")
    shift: float = Field(5.0, gt=0, description="s' = shift s / (1 + (shift - 1) s)")
    weighting: Literal["none", "bell"] = Field(
        "bell", description="Of the loss by noise level; bell: DiffSynth-Studio's."
    )
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="Also write a running mean of the adapter, decayed by this."
    )
    precision: Literal["bf16", "fp32"] = "bf16"
    zero_stage: Literal[0, 1, 2, 3] = Field(
        1, description="What DeepSpeed shares out; 3 also the frozen weights, for small GPUs."
    )
    processes: int = Field(1, ge=1, description="GPUs, or processes on a CPU; they share batch.")
    checkpoint_every: Annotated[int, Immaterial()] = Field(10, ge=1, description="Optimizer steps.")
    keep_checkpoints: Annotated[int, Immaterial()] = Field(2, ge=1, description="The newest ones.")
    saved_activations_gb: Annotated[float | None, Immaterial()] = Field(
        None,
        ge=0,
        description="Kept on each GPU for the backward pass, besides each block's input; the rest "
        "is computed again. Empty: what the GPU has free (on a CPU all).",
    )
    attention: Annotated[Literal["auto", "cudnn", "flash", "flash4"], Immaterial()] = Field(
        "auto",
        description="Kernel; auto: on Hopper and newer flash-attn-4's when it is installed "
        "(mimix[hopper]), else cuDNN's; PyTorch's flash on older GPUs.",
    )
    compile: Annotated[Literal["auto", "on", "off"], Immaterial()] = Field(
        "auto", description="Compile the transformer's blocks; auto: on a GPU."
    )
    fp8: bool = Field(
        False, description="Frozen layers in e4m3 (GPU of compute capability 8.9 or newer)."
    )
    validate_every: int = Field(50, ge=1, description="Optimizer steps.")
    validation_quantiles: int = Field(9, ge=1, description="Fixed noise levels of validation.")
    preview_every: int | None = Field(
        None, ge=1, description="Videos by the adapter in training, each so many optimizer steps."
    )
    preview_prompts: tuple[str, ...] = Field((), description="Captions, of any wording.")
    preview_width: int = Field(832, multiple_of=16)
    preview_height: int = Field(480, multiple_of=16)
    preview_frames: int = Field(17, ge=1, description="4k + 1, as Wan's VAE wants.")
    preview_steps: int = Field(20, ge=1)
    preview_guidance: float = 5.0
    trackers: Annotated[tuple[Literal["tensorboard", "wandb"], ...], Immaterial()] = Field(
        (), description="Where training is shown live, beside its own log."
    )
    seed: int = 0
    threads: int = Field(2, ge=1, description="CPU only; sums depend on it.")
    device: Annotated[Literal["auto", "cpu", "cuda"], Immaterial()] = "auto"

    @model_validator(mode="after")
    def _previews_can_be_made(self) -> LoraSettings:
        if self.preview_every is not None and not self.preview_prompts:
            raise ValueError("preview_every is set, but there are no preview_prompts")
        if self.preview_frames % 4 != 1:
            raise ValueError(f"preview_frames must be 4k + 1, not {self.preview_frames}")
        return self
