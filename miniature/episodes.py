"""Render episodes of the two shows as videos, with all that MiMix takes beside a video.

``python -m miniature.episodes FOLDER`` writes ``FOLDER/<show>/<show>-01.mp4`` and so on, beside
each its subtitles, action script, boxes, masks and ``.truth.json`` (where its shots are), and
``FOLDER/library.yaml`` and ``FOLDER/mimix.yaml``: a project like any other. The same arguments
give the same bytes on one machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mimix_core.media import ClipWriter
from miniature import episode_files, renderer, scenes
from miniature.episode_plan import Shot, plan_episodes, shows
from miniature.scenes import HEIGHT, WIDTH

_SHOTS_AT_A_TIME = 8
_CRF, _PRESET = 10, "fast"
_BAND_TOP = 68

Frames = NDArray[np.float32]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class RenderedShot:
    """A shot's frames, and the visible share of each of its figures in each pixel, all 0..1."""

    frames_THWC: Frames
    masks_FTHW: Frames


@dataclass(frozen=True)
class PlannedEpisode:
    """What is in an episode, and where it is written; ``device``: where its shots are drawn."""

    stem: Path
    plan: list[Shot]
    burnt: bool = False
    device: str = "cpu"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path, help="an empty folder, or one that does not exist")
    parser.add_argument("--shows", type=int, choices=(1, 2), default=2)
    parser.add_argument("--episodes", type=int, default=4, help="of each show")
    parser.add_argument("--shots", type=int, default=24, help="of each episode")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="where shots are drawn: cpu or cuda")
    parser.add_argument("--workers", type=int, default=1, help="episodes drawn at a time")
    parser.add_argument(
        "--burnt", type=int, default=0, help="episodes of each show with subtitles in the picture"
    )
    options = parser.parse_args()
    if min(options.episodes, options.shots) < 1:
        parser.error("--episodes and --shots must be at least 1")
    if options.folder.exists() and (not options.folder.is_dir() or any(options.folder.iterdir())):
        parser.error(f"{options.folder} is not an empty folder")
    write_project(
        options.folder,
        episodes=options.episodes,
        shots=options.shots,
        seed=options.seed,
        burnt=options.burnt,
        styles=list(shows())[: options.shows],
        device=options.device,
        workers=options.workers,
    )


def write_project(
    folder: Path,
    *,
    episodes: int,
    shots: int,
    seed: int = 0,
    burnt: int = 0,
    styles: list[str] | None = None,
    device: str = "cpu",
    workers: int = 1,
) -> None:
    """Write the episodes of the shows, ``library.yaml`` and ``mimix.yaml``.

    ``burnt``: the number of episodes of each show with subtitles in the picture, the last ones.
    ``workers``: processes that draw an episode each, on ``device``.
    """
    planned: list[PlannedEpisode] = []
    styles = list(shows()) if styles is None else styles
    folder.mkdir(parents=True, exist_ok=True)
    for style in styles:
        show = episode_files.show_id(style)
        (folder / show).mkdir()
        plans = plan_episodes(style, episodes, shots, seed)
        for number, plan in enumerate(plans):
            stem = folder / show / f"{show}-{number + 1:0{len(str(max(episodes, 10)))}}"
            planned.append(PlannedEpisode(stem, plan, number >= episodes - burnt, device))
    for stem in write_episodes(planned, workers):
        sys.stdout.write(f"{stem}.mp4\n")
    episode_files.write_library(folder / "library.yaml", styles)
    episode_files.write_settings(folder / "mimix.yaml")


def write_episodes(planned: list[PlannedEpisode], workers: int) -> Iterator[Path]:
    """Write episodes, ``workers`` at a time; yield how the names of each one's files begin."""
    if workers == 1:
        yield from map(write_episode, planned)
        return
    # A forked process could not use a GPU.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(write_episode, planned)


def write_episode(episode: PlannedEpisode) -> Path:
    """Write the video of a plan and the files beside it; return how their names begin."""
    stem, plan = episode.stem, episode.plan
    truth = episode_files.EpisodeTruth(plan)
    with (
        ClipWriter(Path(f"{stem}.mp4"), WIDTH, HEIGHT, crf=_CRF, preset=_PRESET) as video,
        episode_files.MasksWriter(Path(f"{stem}.masks.zip")) as masks,
    ):
        for number, (image_HWC, visible) in enumerate(_frames(plan, episode.device)):
            picture = np.rint(image_HWC * 255).astype(np.uint8)
            alphas = {name: np.rint(mask * 255).astype(np.uint8) for name, mask in visible.items()}
            text = episode_files.subtitle_at(plan, number) if episode.burnt else ""
            if text:
                _burn(picture, alphas, text)
            video.write_rgb(picture)
            masks.write(number, alphas)
            truth.add_frame(number, alphas)
    truth.write(stem)
    return stem


def _frames(plan: list[Shot], device: str) -> Iterator[tuple[Frames, dict[str, Frames]]]:
    """Yield each frame of an episode, and the visible share of each figure in its pixels.

    A dissolve mixes the last frames of one shot with the first of the next.
    """
    previous: tuple[Shot, RenderedShot] | None = None
    for shot, rendered in _render(plan, device):
        for index in range(shot.end - shot.first - shot.fade_out):
            layers = [(shot, rendered, index, 1.0)]
            if index < shot.fade_in:
                if previous is None:
                    raise ValueError("the first shot of an episode cannot begin with a dissolve")
                weight = (index + 1) / (shot.fade_in + 1)
                earlier, earlier_rendered = previous
                place = earlier.end - earlier.first - earlier.fade_out + index
                layers = [
                    (earlier, earlier_rendered, place, 1 - weight),
                    (shot, rendered, index, weight),
                ]
            yield _mix(layers)
        previous = shot, rendered


def _mix(
    layers: list[tuple[Shot, RenderedShot, int, float]],
) -> tuple[Frames, dict[str, Frames]]:
    image_HWC = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    visible: dict[str, Frames] = {}
    for shot, rendered, index, weight in layers:
        image_HWC += np.float32(weight) * rendered.frames_THWC[index]
        for figure, masks_THW in zip(shot.scene.cast, rendered.masks_FTHW, strict=False):
            mask = np.float32(weight) * masks_THW[index]
            visible[figure.name] = visible.get(figure.name, 0) + mask
    return image_HWC, visible


def _render(plan: list[Shot], device: str) -> Iterator[tuple[Shot, RenderedShot]]:
    """Render shots, several of one length at a time."""
    for begin in range(0, len(plan), _SHOTS_AT_A_TIME):
        group = plan[begin : begin + _SHOTS_AT_A_TIME]
        before, after = max(s.before for s in group), max(s.after for s in group)
        tensors = scenes.to_tensors([s.scene for s in group], before=before, after=after)
        with torch.inference_mode():
            video = renderer.render(tensors.to(device))
        for index, shot in enumerate(group):
            start = before - shot.before
            part = slice(start, start + shot.end - shot.first)
            yield (
                shot,
                RenderedShot(
                    video.frames_BCTHW[index, :, part].permute(1, 2, 3, 0).cpu().numpy(),
                    video.masks_BFTHW[index, :, part].cpu().numpy(),
                ),
            )


def _burn(picture_HWC: Image, alphas: dict[str, Image], text: str) -> None:
    """Draw a line of text in white on a black band at the bottom; masks end above the band."""
    picture_HWC[_BAND_TOP:] = 0
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.3
    (width, _), _ = cv2.getTextSize(text, font, scale, 1)
    place = (max((WIDTH - width) // 2, 0), HEIGHT - 3)
    cv2.putText(picture_HWC, text, place, font, scale, (255, 255, 255), 1, cv2.LINE_AA)
    for alpha_HW in alphas.values():
        alpha_HW[_BAND_TOP:] = 0


if __name__ == "__main__":
    main()
