"""A fake provider: HTTP on the loopback interface, in the formats of OpenAI and Gemini.

``python -m tests.vlm.fake_server`` prints its port and serves until its stdin closes. ``POST
/control`` sets how it handles requests; ``GET /counts`` returns what it received. A request is
identified by a ``[[name]]`` somewhere in its texts.

``script``: name -> what to do at the 1st, 2nd, ... time it is sent (the last one repeats):
``right``, ``slow:SECONDS``, ``invented`` (violates an enum), ``not_json``, ``wrong_schema``,
``empty``, ``truncated``, ``refused``, ``filtered``, ``429:SECONDS``, ``429date:SECONDS``, ``429``,
``text:TEXT`` (the content of the message), ``raw:STATUS:BODY``, ``no_usage``,
``reset:SECONDS``, ``quota``, ``400``, ``401``, ``404``, ``500``, ``garbage`` (not JSON), ``cut``
(before the response), ``cut_mid`` (inside it); in a batch also ``expired``.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, urlsplit

NAME = re.compile(r"\[\[(.+?)\]\]")
# As the retired Google SDK writes them.
GOOGLE_TYPES = {
    "1": "string",
    "2": "number",
    "3": "integer",
    "4": "boolean",
    "5": "array",
    "6": "object",
}
USAGE = {"prompt": 1000, "cached": 400, "completion": 50}


class Cut(Exception):
    """End the connection, after these bytes."""

    def __init__(self, first: bytes = b"") -> None:
        super().__init__()
        self.first = first


class Reply:
    def __init__(
        self,
        body: Any,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        sent: Callable[[], None] | None = None,
    ) -> None:
        """``sent`` is called once the reply is with a client that was still there."""
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status, self.headers, self.sent = status, dict(headers or {}), sent

    def encode(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} X", f"content-length: {len(self.body)}"]
        headers = {"content-type": "application/json"} | self.headers
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


def filled(schema: Any, name: str, invented: bool = False) -> Any:
    """An answer that fits a strict schema; with ``invented``, but for its enums."""
    if "enum" in schema:
        return "Nobody Known" if invented and len(schema["enum"]) > 1 else schema["enum"][0]
    for key in ("anyOf", "any_of"):
        if key in schema:
            return filled(schema[key][0], name, invented)
    kind = str(schema.get("type")).lower()
    kind = GOOGLE_TYPES.get(kind, kind)
    if kind == "object":
        return {key: filled(one, name, invented) for key, one in schema["properties"].items()}
    if kind == "array":
        return [filled(schema["items"], name, invented)]
    return {"integer": 1, "number": 1.0, "boolean": False, "null": None}.get(kind, f"does {name}")


class Server:
    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.asked: defaultdict[str, list[str]] = defaultdict(list)
        self.right: defaultdict[str, int] = defaultdict(int)
        self.times: list[float] = []
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.calls: defaultdict[str, int] = defaultdict(int)
        self.files: dict[str, dict[str, Any]] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.numbered = 0
        self.now = 0
        self.most_at_once = 0
        self.busy_seconds = 0.0

    # What was asked, and what to do about it

    def how(self, name: str) -> str:
        script = self.settings.get("script", {}).get(name) or [self.settings.get("all", "right")]
        done = len(self.asked[name])
        how = str(script[min(done, len(script) - 1)])
        self.asked[name].append(how)
        return how

    def answer(self, how: str, name: str, schema: Any) -> str:
        if how.startswith("text:"):
            return how.removeprefix("text:")
        if how == "not_json":
            return "I see a cat and a mouse."
        if how == "wrong_schema":
            return '{"something": "else"}'
        if how == "empty":
            return ""
        value = self.settings.get("answers", {}).get(name)
        if value is None or how == "invented":
            value = filled(schema, name, how == "invented")
        text = json.dumps(value)
        return text[: len(text) // 2] if how == "truncated" else text

    def count(self, how: str, name: str) -> Callable[[], None] | None:
        def right() -> None:
            self.right[name] += 1

        return right if how == "right" or how.startswith(("slow", "reset")) else None

    async def early(self, how: str) -> Reply | None:
        """Replies that look the same whoever is asked."""
        kind, _, seconds = how.partition(":")
        if kind == "slow":
            await asyncio.sleep(float(seconds))
        if kind == "cut":
            raise Cut
        if kind == "cut_mid":
            raise Cut(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{")
        if kind == "raw":
            status, _, body = seconds.partition(":")
            return Reply(body.encode(), int(status))
        if kind == "garbage":
            return Reply(b"<html>bad gateway</html>")
        if kind in ("429", "429date"):
            headers = {}
            if kind == "429date":
                headers["retry-after"] = formatdate(time.time() + float(seconds), usegmt=True)
            elif seconds:
                headers["retry-after"] = seconds
            return Reply(_error(429, "rate limit reached", "rate_limit_exceeded"), 429, headers)
        if kind == "quota":
            return Reply(_error(429, "you exceeded your quota", "insufficient_quota"), 429)
        if kind in ("400", "401", "404", "500", "503"):
            said = f"no good: {self.settings.get('key', '')}"
            return Reply(_error(int(kind), said, "some_code"), int(kind))
        return None

    # OpenAI

    def completion(self, how: str, name: str, body: Any) -> dict[str, Any]:
        form = body.get("response_format", {})
        schema = form.get("json_schema", {}).get("schema") or _schema_in_prompt(body)
        text = self.answer(how, name, schema)
        finish = {"truncated": "length", "filtered": "content_filter"}.get(how, "stop")
        refusal = "I cannot help with that" if how == "refused" else None
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body["model"] + "-2026-01-01",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": finish,
                    "message": {
                        "role": "assistant",
                        "content": None if refusal or how == "filtered" else text,
                        "refusal": refusal,
                    },
                }
            ],
            "usage": None
            if how == "no_usage"
            else {
                "prompt_tokens": USAGE["prompt"],
                "completion_tokens": USAGE["completion"],
                "total_tokens": USAGE["prompt"] + USAGE["completion"],
                "prompt_tokens_details": {"cached_tokens": USAGE["cached"]},
            },
        }

    async def chat(self, body: Any) -> Reply:
        name = named(body)
        how = self.how(name)
        await asyncio.sleep(self.settings.get("latency", 0.0))
        early = await self.early(how)
        if early is not None:
            return early
        headers = {}
        if how.startswith("reset:"):
            headers = {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": f"{how.partition(':')[2]}s",
            }
        return Reply(self.completion(how, name, body), 200, headers, self.count(how, name))

    def upload(self, content_type: str, raw: bytes) -> Reply:
        boundary = content_type.split("boundary=")[1].strip('"').encode()
        purpose, content = "", b""
        for part in raw.split(b"--" + boundary)[1:-1]:
            head, _, data = part.partition(b"\r\n\r\n")
            if b'name="purpose"' in head:
                purpose = data.strip().decode()
            elif b'name="file"' in head:
                content = data.removesuffix(b"\r\n")
        return Reply(self.file(content, purpose))

    def file(self, content: bytes, purpose: str) -> dict[str, Any]:
        self.numbered += 1
        number = f"file-{self.numbered}"
        self.files[number] = {"content": content}
        return {
            "id": number,
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": "x.jsonl",
            "purpose": purpose,
            "status": "processed",
        }

    def create_batch(self, body: Any) -> Reply:
        number = f"batch_{len(self.batches)}"
        self.batches[number] = {
            "id": number,
            "object": "batch",
            "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"],
            "completion_window": body["completion_window"],
            "status": "in_progress",
            "created_at": int(time.time()),
            "metadata": body.get("metadata"),
            "ready": time.time() + self.settings.get("batch_seconds", 0.0),
        }
        lines = self.files[body["input_file_id"]]["content"].splitlines()
        self.batches[number]["lines"] = len(lines)
        for one in self.batches:
            self.seen(one)
        enqueued = sum(
            batch["lines"] for batch in self.batches.values() if batch["status"] == "in_progress"
        )
        limit = self.settings.get("enqueued_limit")
        if limit is not None and enqueued > limit:
            error = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}
            self.batches[number] |= {"status": "failed", "errors": {"data": [error]}}
        if self.settings.pop("cut_after_create", False):
            raise Cut
        return Reply(self.seen(number))

    def seen(self, number: str) -> dict[str, Any]:
        batch = self.batches[number]
        if batch["status"] == "in_progress" and time.time() >= batch["ready"]:
            self.finish(batch)
        return {key: value for key, value in batch.items() if key not in ("ready", "lines")}

    def finish(self, batch: dict[str, Any]) -> None:
        done, wrong, expired = [], [], False
        for line in self.files[batch["input_file_id"]]["content"].splitlines():
            request = json.loads(line)
            name = named(request["body"])
            how = self.how(name)
            answered = {"id": uuid.uuid4().hex, "custom_id": request["custom_id"]}
            if how == "expired":
                expired = True
                answered |= {"response": None, "error": {"code": "batch_expired", "message": "x"}}
                wrong.append(answered)
            elif how in ("400", "500", "503"):
                failed = {"status_code": int(how), "body": _error(int(how), "no good", "some")}
                wrong.append(answered | {"response": failed, "error": None})
            else:
                counted = self.count(how, name)
                if counted is not None:
                    counted()
                reply = {"status_code": 200, "body": self.completion(how, name, request["body"])}
                done.append(answered | {"response": reply, "error": None})
        batch["status"] = "expired" if expired else "completed"
        damage = self.settings.pop("batch_damage", None)
        for key, lines in (("output_file_id", done), ("error_file_id", wrong)):
            if damage == "string_bodies":
                for line in lines:
                    line["response"]["body"] = json.dumps(line["response"]["body"])
            if damage == "odd_lines":
                lines[:1] = [{"custom_id": one["custom_id"]} for one in lines[:1]]
            text = "".join(json.dumps(line) + "\n" for line in lines)
            if damage == "torn_line":
                text = text[: len(text) - 40]
            if damage == "blank_lines":
                text = text.replace("\n", "\n\n") + " \n"
            none = "" if damage == "empty_ids" else None
            batch[key] = self.file(text.encode(), "batch_output")["id"] if lines else none
        total = len(done) + len(wrong)
        batch["request_counts"] = {"total": total, "completed": len(done), "failed": len(wrong)}

    # Gemini

    async def generate(self, body: Any, model: str) -> Reply:
        name = named(body)
        how = self.how(name)
        for part in (part for one in body["contents"] for part in one["parts"]):
            data = part.get("fileData") or part.get("file_data")
            if data is not None:
                uri = data.get("fileUri") or data.get("file_uri")
                file = self.files[uri.rsplit("/", 1)[-1]]
                assert file["state"] == "ACTIVE", "asked before the file was ready"
        await asyncio.sleep(self.settings.get("latency", 0.0))
        early = await self.early(how)
        if early is not None:
            return early
        config = body["generationConfig"]
        keys = ("responseJsonSchema", "responseSchema", "response_schema")
        schema = next((config[key] for key in keys if key in config), {})
        finish = {"truncated": "MAX_TOKENS", "filtered": "SAFETY"}.get(how, "STOP")
        reply: dict[str, Any] = {
            "usageMetadata": {
                "promptTokenCount": USAGE["prompt"],
                "cachedContentTokenCount": USAGE["cached"],
                "candidatesTokenCount": USAGE["completion"],
                "totalTokenCount": USAGE["prompt"] + USAGE["completion"],
            },
            "modelVersion": model,
        }
        if how == "refused":
            reply["promptFeedback"] = {"blockReason": "PROHIBITED_CONTENT"}
        else:
            text = self.answer(how, name, schema)
            content = {"role": "model", "parts": [{"text": text}] if text else []}
            reply["candidates"] = [{"index": 0, "finishReason": finish, "content": content}]
        return Reply(reply, 200, {}, self.count(how, name))

    def google_file(self, name: str) -> dict[str, Any]:
        file = self.files[name]
        file["polls"] = file.get("polls", 0) + 1
        if file["state"] == "PROCESSING" and file["polls"] > self.settings.get("polls", 1):
            file["state"] = self.settings.get("file_ends", "ACTIVE")
        return {
            "name": f"files/{name}",
            "mimeType": "video/mp4",
            "sizeBytes": str(len(file["content"])),
            "state": file["state"],
            "uri": f"https://generativelanguage.googleapis.com/v1beta/files/{name}",
        }

    def google_upload(self, headers: Mapping[str, str], query: Any, raw: bytes) -> Reply:
        if headers.get("x-goog-upload-command") == "start":
            name = json.loads(raw)["file"]["name"].removeprefix("files/")
            self.files[name] = {"content": b"", "state": "PROCESSING"}
            url = f"http://{headers['host']}/upload/v1beta/files?upload_id={name}"
            return Reply({}, 200, {"x-goog-upload-url": url, "x-goog-upload-status": "active"})
        name = query["upload_id"][0]
        self.files[name]["content"] += raw
        if "finalize" not in headers["x-goog-upload-command"]:
            return Reply({}, 200, {"x-goog-upload-status": "active"})
        return Reply({"file": self.google_file(name)}, 200, {"x-goog-upload-status": "final"})

    # The wire

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
            return Reply(_error(401, said, "invalid_api_key"), 401)
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
                return Reply(_error(404, f"no {last}", "not_found"), 404)
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
        return Reply(_error(404, f"no {path}", "not_found"), 404)

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


async def read_request(
    reader: asyncio.StreamReader,
) -> tuple[str, str, dict[str, str], bytes] | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode().strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    if headers.get("transfer-encoding") == "chunked":
        raw = b""
        while size := int((await reader.readline()).strip(), 16):
            raw += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return method, target, headers, raw
    return method, target, headers, await reader.readexactly(int(headers.get("content-length", 0)))


def _schema_in_prompt(body: Any) -> Any:
    """The schema that a request states in its last text instead of a field."""
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else content[-1]["text"]
    return json.loads(text[text.rindex("JSON schema:") + len("JSON schema:") :])


def named(body: Any) -> str:
    """The last ``[[name]]`` in a request's texts."""
    texts = []
    for message in body.get("messages") or body.get("contents"):
        content = message.get("content") or message.get("parts")
        if isinstance(content, str):
            texts.append(content)
        else:
            texts += [part["text"] for part in content if "text" in part]
    names = NAME.findall("\n".join(texts))
    return names[-1] if names else "something"


def _error(status: int, message: str, code: str) -> dict[str, Any]:
    """OpenAI's and Google's fields at once."""
    google = {400: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}.get(status, "")
    kind = "invalid_request_error"
    return {"error": {"message": message, "type": kind, "code": code, "status": google}}


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
