"""Turn the tables of all stages into items to look at: one per clip, cutout, composite, ..."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mimix_core.characters.proposals import ProposedTrack
from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.engine.artifacts import TableRef
from mimix_core.errors import BadInput
from mimix_core.project.composite_review import drawn_composites
from mimix_core.studio.rows_on_disk import RowsOnDisk
from mimix_core.studio.studio_item import StudioItem
from mimix_core.studio.track_items import track_to_item
from mimix_core.tables import Row, Status

Refs = Mapping[str, Sequence[TableRef]]
"""The newest tables of each stage."""

KINDS = ("clip", "cutout", "composite", "track", "scene", "video")

_CLIP_COLUMNS = (
    *("clip_id", "scene_id", "episode_id", "show", "style", "start_num", "start_den", "origin_pts"),
    *("time_base_num", "time_base_den", "source_width", "source_height", "crop", "width", "height"),
    *(
        "frames",
        "rate_num",
        "rate_den",
        "motion",
        "sharpness",
        "black_share",
        "frozen_share",
        "repeat_share",
    ),
    *("text_remains", "file", "sha256", "audio_file", "status", "reason", "detail"),
)

_COMPOSITE_COLUMNS = (
    *("composite_id", "cutout_id", "source_clip_id", "background_clip_id", "show", "style"),
    *("character", "character_style", "source_camera", "background_camera", "rank", "scale"),
    *("covered", "ground", "width", "height", "frames", "file", "sheet_file", "sha256"),
    *("status", "reason", "detail"),
)

_ROWS_IN_MEMORY = 8_192
"""Rows of the composites in memory as Python objects."""


@dataclass(frozen=True)
class ItemReader:
    """Read the items of all kinds from the tables of a store.

    ``review_share``: of the composites that people must look at before training. ``tracks``: those
    that were proposed for naming. ``frame_rate``: of composites and generated videos.
    """

    root: Path
    refs: Refs
    review_share: Decimal = Decimal(0)
    tracks: Sequence[ProposedTrack] = ()
    frame_rate: int = int(CLIP_RATE)

    def items(self) -> Iterator[StudioItem]:
        """Yield all items: kind by kind, each in the order of the library."""
        outcomes = self._outcomes("dataset", "sample_id", ("split", "kind"))
        clips, pictures = RowsOnDisk(), RowsOnDisk()
        yield from self._clips(outcomes, clips, pictures)
        yield from self._cutouts(clips)
        yield from self._composites(outcomes, clips)
        yield from map(track_to_item, self.tracks)
        yield from self._scenes(pictures)
        yield from self._videos()

    def _clips(
        self, outcomes: RowsOnDisk, clips: RowsOnDisk, pictures: RowsOnDisk
    ) -> Iterator[StudioItem]:
        """Yield the clips; add them by id to ``clips``, and each scene's first to ``pictures``."""
        duplicates = self._outcomes("duplicates", "clip_id", ("twin_clip_id", "similarity"))
        captions = self._by_unit("captions")
        transcripts = self._by_unit("transcripts")
        for ref in self.refs.get("clips", ()):
            captioned = _read(captions.get(ref.unit), "clip_id", _CAPTION_COLUMNS)
            spoken = _read(transcripts.get(ref.unit), "clip_id", ("text", "lines", "backend"))
            rows = _rows(ref.path, _CLIP_COLUMNS)
            for row in sorted(rows, key=lambda row: row["clip_id"]):
                name = row["clip_id"]
                item = self._video_item("clip", name, ref, row)
                item.stage = "clips"
                item.data |= {
                    "start": _seconds(row),
                    "scene": row["scene_id"],
                    "crop": row["crop"],
                    "source": [row["source_width"], row["source_height"]],
                    "text_remains": row["text_remains"],
                }
                item.numbers = {
                    "motion": row["motion"],
                    "sharpness": row["sharpness"],
                    "black": row["black_share"],
                    "frozen": row["frozen_share"],
                    "repeats": row["repeat_share"],
                }
                if row["audio_file"]:
                    item.files["audio"] = self._relative(ref, row["audio_file"])
                verdict = duplicates.get(name)
                if verdict is not None:
                    _judge(item, "duplicates", verdict)
                    item.numbers["similarity"] = verdict["similarity"]
                    item.data["twin"] = verdict["twin_clip_id"]
                _add_caption(item, captioned.get(name))
                lines = spoken.get(name)
                if lines is not None:
                    item.dialogue = lines["text"]
                    item.data["dialogue_from"] = lines["backend"]
                    item.details["lines"] = lines["lines"]
                _add_outcome(item, outcomes.get(name))
                clip = {
                    "video": item.files.get("video"),
                    "digest": item.digest,
                    "episode": ref.unit,
                    "size": {side: row[side] for side in ("width", "height", "frames")},
                }
                clips.put(name, clip)
                if clip["video"]:
                    pictures.put_new(row["scene_id"], clip)
                yield item

    def _cutouts(self, clips: RowsOnDisk) -> Iterator[StudioItem]:
        for ref in self.refs.get("cutouts", ()):
            digests = self._file_digests(ref)
            located = _locations(ref.folder / "locations.parquet")
            for row in _rows(ref.path):
                item = StudioItem("cutout", row["cutout_id"], row["show"], ref.unit, row["style"])
                clip = clips.get(row["clip_id"]) or {}
                item.digest = clip.get("digest", "")
                item.characters = (row["character"],)
                item.files = {"video": clip["video"]} if clip.get("video") else {}
                if row["file"]:
                    item.files["masks"] = self._relative(ref, row["file"])
                    item.masks_digest = digests.get(row["file"], "")
                _judge(item, "cutouts", row)
                item.data = {**clip.get("size", {})}
                item.data |= {
                    "clip": row["clip_id"],
                    "locator": row["locator"],
                    "backend": row["backend"],
                    "border": row["border"],
                }
                item.details = {
                    "boxes": row["boxes"],
                    "located": located.get((row["clip_id"], row["character"]), []),
                }
                item.numbers = {"presence": row["presence"]}
                if row["area"]:
                    item.numbers["area"] = sum(row["area"]) / len(row["area"])
                if row["score"]:
                    item.numbers["confidence"] = sum(row["score"]) / len(row["score"])
                yield item

    def _composites(self, outcomes: RowsOnDisk, clips: RowsOnDisk) -> Iterator[StudioItem]:
        captions = RowsOnDisk()
        for ref in self.refs.get("recaptions", ()):
            captions.put_all(_iterate(ref, "clip_id", _CAPTION_COLUMNS))
        in_dataset = {
            name for name, row in outcomes.items() if row["split"] and row["kind"] == "composite"
        }
        drawn = set(drawn_composites(in_dataset, self.review_share))
        for ref in self.refs.get("composites", ()):
            for row in _rows_by_rank(ref.path):
                item = self._video_item("composite", row["composite_id"], ref, row)
                item.stage = "composites"
                item.episode = (clips.get(row["background_clip_id"]) or {}).get("episode", "")
                item.characters = (row["character"],)
                item.review = "drawn" if row["composite_id"] in drawn else ""
                item.data |= {
                    "clip": row["source_clip_id"],
                    "background": row["background_clip_id"],
                    "cutout": row["cutout_id"],
                    "character": row["character"],
                    "character_style": row["character_style"],
                    "cameras": [row["source_camera"], row["background_camera"]],
                }
                item.numbers = {
                    "rank": row["rank"],
                    "scale": row["scale"],
                    "covered": row["covered"],
                }
                if row["ground"] is not None:
                    item.numbers["ground"] = row["ground"]
                if row["sheet_file"]:
                    item.files["frame"] = self._relative(ref, row["sheet_file"])
                _add_caption(item, captions.get(row["composite_id"]), "recaptions")
                _add_outcome(item, outcomes.get(row["composite_id"]))
                yield item

    def _scenes(self, pictures: RowsOnDisk) -> Iterator[StudioItem]:
        overlays = self._by_unit("overlays")
        for ref in self.refs.get("scenes", ()):
            overlay_ref = overlays.get(ref.unit)
            found = _read(overlay_ref, "scene_id", None)
            for row in sorted(_rows(ref.path), key=lambda row: row["start_pts"]):
                item = StudioItem("scene", row["scene_id"], row["show"], ref.unit, row["style"])
                _judge(item, "scenes", row)
                base = _ratio(row["time_base_num"], row["time_base_den"])
                item.data |= {
                    "start": (row["start_pts"] - row["origin_pts"]) * base,
                    "seconds": (row["end_pts"] - row["start_pts"]) * base,
                    "source": [row["width"], row["height"]],
                    "fields": row["fields"],
                }
                clip = pictures.get(row["scene_id"])
                if clip is not None:
                    item.files["video"], item.digest = clip["video"], clip["digest"]
                    item.data["frames"] = clip["size"]["frames"]
                item.numbers = {
                    "motion": row["motion"],
                    "sharpness": row["sharpness"],
                    "frames": row["frames"],
                    "black": row["black_share"],
                    "frozen": row["frozen_share"],
                }
                overlay = found.get(row["scene_id"])
                if overlay is not None and overlay_ref is not None:
                    _judge(item, "overlays", overlay)
                    item.data["crop"] = [
                        overlay[f"crop_{side}"] for side in ("x", "y", "width", "height")
                    ]
                    item.data["text_remains"] = overlay["text_remains"]
                    item.details = {
                        "boxes": [box["box"] for box in overlay["boxes"]],
                        "remaining": [box["box"] for box in overlay["remaining_boxes"]],
                    }
                    if overlay["frame_file"]:
                        item.files["frame"] = self._relative(overlay_ref, overlay["frame_file"])
                yield item

    def _videos(self) -> Iterator[StudioItem]:
        scores: dict[str, dict[str, float]] = {}
        for ref in self.refs.get("scores", ()):
            for row in _rows(ref.path, ("video_id", "metric", "value", "status")):
                if row["status"] == Status.OK:
                    scores.setdefault(row["video_id"], {})[row["metric"]] = row["value"]
        for ref in self.refs.get("samples", ()):
            for row in _rows(ref.path):
                item = self._video_item("video", row["prompt_id"], ref, row)
                item.stage = "samples"
                item.characters = tuple(row["characters"])
                item.caption = row["prompt"]
                item.data |= {"category": row["category"], "seed": row["seed"]}
                item.numbers = dict(sorted(scores.get(row["prompt_id"], {}).items()))
                yield item

    def _video_item(self, kind: str, name: str, ref: TableRef, row: Row) -> StudioItem:
        item = StudioItem(kind, name, row.get("show", ""), ref.unit, row.get("style", ""))
        _judge(item, ref.stage, row)
        item.digest = row["sha256"]
        rate = _ratio(row["rate_num"], row["rate_den"]) if "rate_num" in row else self.frame_rate
        item.data = {side: row[side] for side in ("width", "height", "frames")} | {"rate": rate}
        if row["file"]:
            item.files["video"] = self._relative(ref, row["file"])
        return item

    def _relative(self, ref: TableRef, file: str) -> str:
        """Return the path of a file of a table relative to the store. Raises BadInput outside."""
        path = Path(os.path.normpath(ref.folder / file))
        if not path.is_relative_to(self.root):
            raise BadInput(
                f"names a file outside of the store: {file}",
                where=str(ref.path),
                fix="Remove this result with `mimix store verify` and run its stage again.",
            )
        return path.relative_to(self.root).as_posix()

    def _by_unit(self, stage: str) -> dict[str, TableRef]:
        return {ref.unit: ref for ref in self.refs.get(stage, ())}

    def _outcomes(self, stage: str, key: str, columns: tuple[str, ...]) -> RowsOnDisk:
        found = RowsOnDisk()
        for ref in self.refs.get(stage, ()):
            found.put_all(_iterate(ref, key, (*columns, "status", "reason", "detail")))
        return found

    def _file_digests(self, ref: TableRef) -> dict[str, str]:
        record = json.loads((ref.folder / "stage.json").read_bytes())
        return {file["path"]: file["sha256"] for file in record["files"]}


_CAPTION_COLUMNS = ("caption", "actions", "backend", "model", "status", "reason", "detail")


def _judge(item: StudioItem, stage: str, row: Row) -> None:
    """Take over the verdict of a stage."""
    item.stage = stage
    item.status, item.reason = row["status"], row["reason"] or ""
    item.detail = row["detail"] or ""


def _add_caption(item: StudioItem, row: Row | None, stage: str = "captions") -> None:
    if row is None:
        return
    item.caption = row["caption"] or ""
    item.characters = tuple(
        dict.fromkeys((*item.characters, *(action["name"] for action in row["actions"])))
    )
    item.data |= {"caption_from": row["backend"], "caption_model": row["model"]}
    _judge(item, stage, row)


def _add_outcome(item: StudioItem, row: Row | None) -> None:
    """Take over where the dataset put an item; that it has no caption is known already."""
    if row is None:
        return
    item.split = row["split"] or ""
    if item.status == Status.OK:
        _judge(item, "dataset", row)


def _seconds(row: Row) -> float:
    """Return a clip's start, in seconds from the first frame of its episode."""
    origin = row["origin_pts"] * _ratio(row["time_base_num"], row["time_base_den"])
    return float(_ratio(row["start_num"], row["start_den"]) - origin)


def _ratio(numerator: int, denominator: int) -> float:
    """Divide; 0 for the empty values in the rows of a file that could not be read."""
    return numerator / denominator if denominator else 0.0


def _rows(path: Path, columns: Sequence[str] | None = None) -> list[Row]:
    rows: list[Row] = pq.read_table(path, columns=columns and list(columns)).to_pylist()
    return rows


def _iterate(ref: TableRef, key: str, columns: Sequence[str]) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a table by id, a row group at a time."""
    with pq.ParquetFile(ref.path) as file:
        for number in range(file.num_row_groups):
            for row in file.read_row_group(number, columns=[key, *columns]).to_pylist():
                yield row[key], row


def _rows_by_rank(path: Path) -> Iterator[Row]:
    """Yield composites in the order of their ranks; those without one last."""
    table = pq.read_table(path, columns=list(_COMPOSITE_COLUMNS))
    unranked = pc.less(table["rank"], 0).cast(pa.int8())
    order = pc.sort_indices(
        table.append_column("unranked", unranked),
        sort_keys=[("unranked", "ascending"), ("rank", "ascending")],
    )
    for start in range(0, len(order), _ROWS_IN_MEMORY):
        yield from table.take(order.slice(start, _ROWS_IN_MEMORY)).to_pylist()


def _read(ref: TableRef | None, key: str, columns: Sequence[str] | None) -> dict[str, Row]:
    if ref is None:
        return {}
    return {row[key]: row for row in _rows(ref.path, columns and (key, *columns))}


def _locations(path: Path) -> dict[tuple[str, str], list[list[float]]]:
    """Load the located boxes by clip and character: frame, x0, y0, x1, y1."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    if path.is_file():
        for row in _rows(path):
            box = [row["frame"], *(round(row[name], 1) for name in ("x0", "y0", "x1", "y1"))]
            found.setdefault((row["clip_id"], row["character"]), []).append(box)
    return found
