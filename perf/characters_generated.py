"""Compare the scores of characters with the judge that knows, on generated videos.

The judge is asked what the scores say, and no more: is a figure there that is recognizably this
character (``judge.recognizable``), whom does a figure show, and in which style is it drawn? Its
stricter verdict, all five attributes at once, is compared as well, under a name of its own.

The judge learned from renders, which no generated video is. How far it can be trusted here is
measured: it judges every video a second time, mirrored, which should change no answer. Scores
cannot be expected to agree with the judge more than it agrees with itself.

The questions were settled on videos of the study's seed 0; what is recorded are those of others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mimix_core.benchmark.characters.cell_features import CellEncoder
from mimix_core.benchmark.characters.trained_looks import TrainedLooks
from mimix_core.benchmark.characters.video_scores import CharacterScore, score_characters
from mimix_core.errors import BadInput
from mimix_core.media.decode import read_rgb
from miniature import judge
from miniature.figures import NAMED_FIGURES, STYLES, Figure
from miniature.judge import Judge
from miniature.scenes import FRAMES
from miniature.study.prompts import StudyPrompt, fewer_prompts, study_prompts

Frames = NDArray[np.uint8]
QUESTIONS = ("present", "every_attribute", "identity", "style")
_RESAMPLES = 4000


@dataclass(frozen=True)
class GeneratedVideo:
    """A generated video of a prompt of the study. ``source``: whose it is."""

    source: str
    prompt: StudyPrompt
    file: Path


@dataclass(frozen=True)
class Answer:
    """What the scores and the judge say to one question on one figure.

    ``mirrored``: what the judge says of the mirrored video; None if it sees no figure there.
    """

    question: str
    prompt_id: str
    ours: bool | str
    judge: bool | str
    mirrored: bool | str | None


def listed_videos(path: Path, every: int) -> list[GeneratedVideo]:
    """List videos of ``videos.json``, which the study writes; one of ``every`` prompts.

    Raises BadInput for a video that is not there.
    """
    prompts = {prompt.id: prompt for prompt in fewer_prompts(study_prompts(), every)}
    found = [
        GeneratedVideo(
            f"{row['arm']} of seed {row['seed']}", prompts[row["prompt_id"]], Path(row["file"])
        )
        for row in json.loads(path.read_text())
        if row["prompt_id"] in prompts
    ]
    missing = [str(video.file) for video in found if not video.file.is_file()]
    if missing:
        raise BadInput(f"{len(missing)} videos are missing, first {missing[0]}", where=str(path))
    return found


def compare_generated(
    videos: Sequence[GeneratedVideo],
    looks: TrainedLooks,
    encoder: CellEncoder,
    model: Judge,
    threshold: float,
) -> list[Answer]:
    """Score and judge videos. ``threshold``: cells from which a figure is there for the judge."""
    answers: list[Answer] = []
    for video in videos:
        frames_THWC = read_rgb(video.file)
        names = tuple(figure.name for figure in video.prompt.scene.cast)
        scores = score_characters(frames_THWC, names, looks, encoder)
        views = [_View(model, frames_THWC, threshold, mirrored) for mirrored in (False, True)]
        for figure in video.prompt.scene.cast:
            answers += _compare(video.prompt.id, figure, scores[figure.name], *views)
    return answers


class _View:
    """What the judge sees of a video, as it is or mirrored."""

    def __init__(self, model: Judge, frames_THWC: Frames, threshold: float, mirrored: bool) -> None:
        shown = np.ascontiguousarray(frames_THWC[:, :, ::-1]) if mirrored else frames_THWC
        with torch.no_grad():
            pixels = torch.from_numpy(shown[None]).permute(0, 4, 1, 2, 3).float() / 255
            self.outputs = model(pixels)
        self.mirrored, self.threshold = mirrored, threshold
        self.cells_NTYX = judge.recognizable(self.outputs)[0]

    def recognizable(self, figure: Figure) -> bool:
        cells = float(self.cells_NTYX[NAMED_FIGURES.index(figure)].sum())
        return cells >= self.threshold

    def every_attribute(self, figure: Figure) -> bool:
        found = judge.verdict(self.outputs, [figure], [0])
        return float(found.cells[0]) >= self.threshold

    def in_own_style(self, figure: Figure) -> bool:
        """Say whether most of the cells in which the figure is recognizable have its style."""
        cells_TYX = self.cells_NTYX[NAMED_FIGURES.index(figure)]
        style_TYX = self.outputs["style"].softmax(1)[0, STYLES.index(figure.style)]
        return float((cells_TYX * style_TYX).sum()) > 0.5 * float(cells_TYX.sum())

    def shown_in(self, score: CharacterScore) -> str:
        """Return who is recognizable in most of the boxes of a score; empty for nobody."""
        votes = np.zeros(len(NAMED_FIGURES))
        total = 0.0
        weight_TYX = self.outputs["figure"].softmax(1)[0, 1]
        steps, rows, columns = judge.CELLS
        for index, box in zip(score.frames, score.boxes, strict=True):
            if box:
                x0, y0, x1, y1 = (1 - box[2], box[1], 1 - box[0], box[3]) if self.mirrored else box
                part = np.s_[
                    min(steps - 1, index * steps // FRAMES),
                    round(y0 * rows) : round(y1 * rows),
                    round(x0 * columns) : round(x1 * columns),
                ]
                votes += [float(cells_TYX[part].sum()) for cells_TYX in self.cells_NTYX]
                total += float(weight_TYX[part].sum())
        best = int(votes.argmax())
        return NAMED_FIGURES[best].name if votes[best] > 0.5 * total else ""


def _compare(
    prompt_id: str, figure: Figure, own: CharacterScore, plain: _View, mirrored: _View
) -> list[Answer]:
    right = own.identity == "right"
    there, also = plain.recognizable(figure), mirrored.recognizable(figure)
    every = plain.every_attribute(figure), mirrored.every_attribute(figure)
    answers = [
        Answer("present", prompt_id, right, there, also),
        Answer("every_attribute", prompt_id, right, *every),
    ]
    if right and there:
        style = mirrored.in_own_style(figure) if also else None
        kept = plain.in_own_style(figure)
        answers.append(Answer("style", prompt_id, bool(own.in_own_style), kept, style))
    seen = plain.shown_in(own) if own.identity in ("right", "swapped") else ""
    if seen:
        named = figure.name if right else own.looks_like
        answers.append(Answer("identity", prompt_id, named, seen, mirrored.shown_in(own) or None))
    return answers


def agreement_figures(answers: Sequence[Answer]) -> dict[str, float]:
    """Return the agreement to each question with its interval, and the judge's with itself.

    ``_low``, ``_high``: 95 %, by a bootstrap over prompts. ``_judge_self``: of the answers to a
    video and to its mirror image. ``_sure``: agreement where these two are the same.
    ``style_lost_recall``: of the figures in another style than their own, those called so.
    """
    figures: dict[str, float] = {}
    for question in QUESTIONS:
        own = [one for one in answers if one.question == question]
        if not own:
            continue
        low, high = _interval(own)
        twice = [one for one in own if one.mirrored is not None]
        sure = [one for one in twice if one.judge == one.mirrored]
        figures |= {
            f"{question}_agreement": _share(own),
            f"{question}_low": low,
            f"{question}_high": high,
            f"{question}_judge_self": len(sure) / max(1, len(twice)),
            f"{question}_sure_agreement": _share(sure),
            f"{question}_pairs": len(own),
        }
    present = [one for one in answers if one.question == "present"]
    both = sum(bool(one.ours and one.judge) for one in present)
    figures["present_precision"] = both / max(1, sum(bool(one.ours) for one in present))
    figures["present_recall"] = both / max(1, sum(bool(one.judge) for one in present))
    lost = [one for one in answers if one.question == "style" and not one.judge]
    figures |= {"style_lost_recall": _share(lost), "style_lost_pairs": len(lost)}
    return figures


def _share(answers: Sequence[Answer]) -> float:
    return sum(one.ours == one.judge for one in answers) / max(1, len(answers))


def _interval(answers: Sequence[Answer]) -> tuple[float, float]:
    """Return the 95 % interval of the agreement; prompts are drawn again with replacement."""
    prompts = sorted({one.prompt_id for one in answers})
    agreeing, counts = np.zeros(len(prompts)), np.zeros(len(prompts))
    for one in answers:
        number = prompts.index(one.prompt_id)
        agreeing[number] += one.ours == one.judge
        counts[number] += 1
    rng = np.random.default_rng(0)
    drawn_RP = rng.multinomial(len(prompts), [1 / len(prompts)] * len(prompts), _RESAMPLES)
    low, high = np.quantile((drawn_RP @ agreeing) / (drawn_RP @ counts), (0.025, 0.975))
    return float(low), float(high)
