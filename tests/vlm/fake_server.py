"""A fake provider: HTTP on the loopback interface, in the formats of OpenAI and Gemini.

``python -m tests.vlm.fake_server`` prints its port and serves until its stdin closes. ``POST
/control`` sets how it handles requests (``request_script``); ``GET /counts`` returns what it
received.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.vlm.fake_gemini import FakeGemini
from tests.vlm.fake_openai import FakeOpenAI
from tests.vlm.http_messages import Cut, Reply, error_body, read_request


class Server(FakeOpenAI, FakeGemini):
    async def route(
        self, method: str, path: str, query: Any, headers: Mapping[str, str], raw: bytes
    ) -> Reply:
        if path == "/control":
            self.settings |= json.loads(raw)
            return Reply({})
        if path == "/counts":
            return Reply(self.counts())
        shape = re.sub(r"(files|batches)/[^/:]+", r"\1/*", path)
        self.calls[f"{method} {shape}"] += 1
        key = self.settings.get("key")
        sent = headers.get("authorization", "").removeprefix("Bearer ")
        # What goes to an upload's own address needs no key.
        if (
            key
            and "upload_id" not in query
            and key not in (sent, headers.get("x-goog-api-key"), query.get("key", [""])[0])
        ):
            said = f"Incorrect API key provided: {sent}"
            return Reply(error_body(401, said, "invalid_api_key"), 401)
        asks = path.endswith("/chat/completions") or path.endswith(":generateContent")
        if asks:
            self.times.append(time.time())
            body = json.loads(raw)
            if self.settings.get("keep_bodies"):
                self.bodies.append(body)
                self.headers.append(headers)
            started = time.monotonic()
            self.now += 1
            self.most_at_once = max(self.most_at_once, self.now)
            try:
                if path.endswith(":generateContent"):
                    return await self.generate(
                        body, path.rsplit("/", maxsplit=1)[-1].split(":", maxsplit=1)[0]
                    )
                return await self.chat(body)
            finally:
                self.now -= 1
                self.busy_seconds += time.monotonic() - started
        return self.store(method, path, query, headers, raw)

    def store(
        self, method: str, path: str, query: Any, headers: Mapping[str, str], raw: bytes
    ) -> Reply:
        """Files and batches."""
        last = path.rsplit("/", maxsplit=1)[-1]
        if path.startswith("/upload/"):
            return self.google_upload(headers, query, raw)
        if "state" in self.files.get(last, {}):
            if method == "DELETE":
                del self.files[last]
                return Reply({})
            return Reply(self.google_file(last))
        if path.endswith("/files") and method == "POST":
            return self.upload(headers["content-type"], raw)
        if path.endswith("/content"):
            return Reply(self.files[path.split("/")[-2]]["content"])
        if "/files/" in path and method == "DELETE":
            if self.files.pop(last, None) is None:
                return Reply(error_body(404, f"no {last}", "not_found"), 404)
            return Reply({"id": last, "object": "file", "deleted": True})
        if path.endswith("/batches") and method == "POST":
            return self.create_batch(json.loads(raw))
        if path.endswith("/batches"):
            numbers = list(reversed(self.batches))
            if "after" in query:
                numbers = numbers[numbers.index(query["after"][0]) + 1 :]
            few = numbers[: int(query.get("limit", ["20"])[0])]
            data = [self.seen(number) for number in few]
            return Reply({"object": "list", "data": data, "has_more": len(numbers) > len(few)})
        if path.endswith("/cancel"):
            batch = self.batches[path.split("/")[-2]]
            batch["status"] = "cancelled"
            return Reply(self.seen(batch["id"]))
        if "/batches/" in path and not self.settings.get("forget_batches"):
            return Reply(self.seen(last))
        return Reply(error_body(404, f"no {path}", "not_found"), 404)

    def counts(self) -> dict[str, Any]:
        return {
            "asked": self.asked,
            "right": self.right,
            "times": self.times,
            "bodies": self.bodies,
            "headers": self.headers,
            "calls": self.calls,
            "files": list(self.files),
            "batches": [self.seen(number) for number in self.batches],
            "most_at_once": self.most_at_once,
            "busy_seconds": self.busy_seconds,
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await read_request(reader)) is not None:
                method, target, headers, raw = request
                parts = urlsplit(target)
                try:
                    reply = await self.route(
                        method, parts.path, parse_qs(parts.query), headers, raw
                    )
                except Cut as cut:
                    writer.write(cut.first)
                    await writer.drain()
                    break
                if writer.transport.is_closing() or reader.at_eof():
                    break
                writer.write(reply.encode())
                await writer.drain()
                if reply.sent is not None:
                    reply.sent()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client is gone, or the test is over
        finally:
            writer.close()


async def main() -> None:
    server = await asyncio.start_server(Server().serve, "127.0.0.1", 0, limit=2**20)
    print(server.sockets[0].getsockname()[1], flush=True)
    closed = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(closed), sys.stdin
    )
    await closed.read()


if __name__ == "__main__":
    asyncio.run(main())
