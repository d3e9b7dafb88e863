"""Use the studio's page as a person does: with the mouse, the keyboard or a finger."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from tests.deployments.browser import Page

DESKTOP = {"width": 1400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}

_CODES = {
    "Escape": 27,
    "Enter": 13,
    "ArrowRight": 39,
    "ArrowLeft": 37,
    "ArrowDown": 40,
    "ArrowUp": 38,
    " ": 32,
    "Tab": 9,
}


@dataclass
class Hand:
    """One person before one tab."""

    tab: Page

    def size(self, device: dict[str, Any]) -> None:
        self.tab.ask("Emulation.setDeviceMetricsOverride", **device)
        self.tab.ask("Emulation.setTouchEmulationEnabled", enabled=bool(device["mobile"]))

    def open(self, url: str) -> None:
        self.tab.open(url)
        self.until("document.body && document.body.classList.contains('ready')")

    def until(self, script: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not self.tab.value(f"Boolean({script})"):
            assert time.monotonic() < deadline, f"never true: {script}\n{self.tab.text()}"
            time.sleep(0.03)

    def click(self, selector: str, *, modifiers: int = 0) -> None:
        """Press the mouse in the middle of an element: what covers it would be hit instead."""
        self.until(f"document.querySelector({json.dumps(selector)})?.getClientRects().length > 0")
        x, y = self.tab.value(
            f"(() => {{ const node = document.querySelector({json.dumps(selector)});"
            "node.scrollIntoView({block: 'nearest'}); const box = node.getBoundingClientRect();"
            "return [box.left + box.width / 2, box.top + box.height / 2]; })()"
        )
        where = {"x": x, "y": y, "button": "left", "clickCount": 1, "modifiers": modifiers}
        for kind in ("mousePressed", "mouseReleased"):
            self.tab.ask("Input.dispatchMouseEvent", type=kind, **where)

    def drag(self, selector: str, by: tuple[float, float]) -> None:
        """Drag an element with the mouse by so many pixels of the screen."""
        self.until(f"document.querySelector({json.dumps(selector)})?.getClientRects().length > 0")
        x, y = self.tab.value(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)})"
            ".getBoundingClientRect(); return [box.left + box.width / 2, box.top + box.height / 2];"
            " })()"
        )
        steps = [(0.0, "mousePressed"), (0.5, "mouseMoved"), (1.0, "mouseMoved")]
        for share, kind in [*steps, (1.0, "mouseReleased")]:
            where = {"x": x + by[0] * share, "y": y + by[1] * share, "button": "left"}
            self.tab.ask("Input.dispatchMouseEvent", type=kind, clickCount=1, **where)

    def press(self, key: str, *, modifiers: int = 0) -> None:
        """Press a key: 1 Alt, 2 Ctrl, 8 Shift."""
        code = _CODES.get(key, ord(key.upper()[0]))
        values: dict[str, Any] = {
            "key": key,
            "code": f"Digit{key}" if key.isdigit() else key,
            "windowsVirtualKeyCode": code,
            "modifiers": modifiers,
        }
        if len(key) == 1 and not modifiers:
            values["text"] = key
        self.tab.ask("Input.dispatchKeyEvent", type="keyDown", **values)
        self.tab.ask("Input.dispatchKeyEvent", type="keyUp", **values)

    def write(self, text: str) -> None:
        self.tab.ask("Input.insertText", text=text)

    def opened(self) -> str:
        """The id of the opened item; empty in the grid."""
        return str(self.tab.value("new URLSearchParams(location.search).get('item') ?? ''"))
