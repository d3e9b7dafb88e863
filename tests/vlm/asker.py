"""A process that asks: ``python -m tests.vlm.asker SETTINGS ANSWERS COUNT`` prints the outcomes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm import ask_all
from tests.vlm.standin import question


def main(settings: str, answers: str, count: str) -> None:
    chosen = VlmSettings.model_validate_json(settings)
    names = (str(number) for number in range(int(count)))
    for one in ask_all(map(question, names), chosen, Path(answers)):
        kind = one.error.kind if one.error else "answered"
        print(json.dumps([one.id, kind, one.attempts]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
