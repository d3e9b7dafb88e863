"""Stage ``latents``: encode each clip or composite once, as the VAE's normalized mean.

One thread decodes the next clip and another writes the previous one while the VAE works, so a GPU
waits for neither. A killed unit resumes with its unfinished clips (``tensor_shards``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mimix_core import tables
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey, OmitDefault
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.media.decode import read_rgb
from mimix_core.media.probe import UnreadableVideo
from mimix_core.settings import LatentSettings
from mimix_core.tables import CLIPS, COMPOSITES, LATENTS, Reason, Row
from mimix_core.wan import model_registry, tensor_shards
from mimix_core.wan.model_registry import Backbone

_PREFETCH = 2
"""Maximum of clips decoded ahead of the encoder: 0.1 GB each at 81 x 480 x 832."""

Frames = NDArray[np.uint8]


class LatentInputs(FrozenModel):
    """Clips or composites, and the VAE, the only component that latents depend on.

    ``span``: half-open range of this unit in the table's usable rows, in the order of their ids;
    None: all rows. ``frames``: of each video, all or only the middle one, as a video of one frame.
    ``partial_results``: folder of finished latents of interrupted units.
    """

    unit: Annotated[str, ExcludeFromKey()]
    samples: TableRef
    span: tuple[int, int] | None = None
    frames: Annotated[Literal["all", "middle"], OmitDefault()] = "all"
    backbone_name: str
    backbone_source: FileRef | None = None
    vae: FileRef
    partial_results: Annotated[Path, ExcludeFromKey()]


class UnsupportedSize(ValueError):
    """The backbone does not support a video's size or length."""


def run(inputs: LatentInputs, settings: LatentSettings, out: Path) -> StageReport:
    """Encode every usable sample; one that cannot be read or encoded becomes a failed row.

    Runtime stats: the numbers of latents encoded and found, the seconds of encoding, and those
    spent waiting for frames. Raises BadInput for another table or a size that the backbone does
    not support, Transient when the device is out of memory.
    """
    backbone = model_registry.get_backbone(inputs.backbone_name)
    files = list(_video_files(inputs).items())
    _check_size(backbone, settings)
    begin, end = inputs.span or (0, len(files))
    samples = dict(files[begin:end])
    key = STAGE.key(inputs, settings)
    with tensor_shards.open_partial_results(inputs.partial_results, STAGE.name, key) as results:
        encoder = _LatentEncoder(inputs, settings, backbone, results)
        encoder.load_finished(list(samples))
        if missing := {name: file for name, file in samples.items() if name not in encoder.done}:
            encoder.encode(missing, len(samples))
        locations = tensor_shards.write_shards(out, "latents", encoder.done)
    shared = {"backbone": backbone.name}
    rows: list[Row] = []
    for name in samples:
        if name in locations:
            rows.append(tables.ok(sample_id=name, **shared, **locations[name].columns()))
        else:
            reason, detail = encoder.failed[name]
            rows.append(
                tables.failed(reason, detail, sample_id=name, **shared, **tensor_shards.NO_TENSOR)
            )
    return StageReport(rows, rows_in=len(samples), runtime_stats=encoder.runtime_stats)


def _video_files(inputs: LatentInputs) -> dict[str, str]:
    """Return the file of each usable clip or composite by id, in the order of the table."""
    table = inputs.samples
    if table.stage == "clips":
        clips = tables.usable(tables.read(table.path, CLIPS))
        return {row["clip_id"]: row["file"] for row in clips}
    if table.stage == "composites":
        composites = tables.usable(tables.read(table.path, COMPOSITES))
        return {row["composite_id"]: row["file"] for row in composites}
    raise BadInput(
        f"latents are made of clips or composites, not of {table.stage}",
        where=f"stage latents ({inputs.unit})",
    )


def _check_size(backbone: Backbone, settings: LatentSettings) -> None:
    if settings.width is None or settings.height is None:
        return
    problem = backbone.size_error(1, settings.width, settings.height)
    if problem is not None:
        raise BadInput(problem, where="settings, keys latents.width and latents.height")


@dataclass
class _LatentEncoder:
    """Encodes one unit: finished and failed samples, and timings."""

    inputs: LatentInputs
    settings: LatentSettings
    backbone: Backbone
    partial_results: tensor_shards.PartialResults
    done: dict[str, tensor_shards.PartialResult] = field(default_factory=dict)
    failed: dict[str, tuple[Reason, str]] = field(default_factory=dict)
    runtime_stats: dict[str, str | int | float] = field(default_factory=dict)

    def load_finished(self, names: Sequence[str]) -> None:
        """Load the latents that an earlier attempt finished."""
        for name in names:
            result = self.partial_results.get(name)
            if result is not None:
                self.done[name] = result
        self.runtime_stats["found"] = len(self.done)

    def encode(self, missing: Mapping[str, str], total: int) -> None:
        """Encode video files by sample id; ``total`` counts all samples of the unit."""
        from mimix_core.engine.gpu_lease import acquire_device
        from mimix_core.engine.torch_runtime import set_num_threads

        set_num_threads(self.settings.threads)
        progress.report_progress(len(self.done), total, "waiting for a free device")
        with acquire_device(self.settings.device) as device:
            self._encode(missing, total, device)

    def _encode(self, missing: Mapping[str, str], total: int, device: Any) -> None:
        interface = model_registry.load_interface(self.backbone)
        vae = interface.load_vae(self.inputs.vae.path, device, self.settings.precision)
        started, waited, encoded = time.monotonic(), 0.0, 0
        with ThreadPoolExecutor(1) as writer:
            write: Future[None] | None = None
            for name, frames in prefetch(list(missing), lambda name: self._read(missing[name])):
                progress.report_progress(len(self.done) + len(self.failed), total, name)
                wait_started = time.monotonic()
                try:
                    frames_THWC = frames.result()
                    waited += time.monotonic() - wait_started
                    latents_CTHW = _check_finite(interface.encode_frames(vae, frames_THWC))
                except UnsupportedSize as error:
                    self.failed[name] = (Reason.SIZE_DOES_NOT_FIT, str(error))
                    continue
                except (UnreadableVideo, ValueError) as error:
                    self.failed[name] = (Reason.NO_LATENT, f"{type(error).__name__}: {error}")
                    continue
                encoded += 1
                if write is not None:
                    write.result()
                write = writer.submit(self._store, name, latents_CTHW)
            if write is not None:
                write.result()
        seconds = time.monotonic() - started
        self.runtime_stats |= {
            "encoded": encoded,
            "device": str(device),
            "seconds": round(seconds, 3),
            "seconds_waited_for_frames": round(waited, 3),
        }
        progress.report_progress(total, total)

    def _read(self, file: str) -> Frames:
        """Decode a video in the reader thread."""
        path = self.inputs.samples.folder / file
        frames_THWC = read_rgb(path, threads=self.settings.threads)
        if self.inputs.frames == "middle":
            middle = len(frames_THWC) // 2
            frames_THWC = frames_THWC[middle : middle + 1]
        if self.settings.width is not None and self.settings.height is not None:
            from mimix_core.wan.vae import resize_frames

            frames_THWC = resize_frames(frames_THWC, self.settings.width, self.settings.height)
        count, height, width, _ = frames_THWC.shape
        problem = self.backbone.size_error(count, width, height)
        if problem is not None:
            raise UnsupportedSize(problem)
        return frames_THWC

    def _store(self, name: str, latents_CTHW: Any) -> None:
        """Write latents in the writer thread."""
        self.done[name] = self.partial_results.put(name, latents_CTHW)


def prefetch(
    names: Sequence[str], load: Callable[[str], Frames]
) -> Iterator[tuple[str, Future[Any]]]:
    """Yield each name with the future of its frames, while a thread loads the following ones."""
    with ThreadPoolExecutor(1) as reader:
        pending: list[Future[Any]] = []
        try:
            for number, name in enumerate(names):
                for following in names[number + len(pending) : number + 1 + _PREFETCH]:
                    pending.append(reader.submit(load, following))
                yield name, pending.pop(0)
        finally:
            for future in pending:
                future.cancel()


def _check_finite(latents_CTHW: Any) -> Any:
    if not bool(latents_CTHW.isfinite().all()):
        raise ValueError("the latents contain non-finite values (NaN or Inf)")
    return latents_CTHW


STAGE = Stage(
    name="latents",
    title="Latents",
    description="Encode each video with the backbone's VAE, once.",
    row_noun="samples",
    phase=Phase.TRAINING,
    upstream=("duplicates", "composites", "backbone"),
    resources=frozenset({Resource.CPU, Resource.GPU}),
    version=3,
    inputs=LatentInputs,
    settings=LatentSettings,
    table=LATENTS,
    run=run,
)
