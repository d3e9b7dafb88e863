"""Call vision-language models: typed requests, cached responses, rate limits and a budget.

``run_requests`` is the entry point. Responses, rate limits and the cost ledger are files in one
folder that all processes of a workspace share.
"""

from mimix_core.vlm.api_keys import excerpt, read_api_key
from mimix_core.vlm.backends import create_backend
from mimix_core.vlm.client import run_requests
from mimix_core.vlm.json_schema import strict_schema
from mimix_core.vlm.prices import CostEstimate, estimate_cost, model_price
from mimix_core.vlm.protocol import (
    BadCredentials,
    BudgetExceeded,
    ChatMessage,
    ImagePart,
    InvalidResponse,
    RateLimited,
    RawResponse,
    RefusedResponse,
    RejectedRequest,
    TextPart,
    TokenUsage,
    TruncatedResponse,
    Unavailable,
    VideoPart,
    VlmBackend,
    VlmError,
    VlmOutcome,
    VlmRequest,
    VlmResponse,
)

__all__ = [
    "BadCredentials",
    "BudgetExceeded",
    "ChatMessage",
    "CostEstimate",
    "ImagePart",
    "InvalidResponse",
    "RateLimited",
    "RawResponse",
    "RefusedResponse",
    "RejectedRequest",
    "TextPart",
    "TokenUsage",
    "TruncatedResponse",
    "Unavailable",
    "VideoPart",
    "VlmBackend",
    "VlmError",
    "VlmOutcome",
    "VlmRequest",
    "VlmResponse",
    "create_backend",
    "estimate_cost",
    "excerpt",
    "model_price",
    "read_api_key",
    "run_requests",
    "strict_schema",
]
