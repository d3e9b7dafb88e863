"""Check what this machine can run, and how to fix what it cannot."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from mimix_core.diagnostics.machine_check import MachineCheck, failed_check
from mimix_core.diagnostics.model_requirements import required_models
from mimix_core.diagnostics.preflight import find_problems
from mimix_core.diagnostics.run_estimates import estimate_run, find_gpu
from mimix_core.errors import MimixError
from mimix_core.settings import Config

# A clip of 81 x 480 x 832 over all stages: video about 0.7 MB, latents of 16 x 21 x 60 x 104 fp32
# values 8.4 MB, its embedding up to 1 MB.
GB_PER_1000_CLIPS = 10

# Cards of 24 GB report 23.6 to 25.4 GB of 10^9 bytes, with error correction the least.
_LARGE_GPU_GB = 23

PACKAGES = {
    "curate": ("av", "scenedetect", "cv2", "rapidocr", "onnxruntime", "pysubs2"),
    "speech": ("faster_whisper",),
    "augment": ("ai_edge_litert",),
    "faces": ("dlib", "face_recognition_models"),
    "sam2": ("sam2",),
    "sam3": ("transformers", "efficientnet_lite_pytorch"),
    "train": ("torch", "diffusers", "peft", "transformers", "deepspeed"),
    "bench": ("brisque", "efficientnet_lite_pytorch"),
}


_SETTINGS_CHECK = "settings and files"


def drop_repeated(checks: Sequence[MachineCheck]) -> list[MachineCheck]:
    """Drop the problems of settings and files that another check, of the library, found too."""
    others = {check.finding for check in checks if check.name != _SETTINGS_CHECK}
    return [one for one in checks if one.name != _SETTINGS_CHECK or one.finding not in others]


def run_checks(config: Config | None) -> list[MachineCheck]:
    """Run all checks; with settings also those of their models and workspace."""
    return list(_checks(config))


def _checks(config: Config | None) -> Iterator[MachineCheck]:
    yield _python()
    yield from _packages()
    yield _ffmpeg()
    yield _accelerator()
    yield _memory()
    yield _disk(config.workspace if config else Path.cwd())
    if config is not None:
        for need in required_models(config, "mimix"):
            yield MachineCheck(
                name=f"model for {need.stage}",
                state="ok" if need.available else "no",
                finding=f"{need.name}: {need.location}",
                fix="" if need.available else need.fix,
            )
        for problem in find_problems(config, "mimix", with_models=False):
            yield failed_check(_SETTINGS_CHECK, problem)
        yield from estimate_run(config, "mimix", find_gpu())


def _python() -> MachineCheck:
    version = ".".join(str(part) for part in sys.version_info[:3])
    good = sys.version_info >= (3, 11)
    return MachineCheck(
        name="Python",
        state="ok" if good else "no",
        finding=version,
        fix="" if good else "Install Python 3.11 or newer.",
    )


def _packages() -> Iterator[MachineCheck]:
    for extra, names in PACKAGES.items():
        missing = [name for name in names if find_spec(name) is None]
        yield MachineCheck(
            name=f"packages for {extra}",
            state="limited" if missing else "ok",
            finding=f"missing: {', '.join(missing)}" if missing else "all",
            fix=f"pip install 'mimix[{extra}]'" if missing else "",
        )


def _ffmpeg() -> MachineCheck:
    fix = "Run apt-get install ffmpeg, or pip install imageio-ffmpeg, which includes it."
    if find_spec("av") is None:
        return MachineCheck(name="ffmpeg", state="no", finding="PyAV is not installed", fix=fix)
    from mimix_core.media import find_ffmpeg

    try:
        return MachineCheck(name="ffmpeg", state="ok", finding=str(find_ffmpeg()))
    except MimixError as error:
        return MachineCheck(name="ffmpeg", state="limited", finding=str(error), fix=fix)


def _accelerator() -> MachineCheck:
    needs = (
        "A LoRA of the 14B needs a GPU of 24 GB or more (docs/training-speed.md); curation and "
        "composites need no GPU."
    )
    if find_spec("torch") is None:
        return MachineCheck(
            name="GPU", state="limited", finding="torch is not installed", fix=needs
        )
    import torch

    if not torch.cuda.is_available():
        return MachineCheck(
            name="GPU", state="limited", finding=f"none (torch {torch.__version__})", fix=needs
        )
    names = []
    largest = 0.0
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        largest = max(largest, properties.total_memory / 1e9)
        names.append(f"{properties.name}, {properties.total_memory / 1e9:.0f} GB")
    return MachineCheck(
        name="GPU",
        state="ok" if largest >= _LARGE_GPU_GB else "limited",
        finding="; ".join(names),
        fix="" if largest >= _LARGE_GPU_GB else needs,
    )


def _memory() -> MachineCheck:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    good = total >= 8
    return MachineCheck(
        name="cores and memory",
        state="ok" if good else "limited",
        finding=f"{os.cpu_count()} cores, {total:.0f} GB",
        fix="" if good else "Set run.max_workers to 1; a unit takes up to 3 GB.",
    )


def _disk(workspace: Path) -> MachineCheck:
    existing = next(path for path in (workspace, *workspace.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e9
    return MachineCheck(
        name="disk",
        state="ok" if free >= 20 else "limited",
        finding=f"{free:.0f} GB free at {existing}: about {free / GB_PER_1000_CLIPS:.0f},000 clips",
        fix="" if free >= 20 else "Move the workspace to a larger disk.",
    )
