"""The tensors of a TorchScript archive, read without loading its code.

Such an archive is a zip file: ``data.pkl`` pickles the tree of modules, whose tensors lie in files
of their own under ``data/``; the modules' code lies beside them and is not looked at. The pickle is
read with nothing but placeholders for its classes.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_TYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


def is_archive(path: Path) -> bool:
    """Whether a file is a TorchScript archive (and not a pickled state dict)."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of the modules by dotted name, on the CPU, types as stored.

    Raises pickle.UnpicklingError for a pickle that asks for more than that.
    """
    with zipfile.ZipFile(path) as archive:
        # The reader of zip files checks each member's CRC.
        pickled = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        root = pickled.removesuffix("data.pkl")
        with archive.open(pickled) as stream:
            tree = _Reader(stream, lambda key: archive.read(f"{root}data/{key}")).load()
    return dict(_named(tree, ""))


class _Module:
    """Stands for any class of the archive: the unpickler fills its ``__dict__``."""


class _Storage:
    """A flat tensor, as ``persistent_load`` gives it to ``_rebuild``."""

    def __init__(self, values_N: torch.Tensor) -> None:
        self.values_N = values_N


class _Reader(pickle.Unpickler):
    def __init__(self, stream: Any, member: Callable[[str], bytes]) -> None:
        super().__init__(stream)
        self._member = member
        self._read: dict[str, _Storage] = {}

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if module_name.startswith("__torch__"):
            return _Module
        if module_name == "torch" and global_name in _TYPES:
            return global_name
        if (module_name, global_name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module_name, global_name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module_name == "torch.jit._pickle" and global_name.startswith("build_"):
            return list
        if (module_name, global_name) == ("torch.jit._pickle", "restore_type_tag"):
            return _untagged
        raise pickle.UnpicklingError(f"{module_name}.{global_name} in an archive of tensors")

    def persistent_load(self, pid: Any) -> _Storage:
        import torch

        kind, storage, key, _device, count = pid
        if kind != "storage" or storage not in _TYPES:
            raise pickle.UnpicklingError(f"{kind!r} of {storage!r} in an archive of tensors")
        if key not in self._read:
            data = bytearray(self._member(str(key)))
            dtype = getattr(torch, _TYPES[storage])
            values_N = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            if len(values_N) < count:
                raise pickle.UnpicklingError(f"data/{key} is shorter than promised")
            self._read[key] = _Storage(values_N)
        return self._read[key]


def _rebuild(
    storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> torch.Tensor:
    return storage.values_N.as_strided(size, stride, offset).clone()


def _untagged(value: Any, _tag: str) -> Any:
    return value


def _named(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    import torch

    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, _Module):
        for attribute, below in vars(value).items():
            yield from _named(below, f"{name}.{attribute}" if name else attribute)
