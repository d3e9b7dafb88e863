"""Exports for other tools follow their documented layouts, with hostile names and captions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest

from mimix_core.media.masks import write_masks
from mimix_core.studio.studio_item import StudioItem
from mimix_core.studio.tool_layouts import ToolFormat, run_lengths, tool_files
from mimix_core.studio.tool_samples import ToolSample, collect_samples

WIDTH, HEIGHT, FRAMES = 20, 10, 4
NAME = 'Jürgen "Öß" <&> O\'Neil 🐰'
CAPTIONS = {
    "clip-a": f"[Character: {NAME}], grüßt\n„Zoë“ & 'x' \\ </script>\u2028. [scene-style:cartoon]",
    "clip-b": "runs " * 20_000,
    "clip-on-clip": "",
    "prompt": "NA",
}


@pytest.fixture
def samples(tmp_path: Path) -> list[ToolSample]:
    """Two clips, a composite and a generated video; a character leaves and comes back in one."""
    alpha = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    alpha[0, 2:5, 4:10] = 255
    alpha[1, 0:10, 0:1] = 200
    alpha[3, 9, 19] = 255
    write_masks(tmp_path / "masks.parquet", alpha)
    boxes = [[4, 2, 10, 5], [0, 0, 1, 10], [0, 0, 0, 0], [19, 9, 20, 10]]
    items = [
        StudioItem(
            kind,
            name,
            show="toons",
            style="cartoon",
            status="rejected" if name == "clip-b" else "ok",
            reason="near_duplicate" if name == "clip-b" else "",
            split="train",
            characters=(NAME,),
            caption=CAPTIONS[name],
            digest="0" * 64,
            numbers={"motion": 0.25, "vbench/subject.consistency": 0.5},
            data={"width": WIDTH, "height": HEIGHT, "frames": FRAMES, "rate": 16.0},
            files={"video": f"store/{name}.mp4"},
        )
        for kind, name in (
            ("clip", "clip-a"),
            ("clip", "clip-b"),
            ("composite", "clip-on-clip"),
            ("video", "prompt"),
        )
    ]
    items.append(StudioItem("clip", "cut-nowhere", status="rejected"))
    items.append(
        StudioItem(
            "cutout",
            "clip-a-juergen",
            status="ok",
            characters=(NAME,),
            numbers={"confidence": 0.75},
            data={"clip": "clip-a"},
            details={"boxes": boxes},
            files={"masks": "masks.parquet"},
        )
    )
    items.append(StudioItem("cutout", "bad", status="rejected", data={"clip": "clip-a"}))
    return collect_samples(items, tmp_path)


def read(samples: list[ToolSample], tool: ToolFormat, name: str, folder: Path) -> Any:
    return json.loads(tool_files(tool, samples, folder)[name])


def test_rejected_videos_are_there_with_their_reason(samples: list[ToolSample]) -> None:
    assert [sample.id for sample in samples] == list(CAPTIONS)
    assert [len(sample.tracks) for sample in samples] == [1, 0, 0, 0]
    assert samples[1].tags == ("clip", "train", "toons", "cartoon", "rejected", "near_duplicate")
    assert samples[0].tracks[0].boxes == ((4, 2, 6, 3), (0, 0, 1, 10), None, (19, 9, 1, 1))


def test_lightly_gets_youtube_vis(samples: list[ToolSample], tmp_path: Path) -> None:
    vis = read(samples, ToolFormat.LIGHTLY, "annotations.json", tmp_path)
    assert vis["categories"] == [{"id": 1, "name": NAME}]
    for video, sample in zip(vis["videos"], samples, strict=True):
        assert (video["width"], video["height"], video["length"]) == (WIDTH, HEIGHT, FRAMES)
        # labelformat: the folder of the first frame is the name of the video file.
        assert Path(video["file_names"][0]).parent.name == Path(sample.file).stem
        assert len(video["file_names"]) == FRAMES
    (track,) = vis["annotations"]
    assert track["video_id"] == vis["videos"][0]["id"]
    assert track["bboxes"] == [[4, 2, 6, 3], [0, 0, 1, 10], None, [19, 9, 1, 1]]
    assert track["areas"] == [18, 10, None, 1]
    decoded = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    for frame, mask in enumerate(track["segmentations"]):
        if mask is not None:
            assert mask["size"] == [HEIGHT, WIDTH]
            values = np.arange(len(mask["counts"])) % 2 == 1
            decoded[frame] = np.repeat(values, mask["counts"]).reshape((WIDTH, HEIGHT)).T
    assert decoded[0, 2:5, 4:10].all() and decoded[1, :, 0].all() and decoded[3, 9, 19]
    assert decoded.sum() == 29
    more = read(samples, ToolFormat.LIGHTLY, "samples.json", tmp_path)
    assert {name: one["caption"] for name, one in more.items()} == CAPTIONS
    assert more["clip-b"]["metadata"]["reason"] == "near_duplicate"
    assert more["clip-a"]["metadata"]["motion"] == 0.25
    compile(tool_files(ToolFormat.LIGHTLY, samples, tmp_path)["load.py"], "load.py", "exec")


def test_run_lengths_begin_with_background() -> None:
    mask = np.array([[True, False], [True, True]])
    assert run_lengths(mask) == [0, 2, 1, 1]
    assert run_lengths(~mask) == [2, 1, 1]
    assert run_lengths(np.zeros((2, 3), bool)) == [6]


def test_fiftyone_gets_its_own_format(samples: list[ToolSample], tmp_path: Path) -> None:
    metadata = read(samples, ToolFormat.FIFTYONE, "metadata.json", tmp_path)
    # Its importer takes a file with a version for one with the ids of a database.
    assert metadata["media_type"] == "video" and "version" not in metadata
    documents = read(samples, ToolFormat.FIFTYONE, "samples.json", tmp_path)["samples"]
    assert {one["sample"]: one["caption"] for one in documents} == CAPTIONS
    for one in documents:
        assert one["filepath"] == f"videos/{one['sample']}.mp4"
        assert one["vbench_subject_consistency"] == 0.5 and one["characters"] == [NAME]
        assert not any("." in name or name.startswith("$") for name in one)
    frames = read(samples, ToolFormat.FIFTYONE, documents[0]["frames"], tmp_path)["frames"]
    assert list(frames) == ["1", "2", "4"]
    (box,) = frames["1"]["characters"]["detections"]
    assert box["label"] == NAME and box["confidence"] == 0.75
    assert box["bounding_box"] == [0.2, 0.2, 0.3, 0.3]
    assert read(samples, ToolFormat.FIFTYONE, documents[1]["frames"], tmp_path) == {"frames": {}}


def test_labelstudio_gets_tasks_that_fit_its_interface(
    samples: list[ToolSample], tmp_path: Path
) -> None:
    config = ElementTree.fromstring(
        tool_files(ToolFormat.LABELSTUDIO, samples, tmp_path)["labeling.xml"]
    )
    controls = {tag.get("name"): tag for tag in config.iter() if tag.get("name")}
    assert [label.get("value") for label in controls["characters"]] == [NAME]
    tasks = read(samples, ToolFormat.LABELSTUDIO, "tasks.json", tmp_path)
    for task, sample in zip(tasks, samples, strict=True):
        url = urlsplit(task["data"]["video"])
        assert url.path == "/data/local-files/" and parse_qs(url.query)["d"] == [sample.file]
        assert task["data"]["caption"] == CAPTIONS[sample.id]
        for prediction in task["predictions"]:
            for region in prediction["result"]:
                assert controls[region["from_name"]].get("toName") == region["to_name"] == "video"
    box, caption = tasks[0]["predictions"][0]["result"]
    assert caption["value"]["text"] == [CAPTIONS["clip-a"]]
    assert box["type"] == "videorectangle" and box["value"]["labels"] == [NAME]
    assert box["value"]["framesCount"] == FRAMES
    sequence = box["value"]["sequence"]
    assert [(one["frame"], one["enabled"]) for one in sequence] == [
        (1, True),
        (2, False),
        (4, False),
    ]
    assert [sequence[0][side] for side in ("x", "y", "width", "height")] == [20, 20, 30, 30]
    assert tasks[2]["predictions"] == []
