"""Which videos are scored, and which prompt each one shows."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mimix_core.domain.library import invalid, read_yaml
from mimix_core.domain.prompts import PromptFile
from mimix_core.errors import BadInput

SUFFIX = ".mp4"

_FORMS = "Its forms are told in docs/vbench.md, section Prompts."


@dataclass(frozen=True)
class Job:
    """One video: its name in the results, its file (which may be missing), its prompt."""

    name: str
    path: Path
    prompt: str


def plan(videos: Path, prompts: Mapping[str, str] | None) -> tuple[Job, ...]:
    """A job for each mp4 file below ``videos`` (or for that one file), sorted by name.

    ``prompts``: by file name, path below ``videos`` or name without suffix; None where no prompt is
    asked for. A prompt of a folder that has no video is a job whose file is missing. Raises
    BadInput for videos without a prompt, or when there is nothing to score.
    """
    if videos.is_file():
        files = {videos.name: videos}
    elif videos.is_dir():
        found = (path for path in videos.rglob("*") if path.suffix.lower() == SUFFIX)
        files = {path.relative_to(videos).as_posix(): path for path in found if not path.is_dir()}
    else:
        raise BadInput("no such file or folder", where=str(videos), fix="Check --videos.")
    if not files:
        raise BadInput(f"there is no {SUFFIX} file", where=str(videos), fix="Check --videos.")
    if prompts is None:
        return tuple(Job(name, files[name], "") for name in sorted(files))
    by_name, used = _lookup(prompts), set[str]()
    jobs, without = [], []
    for name in sorted(files):
        keys = (name, Path(name).name, Path(name).stem)
        key = next((by_name[key] for key in keys if key in by_name), None)
        if key is None:
            without.append(name)
        else:
            used.add(key)
            jobs.append(Job(name, files[name], prompts[key]))
    if without:
        raise BadInput(
            f"{len(without)} videos have no prompt: {', '.join(without[:5])}"
            f"{', ...' if len(without) > 5 else ''}",
            where=str(videos),
            fix="Add them to --prompts.",
        )
    absent = [key for key in prompts if key not in used] if videos.is_dir() else []
    named = {_file_name(key): key for key in absent}
    jobs += [Job(name, videos / name, prompts[key]) for name, key in named.items()]
    return tuple(sorted(jobs, key=lambda job: job.name))


def _file_name(key: str) -> str:
    name = Path(key).name
    return name if name.lower().endswith(SUFFIX) else name + SUFFIX


def _lookup(prompts: Mapping[str, str]) -> dict[str, str]:
    """What a video may be called -> the key of its prompt. A key may be a path of any folder."""
    last = Counter(Path(key).name for key in prompts)
    short = {Path(key).name: key for key in prompts if last[Path(key).name] == 1}
    return {**short, **{key: key for key in prompts}}


def read_prompts(path: Path) -> dict[str, str]:
    """File name -> prompt, from a JSON, YAML, CSV or text file. Raises BadInput.

    JSON and YAML: ``{video: prompt}`` as VBench's ``--prompt_file``, VBench's list of objects with
    ``prompt_en`` and ``video_list``, or MiMix's own file of prompts. CSV: columns ``video`` and
    ``prompt``. Text: a line per video, its name, a tab, its prompt.
    """
    kind = path.suffix.lower()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot be read ({error})", where=str(path)) from error
    if kind == ".json":
        try:
            return _mapping(json.loads(text), path)
        except json.JSONDecodeError as error:
            raise BadInput(f"no JSON ({error})", where=str(path), fix=_FORMS) from error
    if kind in (".yaml", ".yml"):
        document, lines = read_yaml(path)
        if isinstance(document, Mapping) and isinstance(document.get("prompts"), list):
            try:
                own = PromptFile.model_validate(document)
            except ValidationError as error:
                raise invalid(path, error, lines) from error
            return {prompt.id: prompt.text() for prompt in own.prompts}
        return _mapping(document, path)
    if kind == ".csv":
        rows = csv.DictReader(text.splitlines())
        if not {"video", "prompt"} <= set(rows.fieldnames or ()):
            raise BadInput("the columns video and prompt are needed", where=str(path), fix=_FORMS)
        return _unique([(row["video"], row["prompt"]) for row in rows], path)
    if kind == ".txt":
        lines_ = [line.split("\t", 1) for line in text.splitlines() if line.strip()]
        if any(len(parts) != 2 for parts in lines_):
            raise BadInput("a line has no tab", where=str(path), fix=_FORMS)
        return _unique([(video, prompt) for video, prompt in lines_], path)
    raise BadInput(f"{kind or 'no suffix'} is no form of prompts", where=str(path), fix=_FORMS)


def _mapping(document: Any, path: Path) -> dict[str, str]:
    if isinstance(document, Mapping):
        return _unique(list(document.items()), path)
    if isinstance(document, list) and all(isinstance(entry, Mapping) for entry in document):
        pairs: list[tuple[Any, Any]] = []
        for entry in document:
            listed = entry.get("video_list", ())
            for video in [listed] if isinstance(listed, str) else listed:
                pairs.append((video, entry.get("prompt_en")))
        return _unique(pairs, path)
    raise BadInput("neither a mapping nor VBench's list", where=str(path), fix=_FORMS)


def _unique(pairs: list[tuple[Any, Any]], path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for video, prompt in pairs:
        if not isinstance(video, str) or not isinstance(prompt, str) or not prompt.strip():
            raise BadInput(f"{video!r} has no prompt", where=str(path), fix=_FORMS)
        if found.setdefault(video.strip(), prompt.strip()) != prompt.strip():
            raise BadInput(f"{video!r} has two prompts", where=str(path))
    if not found:
        raise BadInput("it holds no prompt", where=str(path), fix=_FORMS)
    return found
