"""Measure how well the scores of characters agree with the truth, in the miniature world.

    python perf/characters.py [--videos VIDEOS.json ... --every 2] [--renders 60]

The bank is built from clips of the two shows, as a project has them: nobody is drawn in another
style or meets the other show there. All limits come from these clips. What is tested was rendered
from other seeds, or generated on the CPU with the published weights: held-out joint scenes with
styles kept and exchanged; 100 renders and composites in which characters were exchanged on
purpose; generated videos, labelled by the judge that knows (perf/characters_generated.py): those
of the study, or without ``--videos`` 28 that are generated here; and clips of the bank themselves,
softened, which are copies.

Design choices (which features, sizes of windows) were made while looking at other seeds and other
prompts than those measured here.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mimix_core.benchmark.characters.cell_features import PACKAGED, CellEncoder, load_cell_encoder
from mimix_core.benchmark.characters.figure_motion import STEP, figure_motion
from mimix_core.benchmark.characters.trained_looks import TrainedLooks, looks_of_frames
from mimix_core.benchmark.characters.training_figures import TrainingFrame, mask_box
from mimix_core.benchmark.characters.video_scores import CharacterScore, score_characters
from mimix_core.media import ClipWriter
from mimix_core.media.decode import read_rgb
from mimix_core.settings import ClipSettings
from miniature import demo, renderer, scenes
from miniature.figures import CASTS, NAMED_FIGURES, STYLES, Figure
from miniature.judge_training import load_judge
from miniature.scenes import FRAMES, HEIGHT, WIDTH, Scene
from miniature.sizes import Sizes
from miniature.study.prompts import fewer_prompts, study_prompts
from miniature.training_run import Run
from miniature.unpack_weights import WEIGHTS
from perf.characters_generated import (
    GeneratedVideo,
    agreement_figures,
    compare_generated,
    listed_videos,
)
from perf.record import record

Frames = NDArray[np.uint8]
BANK_CLIPS = 10
"""Clips of each show: so many times four pairs of its own, and so many alone."""

CRF = ClipSettings().crf
SWAPS = 100
DEVELOPMENT_EVERY = 8
"""One prompt in so many was looked at while this was written, and is not measured."""

OWN_STYLE = {figure.name: figure.style for figure in NAMED_FIGURES}


@dataclass(frozen=True)
class Rendered:
    """A scene with its frames and masks_FTHW, 0..1."""

    scene: Scene
    frames_THWC: Frames
    masks_FTHW: NDArray[np.float32]


def render(drawn: Sequence[Scene]) -> list[Rendered]:
    """Render scenes; their frames pass through a video file, as those of clips do."""
    rendered = []
    for start in range(0, len(drawn), 8):
        group = drawn[start : start + 8]
        with torch.inference_mode():
            video = renderer.render(scenes.to_tensors(group))
        frames = (video.frames_BCTHW.permute(0, 2, 3, 4, 1).numpy() * 255).round()
        for number, scene in enumerate(group):
            masks = video.masks_BFTHW[number].numpy()
            rendered.append(Rendered(scene, _encoded(frames[number].astype(np.uint8)), masks))
    return rendered


def _encoded(frames_THWC: Frames) -> Frames:
    """Return frames as they come out of a video file of the quality of clips."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with ClipWriter(path, WIDTH, HEIGHT, crf=CRF, preset="fast") as writer:
            for frame in frames_THWC:
                writer.write_rgb(frame)
        return read_rgb(path)


def bank_scenes(seed: str) -> list[Scene]:
    """Draw scenes of the two shows: pairs of one show, and everybody alone."""
    drawn = []
    for style in STYLES:
        rng = random.Random(f"{seed} {style}")
        pairs = list(combinations(CASTS[style], 2))
        for number in range(2 * BANK_CLIPS):
            pair = list(pairs[number % len(pairs)])
            rng.shuffle(pair)
            drawn.append(scenes.draw_scene(rng, pair, style))
        for number in range(BANK_CLIPS):
            drawn.append(scenes.draw_scene(rng, [CASTS[style][number % 4]], style))
    return drawn


def build_looks(clips: Sequence[Rendered], encoder: CellEncoder) -> TrainedLooks:
    """Build the bank from rendered clips, as the stage does from clips and cutouts."""
    frames: list[TrainingFrame] = []
    motions: dict[str, list[float]] = {}
    for number, clip in enumerate(clips):
        indices = [(2 * part + 1) * FRAMES // 6 for part in range(3)]
        alphas = {
            figure.name: (clip.masks_FTHW[place] * 255).round().astype(np.uint8)
            for place, figure in enumerate(clip.scene.cast)
        }
        for index in indices:
            own = {name: alpha[index] for name, alpha in alphas.items()}
            image = clip.frames_THWC[index]
            clip_id = f"clip-{number:03}"
            frames.append(TrainingFrame(clip_id, clip.scene.style, index, image, own, True))
        for name, alpha in alphas.items():
            pairs: list[Any] = [
                (clip.frames_THWC[i], clip.frames_THWC[i + STEP], _shares(box))
                for i in indices
                if (box := mask_box(alpha[i])) is not None and i + STEP < FRAMES
            ]
            speed = figure_motion(pairs)
            if speed is not None:
                motions.setdefault(name, []).append(speed)
    return looks_of_frames(frames, motions, OWN_STYLE, encoder)


def _shares(box: tuple[int, int, int, int]) -> tuple[float, float, float, float]:
    return box[0] / WIDTH, box[1] / HEIGHT, box[2] / WIDTH, box[3] / HEIGHT


@dataclass(frozen=True)
class Asked:
    """A video and what was asked for. ``exchanged``: asked-for character -> who is there instead.

    ``styles``: in which style each asked-for character that is there is drawn.
    """

    frames_THWC: Frames
    names: tuple[str, ...]
    styles: dict[str, str]
    exchanged: dict[str, str]


def joint_scenes(count: int, seed: str) -> list[Asked]:
    """Render characters of any show together, in any style; a quarter of those asked are absent."""
    rng = random.Random(seed)
    drawn, asked = [], []
    for number in range(count):
        cast = rng.sample(NAMED_FIGURES, 2)
        if number % 2:
            cast = [replace(figure, style=rng.choice(STYLES)) for figure in cast]
        names = tuple(figure.name for figure in cast)
        if number % 4 == 3:
            cast = cast[:1]
        drawn.append(scenes.draw_scene(rng, cast, rng.choice(STYLES)))
        asked.append(names)
    return [
        Asked(one.frames_THWC, names, {f.name: f.style for f in one.scene.cast}, {})
        for one, names in zip(render(drawn), asked, strict=True)
    ]


def exchanged_scenes(count: int, seed: str, *, exchange: bool) -> list[Asked]:
    """Render or composite pairs of two shows; with ``exchange``, characters are exchanged.

    In turn: another character of either show stands for the first one; both are the second one;
    each is another one. Half are renders, half composites: the first one cut out of a clip of
    its own and pasted into a clip of the second one.
    """
    rng = random.Random(seed)
    plans: list[tuple[tuple[str, str], list[Figure], dict[str, str], bool]] = []
    for number in range(count):
        first, second = rng.choice(CASTS[STYLES[0]]), rng.choice(CASTS[STYLES[1]])
        if rng.random() < 0.5:
            first, second = second, first
        others = [one for one in NAMED_FIGURES if one not in (first, second)]
        kind = number // 2 % 3
        cast = [first, second]
        if exchange:
            third, fourth = rng.sample(others, 2)
            cast = [[third, second], [second, second], [third, fourth]][kind]
        asked = (first.name, second.name)
        changed = {a: f.name for a, f in zip(asked, cast, strict=True) if a != f.name}
        plans.append((asked, cast, changed, bool(number % 2)))
    drawn: list[Scene] = []
    for _, cast, _, composite in plans:
        if composite:
            drawn += [scenes.draw_scene(rng, [figure], figure.style) for figure in cast]
        else:
            drawn.append(scenes.draw_scene(rng, cast, cast[1].style))
    rendered = iter(render(drawn))
    videos = []
    for asked, cast, changed, composite in plans:
        one = next(rendered)
        frames = _paste(one, next(rendered)) if composite else one.frames_THWC
        styles = {figure.name: figure.style for figure in cast}
        videos.append(Asked(frames, asked, styles, changed))
    return videos


def _paste(guest: Rendered, host: Rendered) -> Frames:
    """Paste the figure of one clip beside that of another."""
    free = _center(host) < WIDTH / 2
    shift = round((WIDTH * (0.75 if free else 0.25)) - _center(guest))
    alpha = np.roll(guest.masks_FTHW[0], shift, axis=2)
    if shift > 0:
        alpha[:, :, :shift] = 0
    elif shift < 0:
        alpha[:, :, shift:] = 0
    moved = np.roll(guest.frames_THWC, shift, axis=2)
    mixed = host.frames_THWC * (1 - alpha[..., None]) + moved * alpha[..., None]
    pasted: Frames = np.rint(mixed).astype(np.uint8)
    return pasted


def _center(one: Rendered) -> float:
    return float((one.masks_FTHW[0].sum((0, 1)) * np.arange(WIDTH)).sum() / one.masks_FTHW[0].sum())


def score(videos: Iterable[Asked], looks: TrainedLooks, encoder: CellEncoder) -> list[Any]:
    """Score videos: pairs of a video and the scores of its characters."""
    return [(one, score_characters(one.frames_THWC, one.names, looks, encoder)) for one in videos]


class Tally:
    """Counts of agreeing pairs by name."""

    def __init__(self) -> None:
        self.pairs: dict[str, list[tuple[bool, bool]]] = {}

    def add(self, name: str, ours: bool, truth: bool) -> None:
        self.pairs.setdefault(name, []).append((ours, truth))

    def figures(self, name: str) -> dict[str, float]:
        """Return agreement, precision and recall, and the number of pairs."""
        pairs = self.pairs.get(name, [])
        both = sum(ours and truth for ours, truth in pairs)
        said, there = sum(ours for ours, _ in pairs), sum(truth for _, truth in pairs)
        return {
            f"{name}_agreement": sum(a == b for a, b in pairs) / max(1, len(pairs)),
            f"{name}_precision": both / max(1, said),
            f"{name}_recall": both / max(1, there),
            f"{name}_pairs": len(pairs),
        }


def judge_renders(scored: Sequence[Any], tally: Tally) -> None:
    """Compare scores of held-out renders with what was drawn."""
    for video, scores in scored:
        for name in video.names:
            own: CharacterScore = scores[name]
            there = name in video.styles
            tally.add("render_present", own.identity == "right", there)
            if own.identity == "right" and there:
                kept = video.styles[name] == OWN_STYLE[name]
                tally.add("render_style", bool(own.in_own_style), kept)


def judge_swaps(scored: Sequence[Any], tally: Tally, label: str) -> dict[str, float]:
    """Count the exchanged videos in which every exchanged character is called swapped."""
    called = named = 0
    for video, scores in scored:
        swapped = {n: scores[n].looks_like for n in video.names if scores[n].identity == "swapped"}
        tally.add(f"{label}_any", bool(swapped), bool(video.exchanged))
        called += bool(video.exchanged) and set(video.exchanged) <= set(swapped)
        named += swapped == video.exchanged
    return {f"{label}_called": called, f"{label}_named": named}


def generate_videos(folder: Path, count: int, dev: bool) -> list[GeneratedVideo]:
    """Generate videos of the study's prompts with the published weights, half without composites.

    Every eighth prompt was looked at in development; ``dev`` takes these, else the others.
    """
    every = study_prompts()
    seen = fewer_prompts(every, DEVELOPMENT_EVERY)
    measured = fewer_prompts([one for one in every if one not in seen], 6)
    prompts = (seen if dev else measured)[: count // len(demo.ARMS)]
    return [
        GeneratedVideo(arm, prompt, files[prompt.id])
        for arm in demo.ARMS
        for files in [demo.generate(folder, arm, prompts)]
        for prompt in prompts
    ]


def judge_copies(
    clips: Sequence[Rendered], fresh: Sequence[Any], looks: TrainedLooks, encoder: CellEncoder
) -> Tally:
    """Clips of the bank, softened, are copies; held-out renders are not."""
    tally = Tally()
    for clip in clips:
        soft = np.stack([cv2.GaussianBlur(frame, (0, 0), 0.5) for frame in clip.frames_THWC])
        names = tuple(figure.name for figure in clip.scene.cast)
        for own in score_characters(soft, names, looks, encoder).values():
            if own.identity == "right":
                tally.add("copied", bool(own.copied), True)
    for video, scores in fresh:
        for name in video.names:
            if scores[name].identity == "right" and video.styles.get(name) == OWN_STYLE[name]:
                tally.add("copied", bool(scores[name].copied), False)
    return tally


def main() -> None:
    """Measure everything and record it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--videos", type=Path, nargs="+", default=[], help="videos.json of the study (docs)"
    )
    parser.add_argument("--every", type=int, default=1, help="take one of so many prompts of it")
    parser.add_argument("--renders", type=int, default=60)
    parser.add_argument("--generated", type=int, default=28, help="videos, if --videos is missing")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--development", action="store_true", help="other seeds; records nothing")
    options = parser.parse_args()
    seed = "development" if options.development else "measured"
    torch.set_num_threads(options.threads)
    encoder = load_cell_encoder(PACKAGED, None)
    clips = render(bank_scenes("bank"))
    looks = build_looks(clips, encoder)
    tally = Tally()
    started = time.monotonic()
    fresh = score(joint_scenes(options.renders, f"{seed} joint"), looks, encoder)
    seconds = (time.monotonic() - started) / options.renders
    judge_renders(fresh, tally)
    exchanged = exchanged_scenes(SWAPS, f"{seed} exchanged", exchange=True)
    plain = exchanged_scenes(SWAPS // 2, f"{seed} plain", exchange=False)
    swaps = judge_swaps(
        [*score(exchanged, looks, encoder), *score(plain, looks, encoder)], tally, "swaps"
    )
    copies = judge_copies(clips[:: len(clips) // 20], fresh, looks, encoder)
    model, threshold = load_judge(Run(torch.device("cpu"), WEIGHTS, WEIGHTS, Sizes()))
    with tempfile.TemporaryDirectory() as folder:
        videos = [one for path in options.videos for one in listed_videos(path, options.every)]
        if not videos:
            videos = generate_videos(Path(folder), options.generated, options.development)
        answers = compare_generated(videos, looks, encoder, model, threshold)
    figures_: dict[str, float] = {"seconds_per_video": round(seconds, 3), **swaps}
    figures_ |= {"generated_videos": len(videos)}
    figures_ |= {key: round(value, 4) for key, value in agreement_figures(answers).items()}
    for name in ("render_present", "render_style", "swaps_any"):
        figures_ |= {key: round(value, 4) for key, value in tally.figures(name).items()}
    figures_ |= {key: round(value, 4) for key, value in copies.figures("copied").items()}
    for key, value in figures_.items():
        print(f"{key:28} {value}", flush=True)
    if not options.development:
        units = {key: _unit(key) for key in figures_}
        sources = ", ".join(sorted({video.source for video in videos}))
        note = f"In the miniature world (docs/miniature.md). Generated videos: {sources}."
        record("characters", figures_, units, note=note)


def _unit(key: str) -> str:
    if key == "swaps_called":
        return f"of {SWAPS} videos with exchanged characters"
    if key == "swaps_named":
        return f"of {SWAPS + SWAPS // 2} videos, exchanged or not: who is who is right"
    if key.endswith("_pairs"):
        return "figures compared"
    if key.endswith(("_low", "_high")):
        return "share, 95 %"
    if key == "generated_videos":
        return "videos"
    return "s" if key.startswith("seconds") else "share"


if __name__ == "__main__":
    main()
