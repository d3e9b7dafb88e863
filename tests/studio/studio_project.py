"""A studio over a made-up run, served as ``mimix studio`` serves it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from flows.studio_cli import listen, serve_app
from mimix_core.characters.proposals import ProposedTrack, load_proposals, save_proposals
from mimix_core.media import ClipWriter
from mimix_core.project.item_decisions import ItemDecision, read_item_decisions
from mimix_core.studio.comparison_server import ComparisonWalls, add_comparison
from mimix_core.studio.index_file import write_index
from mimix_core.studio.live_server import add_live
from mimix_core.studio.preview_cache import PreviewCache
from mimix_core.studio.server import create_app
from mimix_core.studio.studio_item import StudioItem
from mimix_core.studio.studio_items import ItemReader
from mimix_core.studio.studio_session import StudioSession
from mimix_core.studio.track_items import proposals_folder
from tests.paths import ROOT
from tests.stages.report.fake_run import EPISODES, SHOWS
from tests.stages.report.fake_videos import draw_discs
from tests.stages.report.training_tables import build_complete_run

META = {
    "title": "A made-up library",
    "shows": {show.id: {"title": show.title, "style": show.style.value} for show in SHOWS},
    "casts": {
        show.id: {"roster": [one.name for one in show.characters], "aliases": {}} for show in SHOWS
    },
    "episode_casts": {
        name: {"roster": [one.name for one in found.characters], "aliases": {}}
        for show_id, name in EPISODES
        for found in SHOWS
        if found.id == show_id
    },
    "stages": {"clips": "Clips", "captions": "Captions"},
    "reasons": {"scene_too_short": "too short for a clip"},
}


def check_nothing(_meta: Mapping[str, Any], _item: Mapping[str, Any], caption: str) -> list[str]:
    """Check a caption: everything is fine that the grammar allows."""
    from mimix_core.domain.caption_grammar import BadCaption, parse_caption

    try:
        parse_caption(caption)
    except BadCaption as error:
        return [error.what]
    return []


def draw_small_discs(show: str, number: int) -> list[NDArray[np.uint8]]:
    return draw_discs(show, number, 104, 60)


@dataclass
class StudioProject:
    """The folders of a studio. ``workspace/store`` holds the made-up run."""

    folder: Path

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @property
    def decisions(self) -> Path:
        return self.folder / "decisions.jsonl"

    @property
    def index(self) -> Path:
        return self.workspace / "studio" / "index-test.sqlite"

    @property
    def comparison(self) -> Path:
        """The walls of systems, where a test has written them."""
        return self.workspace / "studio" / "comparison-test.json"

    def pages(self, previews: PreviewCache) -> list[Callable[[FastAPI], None]]:
        """The further pages of the application."""
        walls = ComparisonWalls(
            self.workspace, self.comparison if self.comparison.exists() else None
        )
        return [
            partial(add_comparison, walls=walls, previews=previews),
            partial(add_live, workspace=self.workspace, control=None),
        ]

    def session(self, reviewer: str = "anna") -> StudioSession:
        return StudioSession(
            self.index,
            self.decisions,
            self.workspace / "store",
            check_caption=check_nothing,
            reviewer=reviewer,
        )

    def client(self, token: str | None = None) -> TestClient:
        """A client of the application, without a socket in between."""
        previews = PreviewCache(self.workspace, workers=1)
        app = create_app(self.session(), previews, token, self.pages(previews))
        base = "http://127.0.0.1:8765"
        return TestClient(app, base_url=base, headers={"origin": base}, follow_redirects=False)

    def decided(self) -> list[ItemDecision]:
        return list(read_item_decisions(self.decisions).by_id.values())


def build_project(folder: Path, *, hostile: str = "", tracks: bool = False) -> StudioProject:
    """Make the made-up run, and the index over it. ``tracks``: with four to name."""
    project = StudioProject(folder)
    proposed = propose_tracks(project.workspace) if tracks else ()
    root = project.workspace / "store"
    run = build_complete_run(root, hostile=hostile, paint=draw_small_discs)
    refs: dict[str, list[Any]] = {}
    for stage, unit, _, _, ref in run.units:
        refs.setdefault(stage, []).append(ref)
        files = [
            {"path": row["file"], "sha256": "ab" * 32} for row in run.rows(stage) if row.get("file")
        ]
        (root / stage / unit / "stage.json").write_text(json.dumps({"files": files}))
    source = write_source(folder / "source.mp4")
    meta = {**META, "sources": {name: str(source) for _, name in EPISODES}}
    reader = ItemReader(root.resolve(), refs, tracks=proposed)
    items = (with_crop(item) for item in reader.items())
    write_index(project.index, items, meta)
    return project


def propose_tracks(workspace: Path) -> tuple[ProposedTrack, ...]:
    """Write proposals as ``mimix characters propose`` does: three crops and a picture each."""
    folder = proposals_folder(workspace)
    folder.mkdir(parents=True)
    tracks = []
    for number in range(4):
        frames = draw_discs("meadow", number, *SOURCE)
        name = f"meadow-one-{number}000-rinky"
        crops = tuple(f"{name}-{k}.png" for k in range(3))
        for k, crop in enumerate(crops):
            Image.fromarray(frames[20 * k][20:100, 60:140]).save(folder / crop)
        Image.fromarray(frames[0]).save(folder / f"{name}.jpg")
        tracks.append(
            ProposedTrack(
                show="meadow",
                track_id=name,
                group=1 + number // 2,
                guess="Rinky",
                similarity=0.4,
                problem="at least 0.45 wanted",
                crops=crops,
                picture=f"{name}.jpg",
            )
        )
    save_proposals(folder, tracks)
    return load_proposals(folder)


SOURCE, CROP = [208, 120], [52, 30, 104, 60]
"""Size of the episodes, and where clips are cut from them."""


def write_source(path: Path) -> Path:
    """Write the video that all episodes are, a few seconds long."""
    with ClipWriter(path, *SOURCE, crf=18, preset="ultrafast") as writer:
        for frame in draw_discs("meadow", 1, *SOURCE):
            writer.write_rgb(frame)
    return path


def with_crop(item: StudioItem) -> StudioItem:
    """The made-up clips are cut from the middle of their source."""
    if item.kind == "clip" and item.files.get("video"):
        item.data |= {"crop": CROP, "source": SOURCE}
    return item


@contextmanager
def serve(project: StudioProject, *arguments: str) -> Iterator[str]:
    """Serve a project in a process of its own; yield the address that it printed."""
    server = start_server(project, *arguments)
    try:
        yield address_of(server)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


def start_server(project: StudioProject, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.studio.studio_project", str(project.folder), *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def address_of(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    return server.stdout.readline().strip()


def main(folder: str, port: str = "0") -> None:
    project = StudioProject(Path(folder))
    listener = listen("127.0.0.1", int(port))
    previews = PreviewCache(project.workspace)
    app = create_app(project.session(), previews, None, project.pages(previews))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
    serve_app(app, listener)
    previews.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
