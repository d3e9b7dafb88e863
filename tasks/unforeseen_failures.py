"""Recognize a bug in MiMix: every unit of a stage failed with an unexpected error.

Such results are no statement about the files: they are discarded and computed again.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import FileIO

from mimix_core import tables
from mimix_core.engine import registry
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput, StageFailed
from mimix_core.tables import Reason


def discard_unforeseen_failures(
    store: Store, stage: str, keys: Iterable[str], use: FileIO | None
) -> None:
    """Discard what an earlier run left if every unit of the stage failed unexpectedly.

    The stage is then computed again, possibly by a mended version. Nothing is discarded while
    another run uses the store. ``use``: the run's own ``Store.in_use``.
    """
    refs = []
    for key in keys:
        ref = store.lookup(stage, key)
        if ref is None or not _is_unforeseen(store, ref):
            return
        refs.append(ref)
    _discard(store, refs, use)


def raise_if_every_unit_unforeseen(store: Store, refs: list[TableRef], use: FileIO | None) -> None:
    """Raise StageFailed and discard the results if every unit failed unexpectedly."""
    if not refs or not all(_is_unforeseen(store, ref) for ref in refs):
        return
    first = refs[0]
    [row, *_] = tables.read(first.path, registry.get_stage(first.stage).table)
    logs = store.root.parent / "logs"
    text = (
        f"every unit of stage {first.stage} failed, for example {first.unit}: {row['detail']}. "
        f"This is a bug; the traceback is in the units' logs: {logs}/{first.stage}-*.log"
    )
    if not _discard(store, refs, use):
        text += (
            "\nThe failed rows stay in the store while another run uses it; the next run of its "
            "own computes them again."
        )
    raise StageFailed(text)


def _is_unforeseen(store: Store, ref: TableRef) -> bool:
    return set(store.record(ref).reasons) == {Reason.UNFORESEEN_ERROR}


def _discard(store: Store, refs: list[TableRef], use: FileIO | None) -> bool:
    """Discard results; return False as soon as another run prevents it."""
    try:
        for ref in refs:
            store.discard(ref.stage, ref.key, use=use)
    except BadInput:
        return False
    return True
