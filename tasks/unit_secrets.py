"""Find the secrets of the environment that a unit needs: those that its settings name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mimix_core.engine.child_environment import passed_secrets
from mimix_core.engine.worker import UnitRequest
from mimix_core.settings.training_settings import tracker_secrets
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.api_keys import secret_variables


def unit_secrets(request: UnitRequest) -> frozenset[str]:
    """Return the names of the environment variables with secrets that a unit needs."""
    return frozenset(_secrets_in(request.settings)) | passed_secrets()


def _secrets_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "api_key_env" in value and "headers_env" in value:
            names = value.keys() & VlmSettings.model_fields.keys()
            vlm = VlmSettings.model_validate({name: value[name] for name in names})
            yield from secret_variables(vlm)
        yield from tracker_secrets(value.get("trackers") or ())
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _secrets_in(item)
