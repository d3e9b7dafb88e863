"""Stage ``latents``: each clip or composite as the VAE's normalised mean, computed once.

Wan's rule (DiffSynth and diffusers agree): the mean of the posterior, not a draw from it, from a
VAE in fp32, then (mean - latents_mean) / latents_std per channel.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from mimix_core import progress, tables
from mimix_core.errors import BadInput
from mimix_core.keys import Immaterial
from mimix_core.media.decode import read_rgb
from mimix_core.media.probe import UnreadableVideo
from mimix_core.refs import FileRef, Frozen, TableRef, digest_file
from mimix_core.settings import LatentSettings
from mimix_core.stage import Stage, StageReport
from mimix_core.tables import CLIPS, COMPOSITES, LATENTS, Reason, Row

if TYPE_CHECKING:
    import torch

SOURCES = {"clips": CLIPS, "composites": COMPOSITES}


class LatentInputs(Frozen):
    """Clips or composites, and the VAE alone: no other component can change a latent."""

    unit: Annotated[str, Immaterial()]
    samples: TableRef
    backbone_name: str
    vae: FileRef


def run(inputs: LatentInputs, settings: LatentSettings, out: Path) -> StageReport:
    """Encode every usable sample; a sample that cannot be read or encoded fails alone."""
    from mimix_core.wan.runtime import pick_device, pin_threads

    source = SOURCES.get(inputs.samples.stage)
    if source is None:
        raise BadInput(
            f"latents are made of {' or '.join(SOURCES)}, not of {inputs.samples.stage}",
            where=f"stage latents ({inputs.unit})",
        )
    samples = list(tables.usable(tables.read(inputs.samples.path, source)))
    rows: list[Row] = []
    if samples:
        pin_threads(settings.threads)
        vae = load_vae(inputs.vae.path, pick_device(settings.device))
        (out / "latents").mkdir()
    for number, sample in enumerate(samples):
        sample_id = sample[source.id]
        progress.advance(number, len(samples), sample_id)
        rows.append(_row(inputs, settings, out, sample_id, sample, vae))
    progress.advance(len(samples), len(samples))
    return StageReport(rows=rows, rows_in=len(samples))


def _row(
    inputs: LatentInputs,
    settings: LatentSettings,
    out: Path,
    sample_id: str,
    sample: Row,
    vae: Any,
) -> Row:
    from mimix_core.wan import tensors

    name = f"latents/{sample_id}.safetensors"
    same: Row = {"sample_id": sample_id, "backbone": inputs.backbone_name}
    try:
        frames_THWC = read_rgb(inputs.samples.folder / sample["file"], threads=settings.threads)
        if settings.width is not None and settings.height is not None:
            frames_THWC = resize(frames_THWC, settings.width, settings.height)
        latents_CTHW = encode(vae, frames_THWC)
    except (UnreadableVideo, ValueError, RuntimeError) as error:
        detail = f"{type(error).__name__}: {error}"
        return tables.failed(Reason.NO_LATENT, detail, **same, file="", shape=[], sha256="")
    tensors.write(out / name, {"latents_CTHW": latents_CTHW})
    return tables.ok(
        **same, file=name, shape=list(latents_CTHW.shape), sha256=digest_file(out / name)
    )


def load_vae(folder: Path, device: torch.device) -> Any:
    """The VAE (``AutoencoderKLWan``) in fp32, for encoding or decoding."""
    import torch
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan.from_pretrained(folder, torch_dtype=torch.float32).eval().to(device)


def resize(frames_THWC: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Frames at another size, by area averaging (no aliasing when shrinking)."""
    import cv2

    return np.stack(
        [cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames_THWC]
    )


def encode(vae: Any, frames_THWC: NDArray[np.uint8]) -> torch.Tensor:
    """Normalised latents_CTHW (fp32, CPU) of uint8 RGB frames: T frames give (T - 1) / 4 + 1.

    Raises ValueError unless T is 4k + 1 and both sides are multiples of 16 (VAE 8, patch 2).
    """
    import torch

    count, height, width, _ = frames_THWC.shape
    if count % 4 != 1 or height % 16 or width % 16:
        raise ValueError(f"{count} frames of {width}x{height} do not fit Wan's VAE")
    video_CTHW = torch.from_numpy(np.ascontiguousarray(frames_THWC.transpose(3, 0, 1, 2)))
    video_BCTHW = (video_CTHW.to(vae.device).float() / 127.5 - 1.0).unsqueeze(0)
    with torch.no_grad():
        mean_CTHW = vae.encode(video_BCTHW).latent_dist.mode()[0]
    shift_C, scale_C = (
        torch.tensor(values, device=mean_CTHW.device)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    latents_CTHW: torch.Tensor = (mean_CTHW - shift_C[:, None, None, None]) / scale_C[
        :, None, None, None
    ]
    return latents_CTHW.cpu()


STAGE = Stage(
    name="latents",
    version=1,
    inputs=LatentInputs,
    settings=LatentSettings,
    table=LATENTS,
    run=run,
)
