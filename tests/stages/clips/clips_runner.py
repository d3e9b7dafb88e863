"""Run the clips stage on given scenes of a generated video."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pyarrow as pa
import pyarrow.parquet as pq

from mimix_core import media, tables
from mimix_core.domain import ids
from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.stage import StageReport
from mimix_core.settings import ClipSettings
from mimix_core.stages import clips
from tests.media_factory import (
    GroundTruth,
    Shot,
    commit_table,
    read_ground_truth,
    write_video,
)

SMALL = {"width": 160, "height": 96, "preset": "ultrafast", "crf": 10}
EPISODE = "demo-0000000000"


def frame_rows(truth: GroundTruth, **columns: list[Any]) -> pa.Table:
    """Build the frames file of a video, with the keyframes stated by its decoder."""
    with av.open(str(truth.path)) as container:
        keys = [frame.key_frame for frame in container.decode(video=0)]
    count = len(truth.pts)
    values = {
        "pts": truth.pts,
        "keyframe": keys,
        "difference": [0.05] * count,
        "sharpness": [100.0] * count,
        "black": [False] * count,
        "still": [False] * count,
        "repeat": [False] * count,
        "damaged": [False] * count,
    }
    return pa.table(values | columns, schema=tables.FRAMES)


def scene_rows(truth: GroundTruth, **changes: Any) -> list[tables.Row]:
    return [
        tables.ok(
            scene_id=ids.scene_id(EPISODE, start),
            episode_id=EPISODE,
            show="demo",
            style="cartoon",
            origin_pts=truth.pts[0],
            start_pts=start,
            end_pts=end,
            time_base_num=truth.time_base.numerator,
            time_base_den=truth.time_base.denominator,
            frames=0,
            width=320,
            height=192,
            fields="progressive",
            seekable=True,
            motion=0.0,
            sharpness=0.0,
            black_share=0.0,
            frozen_share=0.0,
            repeat_share=0.0,
            frames_file="frames.parquet",
        )
        | changes
        for start, end in truth.spans()
    ]


def overlay_row(scene_id: str, **changes: Any) -> tables.Row:
    return (
        tables.ok(
            scene_id=scene_id,
            episode_id=EPISODE,
            backend="none",
            width=320,
            height=192,
            sampled_pts=[],
            boxes=[],
            crop_x=0,
            crop_y=0,
            crop_width=320,
            crop_height=192,
            remaining_boxes=[],
            text_remains="",
            frame_file="",
        )
        | changes
    )


@dataclass(frozen=True)
class ClipsRunner:
    """Runs the clips stage on given scenes of a generated video."""

    folder: Path

    def inputs(
        self,
        truth: GroundTruth,
        *,
        scene: dict[str, Any] | None = None,
        overlays: Sequence[dict[str, Any]] = (),
        frame_columns: dict[str, list[Any]] | None = None,
    ) -> clips.ClipInputs:
        """``overlays``: changes to the scenes' overlay rows, in order; the last one is repeated."""
        rows = scene_rows(truth, **(scene or {}))
        changes = [*overlays, *[overlays[-1] if overlays else {}] * len(rows)]
        found = commit_table(self.folder / "scenes", tables.SCENES, rows)
        pq.write_table(frame_rows(truth, **(frame_columns or {})), found.folder / "frames.parquet")
        crops = [
            overlay_row(row["scene_id"], **change)
            for row, change in zip(rows, changes, strict=False)
        ]
        return clips.ClipInputs(
            unit="v",
            video=file_ref(truth.path),
            scenes=found,
            overlays=commit_table(self.folder / "overlays", tables.OVERLAYS, crops),
        )

    def run(
        self,
        truth: GroundTruth,
        *,
        scene: dict[str, Any] | None = None,
        overlays: Sequence[dict[str, Any]] = (),
        frame_columns: dict[str, list[Any]] | None = None,
        out: str = "out",
        **settings: Any,
    ) -> StageReport:
        inputs = self.inputs(truth, scene=scene, overlays=overlays, frame_columns=frame_columns)
        (self.folder / out).mkdir()
        report = clips.run(inputs, ClipSettings(**{**SMALL, **settings}), self.folder / out)
        tables.validate(tables.CLIPS, report.rows)
        assert report.rows_in == len(report.rows)
        return report


def write_with_sound(
    runner: ClipsRunner,
    sound: Path,
    name: str,
    shots: Sequence[Shot] = (Shot(132), Shot(132)),
) -> GroundTruth:
    """Write shots of 24 frames/s with the sound of another file."""
    silent = write_video(runner.folder / "silent.mp4", shots, b_frames=0).path
    path = runner.folder / name
    command = [media.find_ffmpeg(), "-v", "error", "-i", str(silent), "-i", str(sound)]
    streams = ["-map", "0:v", "-map", "1:a", "-c", "copy"]
    subprocess.run([*command, *streams, str(path)], check=True)
    return read_ground_truth(path, shots)
