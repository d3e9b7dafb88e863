"""Serve the page on which people rate pairs of videos without knowing who made them.

Nothing that the page receives, addresses included, has the name of a system or of a file: a pair is
named by the person's number, its place in that person's order, and a check that it is still the
same pair.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import Field, StringConstraints

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.errors import BadInput, is_disk_full
from mimix_core.project.pair_ratings import Answer, PairRating, RatingLog, Side
from mimix_core.project.rating_plan import RatingPlan, RatingTask
from mimix_core.studio.access_guard import AccessGuard
from mimix_core.studio.comparison_server import VIDEO_TYPES
from mimix_core.studio.page_files import answer_invalid_requests, json_response, serve_page

COOKIE = "mimix-rating"

RaterName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80, pattern=r"^[^\n]*$")
]


class RaterRequest(FrozenModel):
    """Who rates."""

    rater: RaterName


class AnswerRequest(FrozenModel):
    """A person's answers about a pair."""

    rater: RaterName
    task: str = Field(max_length=80)
    answers: dict[str, Answer]
    seconds: float = Field(ge=0, le=1e7)


class RatingDesk:
    """Hands out pairs, and saves what people say about them.

    ``log``: the file of ratings, which other desks may write at the same time.
    """

    def __init__(self, plan: RatingPlan, log: RatingLog) -> None:
        self.plan = plan
        self.log = log
        self._tasks = lru_cache(maxsize=256)(plan.tasks)

    def next_tasks(self, rater: str) -> dict[str, Any]:
        """Return a person's progress, the next pair, and the one after it to load ahead."""
        number = self.log.enrol(rater)
        self.log.refresh()
        tasks = self._tasks(number)
        rated = self.log.rated(rater)
        open_places = [place for place, task in enumerate(tasks) if task.key not in rated]
        return {
            "done": len(tasks) - len(open_places),
            "total": len(tasks),
            "tasks": [self._describe(number, place) for place in open_places[:2]],
        }

    def save(self, request: AnswerRequest) -> None:
        """Save answers. Raises HTTPException for another plan's pair, or for missing aspects."""
        number = self.log.enrol(request.rater)
        task = self.require_task(request.task, number)
        if set(request.answers) != {aspect.name for aspect in self.plan.aspects}:
            raise HTTPException(422, "every aspect needs an answer, and nothing else")
        self.log.append(
            PairRating(
                record="rating",
                rater=request.rater,
                kind=task.kind,
                prompt_id=task.prompt_id,
                left=task.left,
                right=task.right,
                noise=task.noise or "",
                answers=request.answers,
                seconds=request.seconds,
            )
        )

    def require_task(self, name: str, number: int | None = None) -> RatingTask:
        """Return the pair of this id. ``number``: of the person whose pair it must be."""
        whose, _, rest = name.partition(".")
        place, _, _check = rest.partition(".")
        if whose.isascii() and whose.isdigit() and place.isascii() and place.isdigit():
            found, index = int(whose), int(place)
            known = found in self.log.numbers.values() and number in (None, found)
            if known and index < len(self._tasks(found)) and name == self._name(found, index):
                return self._tasks(found)[index]
        raise HTTPException(404, "no such pair: load the page again")

    def _name(self, number: int, place: int) -> str:
        text = f"{self.plan.digest}/{number}/{place}"
        return f"{number}.{place}.{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def _describe(self, number: int, place: int) -> dict[str, Any]:
        task = self._tasks(number)[place]
        prompt = self.plan.prompts_by_id[task.prompt_id]
        return {
            "id": self._name(number, place),
            "prompt": prompt.text,
            "single": prompt.characters == 1,
        }


def create_rating_app(plan: RatingPlan, log: RatingLog, token: str | None) -> AccessGuard:
    """Build the application of the rating page. ``token``: as for ``create_app``."""
    app = FastAPI(title="MiMix rating", docs_url=None, redoc_url=None, openapi_url=None)
    answer_invalid_requests(app)
    desk = RatingDesk(plan, log)
    _add_page(app, desk)

    @app.post("/api/rate/next")
    def next_pair(request: RaterRequest) -> Response:
        return json_response(desk.next_tasks(request.rater))

    @app.post("/api/rate/answer")
    def answer(request: AnswerRequest) -> Response:
        desk.save(request)
        return json_response(desk.next_tasks(request.rater))

    @app.get("/rate/video/{task}/{side}")
    def video(task: str, side: Side) -> Response:
        path = plan.file(desk.require_task(task), side)
        media_type = VIDEO_TYPES.get(path.suffix.lower())
        if media_type is None or not path.is_file():
            raise HTTPException(404, "no such video")
        response = FileResponse(path, media_type=media_type)
        # When a file was written would tell two systems apart.
        del response.headers["last-modified"]
        response.headers["cache-control"] = "private, max-age=3600"
        return response

    return AccessGuard(app, token, COOKIE)


def _add_page(app: FastAPI, desk: RatingDesk) -> None:
    @app.get("/")
    async def page() -> Response:
        return serve_page("rate.html")

    @app.get("/favicon.ico")
    async def icon() -> Response:
        return serve_page("icon.svg")

    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        return serve_page(name)

    @app.get("/api/rate")
    def about() -> Response:
        return json_response([aspect.model_dump() for aspect in desk.plan.aspects])

    @app.exception_handler(BadInput)
    async def bad_input(_: Request, _error: BadInput) -> Response:
        # The error names files, which a rater need not know.
        return JSONResponse(
            {"detail": "the file of ratings cannot be read; ask who runs this"}, 500
        )

    @app.exception_handler(OSError)
    async def not_written(_: Request, error: OSError) -> Response:
        reason = "the disk is full" if is_disk_full(error) else str(error.strerror or "an error")
        return JSONResponse({"detail": f"not saved: {reason}"}, 500)
