"""Read the small files of a model folder, and recognize what was saved in place of a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mimix_core.errors import BadInput

_MAX_JSON_BYTES = 64_000_000
_PICKLES = (b"PK\3\4", b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5")
# No size, count or id in the config of a network is near it.
_MAX_CONFIG_NUMBER = 2**31


def describe_replacement(head: bytes) -> str | None:
    """Say what a file is that begins with ``head``, if it only takes the place of another file.

    These are pointers of Git LFS, web pages of errors that were saved under the file's name, and
    pickles, of PyTorch's two formats.
    """
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "is a web page, not the file itself"
    if head.startswith(_PICKLES):
        return "is a pickle (.pt, .bin), which can run any code when it is loaded"
    return None


def list_folder(folder: Path, fix: str = "") -> list[Path]:
    """List a folder's entries by name. Raises BadInput if it is missing or cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise BadInput(
            f"cannot be read as a folder ({error.strerror})", where=str(folder), fix=fix
        ) from error


def read_json(path: Path, fix: str = "") -> Any:
    """Read a JSON file of a model. Raises BadInput for anything else, and for NaN."""
    try:
        size = path.stat().st_size
        if size > _MAX_JSON_BYTES:
            raise ValueError(f"{size} bytes")
        content = path.read_bytes()
        replacement = describe_replacement(content[:256])
        if replacement is not None:
            raise BadInput(replacement, where=str(path), fix=fix)
        if not content.strip():
            raise ValueError("the file is empty")
        return json.loads(content, parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise BadInput("the file is missing", where=str(path), fix=fix) from error
    except OSError as error:
        raise BadInput(f"cannot be read ({error.strerror})", where=str(path), fix=fix) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"cannot be read as JSON: {error}", where=str(path), fix=fix) from error


def read_config(path: Path, fix: str = "") -> dict[str, Any]:
    """Read a JSON file of a model that holds an object. Raises BadInput for anything else.

    Numbers that are not finite, or larger than any size can be, are refused as well.
    """
    config = read_json(path, fix)
    if not isinstance(config, dict):
        raise BadInput(
            f"contains a {type(config).__name__}, not an object", where=str(path), fix=fix
        )
    for key, value in _numbers(config):
        if abs(value) > _MAX_CONFIG_NUMBER:
            what = f"{key} is {str(value)[:20]}, which is not a size"
            raise BadInput(what, where=str(path), fix=fix)
    return config


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _numbers(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _numbers(item, f"{key}[{number}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield key, value
