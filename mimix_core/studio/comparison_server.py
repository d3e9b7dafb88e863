"""Serve the walls of videos: checkpoints and systems side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import FileResponse, Response

from mimix_core.studio.checkpoint_walls import build_checkpoint_wall
from mimix_core.studio.comparison_wall import ComparisonFile, ComparisonWall, WallVideo
from mimix_core.studio.page_files import UNCHANGING, json_response, serve_page, when_made
from mimix_core.studio.preview_cache import PreviewCache
from mimix_core.studio.training_runs import find_training_runs

VIDEO_TYPES = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
}

_Index = Annotated[int, Query(ge=0)]


class ComparisonWalls:
    """All walls of a workspace. Those of training runs grow while they run.

    ``comparison``: the file of ``flows/studio_comparison.py``; None without systems.
    """

    def __init__(self, workspace: Path, comparison: Path | None = None) -> None:
        self._workspace = workspace
        self._systems: Sequence[ComparisonWall] = (
            ()
            if comparison is None
            else ComparisonFile.model_validate_json(comparison.read_bytes()).walls
        )
        self._lock = Lock()
        self._built: dict[str, tuple[int, ComparisonWall | None]] = {}

    def walls(self) -> list[ComparisonWall]:
        """Return all walls: systems first, then training runs, the latest first."""
        found = list(self._systems)
        for run in find_training_runs(self._workspace):
            with self._lock:
                version, wall = self._built.get(run.key, (0, None))
                if version != run.version():
                    version, wall = run.version(), build_checkpoint_wall(run)
                    self._built[run.key] = version, wall
            if wall is not None:
                found.append(wall)
        return found

    def wall(self, name: str) -> ComparisonWall | None:
        """Return the wall of this id; None if there is none."""
        return next((wall for wall in self.walls() if wall.id == name), None)

    def require_video(self, name: str, row: int, column: int) -> WallVideo:
        """Return the video of a cell. Raises HTTPException 404 if there is none."""
        wall = self.wall(name)
        video = None if wall is None else wall.video(row, column)
        if video is None or not video.file.is_file():
            raise HTTPException(404, "no such video")
        return video


def add_comparison(app: FastAPI, walls: ComparisonWalls, previews: PreviewCache) -> None:
    """Add the page ``/compare``, its walls and their videos."""

    @app.get("/compare")
    async def page() -> Response:
        return serve_page("compare.html")

    @app.get("/api/walls")
    def listed() -> Response:
        return json_response(
            [
                {
                    "id": wall.id,
                    "title": wall.title,
                    "rows": len(wall.rows),
                    "version": wall.version,
                }
                for wall in walls.walls()
            ]
        )

    @app.get("/api/wall")
    def shown(id: str) -> Response:
        wall = walls.wall(id)
        if wall is None:
            raise HTTPException(404, "no such comparison")
        return json_response(wall.describe())

    @app.get("/compare/video")
    def video(id: str, row: _Index, column: _Index) -> Response:
        return send_video(walls.require_video(id, row, column).file)

    @app.get("/compare/sprite")
    async def sprite(id: str, row: _Index, column: _Index) -> Response:
        found = walls.require_video(id, row, column)
        return await when_made(*previews.sprite(found.digest, found.file, found.frames or 81))


def send_video(path: Path) -> Response:
    """Send a video, whole or by ranges. Raises HTTPException 404 for other files."""
    media_type = VIDEO_TYPES.get(path.suffix.lower())
    if media_type is None:
        raise HTTPException(404, "not a video that the page shows")
    return FileResponse(path, media_type=media_type, headers=UNCHANGING)
