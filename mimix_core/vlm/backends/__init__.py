"""One module a provider's client; a client is imported only where it is chosen."""

from __future__ import annotations

from mimix_core.errors import BadInput
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.api_keys import api_key
from mimix_core.vlm.protocol import Backend


def open_backend(settings: VlmSettings) -> Backend:
    """The chosen backend, ready to be asked; inside a running event loop.

    Raises BadCredentials without a key, BadInput when the client is not installed.
    """
    key = api_key(settings)
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
