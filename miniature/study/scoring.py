"""Ask the judge that knows what generated videos show, one row for each video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from mimix_core import tables
from mimix_core.errors import BadInput
from mimix_core.media.decode import read_rgb
from miniature import judge
from miniature.figures import STYLES
from miniature.judge import Judge
from miniature.scenes import FIGURES, FRAMES, HEIGHT, WIDTH
from miniature.study.prompts import StudyPrompt

_BATCH = 16

Frames = NDArray[np.uint8]


class VideoRow(TypedDict):
    """What one video shows, against what was asked for.

    ``present``, ``style_kept`` and ``action_right``: for each figure asked for, in the prompt's
    order; the second and third only where it is present. ``all_kept``: every figure is there with
    its identity and its own style, and the background has the style asked for. ``all_right``: and
    everybody does what was asked, before the background asked for.
    """

    arm: str
    seed: int
    prompt_id: str
    kind: str
    held_out: bool
    scene_style: str
    characters: list[str]
    file: str
    present: list[bool]
    style_kept: list[bool]
    action_right: list[bool]
    background_right: bool
    background_style_right: bool
    contact: bool
    all_kept: bool
    all_right: bool


def find_videos(settings: Path) -> dict[str, Path]:
    """Return the generated video of each prompt of a finished run.

    Raises BadInput if the run has not come so far, or a prompt failed.
    """
    # Imports Prefect, which takes its settings from the environment at that moment.
    from flows.cached_results import collect_cached_results

    results = collect_cached_results(settings, None)
    refs = results.run.refs.get("samples")
    if not refs:
        reason = results.stopped_at.what if results.stopped_at else "no samples"
        raise BadInput(f"no generated videos: {reason}", where=str(settings))
    rows = tables.read(refs[0].path, tables.SAMPLES)
    failed = [row["prompt_id"] for row in rows if row["status"] != tables.Status.OK]
    if failed:
        raise BadInput(f"{len(failed)} prompts failed, first {failed[0]}", where=str(settings))
    return {row["prompt_id"]: refs[0].folder / row["file"] for row in rows}


def first_missing(settings: Path) -> str:
    """Return why the videos of a run are not all there; empty if they are."""
    from flows.cached_results import collect_cached_results

    results = collect_cached_results(settings, None)
    if results.run.refs.get("samples"):
        return ""
    return results.stopped_at.what if results.stopped_at else "no samples"


def score_videos(
    arm: str,
    seed: int,
    videos: Mapping[str, Path],
    prompts: Sequence[StudyPrompt],
    model: Judge,
    threshold: float,
) -> list[VideoRow]:
    """Judge the video of each prompt. ``threshold``: cells from which a figure is present."""
    rows: list[VideoRow] = []
    for start in range(0, len(prompts), _BATCH):
        batch = prompts[start : start + _BATCH]
        files = [videos[prompt.id] for prompt in batch]
        rows += _score_batch(arm, seed, files, batch, model, threshold)
    return rows


def _score_batch(
    arm: str,
    seed: int,
    files: Sequence[Path],
    prompts: Sequence[StudyPrompt],
    model: Judge,
    threshold: float,
) -> list[VideoRow]:
    device = next(model.parameters()).device
    videos = torch.from_numpy(np.stack([_read(file) for file in files])).to(device)
    with torch.no_grad():
        outputs = model(videos.permute(0, 4, 1, 2, 3).float() / 255)
    figures = [_judge_figure(outputs, prompts, place, threshold) for place in range(FIGURES)]
    whole = {name: outputs[name].argmax(1).tolist() for name in judge.WHOLE}
    rows: list[VideoRow] = []
    for index, prompt in enumerate(prompts):
        scene = prompt.scene
        found = [figures[place][index] for place in range(len(scene.cast))]
        style_right = STYLES[whole["background_style"][index]] == scene.style
        background_right = whole["background"][index] == scene.background
        all_kept = style_right and all(present and style for present, style, _ in found)
        rows.append(
            VideoRow(
                arm=arm,
                seed=seed,
                prompt_id=prompt.id,
                kind=prompt.kind,
                held_out=prompt.held_out,
                scene_style=scene.style,
                characters=[figure.name for figure in scene.cast],
                file=str(files[index]),
                present=[present for present, _, _ in found],
                style_kept=[present and style for present, style, _ in found],
                action_right=[present and action for present, _, action in found],
                background_right=background_right,
                background_style_right=style_right,
                contact=bool(whole["contact"][index]),
                all_kept=all_kept,
                all_right=all_kept and background_right and all(action for _, _, action in found),
            )
        )
    return rows


def _judge_figure(
    outputs: Mapping[str, torch.Tensor],
    prompts: Sequence[StudyPrompt],
    place: int,
    threshold: float,
) -> dict[int, tuple[bool, bool, bool]]:
    """Return for each video with a figure at ``place``: present, its own style, its action."""
    rows = [row for row, prompt in enumerate(prompts) if len(prompt.scene.cast) > place]
    if not rows:
        return {}
    verdict = judge.verdict(
        {name: value[rows] for name, value in outputs.items()},
        [prompts[row].scene.cast[place] for row in rows],
        [prompts[row].scene.actions()[place] for row in rows],
    )
    columns = (verdict.cells >= threshold, verdict.style_share > 0.5, verdict.action_share > 0.5)
    values = zip(*(column.tolist() for column in columns), strict=True)
    return dict(zip(rows, values, strict=True))


def _read(file: Path) -> Frames:
    frames_THWC = read_rgb(file)
    if frames_THWC.shape != (FRAMES, HEIGHT, WIDTH, 3):
        raise BadInput(f"a video of {frames_THWC.shape}", where=str(file))
    return frames_THWC
