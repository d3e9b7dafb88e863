"""Stage ``composites``: plan how many and which, render them, and say what was not needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import cv2
from pydantic import field_validator

from mimix_core import progress, tables
from mimix_core.composites.place import Placement, Size, place
from mimix_core.composites.plan import Background, Candidate, Pair, plan
from mimix_core.composites.render import composite, exposure, write_sheet
from mimix_core.errors import BadInput
from mimix_core.keys import Immaterial
from mimix_core.library import Style
from mimix_core.masks import read_masks
from mimix_core.media import ClipWriter, EncodeFailed, ProofFailed, prove_clip, read_rgb
from mimix_core.refs import Frozen, TableRef, digest_file
from mimix_core.settings import CompositeSettings, DatasetSettings
from mimix_core.splits import Split, assign_splits, composites_for, draw, episodes_of
from mimix_core.stage import Stage, StageReport
from mimix_core.tables import Reason, Row, Table


class CompositeInputs(Frozen):
    """The clips, captions and cutouts of all episodes, and how episodes are split."""

    unit: Annotated[str, Immaterial()]
    clips: tuple[TableRef, ...]
    captions: tuple[TableRef, ...]
    cutouts: tuple[TableRef, ...]
    split: DatasetSettings

    @field_validator("split")
    @classmethod
    def _only_the_split(cls, split: DatasetSettings) -> DatasetSettings:
        """How many of the composites the dataset takes has no part in making them."""
        return split.model_copy(update={"ratio": None})


@dataclass(frozen=True)
class _Stored:
    """A row, and where its file lies."""

    row: Row
    path: Path


def run(inputs: CompositeInputs, settings: CompositeSettings, out: Path) -> StageReport:
    """One row per planned pair, and one per ok cutout that no pair took.

    Notes say how many were wanted for the ratio, planned and made: pairs can be fewer than wanted.
    """
    clips = _usable(inputs.clips, tables.CLIPS)
    captioned = {
        row["clip_id"]
        for ref in inputs.captions
        for row in tables.usable(tables.read(ref.path, tables.CAPTIONS))
    }
    cutouts = _usable(inputs.cutouts, tables.CUTOUTS)
    episodes = episodes_of((clip.row for clip in clips.values()), captioned)
    splits = assign_splits(episodes, inputs.split)
    trained = {
        clip_id: clip
        for clip_id, clip in clips.items()
        if clip_id in captioned and splits[clip.row["episode_id"]] is Split.TRAIN
    }
    wanted = composites_for(len(trained), Fraction(settings.ratio))
    pairs = plan(
        [_candidate(c.row) for c in cutouts.values() if c.row["clip_id"] in trained],
        [Background(name, Style(clip.row["style"])) for name, clip in sorted(trained.items())],
        count=wanted,
        seed=settings.seed,
    )
    for folder in ("videos", "sheets"):
        (out / folder).mkdir()

    def make(pair: Pair) -> Row:
        cutout = cutouts[pair.cutout_id]
        source, scene = trained[cutout.row["clip_id"]], trained[pair.background_id]
        occupied = present.get(pair.background_id, [])
        return _made(pair, cutout, source, scene, occupied, settings, out)

    present: dict[str, list[tuple[float, float]]] = {}
    for cutout in cutouts.values():
        present.setdefault(cutout.row["clip_id"], []).append(_columns_of(cutout.row))
    rows: list[Row] = []
    # Threads do: decoding, scaling and x264 (on one thread each) run outside of Python's lock.
    with ThreadPoolExecutor(settings.workers) as pool:
        for done, row in enumerate(pool.map(make, pairs), start=1):
            rows.append(row)
            progress.advance(done, len(pairs), row["composite_id"])
    made = sum(row["status"] == tables.Status.OK for row in rows)
    uses = Counter(pair.cutout_id for pair in pairs)
    styles = {clip.row["style"] for clip in trained.values()}
    rows += [
        _unused(cutout.row, clips[cutout.row["clip_id"]].row, trained, styles)
        for name, cutout in cutouts.items()
        if not uses[name]
    ]
    notes = {
        "originals": len(trained),
        "wanted": wanted,
        "planned": len(pairs),
        "made": made,
        "share": round(made / max(made + len(trained), 1), 6),
    }
    # A cutout counts once, or as often as the plan takes it.
    return StageReport(rows, rows_in=sum(max(1, uses[name]) for name in cutouts), notes=notes)


def _usable(refs: Iterable[TableRef], table: Table) -> dict[str, _Stored]:
    return {
        row[table.id]: _Stored(row, ref.folder / row["file"])
        for ref in refs
        for row in tables.usable(tables.read(ref.path, table))
    }


def _columns_of(cutout: Row) -> tuple[float, float]:
    """From which to which column a character stands, in the middle frame of those it is in."""
    present = [box for box in cutout["boxes"] if box[2] > box[0]]
    box = present[len(present) // 2]
    return float(box[0]), float(box[2])


def _candidate(cutout: Row) -> Candidate:
    return Candidate(cutout["cutout_id"], cutout["character"], Style(cutout["style"]))


def _made(
    pair: Pair,
    cutout: _Stored,
    source: _Stored,
    scene: _Stored,
    occupied: Sequence[tuple[float, float]],
    settings: CompositeSettings,
    out: Path,
) -> Row:
    name = f"{pair.cutout_id}-on-{pair.background_id}"
    values = _columns(name, cutout.row, source.row) | {
        "background_clip_id": scene.row["clip_id"],
        "background_episode_id": scene.row["episode_id"],
        "show": scene.row["show"],
        "style": scene.row["style"],
        "rank": pair.rank,
        "width": scene.row["width"],
        "height": scene.row["height"],
        "frames": scene.row["frames"],
    }
    try:
        placement = place(
            cutout.row["boxes"],
            cutout.row["border"],
            Size(source.row["width"], source.row["height"]),
            Size(scene.row["width"], scene.row["height"]),
            min_height=settings.min_height,
            max_height=settings.max_height,
            chance=lambda what: float(draw(settings.seed, what, name)),
            occupied=occupied,
        )
        video, sheet = f"videos/{name}.mp4", f"sheets/{name}.jpg"
        _render(cutout, source, scene, placement, settings, out / video, out / sheet)
    except (BadInput, EncodeFailed, ProofFailed, ValueError, cv2.error) as error:
        # One composite that breaks must not take the others with it.
        return tables.failed(Reason.RENDER_FAILED, str(error), **values)
    values |= {"scale": placement.scale, "x": placement.x, "y": placement.y}
    values |= {"file": video, "sheet_file": sheet, "sha256": digest_file(out / video)}
    return tables.ok(**values)


def _render(
    cutout: _Stored,
    source: _Stored,
    scene: _Stored,
    placement: Placement,
    settings: CompositeSettings,
    video: Path,
    sheet: Path,
) -> None:
    """One decode of each clip, one encode, and the proof that it reads back."""
    source_NHWC, scene_NHWC = read_rgb(source.path), read_rgb(scene.path)
    alpha_NHW = read_masks(cutout.path)
    gain = exposure(source_NHWC, alpha_NHW, scene_NHWC)
    width, height = scene.row["width"], scene.row["height"]
    middle = len(scene_NHWC) // 2
    frames = composite(
        source_NHWC, alpha_NHW, scene_NHWC, placement, gain=gain, feather=settings.feather
    )
    with ClipWriter(
        video,
        width,
        height,
        crf=settings.crf,
        preset=settings.preset,
    ) as writer:
        for n, frame in enumerate(frames):
            writer.write_rgb(frame)
            if n == middle:
                write_sheet(sheet, source_NHWC[n], alpha_NHW[n], scene_NHWC[n], frame)
    try:
        prove_clip(video, width, height, frames=scene.row["frames"])
    except ProofFailed:
        video.unlink()
        sheet.unlink(missing_ok=True)
        raise


def _unused(cutout: Row, clip: Row, trained: Iterable[str], styles: set[str]) -> Row:
    """The row of a cutout that is in no pair, and why."""
    values = _columns(f"{cutout['cutout_id']}-unused", cutout, clip)
    if cutout["clip_id"] not in trained:
        detail = "its episode is not in the training split"
        return tables.rejected(Reason.HELD_OUT, detail, **values)
    opposite = Style(cutout["style"]).opposite.value
    if opposite not in styles:
        detail = f"no captioned {opposite} clip to paste onto"
        return tables.rejected(Reason.NO_BACKGROUND, detail, **values)
    detail = "the ratio is met without it"
    return tables.rejected(Reason.NOT_NEEDED_FOR_RATIO, detail, **values)


def _columns(name: str, cutout: Row, source: Row) -> dict[str, Any]:
    return {
        "composite_id": name,
        "cutout_id": cutout["cutout_id"],
        "source_clip_id": cutout["clip_id"],
        "background_clip_id": "",
        "source_episode_id": source["episode_id"],
        "background_episode_id": "",
        "show": "",
        "style": "",
        "character": cutout["character"],
        "character_style": cutout["style"],
        "rank": -1,
        "scale": 0.0,
        "x": 0,
        "y": 0,
        "width": 0,
        "height": 0,
        "frames": 0,
        "file": "",
        "sheet_file": "",
        "sha256": "",
    }


STAGE = Stage(
    name="composites",
    version=1,
    inputs=CompositeInputs,
    settings=CompositeSettings,
    table=tables.COMPOSITES,
    run=run,
)
