"""A plan of pairs over known videos, and its page served in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flows.studio_cli import listen, serve_app
from mimix_core.project.pair_ratings import RatingLog
from mimix_core.project.rating_plan import AspectQuestion, NoiseControl, RatedPrompt, RatingPlan
from mimix_core.studio.rating_server import create_rating_app
from tests.paths import ROOT
from tests.studio.comparison_factory import write_numbered_video

ASPECTS = ("identity", "motion", "style", "interaction")
HOSTILE = "<img src=x onerror=document.title=7><script>document.title=7</script>"
SECRETS = ("secret-system-one", "secret-system-two", "secret-system-three")


def make_plan(
    folder: Path, prompts: int, systems: Sequence[str] = SECRETS[:2], *, seed: int = 0
) -> RatingPlan:
    """Plan the pairs of these systems; videos exist only if the folder has none yet."""
    rated = []
    for number in range(prompts):
        videos = {}
        for column, system in enumerate(systems):
            path = folder / system / f"p{number}.mp4"
            if not path.exists() and number < 12:
                write_numbered_video(path, 40 + 60 * column, 17)
            videos[system] = path
        text = HOSTILE if number == 1 else f"[Character: Rinky], digs hole {number}."
        rated.append(RatedPrompt(id=f"p{number}", text=text, characters=2, videos=videos))
    noise = folder / "noise.mp4"
    if not noise.exists():
        write_numbered_video(noise, 250, 17)
    return RatingPlan(
        seed=seed,
        aspects=tuple(
            AspectQuestion(name=name, title=name.title(), question="Which?", single_question="?")
            for name in ASPECTS
        ),
        prompts=tuple(rated),
        controls=tuple(
            NoiseControl(prompt_id=f"p{number}", system=systems[0], noise=noise)
            for number in range(min(4, prompts))
        ),
    )


def start_rating(folder: Path, port: int = 0, prompts: int = 10) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.studio.rating_factory", str(folder), str(port)]
    return subprocess.Popen(
        [*command, str(prompts)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@contextmanager
def serve_rating(folder: Path, prompts: int = 10) -> Iterator[str]:
    """Serve the page; yield its address."""
    server = start_rating(folder, prompts=prompts)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


def main(folder: str, port: str, prompts: str) -> None:
    plan = make_plan(Path(folder) / "videos", int(prompts))
    app = create_rating_app(plan, RatingLog(Path(folder) / "ratings.jsonl"), None)
    listener = listen("127.0.0.1", int(port))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
    serve_app(app, listener)


if __name__ == "__main__":
    main(*sys.argv[1:])
