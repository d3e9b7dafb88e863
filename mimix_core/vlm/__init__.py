"""Vision-language models behind one protocol: typed questions, kept answers, bounded spending.

``ask_all`` is the way in. Answers, limits and the ledger of what was spent are files below one
folder that all processes of a workspace share.
"""

from mimix_core.vlm.api_keys import api_key
from mimix_core.vlm.backends import open_backend
from mimix_core.vlm.client import ask_all
from mimix_core.vlm.json_schema import strict_schema
from mimix_core.vlm.prices import Estimate, estimate, price_of
from mimix_core.vlm.protocol import (
    Backend,
    BadCredentials,
    BudgetSpent,
    Image,
    InvalidReply,
    Message,
    Outcome,
    Question,
    RateLimited,
    RawReply,
    Refused,
    RejectedRequest,
    Reply,
    Text,
    TruncatedReply,
    Unavailable,
    Usage,
    Video,
    VlmError,
)

__all__ = [
    "Backend",
    "BadCredentials",
    "BudgetSpent",
    "Estimate",
    "Image",
    "InvalidReply",
    "Message",
    "Outcome",
    "Question",
    "RateLimited",
    "RawReply",
    "Refused",
    "RejectedRequest",
    "Reply",
    "Text",
    "TruncatedReply",
    "Unavailable",
    "Usage",
    "Video",
    "VlmError",
    "api_key",
    "ask_all",
    "estimate",
    "open_backend",
    "price_of",
    "strict_schema",
]
