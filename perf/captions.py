"""How near asking a vision-language model comes to what its server allows, and what it holds.

``python perf/captions.py`` asks the tests' stand-in server, a process of its own on loopback, with
the official openai client:

- 600 requests a minute allowed, 50 ms latency: the share of the limit that is used, and the most
  requests that the server saw within any 60 seconds;
- no limit, 50 ms latency: the share of concurrency / latency;
- no latency, 1,000 and 52,000 questions: peak memory of the calling process and its worker.

Questions hold a roster and one small picture: what is looked at is the asking, not the sending.
"""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm import ChatMessage, ImagePart, TextPart, VlmRequest, run_requests
from perf.record import ROOT, record
from tests.vlm.fake_provider import KEY, KEY_NAME, FakeProvider, Seen, question, run_fake_provider

LATENCY_SECONDS = 0.05
CONCURRENCY = 8
LIMIT = 600
LIMITED, UNLIMITED = 660, 2000
FEW, MANY = 1_000, 52_000


@cache
def picture() -> bytes:
    """A JPEG of noise, some 4 kB."""
    from PIL import Image as Picture

    out = io.BytesIO()
    Picture.effect_noise((96, 64), 80).convert("RGB").save(out, "JPEG")
    return out.getvalue()


def main() -> None:
    os.environ[KEY_NAME] = KEY
    with tempfile.TemporaryDirectory(prefix="mimix-perf-") as name:
        folder = Path(name)
        limited, limited_counts = _measure(
            folder / "limited", LIMITED, LATENCY_SECONDS, {"requests_per_minute": LIMIT}
        )
        free, free_counts = _measure(folder / "free", UNLIMITED, LATENCY_SECONDS, {})
        few, _ = _measure(folder / "few", FEW, 0.0, {"max_concurrency": 32})
        many, _ = _measure(folder / "many", MANY, 0.0, {"max_concurrency": 32})
    times = limited_counts["times"]
    per_minute = (len(times) - 1) / (times[-1] - times[0]) * 60
    times_free = free_counts["times"]
    per_second = (len(times_free) - 1) / (times_free[-1] - times_free[0])
    figures = {
        "share_of_rate_limit": per_minute / LIMIT,
        "most_requests_in_60_s": most_in_a_minute(times),
        "share_of_concurrency": per_second / (CONCURRENCY / LATENCY_SECONDS),
        "server_latency_ms": free_counts["busy_seconds"] / len(times_free) * 1000,
        "peak_rss_gb_1k": few["peak_rss_gb"],
        "peak_rss_gb_52k": many["peak_rss_gb"],
        "worker_peak_rss_gb_1k": few["worker_peak_rss_gb"],
        "worker_peak_rss_gb_52k": many["worker_peak_rss_gb"],
        "questions_per_second": MANY / many["seconds"],
        "cached_answers_per_second": MANY / many["cached_seconds"],
        "seconds_limited": limited["seconds"],
        "seconds_unlimited": free["seconds"],
    }
    units = {
        "share_of_rate_limit": f"of {LIMIT} requests a minute, as the server saw them (bar 0.95)",
        "most_requests_in_60_s": f"requests, any window (bar {LIMIT})",
        "share_of_concurrency": f"of {CONCURRENCY} at once / 50 ms (bar 0.90)",
        "server_latency_ms": "ms, mean, what the server really took of the 50",
        "peak_rss_gb_1k": "GB resident, the calling process",
        "peak_rss_gb_52k": "GB resident, the calling process",
        "worker_peak_rss_gb_1k": "GB resident, its worker",
        "worker_peak_rss_gb_52k": "GB resident, its worker",
        "questions_per_second": "answers on disk a second, the server beside them, no latency",
        "cached_answers_per_second": "answers read from disk a second",
        "seconds_limited": f"s wall for {LIMITED} questions, process start included",
        "seconds_unlimited": f"s wall for {UNLIMITED} questions, process start included",
    }
    path = record(
        "captions",
        {key: round(value, 3) for key, value in figures.items()},
        units,
        "A stand-in server on the same machine, which takes its share of the processor.",
    )
    print(path.read_text())


def most_in_a_minute(times: list[float]) -> int:
    """The most of these (sorted) times that any window of 60 seconds holds."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] > 60:
            first += 1
        most = max(most, last - first + 1)
    return most


def _measure(
    folder: Path, count: int, latency: float, changed: dict[str, Any]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Ask so many questions in a fresh process; gives what it and what the server saw."""
    with run_fake_provider() as server:
        server.control(key=KEY, latency=latency)
        settings = server.settings(**{"max_concurrency": CONCURRENCY, **changed})
        done = subprocess.run(
            [sys.executable, __file__, "ask", settings.model_dump_json(), str(folder), str(count)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
        )
        counts = FakeProvider(server.url).counts()
    wrong = [name for name, right in counts["right"].items() if right != 1]
    if wrong or len(counts["right"]) != count:
        raise RuntimeError(f"{len(counts['right'])} of {count} answered, {len(wrong)} twice")
    return json.loads(done.stdout), counts


def _ask(settings: str, folder: str, count: str) -> None:
    """What ``_measure`` runs: all questions, then all of them again from disk."""
    chosen = VlmSettings.model_validate_json(settings)
    started = time.monotonic()
    answered = sum(
        one.response is not None
        for one in run_requests(_questions(int(count)), chosen, Path(folder))
    )
    seconds = time.monotonic() - started
    if answered != int(count):
        raise RuntimeError(f"{answered} of {count} questions were answered")
    started = time.monotonic()
    for one in run_requests(_questions(int(count)), chosen, Path(folder)):
        if one.response is None or not one.cached:
            raise RuntimeError(f"question {one.id} was not answered from disk")
    found = {
        "seconds": seconds,
        "cached_seconds": time.monotonic() - started,
        "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "worker_peak_rss_gb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9,
    }
    print(json.dumps(found))


def _questions(count: int) -> Iterator[VlmRequest[Seen]]:
    jpeg = picture()
    roster = ChatMessage("system", (TextPart("Tom, a grey cat. Jerry, a brown mouse. " * 20),))
    for number in range(count):
        user = ChatMessage("user", (ImagePart(jpeg), TextPart(f"clip [[{number}]]")))
        yield question(str(number), messages=(roster, user))


if __name__ == "__main__":
    if sys.argv[1:2] == ["ask"]:
        _ask(*sys.argv[2:])
    else:
        main()
