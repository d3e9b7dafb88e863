"""Backends for the providers' clients; a client is imported only if its backend is chosen."""

from __future__ import annotations

from mimix_core.errors import BadInput
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.api_keys import read_api_key
from mimix_core.vlm.protocol import VlmBackend


def create_backend(settings: VlmSettings) -> VlmBackend:
    """Create the chosen backend inside a running event loop.

    Raises BadCredentials without a key, and BadInput when the client is not installed.
    """
    key = read_api_key(settings)
    try:
        match settings.backend:
            case "openai":
                from mimix_core.vlm.backends.openai import OpenAIBackend

                return OpenAIBackend(settings, key)
            case "gemini":
                from mimix_core.vlm.backends.gemini import GeminiBackend

                return GeminiBackend(settings, key)
            case "google-generativeai":
                from mimix_core.vlm.backends.generativeai import GenerativeAIBackend

                return GenerativeAIBackend(settings, key)
    except ImportError as error:
        extra = "vlm-google-generativeai" if settings.backend == "google-generativeai" else "vlm"
        raise BadInput(
            f"the client of the backend {settings.backend} is not installed ({error.name})",
            fix=f"pip install 'mimix[{extra}]'",
        ) from error
