"""Lay samples out as other tools import them: LightlyStudio, FiftyOne and Label Studio.

docs/exports.md names the versions that were tried. Videos are in ``videos/`` in every format.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from mimix_core.media.masks import read_masks
from mimix_core.studio.tool_samples import CharacterTrack, ToolSample

_MASK_LEVEL = 128
"""Alpha from which a pixel belongs to a character, where a format has no soft masks."""


class ToolFormat(StrEnum):
    """The tool that imports an exported folder."""

    LIGHTLY = "lightly"
    FIFTYONE = "fiftyone"
    LABELSTUDIO = "labelstudio"


def tool_files(tool: ToolFormat, samples: Sequence[ToolSample], folder: Path) -> dict[str, str]:
    """Return the text files of a tool's format by their path relative to ``folder``."""
    return _LAYOUTS[tool](samples, folder)


def _lightly_files(samples: Sequence[ToolSample], folder: Path) -> dict[str, str]:
    """Return YouTube-VIS annotations, what it has no place for, and the script that loads both."""
    names = sorted({track.character for sample in samples for track in sample.tracks})
    categories = {name: number for number, name in enumerate(names, 1)}
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, sample in enumerate(samples, 1):
        size = {"width": sample.width, "height": sample.height, "length": sample.frames}
        # The importer takes the folder of the first frame as the name of the video.
        frames = [f"{sample.id}/{frame:05d}.jpg" for frame in range(sample.frames)]
        videos.append({"id": number, "file_names": frames, **size})
        for track in sample.tracks:
            masks = _run_lengths(track)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "video_id": number,
                    "category_id": categories[track.character],
                    "bboxes": [None if box is None else list(box) for box in track.boxes],
                    "segmentations": masks,
                    "areas": [None if m is None else sum(m["counts"][1::2]) for m in masks],
                    "iscrowd": 0,
                    **size,
                }
            )
    vis = {
        "info": {"description": "MiMix"},
        "videos": videos,
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
        "annotations": annotations,
    }
    more = {
        sample.id: {
            "caption": sample.caption,
            "tags": sample.tags,
            "metadata": sample.fields
            | sample.numbers
            | {"characters": ", ".join(sample.characters)},
        }
        for sample in samples
    }
    return {
        "annotations.json": _dump(vis),
        "samples.json": _dump(more),
        "load.py": _LIGHTLY_SCRIPT,
        "README.md": _readme(samples, "python load.py", "LightlyStudio"),
    }


_LIGHTLY_SCRIPT = '''"""Load this folder into LightlyStudio and open it: python load.py [masks]"""

import json
import sys
from pathlib import Path

import lightly_studio as ls
from lightly_studio.models.annotation.annotation_base import AnnotationType

FOLDER = Path(__file__).resolve().parent


def load(embed: bool = True, masks: bool = False) -> ls.VideoDataset:
    dataset = ls.VideoDataset.create(name="mimix")
    dataset.add_videos_from_youtube_vis(
        annotations_json=FOLDER / "annotations.json",
        videos_path=FOLDER / "videos",
        annotation_type=AnnotationType.SEGMENTATION_MASK
        if masks
        else AnnotationType.OBJECT_DETECTION,
        embed=embed,
        embed_frames=False,
    )
    known = json.loads((FOLDER / "samples.json").read_text(encoding="utf-8"))
    for sample in dataset:
        one = known[Path(sample.file_name).stem]
        if one["caption"]:
            sample.add_caption(one["caption"])
        for tag in one["tags"]:
            sample.add_tag(tag)
        for name, value in one["metadata"].items():
            sample.metadata[name] = value
    return dataset


if __name__ == "__main__":
    load(masks="masks" in sys.argv[1:])
    ls.start_gui()
'''


def _run_lengths(track: CharacterTrack) -> list[dict[str, Any] | None]:
    """Encode each mask as COCO's uncompressed run lengths, column by column, from background."""
    if track.masks is None:
        return [None] * len(track.boxes)
    encoded: list[dict[str, Any] | None] = []
    for box, alpha in zip(track.boxes, read_masks(track.masks), strict=True):
        mask = alpha >= _MASK_LEVEL
        encoded.append(
            {"size": list(mask.shape), "counts": run_lengths(mask)}
            if box is not None and mask.any()
            else None
        )
    return encoded


def run_lengths(mask_HW: NDArray[np.bool_]) -> list[int]:
    """Return the lengths of alternating runs down the columns; the first is of background."""
    pixels = mask_HW.ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    edges = np.concatenate([[0], changes, [len(pixels)]])
    lengths = [int(length) for length in np.diff(edges)]
    return [0, *lengths] if pixels[0] else lengths


def _fiftyone_files(samples: Sequence[ToolSample], folder: Path) -> dict[str, str]:
    """Return a dataset as FiftyOne's ``FiftyOneDataset`` stores it, without ids of a database."""
    files = {
        "metadata.json": _dump({"media_type": "video", "info": {"source": "MiMix"}}),
        "README.md": _readme(
            samples,
            "fiftyone.Dataset.from_dir(dataset_dir=..., "
            "dataset_type=fiftyone.types.FiftyOneDataset)",
            "FiftyOne",
        ),
    }
    documents = []
    for sample in samples:
        frames_file = f"frames/{sample.id}.json"
        files[frames_file] = _dump({"frames": _fiftyone_frames(sample)})
        documents.append(
            {
                "filepath": sample.file,
                "tags": list(sample.tags),
                "_media_type": "video",
                "sample": sample.id,
                "caption": sample.caption,
                "characters": list(sample.characters),
                **sample.fields,
                # Names of measures may have dots, which its database does not allow.
                **{_identifier(name): value for name, value in sample.numbers.items()},
                "frames": frames_file,
            }
        )
    files["samples.json"] = _dump({"samples": documents})
    return files


def _fiftyone_frames(sample: ToolSample) -> dict[str, Any]:
    """Return the boxes by frame, from 1, as shares of the image."""
    frames: dict[str, Any] = {}
    for number in range(sample.frames):
        detections = [
            {
                "_cls": "Detection",
                "label": track.character,
                "bounding_box": [
                    box[0] / sample.width,
                    box[1] / sample.height,
                    box[2] / sample.width,
                    box[3] / sample.height,
                ],
                "index": index,
                "confidence": track.confidence,
            }
            for index, track in enumerate(sample.tracks)
            if number < len(track.boxes) and (box := track.boxes[number]) is not None
        ]
        if detections:
            frames[str(number + 1)] = {
                "frame_number": number + 1,
                "characters": {"_cls": "Detections", "detections": detections},
            }
    return frames


def _identifier(name: str) -> str:
    return "".join(c if c.isalnum() or c == "_" else "_" for c in name)


def _labelstudio_files(samples: Sequence[ToolSample], folder: Path) -> dict[str, str]:
    """Return tasks with predictions, and the labeling interface that they fit."""
    names = sorted({name for sample in samples for name in sample.characters})
    return {
        "tasks.json": _dump([_labelstudio_task(sample) for sample in samples]),
        "labeling.xml": _labelstudio_config(names, max(sample.rate for sample in samples)),
        "README.md": _readme(
            samples,
            "labeling.xml as the project's labeling interface, then the import of tasks.json, with "
            f"LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
            f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={folder}",
            "Label Studio",
        ),
    }


def _labelstudio_task(sample: ToolSample) -> dict[str, Any]:
    regions = [
        region
        for number, track in enumerate(sample.tracks)
        if (region := _labelstudio_region(sample, track, number)) is not None
    ]
    if sample.caption:
        regions.append(
            {
                "id": "caption",
                "from_name": "caption",
                "to_name": "video",
                "type": "textarea",
                "value": {"text": [sample.caption]},
            }
        )
    return {
        "data": {
            "video": f"/data/local-files/?d={quote(sample.file)}",
            "sample": sample.id,
            "caption": sample.caption,
            "characters": ", ".join(sample.characters),
            "tags": ", ".join(sample.tags),
            **sample.fields,
            **sample.numbers,
        },
        "predictions": [{"model_version": "MiMix", "result": regions}] if regions else [],
    }


def _labelstudio_region(
    sample: ToolSample, track: CharacterTrack, number: int
) -> dict[str, Any] | None:
    """Return a track in percent of the image; frames count from 1. None without any box."""
    sequence = []
    for frame, box in enumerate(track.boxes):
        if box is None:
            continue
        is_last = frame + 1 == len(track.boxes) or track.boxes[frame + 1] is None
        sequence.append(
            {
                "frame": frame + 1,
                "time": frame / sample.rate,
                "x": 100 * box[0] / sample.width,
                "y": 100 * box[1] / sample.height,
                "width": 100 * box[2] / sample.width,
                "height": 100 * box[3] / sample.height,
                "rotation": 0,
                # Up to the next entry nothing is drawn.
                "enabled": not is_last,
            }
        )
    if not sequence:
        return None
    return {
        "id": f"track-{number}",
        "from_name": "box",
        "to_name": "video",
        "type": "videorectangle",
        "value": {
            "framesCount": sample.frames,
            "duration": sample.frames / sample.rate,
            "sequence": sequence,
            "labels": [track.character],
        },
    }


def _labelstudio_config(names: Sequence[str], rate: float) -> str:
    labels = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in names)
    return f"""<View>
  <Header value="$sample"/>
  <Video name="video" value="$video" framerate="{rate}"/>
  <VideoRectangle name="box" toName="video"/>
  <Labels name="characters" toName="video">
{labels}
  </Labels>
  <TextArea name="caption" toName="video" rows="4" editable="true"/>
  <Choices name="verdict" toName="video" choice="single">
    <Choice value="approve"/>
    <Choice value="reject"/>
  </Choices>
</View>
"""


_LAYOUTS: Mapping[ToolFormat, Callable[[Sequence[ToolSample], Path], dict[str, str]]] = {
    ToolFormat.LIGHTLY: _lightly_files,
    ToolFormat.FIFTYONE: _fiftyone_files,
    ToolFormat.LABELSTUDIO: _labelstudio_files,
}


def _readme(samples: Sequence[ToolSample], how: str, tool: str) -> str:
    return f"# {len(samples)} videos of MiMix for {tool}\n\nTo import them: `{how}`.\n"


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"
