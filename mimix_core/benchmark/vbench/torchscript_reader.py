"""Read the tensors of a TorchScript archive without loading its code.

Such an archive is a zip file: ``data.pkl`` pickles the tree of modules, and ``data/`` holds one
file per tensor storage. The modules' code is in further files, which are not read. The pickle is
loaded with placeholders for all its classes.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from io import BytesIO
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


def is_torchscript_archive(path: Path) -> bool:
    """Return whether a file is a TorchScript archive (and not a pickled state dict)."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read all tensors of the modules by dotted name, on the CPU, with the stored types.

    Raises pickle.UnpicklingError for a pickle that refers to any other class or function, and for
    compressed tensors or pickles: torch compresses only code, and a small member may hold any
    number of bytes.
    """
    with zipfile.ZipFile(path) as archive:
        pickled = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        root = pickled.removesuffix("data.pkl")
        stream = BytesIO(_read_stored(archive, pickled))
        tree = _TensorUnpickler(stream, lambda key: _read_stored(archive, f"{root}data/{key}"))
        return dict(_walk_tensors(tree.load(), ""))


def _read_stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read a member that is not compressed; zipfile checks its CRC."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise pickle.UnpicklingError(f"{name} is compressed, which torch never does")
    return archive.read(name)


class _Module:
    """Placeholder for any class of the archive; the unpickler fills its ``__dict__``."""


class _Storage:
    """A flat tensor, passed from ``persistent_load`` to ``_rebuild_tensor``."""

    def __init__(self, values_N: torch.Tensor) -> None:
        self.values_N = values_N


class _TensorUnpickler(pickle.Unpickler):
    def __init__(self, stream: Any, read_member: Callable[[str], bytes]) -> None:
        super().__init__(stream)
        self._read_member = read_member
        self._storages: dict[str, _Storage] = {}

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if module_name.startswith("__torch__"):
            return _Module
        if module_name == "torch" and global_name in _TYPES:
            return global_name
        if (module_name, global_name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module_name, global_name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module_name == "torch.jit._pickle" and global_name.startswith("build_"):
            return list
        if (module_name, global_name) == ("torch.jit._pickle", "restore_type_tag"):
            return _drop_type_tag
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is not allowed in an archive")

    def persistent_load(self, pid: Any) -> _Storage:
        import torch

        kind, storage, key, _device, count = pid
        if kind != "storage" or storage not in _TYPES:
            raise pickle.UnpicklingError(f"unsupported storage: {kind!r} of {storage!r}")
        if key not in self._storages:
            data = bytearray(self._read_member(str(key)))
            dtype = getattr(torch, _TYPES[storage])
            values_N = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            if len(values_N) < count:
                raise pickle.UnpicklingError(f"data/{key} is shorter than the pickle says")
            self._storages[key] = _Storage(values_N)
        return self._storages[key]


def _rebuild_tensor(
    storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> torch.Tensor:
    return storage.values_N.as_strided(size, stride, offset).clone()


def _drop_type_tag(value: Any, _tag: str) -> Any:
    return value


def _walk_tensors(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    import torch

    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, _Module):
        for attribute, child in vars(value).items():
            yield from _walk_tensors(child, f"{name}.{attribute}" if name else attribute)
