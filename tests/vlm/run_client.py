"""Run requests in a process and print the outcomes.

Usage: ``python -m tests.vlm.run_client SETTINGS CACHE_FOLDER COUNT``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm import run_requests
from tests.vlm.fake_provider import question


def main(settings: str, answers: str, count: str) -> None:
    chosen = VlmSettings.model_validate_json(settings)
    names = (str(number) for number in range(int(count)))
    for one in run_requests(map(question, names), chosen, Path(answers)):
        kind = one.error.kind if one.error else "answered"
        print(json.dumps([one.id, kind, one.attempts]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
