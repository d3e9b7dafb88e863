"""Run the study: write its settings, run MiMix for every arm and seed, and judge the videos.

    python -m miniature.study.run FOLDER

``FOLDER`` is a project of ``python -m miniature.episodes``; its workspace is shared by all arms. A
run that was interrupted goes on where it was, and one that is repeated computes nothing
(``--verify`` says so without running anything). The judge's rows are written to
``FOLDER/arms/videos.json``, and how long each arm was trained to ``trainings.json`` beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from flows import prefect_environment
from mimix_core.errors import BadInput
from miniature.judge_training import load_judge
from miniature.sizes import Sizes
from miniature.study.additions import read_training, write_addition
from miniature.study.arms import (
    ARMS,
    Arm,
    Place,
    Training,
    all_again,
    arm_prompts,
    write_settings,
)
from miniature.study.prompts import StudyPrompt, fewer_prompts, study_prompts
from miniature.study.scoring import VideoRow, find_videos, first_missing, score_videos
from miniature.training_run import Run
from miniature.unpack_weights import WEIGHTS, published_model

BY_NAME = {arm.name: arm for arm in ARMS}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the arms that the command line names, all of them if it names none."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    defaults = Training()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arms", nargs="+", choices=[arm.name for arm in ARMS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=defaults.epochs)
    parser.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    parser.add_argument("--global-batch-size", type=int, default=defaults.global_batch_size)
    parser.add_argument("--micro-batch-size", type=int, default=defaults.micro_batch_size)
    parser.add_argument("--validation-quantiles", type=int, default=defaults.validation_quantiles)
    parser.add_argument("--steps", type=int, default=defaults.steps, help="of the sampler")
    parser.add_argument("--guidance", type=float, default=defaults.guidance)
    parser.add_argument("--every", type=int, default=1, help="take each n-th prompt only")
    parser.add_argument("--max-workers", type=int, default=2, help="run.max_workers of MiMix")
    parser.add_argument("--settings-folder", default="arms", help="below FOLDER")
    parser.add_argument("--only-settings", action="store_true", help="write them and stop")
    parser.add_argument("--only-score", action="store_true", help="judge the videos that are there")
    parser.add_argument(
        "--verify", action="store_true", help="say what a run would compute, and compute nothing"
    )
    options = parser.parse_args(arguments)
    training = Training(
        options.epochs,
        options.learning_rate,
        options.global_batch_size,
        options.micro_batch_size,
        options.validation_quantiles,
        options.steps,
        options.guidance,
    )
    arms = [arm for arm in ARMS if options.arms is None or arm.name in options.arms]
    folder = options.folder.resolve()
    prompts = fewer_prompts(study_prompts(), options.every)
    place = Place(folder, options.settings_folder, options.max_workers)
    files = prepare(place, arms, options.seeds, training, prompts)
    if options.only_settings:
        return
    if options.verify:
        sys.exit(1 if report_missing(files) else 0)
    if not options.only_score:
        generate_all(files)
    rows = judge_all(files, prompts)
    out = folder / options.settings_folder
    (out / "videos.json").write_text(json.dumps(rows, indent=1))
    trainings = [asdict(read_training(arm, seed, path)) for (arm, seed), path in files.items()]
    (out / "trainings.json").write_text(json.dumps(trainings, indent=1))
    for (arm, seed), _ in files.items():
        found = [row for row in rows if row["arm"] == arm and row["seed"] == seed]
        kept = {
            kind: sum(row["all_kept"] for row in found if row["kind"] == kind)
            / sum(row["kind"] == kind for row in found)
            for kind in sorted({row["kind"] for row in found})
        }
        shares = ", ".join(f"{kind} {value:.3f}" for kind, value in kept.items())
        sys.stdout.write(f"{arm}, seed {seed}: all kept {shares}\n")


def prepare(
    place: Place,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    training: Training,
    prompts: Sequence[StudyPrompt],
) -> dict[tuple[str, int], Path]:
    """Write the model's folder, the prompts and the settings files; return the last."""
    model = published_model(place.project)
    return write_settings(place, model, arms, seeds, training, prompts)


def generate_all(files: Mapping[tuple[str, int], Path]) -> None:
    """Run MiMix's flow ``generate`` with each settings file, one after another.

    The settings of an arm that adds a character are written first. Raises BadInput if the arm that
    it starts from has not run.
    """
    prefect_environment.configure_prefect()
    from flows.augment import augment
    from flows.benchmark import generate
    from mimix_core.settings import load_config

    computed = 0
    for (arm, seed), path in files.items():
        before = 0
        if BY_NAME[arm].added_to:
            before = augment(load_config(all_again(path))).computed
            write_addition(BY_NAME[arm], seed, path)
        units = before + generate(load_config(path)).computed
        computed += units
        sys.stdout.write(f"{path.stem}: {units} units were computed\n")
    sys.stdout.write(f"{computed} units were computed in {len(files)} runs\n")


def report_missing(files: Mapping[tuple[str, int], Path]) -> int:
    """Say of each arm and seed what a run would compute first; return how many lack something.

    Looks every result up by its key, as a run does, and computes nothing.
    """
    missing = 0
    for (arm, seed), path in files.items():
        first = _first_missing(BY_NAME[arm], seed, path)
        missing += bool(first)
        sys.stdout.write(f"{arm}, seed {seed}: {first or 'nothing to compute'}\n")
    sys.stdout.write(f"{len(files)} runs, of which {missing} would compute something\n")
    return missing


def _first_missing(arm: Arm, seed: int, path: Path) -> str:
    if arm.added_to:
        try:
            write_addition(arm, seed, path)
        except BadInput as error:
            return str(error)
    return first_missing(path)


def judge_all(files: dict[tuple[str, int], Path], prompts: Sequence[StudyPrompt]) -> list[VideoRow]:
    """Judge the videos of all arms and seeds."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, threshold = load_judge(Run(device, WEIGHTS, WEIGHTS, Sizes()))
    rows: list[VideoRow] = []
    for (arm, seed), path in files.items():
        asked = arm_prompts(BY_NAME[arm], prompts)
        rows += score_videos(arm, seed, find_videos(path), asked, model, threshold)
    return rows


if __name__ == "__main__":
    main()
