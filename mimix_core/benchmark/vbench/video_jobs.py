"""List the videos to score, each with the prompt it shows."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mimix_core.domain.prompts import PromptFile
from mimix_core.engine.yaml_files import read_yaml_file, validation_error
from mimix_core.errors import BadInput

VIDEO_SUFFIX = ".mp4"

_FORMATS = "Supported formats are described in docs/vbench.md, section Prompts."


@dataclass(frozen=True)
class VideoJob:
    """A video to score: its name in the results, its file (which may be missing), its prompt."""

    name: str
    path: Path
    prompt: str


def plan_video_jobs(videos: Path, prompts: Mapping[str, str] | None) -> tuple[VideoJob, ...]:
    """Create a job for each mp4 file below ``videos`` (or for that one file), sorted by name.

    ``prompts``: by file name, path below ``videos`` or name without suffix; None if no dimension
    reads prompts. For a folder, a prompt without a video becomes a job with a missing file. Raises
    BadInput for videos without a prompt, or when there is nothing to score.
    """
    if videos.is_file():
        files = {videos.name: videos}
    elif videos.is_dir():
        found = (path for path in videos.rglob("*") if path.suffix.lower() == VIDEO_SUFFIX)
        files = {path.relative_to(videos).as_posix(): path for path in found if not path.is_dir()}
    else:
        raise BadInput("no such file or folder", where=str(videos), fix="Check the path.")
    if not files:
        raise BadInput(f"no {VIDEO_SUFFIX} files", where=str(videos), fix="Check the path.")
    if prompts is None:
        return tuple(VideoJob(name, files[name], "") for name in sorted(files))
    key_by_name, used = _index_keys(prompts), set[str]()
    jobs, without_prompt = [], []
    for name in sorted(files):
        names = (name, Path(name).name, Path(name).stem)
        key = next((key_by_name[n] for n in names if n in key_by_name), None)
        if key is None:
            without_prompt.append(name)
        else:
            used.add(key)
            jobs.append(VideoJob(name, files[name], prompts[key]))
    if without_prompt:
        raise BadInput(
            f"{len(without_prompt)} videos have no prompt: {', '.join(without_prompt[:5])}"
            f"{', ...' if len(without_prompt) > 5 else ''}",
            where=str(videos),
            fix="Add their prompts to the prompts file.",
        )
    unused = [key for key in prompts if key not in used] if videos.is_dir() else []
    missing = {_file_name(key): key for key in unused}
    jobs += [VideoJob(name, videos / name, prompts[key]) for name, key in missing.items()]
    return tuple(sorted(jobs, key=lambda job: job.name))


def _file_name(key: str) -> str:
    name = Path(key).name
    return name if name.lower().endswith(VIDEO_SUFFIX) else name + VIDEO_SUFFIX


def _index_keys(prompts: Mapping[str, str]) -> dict[str, str]:
    """Map keys, and the file names of keys where they are unique, to the keys of ``prompts``.

    A key may be a path in any folder.
    """
    counts = Counter(Path(key).name for key in prompts)
    by_file_name = {Path(key).name: key for key in prompts if counts[Path(key).name] == 1}
    return {**by_file_name, **{key: key for key in prompts}}


def read_video_prompts(path: Path) -> dict[str, str]:
    """Read prompts by file name from a JSON, YAML, CSV or text file. Raises BadInput.

    JSON and YAML: ``{video: prompt}`` as VBench's ``--prompt_file``, VBench's list of objects with
    ``prompt_en`` and ``video_list``, or MiMix's own prompts file. CSV: columns ``video`` and
    ``prompt``. Text: one line per video with its name, a tab and its prompt.
    """
    kind = path.suffix.lower()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot be read ({error})", where=str(path)) from error
    if kind == ".json":
        try:
            return _parse_document(json.loads(text), path)
        except json.JSONDecodeError as error:
            raise BadInput(f"invalid JSON ({error})", where=str(path), fix=_FORMATS) from error
    if kind in (".yaml", ".yml"):
        document, lines = read_yaml_file(path)
        if isinstance(document, Mapping) and isinstance(document.get("prompts"), list):
            try:
                prompt_file = PromptFile.model_validate(document)
            except ValidationError as error:
                raise validation_error(path, error, lines) from error
            return {prompt.id: prompt.render() for prompt in prompt_file.prompts}
        return _parse_document(document, path)
    if kind == ".csv":
        rows = csv.DictReader(text.splitlines())
        if not {"video", "prompt"} <= set(rows.fieldnames or ()):
            raise BadInput(
                "the columns video and prompt are required", where=str(path), fix=_FORMATS
            )
        return _check_pairs([(row["video"], row["prompt"]) for row in rows], path)
    if kind == ".txt":
        pairs = [line.split("\t", 1) for line in text.splitlines() if line.strip()]
        if any(len(parts) != 2 for parts in pairs):
            raise BadInput("a line has no tab", where=str(path), fix=_FORMATS)
        return _check_pairs([(video, prompt) for video, prompt in pairs], path)
    raise BadInput(f"unsupported format: {kind or 'no suffix'}", where=str(path), fix=_FORMATS)


def _parse_document(document: Any, path: Path) -> dict[str, str]:
    if isinstance(document, Mapping):
        return _check_pairs(list(document.items()), path)
    if isinstance(document, list) and all(isinstance(entry, Mapping) for entry in document):
        pairs: list[tuple[Any, Any]] = []
        for entry in document:
            names = entry.get("video_list", ())
            for name in [names] if isinstance(names, str) else names:
                pairs.append((name, entry.get("prompt_en")))
        return _check_pairs(pairs, path)
    raise BadInput("neither a mapping nor VBench's list", where=str(path), fix=_FORMATS)


def _check_pairs(pairs: list[tuple[Any, Any]], path: Path) -> dict[str, str]:
    """Map videos to prompts. Raises BadInput for an empty list and missing or differing prompts."""
    prompts: dict[str, str] = {}
    for video, prompt in pairs:
        if not isinstance(video, str) or not isinstance(prompt, str) or not prompt.strip():
            raise BadInput(f"{video!r} has no prompt", where=str(path), fix=_FORMATS)
        if prompts.setdefault(video.strip(), prompt.strip()) != prompt.strip():
            raise BadInput(f"{video!r} has two prompts", where=str(path))
    if not prompts:
        raise BadInput("the file has no prompts", where=str(path), fix=_FORMATS)
    return prompts
