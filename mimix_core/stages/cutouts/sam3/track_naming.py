"""Decide which character a track shows: frames of the track vote, compared with the bank.

SAM 3 knows what a figure is, not who it is, and takes no exemplar from another picture. So crops of
the track are compared with the exemplars of the character bank: each votes for the most similar
character if it reaches that one's limit, else it abstains. Most of the votes name the track; a
track without such a majority has no name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mimix_core.characters.bank import CharacterBank, Floats, build_bank, encode_image, normalize
from mimix_core.engine.limit_text import format_beside_limit
from mimix_core.media.images import RgbImage, evenly_spaced_indices
from mimix_core.networks.efficientnet import typical_features
from mimix_core.settings.locator_settings import Sam3LocatorSettings
from mimix_core.stages.cutouts.locate.box_track import (
    Box,
    BoxDetection,
    BoxTrack,
    box_iou,
    interpolate_detections,
)
from mimix_core.stages.cutouts.sam3.concept_tracks import ConceptTrack

_SAME_FIGURE_IOU = 0.5
"""Two boxes of one frame that overlap by this IoU are one figure, found by two nouns."""


@dataclass(frozen=True)
class NamedTrack:
    """A track and the character that it shows, None if it shows none of them.

    ``similarity``: the median of the frames that voted for the most frequent character, ``votes``
    of ``crops``; without any such vote, that of the most similar frame. ``problem``: what the most
    similar frame or the majority lacks, empty for a named track.
    """

    track: ConceptTrack
    character: str | None
    similarity: float
    votes: int
    crops: int
    problem: str = ""


@dataclass(frozen=True)
class TrackNaming:
    """Name tracks by the exemplars' features of all characters; ``network`` is EfficientNet."""

    network: Any
    exemplars: Mapping[str, Sequence[Floats]]
    settings: Sam3LocatorSettings

    def name_tracks(
        self,
        frames_NHWC: Sequence[RgbImage],
        tracks: Sequence[ConceptTrack],
        nouns: Mapping[str, str],
    ) -> list[NamedTrack]:
        """Name each track. ``nouns``: of the characters; a track of another noun is not one."""
        center = typical_features(self.network)
        bank = build_bank(self.exemplars, center)
        return [self._name(frames_NHWC, track, bank, center, nouns) for track in tracks]

    def _name(
        self,
        frames_NHWC: Sequence[RgbImage],
        track: ConceptTrack,
        bank: CharacterBank,
        center: Floats,
        nouns: Mapping[str, str],
    ) -> NamedTrack:
        numbers = sorted(track.detections)
        chosen = [numbers[i] for i in evenly_spaced_indices(len(numbers), self.settings.num_crops)]
        crops = [_crop(frames_NHWC[n], track.detections[n].box) for n in chosen]
        unit_CD = normalize(np.stack([encode_image(self.network, crop) for crop in crops]) - center)
        similarity = {name: bank.similarity(name, unit_CD) for name in bank.vectors}
        ballots = [
            self._vote({name: float(values[n]) for name, values in similarity.items()}, bank)
            for n in range(len(crops))
        ]
        names = [name for name, _, problem in ballots if not problem]
        winner = max(sorted(set(names)), key=names.count, default=None)
        if winner is None:
            _, value, problem = max(ballots, key=lambda ballot: ballot[1])
            return NamedTrack(track, None, value, 0, len(crops), problem)
        values = [value for name, value, problem in ballots if name == winner and not problem]
        result = NamedTrack(track, winner, float(np.median(values)), len(values), len(crops))
        share, wanted = format_beside_limit(
            len(values) / len(crops), self.settings.min_votes, ".0%"
        )
        if len(values) < self.settings.min_votes * len(crops):
            problem = (
                f"{share} of its frames look like {winner}, at least {wanted} wanted "
                "(cutouts.sam3_locator.min_votes)"
            )
            return NamedTrack(track, None, result.similarity, len(values), len(crops), problem)
        if nouns.get(winner) != track.noun:
            problem = f"it looks like {winner}, but was found as {track.noun!r}"
            return NamedTrack(track, None, result.similarity, len(values), len(crops), problem)
        return result

    def _vote(self, similarity: Mapping[str, float], bank: CharacterBank) -> tuple[str, float, str]:
        """Return the most similar character, how similar it is, and why that is not enough."""
        ranked = sorted(similarity, key=lambda name: (-similarity[name], name))
        first, value = ranked[0], similarity[ranked[0]]
        limit = self.settings.min_similarity
        shown, wanted = format_beside_limit(value, bank.limit(first) if limit is None else limit)
        if value < (bank.limit(first) if limit is None else limit):
            return first, value, f"{shown} like {first}, at least {wanted} wanted"
        if len(ranked) > 1:
            margin = value - similarity[ranked[1]]
            shown, wanted = format_beside_limit(margin, self.settings.min_margin, "+.2f")
            if margin < self.settings.min_margin:
                return (
                    first,
                    value,
                    f"{first} {shown} compared with {ranked[1]}, at least {wanted} wanted "
                    "(cutouts.sam3_locator.min_margin)",
                )
        return first, value, ""


def _crop(frame_HWC: RgbImage, box: Box) -> RgbImage:
    x0, y0 = int(box[0]), int(box[1])
    crop: RgbImage = frame_HWC[y0 : max(round(box[3]), y0 + 1), x0 : max(round(box[2]), x0 + 1)]
    return crop


def join_tracks(
    named: Sequence[NamedTrack], numbers: Sequence[int], frames: int, max_gap: int
) -> BoxTrack:
    """Join the tracks of one character to its boxes in all ``frames`` of the clip.

    ``numbers``: the clip's frames that were tracked. Two tracks of one character in one frame are
    one figure if their boxes overlap (the surer one counts), else none: one of them is another
    figure.
    """
    detections: dict[int, BoxDetection] = {}
    for position, number in enumerate(numbers):
        here = sorted(
            (one for one in named if position in one.track.detections),
            key=lambda one: (-one.similarity, -one.votes),
        )
        boxes = [one.track.detections[position] for one in here]
        if boxes and all(box_iou(boxes[0].box, b.box) >= _SAME_FIGURE_IOU for b in boxes[1:]):
            detections[number] = boxes[0]
    return interpolate_detections(detections, frames, max_gap)
