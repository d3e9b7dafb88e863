"""Nothing is sent outside: a run in a network namespace whose only route leads to a counter.

The run gets a network namespace of its own: loopback, and a pair of virtual interfaces with the
default route and the name server behind them. Nothing answers there, and every packet that is sent
is counted. (Loopback alone would show that a run needs no network, not that it tries none.)
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.demo import ROOT
from tests.media_factory import Shot, write_video

pytestmark = pytest.mark.e2e

# 192.0.2.0/24 and 198.51.100.0/24 are kept for documentation: they are nobody's addresses.
INSIDE = """
set -e
ip link set lo up
ip link add out type veth peer name void
for end in out void; do
    echo 1 > /proc/sys/net/ipv6/conf/$end/disable_ipv6
    ip link set $end arp off up
done
ip addr add 198.51.100.1/24 dev out
ip route add default via 198.51.100.2 dev out onlink
echo nameserver 192.0.2.53 > "$1"
mount --bind "$1" /etc/resolv.conf
shift
sent() { cat /proc/net/dev | while read name _ _ _ _ _ _ _ _ _ packets _; do
    if [ "$name" = out: ]; then echo $packets; fi; done; }
before=$(sent)
code=0
"$@" || code=$?
echo "packets sent outside: $(($(sent) - before))"
exit $code
"""


@dataclass(frozen=True)
class Outcome:
    code: int
    printed: str
    packets: int


def cut_off(words: list[str], folder: Path, environment: dict[str, str]) -> Outcome:
    """Run a command without network access; return its outcome and the packets that it sent."""
    namespace = ["unshare", "--map-root-user", "--net", "--mount"]
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare (util-linux) and ip (iproute2)")
    allowed = subprocess.run(
        [*namespace, "sh", "-c", "ip link add out type veth peer name void"],
        capture_output=True,
        text=True,
        check=False,
    )
    if allowed.returncode != 0:
        pytest.skip(f"no network namespace of one's own is allowed here: {allowed.stderr.strip()}")
    done = subprocess.run(
        [*namespace, "bash", "-c", INSIDE, "bash", str(folder / "resolv.conf"), *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if "packets sent outside: " in line]
    assert lines, done.stdout
    return Outcome(done.returncode, done.stdout, int(lines[-1].rsplit(" ", 1)[1]))


def bare(folder: Path) -> dict[str, str]:
    """The environment of a user without keys, endpoints or Prefect settings."""
    quiet = ("PREFECT_", "HF_", "DO_NOT_TRACK", "DISABLE_TELEMETRY")
    given = (*quiet, "OPENAI_", "GEMINI_", "GOOGLE_", "WANDB_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(given)}
    return {**kept, "PREFECT_HOME": str(folder / "prefect"), "COLUMNS": "200"}


@pytest.mark.parametrize(
    ("what", "script"),
    [
        ("a name is looked up", "socket.getaddrinfo('example.org', 443)"),
        ("an address is called", "socket.create_connection(('192.0.2.1', 443), timeout=1)"),
    ],
)
def test_the_counter_counts(tmp_path: Path, what: str, script: str) -> None:
    tries = f"import socket\ntry:\n    {script}\nexcept OSError as error:\n    print(error)"
    environment = {**bare(tmp_path), "RES_OPTIONS": "timeout:1 attempts:1"}
    outcome = cut_off([sys.executable, "-c", tries], tmp_path, environment)
    assert outcome.packets > 0, what


def test_a_run_sends_nothing(tmp_path: Path) -> None:
    """``mimix curate`` with Prefect's own server, from episodes to captions."""
    write_video(tmp_path / "a.mp4", [Shot(24 * 7)], size=(160, 96))
    show = {
        "id": "toons",
        "title": "Toons",
        "style": "cartoon",
        "characters": [{"name": "Tom", "description": "A cat"}],
        "episodes": [{"path": "a.mp4"}],
    }
    (tmp_path / "library.yaml").write_text(json.dumps({"shows": [show]}))
    clips = {"width": 160, "height": 96, "preset": "ultrafast", "min_motion": 0, "min_sharpness": 0}
    settings = {"library": "library.yaml", "overlays": {"backend": "none"}, "clips": clips}
    (tmp_path / "mimix.yaml").write_text(json.dumps(settings))
    words = [sys.executable, "-m", "flows.cli", "curate", str(tmp_path / "mimix.yaml")]
    outcome = cut_off(words, tmp_path, bare(tmp_path))
    assert outcome.code == 0, outcome.printed
    assert "captions" in outcome.printed
    assert outcome.packets == 0, outcome.printed


@pytest.mark.e2e
def test_the_demo_sends_nothing(footage: Path, tmp_path: Path) -> None:
    """Run every stage, including the libraries of models and training."""
    words = [sys.executable, "-m", "flows.cli", "run", "demo/mimix.yaml"]
    words += ["--workspace", str(tmp_path / "workspace")]
    outcome = cut_off(words, tmp_path, bare(tmp_path))
    assert outcome.code == 0, outcome.printed
    assert "report" in outcome.printed
    assert outcome.packets == 0, outcome.printed
