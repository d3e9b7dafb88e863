"""A small made-up run: valid tables of every stage, with real videos, masks and pictures."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from mimix_core import ids, tables
from mimix_core.library import Style
from mimix_core.refs import Counts, TableRef, digest_file
from mimix_core.report.stage import CharacterSummary, ReportInputs, ShowSummary, StageSummary
from mimix_core.tables import Reason, Row, Table, failed, ok, rejected

FRAMES = 81
BASE = 24000
"""Ticks a second of the made-up episodes."""

SHOWS = (
    ShowSummary(
        id="meadow",
        title="The Meadow",
        style=Style.CARTOON,
        characters=(
            CharacterSummary(name="Rinky", description="A small flying squirrel with a grin."),
            CharacterSummary(name="Bunny", description="A huge, kind grey rabbit."),
        ),
    ),
    ShowSummary(
        id="portraits",
        title="Portraits",
        style=Style.REALISTIC,
        characters=(CharacterSummary(name="Anna", description="A woman with long dark hair."),),
    ),
)
STYLE = {show.id: show.style.value for show in SHOWS}
EPISODES = (("meadow", "meadow-one"), ("meadow", "meadow-two"), ("portraits", "smile"))

Paint = Callable[[str, int], list[NDArray[np.uint8]]]
"""Frames (uint8 [height, width, 3]) of the n-th clip of a show."""


def discs(show: str, number: int, width: int = 208, height: int = 120) -> list[NDArray[np.uint8]]:
    """A disc that crosses a gradient."""
    y, x = np.mgrid[0:height, 0:width]
    tint = np.array([90, 170, 70] if show == "meadow" else [120, 120, 150])
    ground = (tint * (0.5 + 0.5 * y / height)[..., None] + 10 * (number % 7)).clip(0, 255)
    found = []
    for k in range(FRAMES):
        frame = ground.astype(np.uint8)
        frame[disc(number, k, x, y)] = (240, 200 - 20 * (number % 5), 90)
        found.append(frame)
    return found


def disc(number: int, k: int, x: NDArray[np.int_], y: NDArray[np.int_]) -> NDArray[np.bool_]:
    """Where the disc of frame ``k`` is."""
    height, width = x.shape
    centre = width * (0.25 + 0.5 * k / FRAMES), height * (0.5 + 0.05 * (number % 3))
    inside: NDArray[np.bool_] = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < (height / 3) ** 2
    return inside


def encode(path: Path, frames: Sequence[NDArray[np.uint8]]) -> str:
    """Write an mp4 at 16 frames a second; its sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"preset": "ultrafast", "crf": "20"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return digest_file(path)


@dataclass
class World:
    """Builds the run below ``root``; ``inputs()`` is what the report stage gets."""

    root: Path
    paint: Paint = discs
    clips_an_episode: int = 2
    units: list[tuple[str, str, Table, list[Row], TableRef]] = field(default_factory=list)

    def commit(self, stage: str, unit: str, table: Table, rows: Sequence[Row]) -> TableRef:
        """Write a table as ``run_stage`` would."""
        folder = self.folder(stage, unit)
        key = hashlib.sha256(f"{stage} {unit}".encode()).hexdigest()
        path = folder / "table.parquet"
        rows = [{**_blank(table), **row} for row in rows]
        tables.write(path, table, rows, stage_key=key)
        statuses = Counter(row["status"] for row in rows)
        counts = Counts(
            rows_in=len(rows),
            ok=statuses["ok"],
            rejected=statuses["rejected"],
            failed=statuses["failed"],
        )
        ref = TableRef(
            stage=stage, unit=unit, key=key, sha256=digest_file(path), path=path, counts=counts
        )
        self.units.append((stage, unit, table, list(rows), ref))
        return ref

    def folder(self, stage: str, unit: str) -> Path:
        path = self.root / stage / unit
        path.mkdir(parents=True, exist_ok=True)
        return path

    def rows(self, stage: str) -> list[Row]:
        return [row for name, _, _, rows, _ in self.units if name == stage for row in rows]

    def refs(self, stage: str) -> tuple[TableRef, ...]:
        return tuple(ref for name, _, _, _, ref in self.units if name == stage)

    def inputs(self) -> ReportInputs:
        records = tuple(
            StageSummary(
                stage=stage,
                unit=unit,
                counts=ref.counts,
                reasons=dict(
                    sorted(Counter(row["reason"] for row in rows if row["reason"]).items())
                ),
                notes={"rows_written": len(rows)},
            )
            for stage, unit, _, rows, ref in self.units
        )
        many = ("scenes", "overlays", "clips", "transcripts", "captions", "cutouts")
        one = ("composites", "recaptions", "dataset", "backbone", "lora", "samples", "scores")
        return ReportInputs(
            title="A made-up run",
            shows=SHOWS,
            records=records,
            **{name: self.refs(name) for name in (*many, "latents", "embeddings")},
            **{name: self.refs(name)[0] for name in one},
        )

    # --- the stages ---------------------------------------------------------------------------

    def curate(self, caption: str = "") -> None:
        """Scenes to captions. ``caption`` replaces the first clip's."""
        number = 0
        for show, name in EPISODES:
            episode = ids.episode_id(show, hashlib.sha256(name.encode()).hexdigest())
            plan = [("taken", 6)] * self.clips_an_episode + [("short", 2), ("black", 1)]
            plan += [("frozen", 3), ("credits", 4), ("deep", 6), ("short", 1)]
            scenes, clips, captions, transcripts = [], [], [], []
            at = 1001
            for kind, length in plan:
                end = at + length * BASE
                scene = self._scene(show, episode, at, end, kind)
                scenes.append(scene)
                if scene["status"] == "ok":
                    clip = self._clip(show, name, scene, kind, number)
                    clips.append(clip)
                    if clip["status"] == "ok":
                        text = caption if caption and not number else ""
                        captions.append(self._caption(show, clip, number, text))
                        transcripts.append(_transcript(clip, number))
                        number += 1
                at = end
            self.commit("scenes", name, tables.SCENES, scenes)
            self.commit("overlays", name, tables.OVERLAYS, [self._overlay(show, name, episode)])
            self.commit("clips", name, tables.CLIPS, clips)
            self.commit("transcripts", name, tables.TRANSCRIPTS, transcripts)
            self.commit("captions", name, tables.CAPTIONS, captions)
        self.commit(
            "scenes",
            "broken",
            tables.SCENES,
            [
                failed(
                    Reason.UNREADABLE_VIDEO,
                    "moov atom not found",
                    **_scene_values("meadow", "meadow-0000000000", 0, 0) | {"time_base_den": 0},
                )
            ],
        )

    def _scene(self, show: str, episode: str, at: int, end: int, kind: str) -> Row:
        values = _scene_values(show, episode, at, end)
        reason = {
            "black": Reason.SCENE_BLACK,
            "frozen": Reason.SCENE_FROZEN,
            "credits": Reason.SCENE_CREDITS,
        }.get(kind)
        return ok(**values) if reason is None else rejected(reason, f"it is {kind}", **values)

    def _overlay(self, show: str, name: str, episode: str) -> Row:
        frame = self.paint(show, 0)[0]
        file = "frame.png"
        Image.fromarray(frame).save(self.folder("overlays", name) / file)
        height, width = frame.shape[:2]
        boxes = [
            {
                "pts": pts,
                "box": [width // 4, int(height * 0.85), width * 3 // 4, int(height * 0.95)],
            }
            for pts in (1001, 25025)
        ]
        return ok(
            episode_id=episode,
            backend="rapidocr",
            width=width,
            height=height,
            sampled_pts=[1001, 25025, 49049],
            boxes=boxes if name == "meadow-one" else [],
            crop_x=0,
            crop_y=0,
            crop_width=width,
            crop_height=int(height * 0.83) if name == "meadow-one" else height,
            frame_file=file,
        )

    def _clip(self, show: str, name: str, scene: Row, kind: str, number: int) -> Row:
        start = scene["start_pts"]
        clip = ids.clip_id(scene["episode_id"], start)
        values: Row = {
            **{
                key: scene[key] for key in ("scene_id", "episode_id", "show", "style", "origin_pts")
            },
            "clip_id": clip,
            "time_base_num": 1,
            "time_base_den": BASE,
            "source_pts": [],
            "crop": [],
            "width": 0,
            "height": 0,
            "frames": 0,
            "rate_num": 16,
            "rate_den": 1,
            "file": "",
            "sha256": "",
        }
        if kind == "short":
            return rejected(Reason.SCENE_TOO_SHORT, "a clip needs 5.1625 s", **values)
        if kind == "deep":
            return rejected(Reason.CROP_TOO_DEEP, "half of the height is text", **values)
        frames = self.paint(show, number)
        height, width = frames[0].shape[:2]
        sha256 = encode(self.folder("clips", name) / f"{clip}.mp4", frames)
        values |= {
            "source_pts": [start + k * BASE // 16 for k in range(FRAMES)],
            "crop": [0, 0, width, height],
            "width": width,
            "height": height,
            "frames": FRAMES,
            "file": f"{clip}.mp4",
            "sha256": sha256,
        }
        return ok(**values)

    def _caption(self, show: str, clip: Row, number: int, text: str) -> Row:
        name = "Anna" if show == "portraits" else ("Rinky", "Bunny")[number % 2]
        other = "" if show == "portraits" else " [Character: Bunny], looks on."
        style = STYLE[show]
        caption = text or f"[Character: {name}], walks by.{other} [scene-style:{style}]"
        values: Row = {
            "clip_id": clip["clip_id"],
            "backend": "script",
            "caption": caption,
            "actions": [{"name": name, "action": "walks by"}],
            "context": "",
            "style": style,
        }
        if number == 3:
            empty = {"caption": "", "actions": []}
            return rejected(Reason.NO_ACTION_IN_SCRIPT, "the script is silent", **values | empty)
        return ok(**values)

    def mix(self) -> None:
        """Cut-outs and composites; needs ``curate``."""
        clips = [row for row in self.rows("clips") if row["status"] == "ok"]
        by_episode: dict[str, list[Row]] = {}
        for number, clip in enumerate(clips):
            unit = next(u for s, u, _, rows, _ in self.units if s == "clips" and clip in rows)
            by_episode.setdefault(unit, []).append(self._cutout(unit, clip, number))
        for unit, rows in by_episode.items():
            self.commit("cutouts", unit, tables.CUTOUTS, rows)
        cutouts = [row for row in self.rows("cutouts") if row["status"] == "ok"]
        composites = [
            self._composite(cutout, next(c for c in clips if c["style"] != cutout["style"]), k)
            for k, cutout in enumerate(cutouts)
        ]
        self.commit("composites", "all", tables.COMPOSITES, composites)
        recaptions = [
            ok(
                clip_id=row["composite_id"],
                backend="script",
                caption=f"[Character: {row['character']}], walks by. [scene-style:{row['style']}]",
                actions=[],
                context="",
                style=row["style"],
            )
            for row in composites
            if row["status"] == "ok"
        ]
        self.commit("recaptions", "all", tables.CAPTIONS, recaptions)

    def _cutout(self, unit: str, clip: Row, number: int) -> Row:
        character = "Anna" if clip["show"] == "portraits" else ("Rinky", "Bunny")[number % 2]
        cutout = f"{clip['clip_id']}-{character.lower()}"
        y, x = np.mgrid[0 : clip["height"], 0 : clip["width"]]
        pngs = []
        for k in range(FRAMES):
            buffer = io.BytesIO()
            alpha = disc(number, k, x, y).astype(np.uint8) * 255
            Image.fromarray(alpha).save(buffer, "PNG")
            pngs.append(buffer.getvalue())
        masks = pa.table({"frame": list(range(FRAMES)), "alpha_png": pngs}, schema=tables.MASKS)
        file = f"{cutout}.parquet"
        pq.write_table(masks, self.folder("cutouts", unit) / file)
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
            "presence": 1.0,
            "border": [],
            "file": file,
        }
        if number == 1:
            return rejected(Reason.MASK_UNSTABLE, "frames 7 and 8 share 0.12", **values)
        if number == 2:
            return rejected(Reason.NOT_LOCATED, "no box", **values | {"file": "", "boxes": []})
        return ok(**values)

    def _composite(self, cutout: Row, background: Row, number: int) -> Row:
        composite = f"{cutout['cutout_id']}-in-{background['clip_id']}"
        frames = self.paint(background["show"], 40 + number)
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
        sha256 = encode(self.folder("composites", "all") / values["file"], frames)
        return ok(**values | {"sha256": sha256})

    def learn(self, backbone: str = "tiny-random-wan", steps: int = 30) -> None:
        """Dataset to scores; needs ``mix``."""
        dataset = self._dataset()
        self.commit("dataset", "all", tables.DATASET, dataset)
        self.commit("backbone", "all", tables.BACKBONE, [_component(backbone)])
        kept = [row["sample_id"] for row in dataset if row["status"] == "ok"]
        latents = [
            ok(sample_id=s, backbone=backbone, file="x", shape=[16, 21, 15, 26], sha256="0")
            for s in kept
        ]
        self.commit("latents", "shard-0", tables.LATENTS, latents)
        embeddings = [
            ok(sample_id=s, backbone=backbone, caption="", tokens=9, file="x", sha256="0")
            for s in kept
        ]
        self.commit("embeddings", "shard-0", tables.EMBEDDINGS, embeddings)
        lora = [
            ok(sample_id=row["sample_id"], split=row["split"], seen=5 * (row["split"] == "train"))
            for row in dataset
            if row["status"] == "ok"
        ]
        self.commit("lora", "all", tables.LORA, lora)
        _write_log(self.folder("lora", "all"), steps)
        self._samples(backbone)

    def _dataset(self) -> list[Row]:
        found = []
        for kind, stage, id_, captions in (
            ("original", "clips", "clip_id", "captions"),
            ("composite", "composites", "composite_id", "recaptions"),
        ):
            captioned = {r["clip_id"]: r for r in self.rows(captions) if r["status"] == "ok"}
            for number, row in enumerate(r for r in self.rows(stage) if r["status"] == "ok"):
                caption = captioned.get(row[id_])
                held_out = kind == "original" and row["episode_id"].startswith("meadow-3")
                values: Row = {
                    "sample_id": row[id_],
                    "kind": kind,
                    "split": "val" if held_out or number == 5 else "train",
                    "show": row["show"],
                    "style": row["style"],
                    "characters": [],
                    "caption": caption["caption"] if caption else "",
                    "video": f"{stage}/{row['file']}",
                    "sha256": row["sha256"],
                    "frames": row["frames"],
                    "width": row["width"],
                    "height": row["height"],
                }
                found.append(
                    ok(**values) if caption else rejected(Reason.NO_CAPTION, "none", **values)
                )
        return found

    def _samples(self, backbone: str) -> None:
        samples = []
        for number in range(3):
            noise = np.random.default_rng(number).integers(0, 255, (15, 26, 3), dtype=np.uint8)
            frames = [np.roll(noise, k, 1).repeat(8, 0).repeat(8, 1) for k in range(17)]
            name = f"prompt-{number}"
            values: Row = {
                "prompt_id": name,
                "category": ("single", "inter-style")[number % 2],
                "prompt": "[Character: Rinky], waves. [Character: Anna], waves back. "
                "[scene-style:cartoon]",
                "characters": ["Rinky", "Anna"],
                "backbone": backbone,
                "seed": number,
                "file": f"{name}.mp4",
                "sha256": "",
                "frames": 17,
                "width": 208,
                "height": 120,
            }
            if number == 2:
                samples.append(failed(Reason.GENERATION_FAILED, "NaN", **values))
                continue
            encode(self.folder("samples", "all") / values["file"], frames)
            samples.append(ok(**values))
        self.commit("samples", "all", tables.SAMPLES, samples)
        scores = []
        clips = [row["clip_id"] for row in self.rows("clips") if row["status"] == "ok"]
        videos = [(row["prompt_id"], "sample") for row in samples if row["status"] == "ok"]
        for video, kind in [*videos, *((clip, "clip") for clip in clips)]:
            for metric in ("imaging_quality/brisque", "dynamic_degree/dis-flow"):
                value = int(hashlib.sha256(f"{video}{metric}".encode()).hexdigest()[:4], 16) / 65536
                values = {
                    "score_id": f"{video}/{metric}",
                    "video_id": video,
                    "kind": kind,
                    "metric": metric,
                }
                if video == clips[0] and metric.startswith("dynamic"):
                    scores.append(failed(Reason.METRIC_FAILED, "flow", **values, value=0.0))
                else:
                    scores.append(ok(**values, value=value))
        self.commit("scores", "all", tables.SCORES, scores)

    def nothing(self) -> None:
        """A run in which no stage had anything to do."""
        for name, table in (
            ("composites", tables.COMPOSITES),
            ("recaptions", tables.CAPTIONS),
            ("dataset", tables.DATASET),
            ("backbone", tables.BACKBONE),
            ("lora", tables.LORA),
            ("samples", tables.SAMPLES),
            ("scores", tables.SCORES),
        ):
            self.commit(name, "all", table, [])
        _write_log(self.folder("lora", "all"), 0)


def _blank(table: Table) -> Row:
    """An empty value for each column, so that a column the page does not read may come or go."""
    values: Row = {}
    for column in table.schema:
        if pa.types.is_list(column.type):
            values[column.name] = []
        elif pa.types.is_string(column.type):
            values[column.name] = ""
        else:
            values[column.name] = 0
    return values


def _scene_values(show: str, episode: str, at: int, end: int) -> Row:
    return {
        "scene_id": ids.scene_id(episode, at),
        "episode_id": episode,
        "show": show,
        "style": STYLE[show],
        "origin_pts": 1001,
        "start_pts": at,
        "end_pts": end,
        "time_base_num": 1,
        "time_base_den": BASE,
        "frames": (end - at) * 24 // BASE,
        "width": 1280,
        "height": 720,
        "motion": 0.1,
        "sharpness": 0.2,
        "black_share": 0.0,
        "frozen_share": 0.0,
    }


def _transcript(clip: Row, number: int) -> Row:
    text = "Hello there." if number % 2 == 0 else ""
    lines = [{"start_ms": 0, "end_ms": 900, "text": text}] if text else []
    return ok(clip_id=clip["clip_id"], backend="subtitles", text=text, lines=lines)


def _component(backbone: str) -> Row:
    return ok(
        component="transformer",
        backbone=backbone,
        folder="transformer",
        sha256="ab" * 32,
        parameters=123456,
    )


def _write_log(folder: Path, steps: int) -> None:
    records: list[dict[str, float]] = [
        {"step": k, "train_loss": 1 / k**0.3 + 0.05 * (k % 3), "grad_norm": 1.0, "lr": 1e-4}
        for k in range(1, steps + 1)
    ]
    for step in range(0, steps + 1, 10) if steps else []:
        for index in range(9):
            loss = (0.5 + index / 10) * (1 - step / 200)
            records.append({"step": step, "quantile": index, "val_loss": loss})
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def whole(root: Path, *, hostile: str = "", **changes: Any) -> World:
    """A run with something in every table; ``hostile`` is the first clip's caption."""
    world = World(root, **changes)
    world.curate(caption=hostile)
    world.mix()
    world.learn()
    return world
