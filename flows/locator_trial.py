"""Build the locators of a library without a run, for ``mimix doctor`` and ``mimix locate``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from rich.markup import escape

from flows.console import print_line
from mimix_core.domain.character_names import alias_map
from mimix_core.domain.library import Episode, Show, load_library
from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.media import UnreadableVideo
from mimix_core.project.workspace import Workspace
from mimix_core.settings import Config
from mimix_core.stages.cutouts.locate import BoxAnnotationLocator, load_box_annotations
from mimix_core.stages.cutouts.locate.frame_grid import draw_grid, read_frames_every
from mimix_core.stages.cutouts.locate.locate_preview import (
    FrameInspector,
    InspectedFrame,
    annotated_boxes,
    draw_sheet,
    inspect_episode,
)
from mimix_core.stages.cutouts.locate.locator_factory import create_locator
from tasks.cutouts import build_locator_inputs, show_locator

INSPECTABLE = ("face", "embedding")
"""Locators that can be tried on single frames: no paid answers, and no model for whole clips."""


@contextmanager
def trial_workspace(config: Config) -> Iterator[Workspace]:
    """Load the library without its episodes' digests, with a store that exists only meanwhile."""
    library = load_library(config.library, language=config.transcripts.language)
    with TemporaryDirectory(prefix="mimix-trial-") as folder:
        yield Workspace(config, library, Store(Path(folder) / "store"), ())


def show_frame_locator(workspace: Workspace, show: Show) -> FrameInspector | None:
    """Create the locator of a show's episodes without boxes files; None if it cannot be tried.

    Raises BadInput for an unusable reference image, MissingModel.
    """
    if show_locator(workspace.config.cutouts, show) not in INSPECTABLE:
        return None
    inputs = build_locator_inputs(workspace, show, show.roster())
    return cast(FrameInspector, create_locator(None, inputs, {}, Path(), []))


def episode_boxes(show: Show, episode: Episode) -> BoxAnnotationLocator | None:
    """Load an episode's boxes file; None without one. Raises BadInput."""
    if episode.boxes is None:
        return None
    names = alias_map(show.roster(), show.aliases())
    return load_box_annotations(file_ref(episode.boxes), names)


def select_episodes(workspace: Workspace, names: Sequence[str]) -> list[tuple[Show, Episode]]:
    """Select episodes by name, or two of each show. Raises BadInput for an unknown name."""
    shows = [workspace.library.with_guests(show) for show in workspace.library.shows]
    every = [(show, episode) for show in shows for episode in show.episodes]
    if not names:
        return [(show, episode) for show in shows for episode in show.episodes[:2]]
    known = {episode.path.stem for _, episode in every} | {e.path.name for _, e in every}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BadInput(
            f"no episode {', '.join(unknown)}",
            fix=f"Episodes: {', '.join(sorted(e.path.stem for _, e in every))}.",
        )
    return [one for one in every if {one[1].path.stem, one[1].path.name} & set(names)]


def preview_episodes(
    workspace: Workspace, episodes: Sequence[tuple[Show, Episode]], count: int, out: Path
) -> None:
    """Print what the locators find in a few frames of each episode, and write a picture of it."""
    for show, episode in episodes:
        _preview_episode(workspace, show, episode, count, out)


def draw_episode_grids(
    episode: Episode,
    locator: BoxAnnotationLocator | None,
    times: tuple[Fraction, Fraction | None, Fraction],
    folder: Path,
) -> int:
    """Write frames of an episode with a grid and the boxes it has; return how many.

    ``times``: start, end (None: the episode's) and interval, in seconds. Raises UnreadableVideo.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for seconds, image in read_frames_every(episode.path, *times):
        boxes = annotated_boxes(locator, seconds, image) if locator is not None else []
        time = f"{float(seconds):.3f}"
        picture = draw_grid(image, f'time: "{time}"', boxes)
        picture.save(folder / f"{time.rjust(9, '0')}.jpg", "JPEG", quality=90)
        count += 1
    return count


def _preview_episode(
    workspace: Workspace, show: Show, episode: Episode, count: int, out: Path
) -> None:
    in_episode = show.with_cast_of(episode.path.name)
    boxes = episode_boxes(in_episode, episode)
    name = "boxes" if boxes is not None else show_locator(workspace.config.cutouts, in_episode)
    print_line(f"[bold]{escape(episode.path.name)}[/bold] ({escape(show.title)}): locator {name}")
    locator = boxes or show_frame_locator(workspace, in_episode)
    if locator is None:
        reason = (
            "the episode has no boxes file and the show no reference images: no character is "
            "located (docs/locating.md)"
            if name == "boxes"
            else "it cannot be tried on single frames"
        )
        print_line(f"  [yellow]not tried:[/yellow] {reason}")
        return
    try:
        frames = inspect_episode(episode.path, locator, count, workspace.config.clips.height)
    except UnreadableVideo as error:
        print_line(f"  [red]not readable:[/red] {escape(str(error))}")
        return
    for frame in frames:
        print_line(f"  {frame.seconds:8.1f} s  {escape(_describe(frame))}")
    if frames:
        path = out / f"{show.id}-{episode.path.stem}.jpg"
        draw_sheet(frames, path)
        print_line(f"  {escape(str(path))}")


def _describe(frame: InspectedFrame) -> str:
    texts = [
        f"{match.character} {match.shown}" + (f" no: {match.problem}" if match.problem else "")
        for match in frame.matches
    ]
    return "; ".join(texts) or "nothing found"
