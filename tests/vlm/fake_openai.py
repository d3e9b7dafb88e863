"""Replies in the format of OpenAI: chat completions, files and batches."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import Any

from tests.vlm.http_messages import Cut, Reply, error_body
from tests.vlm.request_script import USAGE, RequestScript, named


class FakeOpenAI(RequestScript):
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
                failed = {"status_code": int(how), "body": error_body(int(how), "no good", "some")}
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


def _schema_in_prompt(body: Any) -> Any:
    """The schema that a request states in its last text instead of a field."""
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else content[-1]["text"]
    return json.loads(text[text.rindex("JSON schema:") + len("JSON schema:") :])
