"""Backend ``sam3``: figures found and tracked by their nouns, and named by the character bank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mimix_core.characters.bank import encode_exemplar
from mimix_core.engine.torch_runtime import select_device
from mimix_core.media import UnreadableVideo, read_rgb
from mimix_core.networks.efficientnet import load_network
from mimix_core.settings.locator_settings import Sam3LocatorSettings
from mimix_core.stages.cutouts.locate.box_track import (
    BoxTrack,
    empty_track,
    strided_frame_indices,
)
from mimix_core.stages.cutouts.locate.locator_inputs import Sam3LocatorInputs
from mimix_core.stages.cutouts.sam3.concept_tracks import ConceptTrack, ConceptTracker
from mimix_core.stages.cutouts.sam3.sam3_weights import load_concept_model
from mimix_core.stages.cutouts.sam3.track_naming import NamedTrack, TrackNaming, join_tracks
from mimix_core.tables import ClipRow


class FigureTracker(Protocol):
    """Track all figures that nouns name through frames, see ``ConceptTracker``."""

    def track(
        self, frames_NHWC: NDArray[np.uint8], nouns: Sequence[str], /
    ) -> list[ConceptTrack]: ...


@dataclass(frozen=True)
class Sam3Locator:
    """Locate characters by their nouns; scores are SAM 3's.

    One clip at a time: the nouns of all its characters are searched for in one pass. ``nouns``: by
    character.
    """

    tracker: FigureTracker
    naming: TrackNaming
    nouns: Mapping[str, str]
    settings: Sam3LocatorSettings
    folder: Path
    name: str = "sam3/efficientnet-lite0"

    def locate(self, clip: ClipRow, characters: Sequence[str]) -> dict[str, BoxTrack]:
        comparable = [name for name in characters if name in self.naming.exemplars]
        tracks = {
            name: empty_track(
                clip["frames"],
                evidence="" if name in comparable else f"{name} has no reference image",
            )
            for name in characters
        }
        if not comparable:
            return tracks
        try:
            frames_NHWC = read_rgb(self.folder / clip["file"])
        except UnreadableVideo as error:
            return {name: empty_track(clip["frames"], str(error)) for name in characters}
        numbers = strided_frame_indices(len(frames_NHWC), self.settings.frame_stride)
        sampled_NHWC = np.ascontiguousarray(frames_NHWC[numbers])
        nouns = list(dict.fromkeys(self.nouns[name] for name in comparable))
        found = self.tracker.track(sampled_NHWC, nouns)
        named = self.naming.name_tracks(list(sampled_NHWC), found, self.nouns)
        for name in comparable:
            own = [one for one in named if one.character == name]
            track = join_tracks(own, numbers, len(frames_NHWC), self.settings.max_gap)
            evidence = describe_tracks(self.nouns[name], found, named)
            tracks[name] = replace(track, evidence=evidence)
        return tracks


def create_sam3_locator(inputs: Sam3LocatorInputs, folder: Path) -> Sam3Locator:
    """Create the locator of an episode; ``folder``: of the clip files.

    Raises MissingModel without the weights, BadInput for an unreadable reference image.
    """
    network = load_network()
    exemplars = {
        character.name: [encode_exemplar(network, file.path) for file in character.references]
        for character in inputs.characters
        if character.references
    }
    model, tokenizer = load_concept_model(
        inputs.weights.path,
        "cutouts.sam3_locator.weights",
        precision=inputs.settings.precision,
        device=select_device(inputs.settings.device),
    )
    return Sam3Locator(
        ConceptTracker(model, tokenizer),
        TrackNaming(network, exemplars, inputs.settings),
        {character.name: character.noun for character in inputs.characters},
        inputs.settings,
        folder,
    )


def describe_tracks(noun: str, tracks: Sequence[ConceptTrack], named: Sequence[NamedTrack]) -> str:
    """Say how many figures were found for a noun, and who they are or what they lack."""
    count = sum(track.noun == noun for track in tracks)
    text = f"{count} {'figure' if count == 1 else 'figures'} found as {noun!r}"
    parts = [
        f"{one.votes} of {one.crops} frames {one.character}" if one.character else one.problem
        for one in named
        if one.track.noun == noun
    ]
    return f"{text}: {'; '.join(parts[:3])}" if parts else text
