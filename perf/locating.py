"""How many of the cartoon's characters are located, against boxes drawn by hand.

``make demo && python perf/locating.py`` looks for the characters that each clip's caption names, as
the cutouts stage does, in the demo's fourteen cartoon clips, at the frames for which
``tests/stages/cutouts/truth/boxes.yaml`` says where everybody is. Once with one reference image a
character, as the demo had, and once with all of them; the images are from parts of the film that
no episode shows. Limits come from the images alone, by leaving each out.

``located``: of the hand-drawn boxes, how many the locator finds (a box on the character: an IoU of
at least 0.1). ``precision``: of the locator's boxes, how many are such. The IoU says how well the
boxes fit: windows of a coarse grid, which a segmenter refines.

``votes``: the hand-drawn boxes of a character in a clip as one track, named by the bank as the
locator sam3 names the tracks of SAM 3; ``python perf/locating.py votes`` only prints this.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core import tables
from mimix_core.characters.bank import encode_exemplar
from mimix_core.domain.library import Show, load_library
from mimix_core.engine.artifacts import file_ref
from mimix_core.media import read_rgb
from mimix_core.networks.efficientnet import load_network
from mimix_core.settings.locator_settings import EmbeddingLocatorSettings, Sam3LocatorSettings
from mimix_core.stages.cutouts.locate import CharacterReference, EmbeddingLocatorInputs
from mimix_core.stages.cutouts.locate.box_track import BoxDetection, box_iou
from mimix_core.stages.cutouts.locate.embedding_locator import EmbeddingLocator
from mimix_core.stages.cutouts.sam3.concept_tracks import ConceptTrack
from mimix_core.stages.cutouts.sam3.track_naming import TrackNaming
from perf.record import ROOT, record

DEMO = ROOT / "demo"
TRUTH = ROOT / "tests" / "stages" / "cutouts" / "truth" / "boxes.yaml"
STRIDE = 16
"""Frames between two with hand-drawn boxes."""

_ON_THE_CHARACTER = 0.1


@dataclass(frozen=True)
class Seen:
    """One character in one frame: whether it is there, was found, and the IoU of the two boxes."""

    clip: str
    frame: int
    character: str
    there: bool
    found: bool
    iou: float


def main() -> None:
    show = next(s for s in load_library(DEMO / "library.yaml").shows if s.style == "cartoon")
    if sys.argv[1:] == ["votes"]:
        print(name_drawn_tracks(show))
        return
    figures: dict[str, float] = {}
    units: dict[str, str] = {}
    for name, most in (("one_image", 1), ("all_images", 100)):
        seen = list(look(show, most))
        for one in seen:
            if one.found != one.there or (one.found and one.iou < _ON_THE_CHARACTER):
                print(f"{name} {one}", flush=True)
        for key, (value, unit) in summarize(seen).items():
            figures[f"{name}_{key}"], units[f"{name}_{key}"] = round(value, 4), unit
            print(f"{name}_{key:24} {value:.4f} {unit}", flush=True)
    votes = name_drawn_tracks(show)
    figures |= {f"votes_{key}": value for key, value in votes.items()}
    units |= {f"votes_{key}": "of the hand-drawn tracks, as votes" for key in votes}
    record("locating", figures, units, note="Against boxes read from frames by eye (boxes.yaml).")


def name_drawn_tracks(show: Show) -> dict[str, float]:
    """Name tracks of hand-drawn boxes by the bank; return how many are right, wrong and unnamed."""
    truth = yaml.safe_load(TRUTH.read_text())
    clips, captioned = demo_tables()
    casts = episode_casts(captioned)
    network = load_network()
    exemplars = {
        one.name: [encode_exemplar(network, path) for path in one.references]
        for one in show.characters
    }
    counts = dict.fromkeys(("tracks", "right", "wrong", "unnamed"), 0.0)
    for clip_id, boxes in truth.items():
        row, folder = clips[clip_id]
        cast = dict.fromkeys(sorted(casts[clip_id.rsplit("-", 1)[0]]), "figure")
        naming = TrackNaming(
            network, {name: exemplars[name] for name in cast}, Sam3LocatorSettings()
        )
        frames = list(read_rgb(folder / row["file"]))
        scale = np.array([row["width"], row["height"]] * 2)
        for name in cast:
            drawn = boxes.get(name, {})
            if not drawn:
                continue
            sides = {n: [float(side) for side in np.array(box) * scale] for n, box in drawn.items()}
            detections = {
                n: BoxDetection((x0, y0, x1, y1), 1.0) for n, (x0, y0, x1, y1) in sides.items()
            }
            (named,) = naming.name_tracks(frames, [ConceptTrack("figure", detections)], cast)
            verdict = "right" if named.character == name else "wrong"
            counts[verdict if named.character else "unnamed"] += 1
            counts["tracks"] += 1
            if named.character != name:
                print(f"{clip_id}: {name} is {named.character}: {named.problem}", flush=True)
    return counts


def episode_casts(captioned: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the characters that the captions of each episode name."""
    casts: dict[str, set[str]] = {}
    for clip_id, names in captioned.items():
        casts.setdefault(clip_id.rsplit("-", 1)[0], set()).update(names)
    return casts


def summarize(seen: list[Seen]) -> dict[str, tuple[float, str]]:
    """Return the figures of one locator."""
    there = [one for one in seen if one.there]
    found = [one for one in seen if one.found]
    right = [one for one in found if one.there and one.iou >= _ON_THE_CHARACTER]
    figures = {
        "located": (len(right) / len(there), f"of {len(there)} hand-drawn boxes"),
        "precision": (len(right) / len(found), "of the boxes found"),
        "iou_mean": (float(np.mean([one.iou for one in right])), "IoU with the hand-drawn box"),
        "iou_half": (
            sum(one.iou >= 0.5 for one in right) / len(there),
            "of hand-drawn boxes, at an IoU of 0.5",
        ),
    }
    for name in sorted({one.character for one in there}):
        own = [one for one in there if one.character == name]
        share = sum(one in right for one in own) / len(own)
        figures[f"located_{name.lower()}"] = (share, f"of {len(own)} hand-drawn boxes")
    return figures


def look(show: Show, most: int) -> Iterator[Seen]:
    """Look for the captioned characters in all clips with hand-drawn boxes."""
    truth = yaml.safe_load(TRUTH.read_text())
    clips, captioned = demo_tables()
    missing = [clip_id for clip_id in truth if clip_id not in clips]
    if missing:
        raise SystemExit(f"no clip {missing[0]} of the demo: run make demo first")
    episodes = episode_casts(captioned)
    locators: dict[str, EmbeddingLocator] = {}
    for clip_id, boxes in truth.items():
        row, folder = clips[clip_id]
        episode = clip_id.rsplit("-", 1)[0]
        if episode not in locators:
            known = tuple(
                CharacterReference(
                    name=one.name, references=tuple(file_ref(p) for p in one.references[:most])
                )
                for one in show.characters
                if one.name in episodes[episode]
            )
            settings = EmbeddingLocatorSettings(frame_stride=STRIDE)
            inputs = EmbeddingLocatorInputs(characters=known, settings=settings)
            locators[episode] = EmbeddingLocator(inputs, folder)
        unclear = boxes.get("unclear", {})
        names = sorted(captioned[clip_id])
        for name, track in locators[episode].locate(row, names).items():
            for frame in range(0, row["frames"], STRIDE):
                if frame in unclear.get(name, []):
                    continue
                drawn, found = boxes.get(name, {}).get(frame), track.boxes[frame]
                overlap = 0.0
                if drawn is not None and found is not None:
                    x0, y0, x1, y1 = drawn
                    width, height = row["width"], row["height"]
                    given = (x0 * width, y0 * height, x1 * width, y1 * height)
                    overlap = round(box_iou(given, found), 3)
                yield Seen(clip_id, frame, name, drawn is not None, found is not None, overlap)


def demo_tables() -> tuple[dict[str, tuple[Any, Path]], dict[str, set[str]]]:
    """Return the demo's clips with their folders, and the characters of their captions."""
    store = DEMO / "workspace" / "store"
    clips = {
        row["clip_id"]: (row, path.parent)
        for path in sorted((store / "clips").glob("*/table.parquet"))
        for row in tables.usable(tables.read(path, tables.CLIPS))
    }
    captioned = {
        row["clip_id"]: {action["name"] for action in row["actions"]}
        for path in sorted((store / "captions").glob("*/table.parquet"))
        for row in tables.usable(tables.read(path, tables.CAPTIONS))
    }
    return clips, captioned


if __name__ == "__main__":
    main()
