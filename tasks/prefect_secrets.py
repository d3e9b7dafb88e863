"""Keys of vision-language models: from a Prefect Secret block to where units find them."""

from __future__ import annotations

import os
from typing import cast

from prefect.blocks.system import Secret

from mimix_core.errors import BadInput
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm import api_key, price_of


def load_api_key(vlm: VlmSettings, block: str | None, where: str) -> None:
    """Put the key of the Secret ``block`` into this process's environment, for its units.

    A key that the environment has already stays. Raises BadInput, naming the settings key
    ``where``, when there is no key in the end, or a budget and no price: before any work.
    """
    name = vlm.api_key_env
    if block is not None and name is not None and not os.environ.get(name):
        try:
            found = cast(Secret[str], Secret.load(block))
        except ValueError as error:
            raise BadInput(
                f"Prefect has no Secret block {block}",
                where=f"settings, key {where}",
                fix=f"Make one in the UI under Blocks, or export {name}",
            ) from error
        os.environ[name] = str(found.get())
    api_key(vlm)
    price_of(vlm)
