"""Load API keys of vision-language models from Prefect Secret blocks."""

from __future__ import annotations

import os
from typing import cast

from prefect.blocks.system import Secret

from mimix_core.errors import BadInput
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm import model_price, read_api_key


def load_api_key(vlm: VlmSettings, block: str | None, where: str) -> None:
    """Copy the key of the Secret block into the environment, which units inherit.

    A key that is already in the environment takes precedence. Raises BadInput before any work,
    naming the settings key ``where``, if there is no key, or a budget but no price.
    """
    name = vlm.api_key_env
    if block is not None and name is not None and not os.environ.get(name):
        try:
            secret = cast(Secret[str], Secret.load(block))
        except ValueError as error:
            raise BadInput(
                f"Prefect has no Secret block {block}",
                where=f"settings, key {where}",
                fix=f"Create it in the UI under Blocks, or set the variable {name}.",
            ) from error
        os.environ[name] = str(secret.get())
    read_api_key(vlm)
    model_price(vlm)
