"""A fake judge behind OpenAI's HTTP API; its scores are known functions of the images it gets.

``python -m tests.benchmark.judge.fake_judge`` serves like ``tests.vlm.fake_server``. A question is
identified by the digest of its messages. Identity: share of the reference sheets whose color is in
the video. Motion: how much more often the colors move right than left or stay. Style: whether there
is color. Interaction: always 5. ``POST /control`` also takes ``faults`` (a part of a question's
text -> what the server does) and ``favors`` (``first``: the winner of every comparison).
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

from tests.vlm.fake_server import Server
from tests.vlm.http_messages import Reply

TOLERANCE = 40
"""Tolerance of each color channel, for losses of JPEG and H.264."""


class FakeJudge(Server):
    async def chat(self, body: Any) -> Reply:
        content = body["messages"][-1]["content"]
        name = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()
        texts = "\n".join(part["text"] for part in content if part["type"] == "text")
        self.settings.setdefault("answers", {})[name] = self.rate(content, texts)
        for fault, how in self.settings.get("faults", {}).items():
            if fault in texts:
                self.settings.setdefault("script", {})[name] = how
        content.append({"type": "text", "text": f"[[{name}]]"})
        return await super().chat(body)

    def rate(self, content: Any, texts: str) -> dict[str, Any]:
        sheets, videos = parse_images(content)
        found = re.search(r"The aspect: (\w+)-P", texts)
        assert found is not None
        scores = [score(found[1].lower(), sheets, frames) for frames in videos]
        analysis = f"seen {len(sheets)} sheets and {[len(frames) for frames in videos]} frames"
        if len(scores) == 1:
            return {"analysis": analysis, "score": scores[0]}
        favors = self.settings.get("favors")
        best = "tie" if scores[0] == scores[1] else "second" if scores[1] > scores[0] else "first"
        return {"analysis": analysis, "winner": favors or best}


def parse_images(content: Any) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    """Return the reference sheets and the frames of each video, in the order sent."""
    sheets: list[np.ndarray] = []
    videos: list[list[np.ndarray]] = []
    for part in content:
        if part["type"] == "text":
            if part["text"].startswith(("The video:", "Video ")):
                videos.append([])
            continue
        raw = base64.b64decode(part["image_url"]["url"].partition(",")[2])
        image = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
        (videos[-1] if videos else sheets).append(image.astype(int))
    return sheets, videos


def score(aspect: str, sheets: Sequence[np.ndarray], frames: Sequence[np.ndarray]) -> int:
    if aspect == "identity":
        there = [any(mask(frame, sheet).sum() > 20 for frame in frames) for sheet in sheets]
        return 1 + round(9 * sum(there) / len(there))
    if aspect == "motion":
        places = [center(frame) for frame in frames]
        steps = [np.sign(round(b - a, 1)) for a, b in pairwise(places)]
        return 1 + round(9 * max(0.0, float(np.mean(steps))))
    if aspect == "style":
        return 10 if np.mean([colorful(frame).mean() for frame in frames]) > 0.02 else 1
    # Halves of different times show a figure twice, or not at all.
    areas = [int(colorful(frame).sum()) for frame in frames]
    usual = float(np.median(areas))
    return 1 if max(areas) > 1.3 * usual or min(areas) < 0.7 * usual else 10


def mask(frame: np.ndarray, sheet: np.ndarray) -> np.ndarray:
    return (np.abs(frame - np.median(sheet, axis=(0, 1))) < TOLERANCE).all(2)


def colorful(frame: np.ndarray) -> np.ndarray:
    return frame.max(2) - frame.min(2) > 60


def center(frame: np.ndarray) -> float:
    """Mean horizontal position of colored pixels; 0 without any."""
    columns = np.nonzero(colorful(frame))[1]
    return float(columns.mean()) if len(columns) else 0.0


async def main() -> None:
    server = await asyncio.start_server(FakeJudge().serve, "127.0.0.1", 0, limit=2**22)
    print(server.sockets[0].getsockname()[1], flush=True)
    closed = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(closed), sys.stdin
    )
    await closed.read()


if __name__ == "__main__":
    asyncio.run(main())
