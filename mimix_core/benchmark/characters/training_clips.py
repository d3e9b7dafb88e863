"""Read the training clips whose characters have masks, as frames that a bank is built from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from mimix_core import tables
from mimix_core.benchmark.characters.figure_motion import STEP, figure_motion
from mimix_core.benchmark.characters.training_figures import TrainingFrame, mask_box
from mimix_core.engine.artifacts import TableRef
from mimix_core.media.decode import read_rgb
from mimix_core.media.images import evenly_spaced_indices
from mimix_core.media.masks import read_masks
from mimix_core.tables import CLIPS, CUTOUTS

FRAMES_PER_CLIP = 3


@dataclass(frozen=True)
class MaskedClip:
    """A clip and the masks of its characters. ``complete``: every captioned one has a mask.

    ``rate``: frames per second.
    """

    clip_id: str
    style: str
    file: Path
    masks: Mapping[str, Path]
    complete: bool
    rate: Fraction


def list_masked_clips(
    clips: Sequence[TableRef], cutouts: Sequence[TableRef], vetoes: Collection[str] = ()
) -> list[MaskedClip]:
    """List the clips with the mask of at least one character. ``vetoes``: cutouts to leave out."""
    rows: dict[str, list[tuple[str, Path | None]]] = {}
    for ref in cutouts:
        for row in tables.read(ref.path, CUTOUTS):
            usable = row["status"] == tables.Status.OK and row["cutout_id"] not in vetoes
            file = ref.folder / row["file"] if usable else None
            rows.setdefault(row["clip_id"], []).append((row["character"], file))
    found = []
    for ref in clips:
        for clip in tables.usable(tables.read(ref.path, CLIPS)):
            own = rows.get(clip["clip_id"], [])
            masks = {name: file for name, file in own if file is not None}
            if masks:
                found.append(
                    MaskedClip(
                        clip["clip_id"],
                        clip["style"],
                        ref.folder / clip["file"],
                        masks,
                        len(masks) == len(own),
                        Fraction(clip["rate_num"], clip["rate_den"]),
                    )
                )
    return sorted(found, key=lambda clip: clip.clip_id)


def choose_clips(clips: Sequence[MaskedClip], most: int) -> list[MaskedClip]:
    """Choose up to ``most`` clips of each character, evenly over all of its clips."""
    chosen: set[str] = set()
    for name in sorted({name for clip in clips for name in clip.masks}):
        own = [clip.clip_id for clip in clips if name in clip.masks]
        chosen |= {own[index] for index in evenly_spaced_indices(len(own), most)}
    return [clip for clip in clips if clip.clip_id in chosen]


def read_training_frames(
    clip: MaskedClip, threads: int = 0
) -> tuple[list[TrainingFrame], dict[str, float]]:
    """Read frames of a clip, and how fast each character moves in it.

    Raises UnreadableVideo, and BadInput for a masks file that cannot be read.
    """
    frames_THWC = read_rgb(clip.file, threads=threads)
    total = len(frames_THWC)
    indices = sorted({(2 * part + 1) * total // (2 * FRAMES_PER_CLIP) for part in range(3)})
    alphas = {name: read_masks(file, indices) for name, file in sorted(clip.masks.items())}
    frames = [
        TrainingFrame(
            clip_id=clip.clip_id,
            style=clip.style,
            frame=index,
            image_HWC=frames_THWC[index],
            alphas={name: own_NHW[number] for name, own_NHW in alphas.items()},
            complete=clip.complete,
        )
        for number, index in enumerate(indices)
    ]
    height, width = frames_THWC.shape[1:3]
    scale = np.array([width, height, width, height], float)
    motions: dict[str, float] = {}
    for name, own_NHW in alphas.items():
        pairs = []
        for number, index in enumerate(indices):
            box = mask_box(own_NHW[number])
            if box is not None and index + STEP < total:
                x0, y0, x1, y1 = (float(side) for side in np.array(box) / scale)
                pairs.append((frames_THWC[index], frames_THWC[index + STEP], (x0, y0, x1, y1)))
        speed = figure_motion(pairs, clip.rate)
        if speed is not None:
            motions[name] = speed
    return frames, motions
