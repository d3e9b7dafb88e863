"""A judge whose score is a known function of the pictures it is sent, over HTTP as OpenAI's.

``python -m tests.benchmark.judge.seer`` serves as ``tests.vlm.server`` does. A question is known by
the digest of its messages. Identity: share of the reference sheets whose colour is in the video.
Motion: how much more often the colours go right than left or stay. Style: whether there is colour.
Interaction: always 5. ``POST /control`` takes, beside the server's own: ``faults`` (a part of a
question's text -> what the server does), ``favours`` (``first``: the winner of every comparison).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from tests.vlm.server import Reply, Server

NEAR = 40
"""Colours closer than that, in each channel, are one: JPEG and H.264 lose a little."""


class Seer(Server):
    async def chat(self, body: Any) -> Reply:
        content = body["messages"][-1]["content"]
        name = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()
        texts = "\n".join(part["text"] for part in content if part["type"] == "text")
        self.settings.setdefault("answers", {})[name] = self.opinion(content, texts)
        for fault, how in self.settings.get("faults", {}).items():
            if fault in texts:
                self.settings.setdefault("script", {})[name] = how
        content.append({"type": "text", "text": f"[[{name}]]"})
        return await super().chat(body)

    def opinion(self, content: Any, texts: str) -> dict[str, Any]:
        sheets, videos = seen(content)
        found = re.search(r"The aspect: (\w+)-P", texts)
        assert found is not None
        scores = [score(found[1].lower(), sheets, frames) for frames in videos]
        analysis = f"seen {len(sheets)} sheets and {[len(frames) for frames in videos]} frames"
        if len(scores) == 1:
            return {"analysis": analysis, "score": scores[0]}
        favours = self.settings.get("favours")
        best = "tie" if scores[0] == scores[1] else "second" if scores[1] > scores[0] else "first"
        return {"analysis": analysis, "winner": favours or best}


def seen(content: Any) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    """The sheets, and the frames of each video, in the order in which they were sent."""
    sheets: list[np.ndarray] = []
    videos: list[list[np.ndarray]] = []
    for part in content:
        if part["type"] == "text":
            if part["text"].startswith(("The video:", "Video ")):
                videos.append([])
            continue
        raw = base64.b64decode(part["image_url"]["url"].partition(",")[2])
        picture = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
        (videos[-1] if videos else sheets).append(picture.astype(int))
    return sheets, videos


def score(aspect: str, sheets: Sequence[np.ndarray], frames: Sequence[np.ndarray]) -> int:
    if aspect == "identity":
        there = [any(mask(frame, sheet).sum() > 20 for frame in frames) for sheet in sheets]
        return 1 + round(9 * sum(there) / len(there))
    if aspect == "motion":
        places = [centre(frame) for frame in frames]
        steps = [np.sign(round(b - a, 1)) for a, b in pairwise(places)]
        return 1 + round(9 * max(0.0, float(np.mean(steps))))
    if aspect == "style":
        return 10 if np.mean([colourful(frame).mean() for frame in frames]) > 0.02 else 1
    return 5


def mask(frame: np.ndarray, sheet: np.ndarray) -> np.ndarray:
    return (np.abs(frame - np.median(sheet, axis=(0, 1))) < NEAR).all(2)


def colourful(frame: np.ndarray) -> np.ndarray:
    return frame.max(2) - frame.min(2) > 60


def centre(frame: np.ndarray) -> float:
    """How far to the right the colours are; 0 without any."""
    columns = np.nonzero(colourful(frame))[1]
    return float(columns.mean()) if len(columns) else 0.0


async def main() -> None:
    server = await asyncio.start_server(Seer().serve, "127.0.0.1", 0, limit=2**22)
    print(server.sockets[0].getsockname()[1], flush=True)
    closed = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(closed), sys.stdin
    )
    await closed.read()


if __name__ == "__main__":
    asyncio.run(main())
