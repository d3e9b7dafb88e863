"""Settings: one model a stage, defaults as in the paper, and the file that holds them all.

Fields marked ``Immaterial`` change how a stage runs but not what it makes, or name a file whose
content is in the stage's inputs; they stay out of the stage key. Every other field is part of it.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from mimix_core.errors import BadInput
from mimix_core.keys import Immaterial
from mimix_core.library import invalid, read_yaml
from mimix_core.refs import Frozen


class SceneSettings(Frozen):
    """Shot boundaries and what each shot is like."""

    detector: Literal["adaptive", "content"] = Field("adaptive", description="PySceneDetect's.")
    threshold: float = Field(3.0, gt=0, description="Of the detector; adaptive: 3, content: 27.")
    analysis_height: int = Field(180, ge=64, description="Frames are analysed at this height.")
    min_scene_frames: int = Field(
        1, ge=1, description="Above 1, shorter shots join a neighbour: clips may hold both."
    )
    max_black_share: float = Field(0.5, description="More black frames reject the scene.")
    max_frozen_share: float = Field(0.5, description="More unchanged frames reject the scene.")
    decode_threads: Annotated[int, Immaterial()] = Field(2, ge=0, description="0: one a core.")


class OverlaySettings(Frozen):
    """Subtitles and credits at the bottom, found by OCR and cut away (paper, section 3.3)."""

    backend: Literal["rapidocr", "none"] = Field("rapidocr", description="none: keep all.")
    sampled_frames: int = Field(16, ge=4, description="Frames looked at per episode.")
    bottom_band: float = Field(0.30, gt=0, lt=1, description="Share of the height looked at.")
    min_share: float = Field(
        0.15, ge=0, le=1, description="Text must stand there in this share of the frames."
    )
    max_height_loss: float = Field(0.25, ge=0, lt=1, description="A deeper cut rejects the clip.")
    margin: float = Field(0.01, ge=0, description="Cut this share of the height above the text.")


class ClipSettings(Frozen):
    """81 frames at 16/s on the exact grid, cropped and fitted to the training bucket."""

    width: int = Field(832, gt=0, multiple_of=16)
    height: int = Field(480, gt=0, multiple_of=16)
    fit: Literal["crop", "pad"] = Field("crop", description="How the aspect ratio is met.")
    stride: Decimal | None = Field(
        None, gt=0, description="Seconds between clip starts; empty: no overlap (81/16 s)."
    )
    margin: Decimal = Field(
        Decimal("0.05"), ge=0, description="Seconds kept away from both ends of a scene."
    )
    crf: int = Field(16, ge=0, le=51, description="x264 quality; 16 is visually lossless.")
    preset: str = Field("fast", description="x264 preset.")
    encoders: Annotated[int, Immaterial()] = Field(
        2, ge=1, description="Clips encoded at a time, each on one thread."
    )


class TranscriptSettings(Frozen):
    """Dialogue for the captioner: sidecar subtitles first, then speech recognition."""

    speech: Literal["none", "faster-whisper"] = Field(
        "none", description="For episodes without subtitles."
    )
    model: Annotated[Path | None, Immaterial()] = Field(
        None, description="Folder of a faster-whisper model."
    )


class CaptionSettings(Frozen):
    """`[Character: X], does. [scene-style:cartoon]` captions (paper, section 3.1)."""

    backend: Literal["script"] = Field("script", description="Who captions.")
    min_overlap: Decimal = Field(
        Decimal("0.5"), gt=0, description="An action counts when this many seconds are in the clip."
    )
    max_words: int = Field(
        120, ge=8, description="Longer captions fail their check; a composite's may have twice."
    )


class CutoutSettings(Frozen):
    """Characters cut out of clips."""

    locator: Literal["boxes"] = Field("boxes", description="Where a character is.")
    backend: Literal["selfie", "grabcut"] = Field(
        "selfie", description="selfie: MediaPipe's person mask inside the box; grabcut: no weights."
    )
    weights: Annotated[Path | None, Immaterial()] = Field(
        None, description="selfie_segmentation.tflite"
    )
    min_presence: float = Field(0.95, description="Share of frames with the character.")
    min_area: float = Field(0.01, description="Median share of the frame.")
    max_area: float = Field(0.70, description="Median share of the frame.")
    min_frame_iou: float = Field(0.35, description="Between neighbouring frames' masks.")
    min_inside_box: float = Field(0.80, description="Share of the mask inside the located box.")


class CompositeSettings(Frozen):
    """Characters pasted into scenes of the opposite style (paper, section 3.2)."""

    ratio: Decimal = Field(
        Decimal("0.10"), ge=0, lt=1, description="Composites / (originals + composites)."
    )
    seed: int = 0
    min_height: float = Field(
        0.35, gt=0, description="Character's height in the scene, at least (share of it)."
    )
    max_height: float = Field(
        0.85, gt=0, description="At most; one cut off at the top keeps its own framing."
    )
    feather: float = Field(1.5, ge=0, description="Pixels of soft edge.")
    crf: int = Field(16, ge=0, le=51, description="x264 quality; 16 is visually lossless.")
    preset: str = Field("fast", description="x264 preset.")
    workers: Annotated[int, Immaterial()] = Field(
        2, ge=1, description="Composites rendered at a time; about 0.3 GB each."
    )


class DatasetSettings(Frozen):
    """Splits by episode, and the exact share of composites."""

    val_share: float = Field(0.1, ge=0, lt=1, description="Of each show's episodes.")
    test_share: float = Field(0.0, ge=0, lt=1, description="Of each show's episodes.")
    seed: int = 0
    ratio: Decimal | None = Field(
        None, ge=0, lt=1, description="Take only so many composites. Empty: all that were made."
    )

    @model_validator(mode="after")
    def _something_is_trained_on(self) -> DatasetSettings:
        if self.val_share + self.test_share >= 1:
            raise ValueError("val_share and test_share leave nothing to train on")
        return self


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


class RunSettings(Frozen):
    """How the work is done; nothing here changes a result."""

    workers: int = Field(2, ge=1, description="Units of work at the same time.")
    timeout_minutes: int = Field(720, ge=1, description="A unit that takes longer is killed.")
    retries: int = Field(2, ge=0, description="For failures that a retry can help.")


class Config(Frozen):
    """The one YAML file: where the library and the workspace are, and each stage's settings."""

    library: Path = Field(description="library.yaml")
    workspace: Path = Field(Path("workspace"), description="Where all results go.")
    run: RunSettings = RunSettings()
    scenes: SceneSettings = SceneSettings()
    overlays: OverlaySettings = OverlaySettings()
    clips: ClipSettings = ClipSettings()
    transcripts: TranscriptSettings = TranscriptSettings()
    captions: CaptionSettings = CaptionSettings()
    cutouts: CutoutSettings = CutoutSettings()
    composites: CompositeSettings = CompositeSettings()
    dataset: DatasetSettings = DatasetSettings()
    backbone: BackboneSettings = BackboneSettings()
    latents: LatentSettings = LatentSettings()
    embeddings: EmbeddingSettings = EmbeddingSettings()
    lora: LoraSettings = LoraSettings()
    samples: SampleSettings = SampleSettings()
    scores: ScoreSettings = ScoreSettings()
    report: ReportSettings = ReportSettings()


def load_config(path: Path) -> Config:
    """Read and check the settings file; paths in it come back absolute.

    Raises BadInput with one message that names every problem, each with its line and key.
    """
    document, lines = read_yaml(path)
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        raise invalid(path, error, lines) from error
    if not path.resolve().parent.joinpath(config.library).is_file():
        line = lines[("library",)]
        raise BadInput(
            f"no file {path.resolve().parent / config.library}",
            where=f"{path}, line {line}, key library",
            fix="Write the path of your library.yaml, relative to this file.",
        )
    return _absolute(config, path.resolve().parent)


def _absolute(config: Config, base: Path) -> Config:
    changes: dict[str, object] = {
        "library": base / config.library,
        "workspace": base / config.workspace,
    }
    for name in Config.model_fields:
        section = getattr(config, name)
        if isinstance(section, Frozen):
            paths = {
                field: base / value
                for field in type(section).model_fields
                if isinstance(value := getattr(section, field), Path)
            }
            if paths:
                changes[name] = section.model_copy(update=paths)
    return config.model_copy(update=changes)


def exact(seconds: Decimal) -> Fraction:
    """A settings time as an exact fraction of seconds."""
    return Fraction(seconds)
