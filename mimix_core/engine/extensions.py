"""Load extensions from outside MiMix: a name with a dot is the dotted name of a Python module.

A setting that names a metric, backbone, captioner or locator, and the name of a stage, may be such
a module. It must be importable wherever units run (installed, or on ``PYTHONPATH``), and define the
constant that docs/extending/ describes for its kind.
"""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field

from mimix_core.errors import BadInput

T = TypeVar("T")

_MODULE = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"

ModuleName = Annotated[str, Field(pattern=_MODULE)]
"""A setting's value that names a module outside MiMix, e.g. ``my_package.my_locator``."""


def is_module_name(name: str) -> bool:
    """Return whether a name refers to a module outside MiMix rather than to a built-in."""
    return re.match(_MODULE, name) is not None


def load_extension(module: str, constant: str, kind: type[T], *, setting: str) -> T:
    """Import a module and return its constant of the given type.

    ``setting`` is the settings key that named the module. Raises BadInput when the module cannot be
    found, does not define the constant, or defines it with another type.
    """
    where = f"settings, key {setting}"
    try:
        loaded = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise BadInput(
            f"no Python module {module}",
            where=where,
            fix="Install it where units run, or put its folder on PYTHONPATH.",
        ) from error
    value = getattr(loaded, constant, None)
    if not isinstance(value, kind):
        found = "does not define it" if value is None else f"defines a {type(value).__name__}"
        raise BadInput(
            f"module {module} must define {constant} as a {kind.__name__}, but {found}",
            where=where,
            fix="See docs/extending/.",
        )
    return value


def extension_source(module: str) -> Path | None:
    """Return the source file of a module without importing it; None when it has none.

    Its digest belongs in the inputs of the stage that runs it, so that a changed extension computes
    its results again.
    """
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)
