"""Upload videos to Gemini, once for all requests about them, and delete them again."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import httpx2
from google.genai import errors, types
from google.genai.client import AsyncClient

from mimix_core.vlm.protocol import RejectedRequest, Unavailable, VideoPart

POLL_SECONDS = 1.0
MAX_UNUSED_FILES = 16
"""Uploaded files that are kept for further requests; the provider limits an account's storage."""


@dataclass
class _Upload:
    name: str
    file: asyncio.Task[types.File]
    users: int = 0


class GeminiFiles:
    """The uploaded videos, by their digest. Questions about a video often come one by one."""

    def __init__(self, client: AsyncClient, timeout_seconds: float) -> None:
        self._client, self._timeout_seconds = client, timeout_seconds
        self._uploads: OrderedDict[str, _Upload] = OrderedDict()

    @asynccontextmanager
    async def uploaded(self, video: VideoPart) -> AsyncIterator[types.File]:
        """Upload a video unless it is there, and keep it for the duration of a request.

        Raises Unavailable on a timeout, and RejectedRequest if the provider cannot process it.
        """
        upload = self._uploads.get(video.sha256)
        if upload is None:
            # With a name of our choice a file can be deleted even if its upload was interrupted.
            name = f"mimix-{video.sha256[:16]}-{time.time_ns():x}"
            upload = _Upload(name, asyncio.create_task(self._upload(name, video)))
            self._uploads[video.sha256] = upload
        upload.users += 1
        try:
            # Shielded: the upload belongs to all requests that wait for it.
            yield await asyncio.shield(upload.file)
        finally:
            upload.users -= 1
            self._uploads.move_to_end(video.sha256)
            await self._delete_unused(MAX_UNUSED_FILES)

    async def close(self) -> None:
        """Delete all files."""
        await self._delete_unused(0)

    async def _delete_unused(self, kept: int) -> None:
        unused = [key for key, upload in self._uploads.items() if upload.users == 0]
        failed = [
            key
            for key in unused
            if (task := self._uploads[key].file).done()
            and (task.cancelled() or task.exception() is not None)
        ]
        surplus = [key for key in unused if key not in failed]
        for key in [*failed, *surplus[: max(0, len(surplus) - kept)]]:
            await self._delete(self._uploads.pop(key).name)

    async def _upload(self, name: str, video: VideoPart) -> types.File:
        file = await self._client.files.upload(
            file=video.path,
            config=types.UploadFileConfig(name=name, mime_type=_mime_type(video)),
        )
        deadline = time.monotonic() + self._timeout_seconds
        while file.state == types.FileState.PROCESSING:
            if time.monotonic() > deadline:
                raise Unavailable("the uploaded video was not processed in time")
            await asyncio.sleep(POLL_SECONDS)
            file = await self._client.files.get(name=f"files/{name}")
        if file.state == types.FileState.FAILED:
            raise RejectedRequest("the provider cannot read the video")
        return file

    async def _delete(self, name: str) -> None:
        """Delete a file, also when this task is being cancelled.

        Errors are ignored: the provider deletes files after two days, and a response that was paid
        for must not be lost.
        """
        with suppress(errors.APIError, httpx2.HTTPError):
            await asyncio.shield(self._client.files.delete(name=f"files/{name}"))


def _mime_type(video: VideoPart) -> str:
    return "video/webm" if video.path.suffix == ".webm" else "video/mp4"
