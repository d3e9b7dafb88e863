"""Tables of cutouts and composites of a made-up run."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mimix_core import tables
from mimix_core.tables import Reason, Row, ok, rejected
from tests.factories import UNASKED
from tests.stages.report.fake_run import FakeRun
from tests.stages.report.fake_videos import FRAMES, disc_mask, encode


def add_augmentation(run: FakeRun) -> None:
    """Add tables of cutouts and composites; needs ``add_curation``."""
    clips = [row for row in run.rows("clips") if row["status"] == "ok"]
    by_episode: dict[str, list[Row]] = {}
    for number, clip in enumerate(clips):
        unit = next(u for s, u, _, rows, _ in run.units if s == "clips" and clip in rows)
        by_episode.setdefault(unit, []).append(_cutout(run, unit, clip, number))
    for unit, rows in by_episode.items():
        run.commit("cutouts", unit, tables.CUTOUTS, rows)
    cutouts = [row for row in run.rows("cutouts") if row["status"] == "ok"]
    composites = [
        _composite(run, cutout, next(c for c in clips if c["style"] != cutout["style"]), k)
        for k, cutout in enumerate(cutouts)
    ]
    run.commit("composites", "all", tables.COMPOSITES, composites)
    recaptions = [
        ok(
            clip_id=row["composite_id"],
            backend="script",
            caption=f"[Character: {row['character']}], walks by. [scene-style:{row['style']}]",
            actions=[],
            context="",
            style=row["style"],
            **UNASKED,
        )
        for row in composites
        if row["status"] == "ok"
    ]
    run.commit("recaptions", "all", tables.CAPTIONS, recaptions)


def _cutout(run: FakeRun, unit: str, clip: Row, number: int) -> Row:
    character = "Anna" if clip["show"] == "portraits" else ("Rinky", "Bunny")[number % 2]
    cutout = f"{clip['clip_id']}-{character.lower()}"
    y, x = np.mgrid[0 : clip["height"], 0 : clip["width"]]
    pngs = []
    for k in range(FRAMES):
        buffer = io.BytesIO()
        alpha = disc_mask(number, k, x, y).astype(np.uint8) * 255
        Image.fromarray(alpha).save(buffer, "PNG")
        pngs.append(buffer.getvalue())
    masks = pa.table({"frame": list(range(FRAMES)), "alpha_png": pngs}, schema=tables.MASKS)
    file = f"{cutout}.parquet"
    pq.write_table(masks, run.folder("cutouts", unit) / file)
    values: Row = {
        "cutout_id": cutout,
        "clip_id": clip["clip_id"],
        "show": clip["show"],
        "style": clip["style"],
        "character": character,
        "locator": "boxes",
        "backend": "grabcut",
        "area": [0.2] * FRAMES,
        "boxes": [[0, 0, 10, 10]] * FRAMES,
        "score": [0.9] * FRAMES,
        "presence": 1.0,
        "border": [],
        "file": file,
    }
    if number == 1:
        return rejected(Reason.MASK_UNSTABLE, "frames 7 and 8 share 0.12", **values)
    if number == 2:
        return rejected(Reason.NOT_LOCATED, "no box", **values | {"file": "", "boxes": []})
    return ok(**values)


def _composite(run: FakeRun, cutout: Row, background: Row, number: int) -> Row:
    composite = f"{cutout['cutout_id']}-in-{background['clip_id']}"
    frames = run.paint(background["show"], 40 + number)
    values: Row = {
        "composite_id": composite,
        "cutout_id": cutout["cutout_id"],
        "source_clip_id": cutout["clip_id"],
        "background_clip_id": background["clip_id"],
        "source_episode_id": cutout["clip_id"].rsplit("-", 1)[0],
        "background_episode_id": background["episode_id"],
        "show": background["show"],
        "style": background["style"],
        "character": cutout["character"],
        "character_style": cutout["style"],
        "scale": 1.0,
        "x": 0,
        "y": 0,
        "width": frames[0].shape[1],
        "height": frames[0].shape[0],
        "frames": FRAMES,
        "file": f"{composite}.mp4",
        "sheet_file": "",
        "sha256": "",
    }
    if number > 1:
        empty = {"file": "", "frames": 0, "width": 0, "height": 0}
        return rejected(Reason.NOT_NEEDED_FOR_RATIO, "enough", **values | empty)
    sha256 = encode(run.folder("composites", "all") / values["file"], frames)
    return ok(**values | {"sha256": sha256})
