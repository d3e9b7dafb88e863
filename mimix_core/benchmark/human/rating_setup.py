"""Prepare the pairs that people rate: videos of systems, the judge's questions, and controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimix_core.benchmark.judge.rubric import ASPECTS, DEFAULT_RUBRIC, load_rubric
from mimix_core.benchmark.systems import System, find_videos
from mimix_core.domain.prompts import PromptFile
from mimix_core.engine.artifacts import digest_file
from mimix_core.errors import BadInput
from mimix_core.media import ClipWriter, UnreadableVideo, open_container, open_video
from mimix_core.project.rating_plan import (
    PAIRS_BETWEEN_CHECKS,
    AspectQuestion,
    NoiseControl,
    RatedPrompt,
    RatingPlan,
    select_controls,
)

PLAYABLE_CODECS = frozenset({"h264", "vp8", "vp9", "av1"})
"""Codecs that every current browser plays."""

MAX_CONTROLS = 20
_NOISE_BLOCK = 16
_TITLES = {
    "identity": "Looks of the characters",
    "motion": "Typical movements",
    "style": "Style",
    "interaction": "Interaction",
}


@dataclass(frozen=True)
class RatingSetup:
    """A plan, and the videos that cannot be shown: (system, prompt, why)."""

    plan: RatingPlan
    left_out: tuple[tuple[str, str, str], ...]


def prepare_ratings(
    prompts: PromptFile, systems: Sequence[System], seed: int, controls_folder: Path
) -> RatingSetup:
    """Plan all pairs of systems on the same prompt, and write the noise of the controls.

    Raises BadInput for fewer than two systems, no pair, or videos that browsers do not play.
    """
    if len(systems) < 2:
        raise BadInput("a pair needs two systems", where="--system", fix="Name another system.")
    videos = {system.name: find_videos(system, prompts.prompts) for system in systems}
    left_out: list[tuple[str, str, str]] = []
    rated = []
    for prompt in prompts.prompts:
        found: dict[str, Path] = {}
        for name, by_prompt in videos.items():
            path = by_prompt.get(prompt.id)
            reason = "no video" if path is None else _unplayable(path)
            if reason or path is None:
                left_out.append((name, prompt.id, reason))
            else:
                found[name] = path.resolve()
        if len(found) > 1:
            rated.append(
                RatedPrompt(
                    id=prompt.id,
                    text=prompt.render(),
                    characters=len(prompt.characters),
                    videos=found,
                )
            )
    if not rated:
        raise BadInput(
            "no prompt has readable videos of two systems",
            where="--system",
            fix="Name the files <prompt id>.mp4, H.264 in MP4.",
        )
    pairs = sum(len(prompt.videos) * (len(prompt.videos) - 1) // 2 for prompt in rated)
    count = min(MAX_CONTROLS, -(-pairs // PAIRS_BETWEEN_CHECKS))
    controls = []
    for prompt_id, system, path in select_controls(rated, seed, count):
        noise = controls_folder / f"{digest_file(path)[:24]}.mp4"
        if not noise.exists():
            write_noise_video(path, noise)
        controls.append(NoiseControl(prompt_id=prompt_id, system=system, noise=noise.resolve()))
    plan = RatingPlan(
        seed=seed, aspects=_questions(), prompts=tuple(rated), controls=tuple(controls)
    )
    return RatingSetup(plan, tuple(left_out))


def write_noise_video(source: Path, target: Path) -> None:
    """Write colored noise with the size, length and rate of a video. Raises UnreadableVideo."""
    with open_video(source, threads=1) as video:
        count, rate = sum(1 for _ in video.frames()), video.info.rate
        geometry = video.info.geometry
    width, height = geometry.width // 2 * 2, geometry.height // 2 * 2
    chance = np.random.default_rng(0)
    rows, columns = -(-height // _NOISE_BLOCK), -(-width // _NOISE_BLOCK)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part.mp4")
    with ClipWriter(part, width, height, crf=23, preset="veryfast", rate=rate) as writer:
        for _ in range(count):
            blocks_HWC = chance.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
            large = blocks_HWC.repeat(_NOISE_BLOCK, 0).repeat(_NOISE_BLOCK, 1)
            writer.write_rgb(np.ascontiguousarray(large[:height, :width]))
    part.replace(target)


def _unplayable(path: Path) -> str:
    """Return why a browser cannot play a video; empty if it can.

    Raises BadInput for a codec that browsers do not play: that is the whole system's trouble.
    """
    try:
        with open_container(path) as container:
            streams = container.streams.video
            codec = streams[0].codec_context.name if streams else ""
        with open_video(path, threads=1):
            pass
    except UnreadableVideo as error:
        return error.what
    # libdav1d and the like are decoders of the codec that their name ends with.
    if not any(codec.endswith(name) for name in (*PLAYABLE_CODECS, "dav1d")):
        raise BadInput(
            f"is {codec or 'no'} video, which browsers do not play",
            where=str(path),
            fix="Convert the system's videos to H.264 in MP4.",
        )
    return ""


def _questions() -> tuple[AspectQuestion, ...]:
    """Return what the judge is asked, in its own words."""
    rubric = load_rubric(DEFAULT_RUBRIC)
    return tuple(
        AspectQuestion(
            name=aspect,
            title=_TITLES[aspect],
            question=rubric.aspect_rubric(aspect, 2).question.strip(),
            single_question=rubric.aspect_rubric(aspect, 1).question.strip(),
        )
        for aspect in ASPECTS
    )
