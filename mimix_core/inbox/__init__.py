"""Ingest new episodes into a show's folder: only complete videos, and each only once."""

from mimix_core.inbox.atomic_copy import TransferMode
from mimix_core.inbox.candidates import IngestOutcome, IngestResult
from mimix_core.inbox.ingest import ingest
from mimix_core.inbox.pending import PendingFile, find_pending, ingest_pending

__all__ = [
    "IngestOutcome",
    "IngestResult",
    "PendingFile",
    "TransferMode",
    "find_pending",
    "ingest",
    "ingest_pending",
]
