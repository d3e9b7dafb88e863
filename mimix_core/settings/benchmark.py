"""Settings of generated videos, their scores and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mimix_core.keys import Immaterial
from mimix_core.refs import Frozen


class SampleSettings(Frozen):
    """Videos of the prompts, by WanPipeline with the LoRA."""

    prompts: Annotated[Path | None, Immaterial()] = Field(None, description="YAML of prompts.")
    width: int = Field(832, multiple_of=16)
    height: int = Field(480, multiple_of=16)
    frames: int = Field(81, ge=1)
    steps: int = Field(50, ge=1)
    guidance: float = 5.0
    shift: float = 5.0
    precision: Literal["bf16", "fp32"] = Field("bf16", description="Of the transformer.")
    seed: int = 0
    threads: int = Field(2, ge=1)
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
