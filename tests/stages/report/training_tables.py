"""Tables from dataset to scores of a made-up run, and complete runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from mimix_core import tables
from mimix_core.tables import Reason, Row, failed, ok, rejected
from tests.stages.report.augmentation_tables import add_augmentation
from tests.stages.report.curation_tables import add_curation
from tests.stages.report.fake_run import FakeRun
from tests.stages.report.fake_videos import encode


def add_training(run: FakeRun, backbone: str = "tiny-random-wan", steps: int = 30) -> None:
    """Add tables from dataset to scores; needs ``add_augmentation``."""
    dataset = _dataset(run)
    run.commit("dataset", "all", tables.DATASET, dataset)
    run.commit("backbone", "all", tables.BACKBONE, [_component(backbone)])
    kept = [row["sample_id"] for row in dataset if row["status"] == "ok"]
    latents = [
        ok(sample_id=s, backbone=backbone, file="x", key=s, shape=[16, 21, 15, 26], sha256="0")
        for s in kept
    ]
    run.commit("latents", "shard-0", tables.LATENTS, latents)
    text: Row = {"caption": "", "variant": "both", "text": "", "tokens": 9, "tokens_cut": 0}
    place: Row = {"file": "x", "key": "y", "shape": [9, 32], "sha256": "0"}
    embeddings = [ok(sample_id=s, backbone=backbone, **text, **place) for s in kept]
    run.commit("embeddings", "shard-0", tables.EMBEDDINGS, embeddings)
    lora = [
        ok(sample_id=row["sample_id"], split=row["split"], seen=5 * (row["split"] == "train"))
        for row in dataset
        if row["status"] == "ok"
    ]
    run.commit("lora", "all", tables.LORA, lora)
    _write_log(run.folder("lora", "all"), steps)
    _samples(run, backbone)


def _dataset(run: FakeRun) -> list[Row]:
    found = []
    for kind, stage, id_, captions in (
        ("original", "clips", "clip_id", "captions"),
        ("composite", "composites", "composite_id", "recaptions"),
    ):
        captioned = {r["clip_id"]: r for r in run.rows(captions) if r["status"] == "ok"}
        for number, row in enumerate(r for r in run.rows(stage) if r["status"] == "ok"):
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
            found.append(ok(**values) if caption else rejected(Reason.NO_CAPTION, "none", **values))
    return found


def _samples(run: FakeRun, backbone: str) -> None:
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
        encode(run.folder("samples", "all") / values["file"], frames)
        samples.append(ok(**values))
    run.commit("samples", "all", tables.SAMPLES, samples)
    scores = []
    clips = [row["clip_id"] for row in run.rows("clips") if row["status"] == "ok"]
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
    run.commit("scores", "all", tables.SCORES, scores)


def add_empty_tables(run: FakeRun) -> None:
    """Add empty tables, as of stages that had nothing to do."""
    for name, table in (
        ("composites", tables.COMPOSITES),
        ("recaptions", tables.CAPTIONS),
        ("dataset", tables.DATASET),
        ("backbone", tables.BACKBONE),
        ("lora", tables.LORA),
        ("samples", tables.SAMPLES),
        ("scores", tables.SCORES),
    ):
        run.commit(name, "all", table, [])
    _write_log(run.folder("lora", "all"), 0)


def _component(backbone: str) -> Row:
    return ok(
        component="transformer",
        backbone=backbone,
        folder="transformer",
        sha256="ab" * 32,
        parameters=123456,
    )


PREVIEWED = "[Character: Rinky], digs. A garden. [scene-style:cartoon]"


def _write_log(folder: Path, steps: int) -> None:
    """Write a log with every kind of record."""
    records: list[dict[str, Any]] = [
        {"step": k, "train_loss": 1 / k**0.3 + 0.05 * (k % 3), "grad_norm": 2 / k, "lr": 1e-4}
        for k in range(1, steps + 1)
    ]
    for step in range(0, steps + 1, 5) if steps else []:
        falling = 1 - step / 200
        for index in range(9):
            loss = (0.5 + index / 10) * falling
            records.append({"step": step, "quantile": index, "val_loss": loss})
        groups = {
            "style": {name: {"loss": loss * falling, "samples": n} for name, loss, n in _STYLES},
            "character": {f"Hero {n}": {"loss": falling, "samples": n + 1} for n in range(12)},
        }
        records.append({"step": step, "held_out_loss": 0.9 * falling, **groups})
        name = f"previews/step-{step:06d}/0.mp4"
        (folder / name).parent.mkdir(parents=True)
        slope = np.arange(104, dtype=np.uint8)[None, :, None].repeat(60, 0).repeat(3, 2)
        encode(folder / name, [np.roll(slope, step + 20 * k, 1) for k in range(5)])
        size = {"frames": 5, "width": 104, "height": 60}
        records.append({"step": step, "preview": name, "prompt": PREVIEWED, "seed": 1, **size})
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


_STYLES = (("cartoon", 0.7, 9), ("realistic", 0.95, 4))


def build_complete_run(root: Path, *, hostile: str = "", **changes: Any) -> FakeRun:
    """Build a run with rows in every table; ``hostile`` is the first clip's caption."""
    run = FakeRun(root, **changes)
    add_curation(run, caption=hostile)
    add_augmentation(run)
    add_training(run)
    return run
