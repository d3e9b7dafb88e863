"""Write a small ONNX model with random weights, of WeSpeaker's interface, without the package onnx.

The file is a protocol buffer; field numbers are those of onnx.proto3.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

HIDDEN, DIMENSIONS = 16, 24
_FLOAT, _INTS, _INT = 1, 7, 2


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _tensor(name: str, values: np.ndarray) -> bytes:
    dimensions = b"".join(_field(1, size) for size in values.shape)
    raw = values.astype("<f4").tobytes()
    return dimensions + _field(2, _FLOAT) + _field(8, name) + _field(9, raw)


def _value(name: str, shape: tuple[int | str, ...]) -> bytes:
    sizes = b"".join(_field(1, _field(2 if isinstance(s, str) else 1, s)) for s in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, _FLOAT) + _field(2, sizes)))


def _node(kind: str, inputs: tuple[str, ...], output: str, attributes: bytes = b"") -> bytes:
    names = b"".join(_field(1, name) for name in inputs)
    return names + _field(2, output) + _field(4, kind) + attributes


def weights(filters: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    first = rng.standard_normal((filters, HIDDEN)).astype(np.float32)
    return first, rng.standard_normal((HIDDEN, DIMENSIONS)).astype(np.float32)


def write_model(path: Path, filters: int = 80) -> Path:
    """Write mean(relu(feats @ first)) @ second, over the frames."""
    first, second = weights(filters)
    axes = _field(1, "axes") + _field(8, 1) + _field(20, _INTS)
    drop = _field(1, "keepdims") + _field(3, 0) + _field(20, _INT)
    nodes = (
        _node("MatMul", ("feats", "first"), "hidden"),
        _node("Relu", ("hidden",), "active"),
        _node("ReduceMean", ("active",), "mean", _field(5, axes) + _field(5, drop)),
        _node("MatMul", ("mean", "second"), "embs"),
    )
    graph = b"".join(
        (
            *(_field(1, node) for node in nodes),
            _field(2, "wespeaker"),
            _field(5, _tensor("first", first)),
            _field(5, _tensor("second", second)),
            _field(11, _value("feats", ("B", "T", filters))),
            _field(12, _value("embs", ("B", DIMENSIONS))),
        )
    )
    opset = _field(1, "") + _field(2, 13)
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, opset))
    return path
