"""Settings of generated videos, their scores and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mimix_core.engine.artifacts import Frozen
from mimix_core.engine.cache_key import Immaterial

NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，"
    "JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，"
    "手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
"""What Wan2.1's own program steers away from (``sample_neg_prompt``): subtitles, stills, bad hands
and more, but also "style, works, paintings, pictures"."""


class SampleSettings(Frozen):
    """Videos of the prompts, by WanPipeline with the LoRA. Defaults are Wan2.1's own."""

    prompts: Annotated[Path | None, Immaterial()] = Field(None, description="YAML of prompts.")
    variant: Literal["both", "character", "scene-style", "no-tags"] = Field(
        "both", description="Tags that prompts are written with (paper, table 2)."
    )
    negative_prompt: str = Field(
        NEGATIVE_PROMPT,
        description="What guidance leads away from: Wan2.1's own words; empty: diffusers' default.",
    )
    width: int = Field(832, multiple_of=16)
    height: int = Field(480, multiple_of=16)
    frames: int = Field(81, ge=1)
    steps: int = Field(50, ge=1)
    guidance: float = Field(5.0, description="1 or less: none, one pass a step and not two.")
    guidance_batch: bool = Field(
        False, description="Guidance's two passes as one of two samples: more memory."
    )
    shift: float = 5.0
    precision: Literal["bf16", "fp32"] = Field("bf16", description="Of the transformer.")
    vae_precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the VAE.")
    vae_tiling: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Decode in tiles, which changes the picture a little; auto: where a GPU has no "
        "room for the whole.",
    )
    adapter: Literal["auto", "merged", "beside"] = Field(
        "auto",
        description="Where the LoRA is: in the weights, or beside them; auto: in them where that "
        "is as exact, which is when they are stored in fp32.",
    )
    attention: Literal["auto", "cudnn", "flash", "flash4"] = Field(
        "auto", description="Kernel, as lora.attention."
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="Compile the transformer's blocks; auto: on a GPU that holds them all."
    )
    offload: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Keep the transformer in this machine's memory and bring its blocks to the GPU "
        "as they are needed; auto: where it does not fit.",
    )
    seed: int = 0
    threads: int = Field(2, ge=1, description="CPU only; sums depend on it.")
    device: Annotated[Literal["auto", "cpu", "cuda"], Immaterial()] = "auto"

    @model_validator(mode="after")
    def _frames_fit_the_vae(self) -> SampleSettings:
        if self.frames % 4 != 1:
            raise ValueError(f"frames must be 4k + 1 for Wan's VAE, not {self.frames}")
        return self


class ScoreSettings(Frozen):
    """Which metrics, each under its honest name."""

    metrics: tuple[str, ...] = Field(
        (
            "motion_smoothness/frame-interpolation-residual",
            "dynamic_degree/dis-flow",
            "imaging_quality/brisque",
            "subject_consistency/efficientnet-lite0",
        ),
        description="dimension/backend",
    )
    weights: Annotated[Path | None, Immaterial()] = Field(
        None, description="Folder of VBench's weights, laid out as its own cache."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Of VBench's networks.")
    threads: int = Field(2, ge=1, description="CPU only; sums depend on it.")


class ReportSettings(Frozen):
    """The page that shows what a run did. The numbers bound its size, not what is counted."""

    title: str = Field("", description="Of the page; empty: the title the flow gives it.")
    max_episodes_shown: int = Field(24, ge=0, description="Timelines.")
    max_clips_shown: int = Field(24, ge=0, description="Clips of the contact sheet.")
    max_cutouts_shown: int = Field(8, ge=0, description="Kept cut-outs, and half as many rejected.")
    max_composites_shown: int = Field(6, ge=0)
    max_samples_shown: int = Field(12, ge=0, description="Generated videos.")
    preview_width: int = Field(320, ge=64, multiple_of=16, description="Pixels.")
    preview_frames: int = Field(16, ge=2, description="Of a moving preview, over the whole clip.")
    max_video_bytes: int = Field(
        4_000_000, ge=0, description="A larger video is not copied beside the page."
    )
    workers: Annotated[int, Immaterial()] = Field(2, ge=1, description="Pictures made at once.")
