"""Replies in the format of Gemini: generated content and uploaded files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from tests.vlm.http_messages import Reply
from tests.vlm.request_script import USAGE, RequestScript, named


class FakeGemini(RequestScript):
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
