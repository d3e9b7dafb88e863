"""Stage ``latents``: each clip or composite as the VAE's normalised mean, computed once.

While the VAE works on one clip a thread decodes the next and another writes the last, so that a GPU
waits for neither. A unit that was killed goes on with the clips it had not finished (``cache``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from mimix_core import tables
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.media.decode import read_rgb
from mimix_core.media.probe import UnreadableVideo
from mimix_core.settings import LatentSettings
from mimix_core.tables import CLIPS, COMPOSITES, LATENTS, Reason, Row
from mimix_core.wan import model_registry, tensor_shards
from mimix_core.wan.model_registry import Backbone

SOURCES = {"clips": CLIPS, "composites": COMPOSITES}

_AHEAD = 2
"""Clips decoded and not yet encoded, at most: 0.1 GB each at 81 x 480 x 832."""

Frames = NDArray[np.uint8]


class LatentInputs(FrozenModel):
    """Clips or composites, and the VAE alone: no other component can change a latent.

    ``span``: the first and the one after the last of the table's usable rows that this unit is of,
    in the order of their ids; None: all. ``parts``: where finished latents of a unit under way lie.
    """

    unit: Annotated[str, ExcludeFromKey()]
    samples: TableRef
    span: tuple[int, int] | None = None
    backbone_name: str
    vae: FileRef
    parts: Annotated[Path, ExcludeFromKey()]


class SizeMisfit(ValueError):
    """The backbone cannot take a video of that size or length."""


def run(inputs: LatentInputs, settings: LatentSettings, out: Path) -> StageReport:
    """Encode every usable sample; one that cannot be read or encoded fails alone.

    Effort: how many were encoded now and how many were found, and how long encoding took and waited
    for frames. Raises BadInput when the table or the size is not one for the backbone, Transient
    when the device has no memory left.
    """
    backbone = model_registry.get(inputs.backbone_name)
    source = SOURCES.get(inputs.samples.stage)
    if source is None:
        raise BadInput(
            f"latents are made of {' or '.join(SOURCES)}, not of {inputs.samples.stage}",
            where=f"stage latents ({inputs.unit})",
        )
    _check_size(backbone, settings)
    usable = list(tables.usable(tables.read(inputs.samples.path, source)))
    begin, end = inputs.span or (0, len(usable))
    samples = {row[source.id]: row for row in usable[begin:end]}
    with tensor_shards.unit_parts(inputs.parts, STAGE.name, STAGE.key(inputs, settings)) as parts:
        work = _Work(inputs, settings, backbone, parts)
        work.find(list(samples))
        if missing := {name: row for name, row in samples.items() if name not in work.done}:
            work.encode(missing, len(samples))
        places = tensor_shards.write_shards(out, "latents", work.done)
    same = {"backbone": backbone.name}
    rows: list[Row] = []
    for name in samples:
        if name in places:
            rows.append(tables.ok(sample_id=name, **same, **places[name].columns()))
        else:
            reason, detail = work.failed[name]
            rows.append(
                tables.failed(reason, detail, sample_id=name, **same, **tensor_shards.NOWHERE)
            )
    return StageReport(rows, rows_in=len(samples), runtime_stats=work.effort)


def _check_size(backbone: Backbone, settings: LatentSettings) -> None:
    if settings.width is None or settings.height is None:
        return
    problem = backbone.misfit(1, settings.width, settings.height)
    if problem is not None:
        raise BadInput(problem, where="settings, keys latents.width and latents.height")


@dataclass
class _Work:
    """One unit under way: what is done, what failed and why, and where the time went."""

    inputs: LatentInputs
    settings: LatentSettings
    backbone: Backbone
    parts: tensor_shards.Parts
    done: dict[str, tensor_shards.Part] = field(default_factory=dict)
    failed: dict[str, tuple[Reason, str]] = field(default_factory=dict)
    effort: dict[str, str | int | float] = field(default_factory=dict)

    def find(self, names: Sequence[str]) -> None:
        """Take what an earlier attempt had finished."""
        for name in names:
            part = self.parts.find(name)
            if part is not None:
                self.done[name] = part
        self.effort["found"] = len(self.done)

    def encode(self, missing: dict[str, Row], total: int) -> None:
        """Encode samples, by id; ``total``: of the unit, those that were found included."""
        from mimix_core.engine.gpu_lease import acquire_device
        from mimix_core.engine.torch_runtime import set_num_threads

        set_num_threads(self.settings.threads)
        progress.advance(len(self.done), total, "waits for a free device")
        with acquire_device(self.settings.device) as device:
            self._encode(missing, total, device)

    def _encode(self, missing: dict[str, Row], total: int, device: Any) -> None:
        rules = model_registry.rules(self.backbone)
        vae = rules.load_vae(self.inputs.vae.path, device, self.settings.precision)
        started, waited, encoded = time.monotonic(), 0.0, 0
        with ThreadPoolExecutor(1) as writer:
            writing: Future[None] | None = None
            for name, frames in ahead(list(missing), lambda name: self._frames(missing[name])):
                progress.advance(len(self.done) + len(self.failed), total, name)
                asked = time.monotonic()
                try:
                    frames_THWC = frames.result()
                    waited += time.monotonic() - asked
                    latents_CTHW = _finite(rules.encode(vae, frames_THWC))
                except SizeMisfit as error:
                    self.failed[name] = (Reason.SIZE_DOES_NOT_FIT, str(error))
                    continue
                except (UnreadableVideo, ValueError) as error:
                    self.failed[name] = (Reason.NO_LATENT, f"{type(error).__name__}: {error}")
                    continue
                encoded += 1
                if writing is not None:
                    writing.result()
                writing = writer.submit(self._keep, name, latents_CTHW)
            if writing is not None:
                writing.result()
        seconds = time.monotonic() - started
        self.effort |= {
            "encoded": encoded,
            "device": str(device),
            "seconds": round(seconds, 3),
            "seconds_waited_for_frames": round(waited, 3),
        }
        progress.advance(total, total)

    def _frames(self, sample: Row) -> Frames:
        """Runs in the decoding thread."""
        path = self.inputs.samples.folder / sample["file"]
        frames_THWC = read_rgb(path, threads=self.settings.threads)
        if self.settings.width is not None and self.settings.height is not None:
            from mimix_core.wan.vae import resize

            frames_THWC = resize(frames_THWC, self.settings.width, self.settings.height)
        count, height, width, _ = frames_THWC.shape
        problem = self.backbone.misfit(count, width, height)
        if problem is not None:
            raise SizeMisfit(problem)
        return frames_THWC

    def _keep(self, name: str, latents_CTHW: Any) -> None:
        """Runs in the writing thread."""
        self.done[name] = self.parts.keep(name, latents_CTHW)


def ahead(names: Sequence[str], load: Callable[[str], Frames]) -> Iterator[tuple[str, Future[Any]]]:
    """Each name with its frames to come, in order; a thread loads the ones that follow."""
    with ThreadPoolExecutor(1) as reader:
        waiting: list[Future[Any]] = []
        try:
            for number, name in enumerate(names):
                for following in names[number + len(waiting) : number + 1 + _AHEAD]:
                    waiting.append(reader.submit(load, following))
                yield name, waiting.pop(0)
        finally:
            for future in waiting:
                future.cancel()


def _finite(latents_CTHW: Any) -> Any:
    if not bool(latents_CTHW.isfinite().all()):
        raise ValueError("the latents hold values that are no numbers")
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
