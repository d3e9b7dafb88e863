"""The paper's kind of metrics beside the judge that knows: MiMix's own, which need no download.

    python -m miniature.study.metrics METRICS.csv --videos VIDEOS.json [--every N]

measures each video of two shows with ``scores.metrics`` of MiMix, counts its figures, writes a line
for each to METRICS.csv (videos that are there already are not measured again), and prints a table
of means by arm. Without ``--videos`` it prints the table of what was measured before.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimix_core import tables
from mimix_core.domain.score_metrics import LOWER_IS_BETTER
from mimix_core.errors import BadInput
from mimix_core.media.decode import read_rgb
from mimix_core.settings import ScoreSettings
from miniature.figure_count import count_figures
from miniature.judge_training import load_judge
from miniature.scenes import FIGURES
from miniature.sizes import Sizes
from miniature.study.figures import RESULTS, arm_names, is_cross, read_rows
from miniature.study.prompts import fewer_prompts, study_prompts
from miniature.study.scoring import VideoRow
from miniature.training_run import Run
from miniature.unpack_weights import WEIGHTS

METRICS = ScoreSettings().metrics

Key = tuple[str, int, str]


@dataclass(frozen=True)
class MeasuredVideo:
    """The values of one video in the order of ``METRICS``, and how many figures it shows."""

    arm: str
    seed: int
    prompt_id: str
    values: tuple[float, ...]
    figures: int

    @property
    def key(self) -> Key:
        return self.arm, self.seed, self.prompt_id


def measure_videos(rows: Sequence[VideoRow]) -> Iterator[MeasuredVideo]:
    """Measure videos as the stage ``scores`` does. Raises BadInput for one that cannot be."""
    import cv2
    import torch

    from mimix_core.benchmark.metrics import MetricResources, select_metrics
    from mimix_core.benchmark.scores_stage import VideoToScore, score_video

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    resources = MetricResources(None, torch.device("cpu"))
    metrics = {metric.name: metric.build(resources) for metric in select_metrics(METRICS)}
    judge, _ = load_judge(Run(torch.device("cpu"), WEIGHTS, WEIGHTS, Sizes()))
    for row in rows:
        video = VideoToScore(Path(row["file"]), row["prompt_id"], "sample")
        scores = score_video(video, metrics, threads=1)
        failed = [score for score in scores if score["status"] != tables.Status.OK]
        if failed:
            raise BadInput(f"cannot be measured: {failed[0]['detail']}", where=row["file"])
        values = {score["metric"]: float(score["value"]) for score in scores}
        frames_TCHW = torch.from_numpy(read_rgb(video.path)).permute(0, 3, 1, 2)
        with torch.no_grad():
            outputs = judge(frames_TCHW.transpose(0, 1)[None].float() / 255)
        yield MeasuredVideo(
            row["arm"],
            row["seed"],
            row["prompt_id"],
            tuple(values[name] for name in METRICS),
            count_figures(outputs)[0],
        )


def read_measured(path: Path) -> list[MeasuredVideo]:
    """Read what was measured."""
    with path.open(newline="") as file:
        return [
            MeasuredVideo(
                line["arm"],
                int(line["seed"]),
                line["prompt_id"],
                tuple(float(line[name]) for name in METRICS),
                int(line["figures"]),
            )
            for line in csv.DictReader(file)
        ]


def markdown(measured: Sequence[MeasuredVideo], rows: Sequence[VideoRow]) -> str:
    """Format the means of two-show videos by arm, beside the judge's verdict on the same videos.

    The last column: how often a video in which all is kept is rated better than one in which it is
    not, over all arms; 0.5 is a coin toss.
    """
    verdicts = {
        (row["arm"], row["seed"], row["prompt_id"]): row["all_kept"]
        for row in rows
        if is_cross(row)
    }
    judged = [video for video in measured if video.key in verdicts]
    arms = arm_names([row for row in rows if row["arm"] in {video.arm for video in judged}])
    kept = np.array([verdicts[video.key] for video in judged])
    values = np.array([video.values for video in judged])
    of_arm = {arm: np.array([video.arm == arm for video in judged]) for arm in arms}
    lines = [
        f"| mean of {len(judged)} videos of two shows | {' | '.join(arms)} | kept rated better |",
        f"| --- |{' ---: |' * (len(arms) + 1)}",
        f"| **all kept** (the judge that knows) | "
        f"{' | '.join(f'{kept[of_arm[arm]].mean():.3f}' for arm in arms)} | |",
    ]
    found = np.array([video.figures for video in judged])
    for title, counted in (
        ("more than the two figures asked for", found > FIGURES),
        ("all kept and nobody more", kept & (found <= FIGURES)),
    ):
        shares = " | ".join(f"{counted[of_arm[arm]].mean():.3f}" for arm in arms)
        lines.append(f"| {title} | {shares} | |")
    for column, name in enumerate(METRICS):
        sign = -1 if name in LOWER_IS_BETTER else 1
        better = _chance_of_better(sign * values[kept, column], sign * values[~kept, column])
        means = " | ".join(f"{values[of_arm[arm], column].mean():.3f}" for arm in arms)
        direction = ", lower is better" if sign < 0 else ""
        lines.append(f"| `{name}`{direction} | {means} | {better:.2f} |")
    return "\n".join(lines) + "\n"


def _chance_of_better(kept: NDArray[np.float64], lost: NDArray[np.float64]) -> float:
    """Return how often a value of the first is above one of the second; a tie is half."""
    above = (kept[:, None] > lost[None]).mean() + 0.5 * (kept[:, None] == lost[None]).mean()
    return float(above)


def main() -> None:
    """Measure the videos that the command line names, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("measured", type=Path, help="a .csv, which is continued")
    parser.add_argument("--videos", type=Path, nargs="+", default=[])
    parser.add_argument("--every", type=int, default=1, help="take each n-th prompt only")
    options = parser.parse_args()
    rows = read_rows(options.videos or [RESULTS / "miniature_videos.csv"])
    if options.videos:
        asked = {prompt.id for prompt in fewer_prompts(study_prompts(), options.every)}
        measure_missing(
            options.measured, [r for r in rows if is_cross(r) and r["prompt_id"] in asked]
        )
    sys.stdout.write(markdown(read_measured(options.measured), rows))


def measure_missing(path: Path, rows: Sequence[VideoRow]) -> None:
    """Measure the videos that the file lacks, and append them to it."""
    known = {video.key for video in read_measured(path)} if path.exists() else set()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not known:
            writer.writerow(("arm", "seed", "prompt_id", *METRICS, "figures"))
        new = [r for r in rows if (r["arm"], r["seed"], r["prompt_id"]) not in known]
        for video in measure_videos(new):
            writer.writerow(
                (*video.key, *(f"{value:.6g}" for value in video.values), video.figures)
            )
            file.flush()


if __name__ == "__main__":
    main()
