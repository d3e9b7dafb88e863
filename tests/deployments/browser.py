"""Control a real headless browser through its DevTools protocol.

Any Chromium or Chrome on the PATH (`apt-get install chromium`), or what MIMIX_CHROMIUM names.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium() -> str | None:
    """Return the browser's command, if there is one."""
    found = (shutil.which(name) for name in (os.environ.get("MIMIX_CHROMIUM", ""), *NAMES) if name)
    return next((path for path in found if path), None)


@dataclass
class Page:
    """One tab of the browser."""

    wire: ClientConnection
    number: int = 0

    def ask(self, method: str, **parameters: Any) -> Any:
        """Call a DevTools method and return its result; events of the browser are ignored."""
        self.number += 1
        self.wire.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self.wire.recv(timeout=180))
            if said.get("id") == self.number:
                assert "error" not in said, said
                return said["result"]

    def open(self, url: str) -> None:
        self.ask("Page.navigate", url=url)

    def text(self) -> str:
        """Return the visible text of the page."""
        return str(self.value("document.body ? document.body.innerText : ''"))

    def value(self, script: str) -> Any:
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        return found["result"].get("value")

    def wait_for(self, *words: str, seconds: float = 120) -> str:
        """Wait until the page shows all of the words; return its text."""
        deadline = time.monotonic() + seconds
        text = self.text()
        while time.monotonic() < deadline:
            if all(word in text for word in words):
                return text
            time.sleep(0.3)
            text = self.text()
        raise AssertionError(f"{[w for w in words if w not in text]} not on the page:\n{text}")

    def wait_until(self, script: str, seconds: float = 120) -> None:
        """Wait until the script returns a true value."""
        deadline = time.monotonic() + seconds
        while not self.value(script):
            assert time.monotonic() < deadline, f"never true: {script}\n{self.text()}"
            time.sleep(0.3)

    def click(self, words: str) -> None:
        """Click the smallest element that shows exactly these words."""
        script = (
            "(() => { const found = [...document.querySelectorAll('body *')].filter(e => "
            f"e.innerText && e.innerText.trim() === {json.dumps(words)}).pop(); "
            "if (found) found.click(); return Boolean(found); })()"
        )
        self.wait_until(script)

    def shoot(self, path: Path) -> None:
        """Return a screenshot of the window."""
        shot = self.ask("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browsing(
    folder: Path, size: tuple[int, int] = (1400, 1000), *, webgl: bool = True
) -> Iterator[Page]:
    """Start the browser with a separate profile below ``folder`` and yield its tab."""
    command = chromium()
    assert command is not None
    profile = folder / "chromium"
    browser = subprocess.Popen(
        [
            command,
            "--headless=new",
            "--no-sandbox",
            # The graph of a run is drawn by WebGL.
            *(("--use-angle=swiftshader", "--enable-unsafe-swiftshader") if webgl else ()),
            *(() if webgl else ("--disable-gpu",)),
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            f"--window-size={size[0]},{size[1]}",
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        said = profile / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not said.exists() or not said.read_text().strip():
            assert time.monotonic() < deadline and browser.poll() is None, "no browser started"
            time.sleep(0.1)
        port = said.read_text().splitlines()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as reply:
            tabs = json.load(reply)
        [tab] = [tab for tab in tabs if tab["type"] == "page"]
        with connect(tab["webSocketDebuggerUrl"], max_size=None) as wire:
            yield Page(wire)
    finally:
        browser.terminate()
        try:
            browser.wait(10)
        except subprocess.TimeoutExpired:
            browser.kill()
            browser.wait()
