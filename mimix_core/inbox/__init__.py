"""The inbox: new episodes come into a show's folder whole, once, and only when they are videos."""

from mimix_core.inbox.arrivals import Arrival, Outcome
from mimix_core.inbox.ingest import ingest
from mimix_core.inbox.place import How
from mimix_core.inbox.waiting import Waiting, take_in, waiting

__all__ = ["Arrival", "How", "Outcome", "Waiting", "ingest", "take_in", "waiting"]
