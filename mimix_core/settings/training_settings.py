"""Settings of LoRA training."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey, OmitDefault

ExpertName = Literal["high-noise", "low-noise"]
"""Names of the two transformers of a backbone of experts (Wan2.2-T2V-A14B)."""

BlockCount = Annotated[int, Field(ge=0)]
Gigabytes = Annotated[float, Field(ge=0, allow_inf_nan=False)]

_MIN_PRODIGY_FACTOR = 0.01
"""Less is a learning rate of AdamW: Prodigy's estimate times it would be no training at all."""


def tracker_secrets(trackers: Collection[str]) -> frozenset[str]:
    """Return the names of the environment variables with secrets that trackers need."""
    return frozenset({"WANDB_API_KEY"} if "wandb" in trackers else ())


class LoraSettings(FrozenModel):
    """LoRA training with DeepSpeed (paper, section 3.3)."""

    rank: int = Field(32, ge=1, description="Rank of the adapter matrices.")
    alpha: int = Field(
        32, ge=1, description="LoRA scaling: updates are multiplied by alpha / rank."
    )
    target_modules: tuple[str, ...] = Field(
        ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"),
        description="Linear layers with an adapter, as diffusers names or suffixes of them. "
        "Empty: the backbone's own, which another architecture than Wan needs (docs/ltx.md).",
    )
    use_dora: Annotated[bool, OmitDefault()] = Field(
        False,
        description="Train a DoRA: also a magnitude for each output of an adapted layer. Slower; "
        "only diffusers' layout can carry it.",
    )
    initial_adapter: Annotated[Path | None, ExcludeFromKey()] = Field(
        None,
        description="Adapter file to start from, of the same rank, alpha and layers: MiMix's own, "
        "or another program's in any layout of docs/lora.md. Empty: a new adapter, which begins as "
        "the bare backbone. Of two experts it is the high-noise one's.",
    )
    initial_adapter_low_noise: Annotated[Path | None, ExcludeFromKey()] = Field(
        None,
        description="Adapter file to start from for the low-noise expert of a backbone of two.",
    )
    experts: Annotated[tuple[ExpertName, ...], ExcludeFromKey()] = Field(
        ("high-noise", "low-noise"),
        min_length=1,
        description="Experts to train an adapter for, one after the other, if the backbone has two "
        "(wan2.2-t2v-a14b); the other one then generates as it is.",
    )
    epochs: int = Field(5, ge=1, description="Passes over the training split.")
    show_repeats: Annotated[dict[str, Annotated[int, Field(ge=1)]], OmitDefault()] = Field(
        default_factory=dict,
        description="How often an epoch has each clip of a show, by the show's id; once if it is "
        "not named. Composites are repeated too, so that their share stays that of the dataset.",
    )
    image_ratio: Annotated[float, OmitDefault()] = Field(
        0.0,
        ge=0,
        le=10,
        description="Images in an epoch per clip and composite, which are mixed in as clips of one "
        "frame: the middle frame of a clip or composite of the training split, with its caption. "
        "Each image counts in the loss as much as a video. 0: none.",
    )
    global_batch_size: int = Field(
        64, ge=1, description="Samples per optimizer step, over all GPUs."
    )
    micro_batch_size: int = Field(1, ge=1, description="Samples per forward pass on each GPU.")
    optimizer: Annotated[Literal["adamw", "adamw8bit", "prodigy"], OmitDefault()] = Field(
        "adamw",
        description="Optimizer of the adapter: adamw is torch's AdamW; adamw8bit has its moments "
        "in 8 bits (pip install 'mimix[adamw8bit]'); prodigy estimates its learning rate itself. "
        "The latter two need zero_stage 0.",
    )
    learning_rate: float = Field(
        1e-4,
        gt=0,
        description="Learning rate of AdamW after warmup. With prodigy: the factor of its own "
        "estimate, usually 1.",
    )
    warmup_steps: int = Field(
        0, ge=0, description="Optimizer steps of linear learning rate warmup."
    )
    schedule: Annotated[Literal["constant", "cosine", "linear"], OmitDefault()] = Field(
        "constant",
        description="Learning rate after the warmup: constant, or falling to 0 at the end of the "
        "training, in a straight line (linear) or along half a cosine wave (cosine).",
    )
    max_grad_norm: float = Field(
        1.0, gt=0, description="Maximum norm of the gradients; larger gradients are clipped."
    )
    weight_decay: float = Field(0.0, ge=0, description="Weight decay of AdamW.")
    timestep_sampling: Literal["uniform", "logit_normal"] = Field(
        "uniform", description="Distribution of the noise level s before the shift."
    )
    logit_mean: float = Field(
        0.0,
        description="Mean of the logit-normal distribution, for timestep_sampling: logit_normal.",
    )
    logit_std: float = Field(
        1.0,
        gt=0,
        description="Standard deviation of the logit-normal distribution, for "
        "timestep_sampling: logit_normal.",
    )
    shift: float = Field(
        5.0, gt=0, description="Timestep shift: s' = shift s / (1 + (shift - 1) s)."
    )
    loss_weighting: Literal["none", "gaussian"] = Field(
        "gaussian", description="Weight of the loss by noise level; gaussian is DiffSynth-Studio's."
    )
    region_weight: Annotated[float, OmitDefault()] = Field(
        0.0,
        ge=0,
        description="How much the characters' areas count in the loss besides the whole clip, "
        "which counts 1; each character of a clip counts alike, however small it is. 0: off, every "
        "latent cell counts alike.",
    )
    region_weight_limit: Annotated[float, OmitDefault()] = Field(
        50.0,
        gt=1,
        description="Maximum weight of a latent cell with a character, relative to one without, "
        "so that a figure of a few cells cannot dominate the loss.",
    )
    region_preservation: Annotated[float, OmitDefault()] = Field(
        0.0,
        ge=0,
        description="Weight of the squared difference to the frozen backbone's prediction outside "
        "of the characters' areas, which costs one more forward pass. 0: off.",
    )
    routed_tokens: Annotated[float, OmitDefault()] = Field(
        0.0,
        ge=0,
        le=0.9,
        description="Share of each clip's tokens, drawn anew for each step, that skip the middle "
        "blocks in training (TREAD), which makes steps faster. Validation and generation use all "
        "tokens. Wan only. 0: none.",
    )
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay of an exponential moving average of the adapter, which is written as "
        "well. Empty: no average.",
    )
    precision: Literal["bf16", "fp32"] = Field(
        "bf16", description="Floating-point precision of the frozen weights and the forward pass."
    )
    zero_stage: Literal[0, 1, 2, 3] = Field(
        1,
        description="DeepSpeed ZeRO stage; 3 also partitions the frozen weights, for GPUs with "
        "little memory.",
    )
    num_processes: int = Field(
        1, ge=1, description="Number of GPUs, or of processes on a CPU, that share a batch."
    )
    checkpoint_interval: Annotated[int, ExcludeFromKey()] = Field(
        10, ge=1, description="Optimizer steps between two checkpoints."
    )
    keep_checkpoints: Annotated[int, ExcludeFromKey()] = Field(
        2, ge=1, description="Number of latest checkpoints that are kept."
    )
    epoch_adapter_interval: Annotated[int | None, OmitDefault()] = Field(
        None,
        ge=1,
        description="Epochs between two adapters that are saved besides the final one, each with "
        "a validation and previews if they are enabled. Empty: only the final one.",
    )
    activation_budget_gb: Annotated[float | None, ExcludeFromKey()] = Field(
        None,
        ge=0,
        description="Memory in GB of each GPU for saved activations, in addition to each "
        "block's input; the rest is recomputed. Empty: the free memory of the GPU "
        "(on a CPU: unlimited).",
    )
    attention: Annotated[Literal["auto", "cudnn", "flash", "flash4"], ExcludeFromKey()] = Field(
        "auto",
        description="Attention kernel. auto: flash-attn-4 on Hopper and newer GPUs if it is "
        "installed (mimix[hopper]), else cuDNN; PyTorch's flash attention on older "
        "GPUs.",
    )
    compile: Annotated[Literal["auto", "on", "off"], ExcludeFromKey()] = Field(
        "auto", description="Compile the transformer blocks; auto compiles on a GPU."
    )
    fp8: bool = Field(
        False,
        description="Compute frozen layers in FP8 (e4m3); requires a GPU of compute capability "
        "8.9 or newer.",
    )
    frozen_weights: Annotated[Literal["full", "int8", "nf4"], OmitDefault()] = Field(
        "full",
        description="Format of the frozen weights in memory: full as precision says; int8 takes "
        "half of bf16's memory, nf4 (pip install 'mimix[nf4]') three tenths. A block's weights are "
        "expanded before it computes.",
    )
    offload_blocks: Annotated[BlockCount | Literal["auto"], ExcludeFromKey()] = Field(
        "auto",
        description="Number of transformer blocks whose frozen weights wait in pinned main memory "
        "and are copied while other blocks compute; the result is the same. auto: none if the "
        "GPU's free memory suffices, else as many as make a step fastest (on a CPU: none).",
    )
    offload_activations_gb: Annotated[Gigabytes | Literal["auto"], ExcludeFromKey()] = Field(
        "auto",
        description="Pinned main memory in GB of each process for saved activations that the GPU "
        "cannot hold, which are copied while other blocks compute instead of being recomputed; the "
        "result is the same. 0: they are recomputed. auto: up to half of the main memory that is "
        "available, divided by num_processes (on a CPU, or where that is unknown: 0).",
    )
    validation_interval: int = Field(
        50, ge=1, description="Optimizer steps between two validations."
    )
    validation_samples: int | None = Field(
        64,
        ge=1,
        description="Maximum number of held-out samples per validation, chosen by seed so that "
        "shows, styles and characters are equally frequent. Empty: no fixed maximum.",
    )
    validation_share: float | None = Field(
        0.03,
        gt=0,
        description="Maximum share of the training's computation that all validations take "
        "together; fewer held-out samples are validated to stay below it, at least one of each "
        "show. Empty: no limit, so that validations can take longer than the training.",
    )
    validation_quantiles: int = Field(
        9, ge=1, description="Number of fixed noise levels per validation sample."
    )
    max_forgetting: Annotated[float | None, OmitDefault()] = Field(
        None,
        ge=0,
        description="Bound on forgetting while characters are added (dataset.new_characters): "
        "maximum relative increase of each old character's held-out loss, e.g. 0.02 for 2 %. The "
        "adapter is that of the last validation within the bound; without one the training fails. "
        "Empty: forgetting is measured, and not limited.",
    )
    preview_interval: int | None = Field(
        None,
        ge=1,
        description="Optimizer steps between two sets of preview videos. Empty: no previews.",
    )
    preview_prompts: tuple[str, ...] = Field(
        (), description="Captions of the preview videos, in any wording."
    )
    preview_width: int = Field(
        832, multiple_of=16, description="Width of preview videos in pixels."
    )
    preview_height: int = Field(
        480, multiple_of=16, description="Height of preview videos in pixels."
    )
    preview_num_frames: int = Field(
        17, ge=1, description="Frames of a preview video; 4k + 1, as Wan's VAE requires."
    )
    preview_num_inference_steps: int = Field(
        20, ge=1, description="Denoising steps of a preview video."
    )
    preview_guidance_scale: float = Field(5.0, description="Guidance scale of preview videos.")
    trackers: Annotated[tuple[Literal["tensorboard", "wandb"], ...], ExcludeFromKey()] = Field(
        (), description="Experiment trackers that receive the training log live."
    )
    seed: int = Field(0, description="Random seed of the adapter, the sample order and the noise.")
    threads: int = Field(
        2,
        ge=1,
        description="Number of CPU threads without a GPU; affects the order of sums.",
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], ExcludeFromKey()] = Field(
        "auto", description="Device of the training; auto uses GPUs if there are any."
    )

    @property
    def uses_regions(self) -> bool:
        """Whether the loss depends on where the characters are."""
        return self.region_weight > 0 or self.region_preservation > 0

    @model_validator(mode="after")
    def _validate_dora(self) -> LoraSettings:
        if self.use_dora and (self.fp8 or self.zero_stage == 3):
            other = "fp8 to false" if self.fp8 else "zero_stage to 0, 1 or 2"
            raise ValueError(
                f"use_dora computes norms of the frozen weights, which must be whole: set {other}"
            )
        return self

    @model_validator(mode="after")
    def _validate_frozen_weights(self) -> LoraSettings:
        if self.frozen_weights != "full" and (self.fp8 or self.use_dora):
            other = "fp8" if self.fp8 else "use_dora"
            raise ValueError(
                f"frozen_weights {self.frozen_weights} and {other} need the weights in different "
                f"formats: set frozen_weights to full, or {other} to false"
            )
        moved = self.frozen_weights != "full" or self.offload_blocks not in ("auto", 0)
        if self.zero_stage == 3 and moved:
            raise ValueError(
                "zero_stage 3 partitions the frozen weights itself: set zero_stage to 0, 1 or 2, "
                "or frozen_weights to full and offload_blocks to auto"
            )
        if self.zero_stage == 3 and self.offload_activations_gb not in ("auto", 0):
            raise ValueError(
                "zero_stage 3 recomputes complete blocks: set zero_stage to 0, 1 or 2, or "
                "offload_activations_gb to auto"
            )
        return self

    @model_validator(mode="after")
    def _validate_optimizer(self) -> LoraSettings:
        if self.optimizer != "adamw" and self.zero_stage != 0:
            raise ValueError(
                f"optimizer {self.optimizer} keeps its state whole: set zero_stage to 0, not "
                f"{self.zero_stage}"
            )
        if self.optimizer == "prodigy" and self.learning_rate < _MIN_PRODIGY_FACTOR:
            raise ValueError(
                f"with optimizer prodigy, learning_rate is the factor of its own estimate: set it "
                f"to 1, not {self.learning_rate:g}"
            )
        return self

    @model_validator(mode="after")
    def _validate_previews(self) -> LoraSettings:
        if self.preview_interval is not None and not self.preview_prompts:
            raise ValueError("preview_interval is set, but preview_prompts is empty")
        if self.preview_num_frames % 4 != 1:
            raise ValueError(f"preview_num_frames must be 4k + 1, not {self.preview_num_frames}")
        return self
