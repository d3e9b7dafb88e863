"""Let the named operators of a block report their outputs while it runs.

Operators are Python functions at run time, eager and compiled, so the reported tensors share their
storage with those that are saved for the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

Observer = Callable[[str, torch.Tensor], None]
_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def observed_outputs(observe: Observer) -> Iterator[None]:
    """Call ``observe(layer name, output)`` for outputs of named operators, in a ``with`` block."""
    token = _observer.set(observe)
    try:
        yield
    finally:
        _observer.reset(token)


def report_outputs(layer_name: str, *outputs: torch.Tensor) -> None:
    """Report complete outputs of an operator to the observer, if there is one."""
    observe = _observer.get()
    if observe is not None:
        for output in outputs:
            observe(layer_name, output)
