"""How good the masks are, and the boxes: against masks drawn by hand and boxes given by hand.

``make demo && python perf/masks.py`` cuts the characters of the frames in
``tests/stages/cutouts/truth`` out with each backend that has weights here (grabcut, selfie; sam2
with ``--sam2 CHECKPOINT``) as
the cutouts stage does: whole clips, from the hand-given boxes. For each backend: the IoU with the
drawn mask (mean over all frames, worst frame, mean of each character), and the distance between the
two outlines in pixels (mean and 95th percentile over all frames' outlines).

The locators that need no service (reference, embedding) look for everybody in all clips of the demo
in turn: the share of the hand-given boxes' frames they locate the character in, the IoU with the
hand-given box there, and how often they locate somebody for whom no box was given in the clip.
Boxes were not given for everybody everywhere, so the latter is looked at by hand: docs/locating.md.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core import tables
from mimix_core.domain.character_names import alias_map
from mimix_core.domain.library import Show, load_library
from mimix_core.engine.artifacts import file_ref
from mimix_core.media import read_rgb
from mimix_core.settings import CutoutSettings
from mimix_core.settings.locator_settings import EmbeddingLocatorSettings, FaceLocatorSettings
from mimix_core.stages.cutouts.locate import (
    BoxTrack,
    CharacterReference,
    EmbeddingLocatorInputs,
    FaceLocatorInputs,
    Locator,
    load_box_annotations,
)
from mimix_core.stages.cutouts.locate.box_track import box_iou, empty_track
from mimix_core.stages.cutouts.locate.embedding_locator import EmbeddingLocator
from mimix_core.stages.cutouts.locate.face_encoder import face_model_paths, face_models_installed
from mimix_core.stages.cutouts.locate.face_locator import FaceLocator
from mimix_core.stages.cutouts.mask_quality import measure_mask_quality, rejection_reason
from mimix_core.stages.cutouts.segmenter import LocatedClip
from mimix_core.stages.cutouts.segmenter_factory import create_segmenter
from mimix_core.tables import ClipRow
from perf.record import ROOT, record
from tests.stages.cutouts.manual_masks import boundary_errors, load_manual_masks, mask_iou

DEMO = ROOT / "demo"
SELFIE = DEMO / "models" / "selfie_segmentation.tflite"
Hand = dict[str, BoxTrack]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--sam2", type=Path, help="a SAM2 checkpoint of the settings' size")
    arguments = parser.parse_args()
    clips, hand = demo_clips()
    figures: dict[str, float] = {}
    units: dict[str, str] = {}
    backends = {"grabcut": None, "selfie": SELFIE}
    if arguments.sam2 is not None:
        backends["sam2"] = arguments.sam2
    for backend, weights in backends.items():
        settings = CutoutSettings.model_validate({"backend": backend})
        for name, (value, unit) in masks(settings, weights, clips, hand).items():
            figures[f"{backend}_{name}"], units[f"{backend}_{name}"] = value, unit
    for name, (value, unit) in locators(clips, hand).items():
        figures[name], units[name] = value, unit
    record(
        "masks",
        figures,
        units,
        note="Against 21 hand-drawn frames (tests/stages/cutouts/truth) and the hand-given boxes.",
    )
    for name, value in figures.items():
        print(f"{name:44} {value:g} {units[name]}")


def demo_clips() -> tuple[dict[str, tuple[ClipRow, Path]], dict[str, Hand]]:
    """The demo's clips with their folders, and by clip where its hand-given boxes are."""
    library = load_library(DEMO / "library.yaml")
    boxes = {}
    for show in library.shows:
        for episode in show.episodes:
            if episode.boxes is not None:
                names = alias_map(show.roster(), show.aliases())
                boxes[file_ref(episode.path).sha256[:10]] = (episode.boxes, names, show)
    clips: dict[str, tuple[ClipRow, Path]] = {}
    hand: dict[str, Hand] = {}
    for path in sorted((DEMO / "workspace" / "store" / "clips").glob("*/table.parquet")):
        for clip in tables.usable(tables.read(path, tables.CLIPS)):
            clips[clip["clip_id"]] = (clip, path.parent)
            given = boxes.get(clip["episode_id"].rsplit("-", 1)[-1])
            if given is not None:
                file, names, show = given
                found = load_box_annotations(file_ref(file), names).locate(clip, show.roster())
                hand[clip["clip_id"]] = found
    if not clips:
        raise SystemExit("no clips of the demo: run make demo first")
    return clips, hand


def masks(
    settings: CutoutSettings,
    weights: Path | None,
    clips: dict[str, tuple[ClipRow, Path]],
    hand: dict[str, Hand],
) -> dict[str, tuple[float, str]]:
    """Figures of one segmenter over all drawn frames."""
    segmenter = create_segmenter(settings, weights)
    overlaps: defaultdict[str, list[float]] = defaultdict(list)
    errors, refused = [], 0
    for one in load_manual_masks():
        clip, folder = clips[one.clip_id]
        located = hand[one.clip_id][one.character]
        frames_NHWC = read_rgb(folder / clip["file"])
        whole = LocatedClip(clip, {one.character: located}, frames_NHWC)
        segmented = segmenter.segment_batch([whole])[0][one.character]
        alpha_NHW = segmented.alpha_NHW
        quality = measure_mask_quality(frames_NHWC, alpha_NHW, located.boxes, segmented.scores)
        against = rejection_reason(quality, settings)
        if against is not None:
            refused += 1
            print(f"{segmenter.name} {one.clip_id}: {against[0]}, {against[1]}", flush=True)
        for frame, truth in one.masks.items():
            mask = alpha_NHW[frame] >= 128
            overlaps[one.character].append(mask_iou(mask, truth))
            errors.append(boundary_errors(mask, truth))
            print(
                f"{segmenter.name} {one.clip_id} {frame}: IoU {overlaps[one.character][-1]:.3f}, "
                f"outline {errors[-1].mean():.1f} px",
                flush=True,
            )
    every = [value for values in overlaps.values() for value in values]
    outline = np.concatenate(errors)
    figures = {
        "iou_mean": (float(np.mean(every)), "IoU"),
        "iou_worst_frame": (min(every), "IoU"),
        "outline_mean": (float(outline.mean()), "px"),
        "outline_95_percent": (float(np.percentile(outline, 95)), "px"),
        "clips_refused_by_quality": (float(refused), f"of {len(load_manual_masks())}"),
    }
    for character, values in sorted(overlaps.items()):
        figures[f"iou_{character.lower()}"] = (float(np.mean(values)), "IoU")
    return {name: (round(value, 4), unit) for name, (value, unit) in figures.items()}


def locators(
    clips: dict[str, tuple[ClipRow, Path]], hand: dict[str, Hand]
) -> dict[str, tuple[float, str]]:
    """Figures of the locators that ask nobody, each on the style it is for."""
    figures: dict[str, tuple[float, str]] = {}
    for show in load_library(DEMO / "library.yaml").shows:
        known = tuple(
            CharacterReference(
                name=one.name, references=tuple(file_ref(path) for path in one.references)
            )
            for one in show.characters
        )
        wanted = [one for one in clips.values() if one[0]["show"] == show.id]
        if show.style == "cartoon":
            inputs = EmbeddingLocatorInputs(characters=known, settings=EmbeddingLocatorSettings())
            figures |= _boxes(
                "embedding", show, wanted, hand, lambda f, i=inputs: EmbeddingLocator(i, f)
            )
        elif face_models_installed():
            landmarks, network = (file_ref(path) for path in face_model_paths())
            faces = FaceLocatorInputs(
                characters=known,
                settings=FaceLocatorSettings(),
                landmarks=landmarks,
                network=network,
            )
            figures |= _boxes("reference", show, wanted, hand, lambda f, i=faces: FaceLocator(i, f))
    return figures


def _boxes(
    name: str,
    show: Show,
    wanted: list[tuple[ClipRow, Path]],
    hand: dict[str, Hand],
    make: Any,
) -> dict[str, tuple[float, str]]:
    made: dict[Path, Locator] = {}
    given = located = elsewhere = 0
    overlaps = []
    for clip, folder in wanted:
        if folder not in made:
            made[folder] = make(folder)
        for character, found in made[folder].locate(clip, show.roster()).items():
            truth = hand.get(clip["clip_id"], {}).get(character, empty_track(len(found.boxes)))
            pairs = list(zip(found.boxes, truth.boxes, strict=True))
            given += sum(two is not None for _, two in pairs)
            both = [(one, two) for one, two in pairs if one is not None and two is not None]
            located += len(both)
            overlaps += [box_iou(one, two) for one, two in both]
            share = sum(one is not None for one in found.boxes) / len(found.boxes)
            elsewhere += share > 0 and not any(two is not None for _, two in pairs)
            if share:
                print(f"{name} {clip['clip_id']} {character}: in {share:.0%}", flush=True)
    return {
        f"{name}_located": (round(located / max(given, 1), 4), "of hand-given boxes' frames"),
        f"{name}_box_iou": (round(float(np.mean(overlaps or [0])), 4), "IoU with hand-given box"),
        f"{name}_without_a_given_box": (
            float(elsewhere),
            f"of {len(wanted)} clips x {len(show.characters)} characters",
        ),
    }


if __name__ == "__main__":
    main()
