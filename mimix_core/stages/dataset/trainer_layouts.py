"""Lay captions and configuration out as other trainers read them, beside the exported videos.

Videos are at ``<split>/<kind>/<sample_id>.mp4`` in every format. What is beside them follows each
trainer's own loader (docs/exports.md names the commits that were read):

- ``hf``: ``<split>/metadata.jsonl`` for the ``videofolder`` builder of ``datasets``.
- ``diffusion-pipe``: a ``.txt`` beside each video, and ``dataset.toml`` (utils/dataset.py).
- ``musubi``: a ``.txt`` beside each video, and ``dataset.toml`` (dataset/config_utils.py).
- ``diffsynth``: ``<split>/metadata.jsonl`` with ``video`` and ``prompt`` (UnifiedDataset).
- ``finetrainers``: ``<split>/metadata.jsonl`` with ``caption``, and ``training.json``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

from mimix_core.domain.splits import Split
from mimix_core.tables import DatasetRow, Row

METADATA_FILE = "metadata.jsonl"
_VALIDATION_PROMPTS = 8
"""finetrainers generates every validation prompt each time it validates."""


class SampleKind(StrEnum):
    """What a sample is: a clip, or a composite of two."""

    ORIGINAL = "original"
    COMPOSITE = "composite"


class ExportFormat(StrEnum):
    """The program that reads an exported dataset."""

    HF = "hf"
    DIFFUSION_PIPE = "diffusion-pipe"
    MUSUBI = "musubi"
    DIFFSYNTH = "diffsynth"
    FINETRAINERS = "finetrainers"


_COLUMNS = (
    "sample_id",
    "kind",
    "split",
    "show",
    "style",
    "characters",
    "frames",
    "rate_num",
    "rate_den",
    "width",
    "height",
    "sha256",
    "episode_id",
    "source_episode_id",
    "pasted",
    "pasted_style",
    "rank",
    "caption_backend",
)


def order_samples(rows: Iterable[DatasetRow]) -> list[DatasetRow]:
    """Sort samples by split, originals before composites, then by id."""
    splits = list(Split)
    return sorted(
        rows,
        key=lambda row: (
            splits.index(Split(row["split"])),
            row["kind"] != SampleKind.ORIGINAL,
            row["sample_id"],
        ),
    )


def video_path(row: DatasetRow) -> str:
    """Return the path of a sample's video, relative to the exported folder."""
    suffix = Path(row["video"]).suffix
    return f"{row['split']}/{row['kind']}/{row['sample_id']}{suffix}"


def layout_files(
    export_format: ExportFormat, rows: Sequence[DatasetRow], folder: Path
) -> dict[str, str]:
    """Return the text files of a format by their path relative to ``folder``.

    ``rows``: as ``order_samples`` sorts them. ``folder``: where the export will be, absolute;
    configuration files name it, since trainers resolve paths against their working directory.
    """
    return _LAYOUTS[export_format](rows, folder)


def starting_note(export_format: ExportFormat, rows: Sequence[DatasetRow], folder: Path) -> str:
    """Return a paragraph in Markdown on how the trainer takes this folder."""
    width, height, frames = _sizes(rows)[0]
    has_val = any(row["split"] == Split.VAL for row in rows)
    if export_format is ExportFormat.HF:
        return (
            f"`<split>/{METADATA_FILE}` names each video and its caption: "
            '`datasets.load_dataset("videofolder", data_dir=...)` reads this folder.'
        )
    if export_format is ExportFormat.DIFFUSION_PIPE:
        note = f"`dataset = {_toml_string(str(folder / 'dataset.toml'))}` in the training config."
        if has_val:
            config = _toml_string(str(folder / "dataset-val.toml"))
            note += f" `eval_datasets = [{{name = 'val', config = {config}}}]` validates."
        return note + " Models other than Wan2.1 resample the videos to their own frame rate."
    if export_format is ExportFormat.MUSUBI:
        return (
            "`--dataset_config dataset.toml` of `wan_cache_latents.py`, "
            "`wan_cache_text_encoder_outputs.py` and `wan_train_network.py`. musubi-tuner does not "
            "validate: the other splits are there for your own use."
        )
    if export_format is ExportFormat.DIFFSYNTH:
        return (
            f"`--dataset_base_path train --dataset_metadata_path train/{METADATA_FILE} "
            f"--data_file_keys video --height {height} --width {width} --num_frames {frames}` of "
            "`examples/wanvideo/model_training/train.py`."
        )
    note = "`--dataset_config training.json` of `train.py`."
    if has_val:
        note += " `--validation_dataset_file validation.json` generates captions of the val split."
    return note


def _hf_layout(rows: Sequence[DatasetRow], folder: Path) -> dict[str, str]:
    def line(row: DatasetRow) -> Row:
        columns: Row = {**row}
        return {"file_name": _within_split(row), "text": row["caption"]} | {
            column: columns[column] for column in _COLUMNS
        }

    return _metadata_files(rows, line)


def _diffusion_pipe_layout(rows: Sequence[DatasetRow], folder: Path) -> dict[str, str]:
    files = _caption_files(rows)
    for split, name in ((Split.TRAIN, "dataset.toml"), (Split.VAL, "dataset-val.toml")):
        own = [row for row in rows if row["split"] == split]
        if own:
            files[name] = _diffusion_pipe_config(own, folder)
    return files


def _diffusion_pipe_config(rows: Sequence[DatasetRow], folder: Path) -> str:
    # Size buckets and not `resolutions`: those are rounded to 32 pixels and to a ratio of areas.
    lines = [
        "# Width, height and frames of the videos: nothing is scaled or cut off.",
        f"size_buckets = {json.dumps([list(size) for size in _sizes(rows)])}",
        "# The order of a caption's tags matters: leave this at 0.",
        "cache_shuffle_num = 0",
    ]
    for directory in _directories(rows):
        lines += [
            "",
            "[[directory]]",
            f"path = {_toml_string(str(folder / directory))}",
            "# How often each of these videos is seen in an epoch.",
            "num_repeats = 1",
        ]
    return "\n".join(lines) + "\n"


def _musubi_layout(rows: Sequence[DatasetRow], folder: Path) -> dict[str, str]:
    files = _caption_files(rows)
    trained = [row for row in rows if row["split"] == Split.TRAIN]
    if not trained:
        return files
    lines = [
        "[general]",
        'caption_extension = ".txt"',
        "batch_size = 1",
        "enable_bucket = true",
        "bucket_no_upscale = false",
    ]
    for directory in _directories(trained):
        own = [row for row in trained if _directory(row) == directory]
        widest = max(_sizes(own), key=lambda size: size[0] * size[1])
        lines += [
            "",
            "[[datasets]]",
            f"video_directory = {_toml_string(str(folder / directory))}",
            f"cache_directory = {_toml_string(str(folder / 'cache' / directory))}",
            f"resolution = [{widest[0]}, {widest[1]}]",
            "# 4k + 1 frames, all of a video, at the rate that it has.",
            f"target_frames = {json.dumps(sorted({size[2] for size in _sizes(own)}))}",
            'frame_extraction = "head"',
            f"source_fps = {float(Fraction(own[0]['rate_num'], own[0]['rate_den']))}",
            "# How often each of these videos is seen in an epoch.",
            "num_repeats = 1",
        ]
    return files | {"dataset.toml": "\n".join(lines) + "\n"}


def _diffsynth_layout(rows: Sequence[DatasetRow], folder: Path) -> dict[str, str]:
    # JSON lines and not CSV: pandas turns captions such as "NA" into a missing value.
    return _metadata_files(
        rows, lambda row: {"video": _within_split(row), "prompt": row["caption"]}
    )


def _finetrainers_layout(rows: Sequence[DatasetRow], folder: Path) -> dict[str, str]:
    files = _metadata_files(
        rows, lambda row: {"file_name": _within_split(row), "caption": row["caption"]}
    )
    trained = [row for row in rows if row["split"] == Split.TRAIN]
    if trained:
        buckets = [[frames, height, width] for width, height, frames in _sizes(trained)]
        files["training.json"] = _json_file(
            {
                "datasets": [
                    {
                        "data_root": str(folder / Split.TRAIN),
                        "dataset_type": "video",
                        "video_resolution_buckets": buckets,
                        "reshape_mode": "bicubic",
                    }
                ]
            }
        )
    held_out = [row for row in rows if row["split"] == Split.VAL]
    if held_out:
        files["validation.json"] = _json_file(
            {"data": [_validation_prompt(row) for row in _spread(held_out, _VALIDATION_PROMPTS)]}
        )
    return files


def _validation_prompt(row: DatasetRow) -> dict[str, Any]:
    return {
        "caption": row["caption"],
        "height": row["height"],
        "width": row["width"],
        "num_frames": row["frames"],
        "frame_rate": float(Fraction(row["rate_num"], row["rate_den"])),
        "num_inference_steps": 50,
    }


_LAYOUTS: Mapping[ExportFormat, Callable[[Sequence[DatasetRow], Path], dict[str, str]]] = {
    ExportFormat.HF: _hf_layout,
    ExportFormat.DIFFUSION_PIPE: _diffusion_pipe_layout,
    ExportFormat.MUSUBI: _musubi_layout,
    ExportFormat.DIFFSYNTH: _diffsynth_layout,
    ExportFormat.FINETRAINERS: _finetrainers_layout,
}


def _caption_files(rows: Sequence[DatasetRow]) -> dict[str, str]:
    return {str(Path(video_path(row)).with_suffix(".txt")): row["caption"] for row in rows}


def _metadata_files(
    rows: Sequence[DatasetRow], line: Callable[[DatasetRow], Mapping[str, Any]]
) -> dict[str, str]:
    """Return one ``metadata.jsonl`` per split, its paths relative to the split's folder."""
    lines: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        name = f"{row['split']}/{METADATA_FILE}"
        lines[name].append(json.dumps(line(row), ensure_ascii=False) + "\n")
    return {name: "".join(parts) for name, parts in lines.items()}


def _within_split(row: DatasetRow) -> str:
    return video_path(row).partition("/")[2]


def _directory(row: DatasetRow) -> str:
    return f"{row['split']}/{row['kind']}"


def _directories(rows: Sequence[DatasetRow]) -> list[str]:
    return list(dict.fromkeys(_directory(row) for row in rows))


def _sizes(rows: Sequence[DatasetRow]) -> list[tuple[int, int, int]]:
    """Return the width, height and number of frames that occur, the largest first."""
    return sorted({(row["width"], row["height"], row["frames"]) for row in rows}, reverse=True)


def _spread(rows: Sequence[DatasetRow], count: int) -> list[DatasetRow]:
    """Return at most ``count`` rows, spread evenly."""
    if len(rows) <= count:
        return list(rows)
    return [rows[index * len(rows) // count] for index in range(count)]


def _json_file(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def _toml_string(text: str) -> str:
    """Quote text as a TOML basic string, which has JSON's escapes and forbids DEL besides."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
