"""The inbox: new episodes come into a show's folder whole, once, and only when they are videos."""

from mimix_core.inbox.atomic_copy import How
from mimix_core.inbox.candidates import Arrival, Outcome
from mimix_core.inbox.ingest import ingest
from mimix_core.inbox.pending import Waiting, take_in, waiting

__all__ = ["Arrival", "How", "Outcome", "Waiting", "ingest", "take_in", "waiting"]
