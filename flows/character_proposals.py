"""Find tracks that the character bank is not sure of, for ``mimix characters propose``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mimix_core.characters.bank import Floats, encode_exemplar, normalize
from mimix_core.characters.proposals import ProposedTrack, group_by_look
from mimix_core.domain.character_names import slugify
from mimix_core.domain.library import Show
from mimix_core.media.container import open_container
from mimix_core.media.images import RgbImage
from mimix_core.networks.efficientnet import load_network, typical_features
from mimix_core.project.named_tracks import load_decisions_on_tracks, named_exemplars
from mimix_core.project.workspace import Workspace
from mimix_core.stages.cutouts.locate.box_track import FrameMatch
from mimix_core.stages.cutouts.locate.embedding_locator import EmbeddingLocator
from mimix_core.stages.cutouts.locate.frame_grid import read_frames_every
from tasks.cutouts import build_locator_inputs, show_locator

_FRAMES, _INTERVAL = 3, Fraction(1, 2)
"""Frames of a proposed track, and the seconds between two."""

NEAR_MISS = 0.15
"""A window that misses its limit by more is not worth a person's time."""


@dataclass(frozen=True)
class _Sighting:
    """The most likely track of one character at one place of an episode."""

    name: str
    frames: Sequence[RgbImage]
    matches: Sequence[FrameMatch]

    @property
    def best(self) -> int:
        return max(range(len(self.matches)), key=lambda i: self.matches[i].value)


def propose_tracks(
    workspace: Workspace, show: Show, places: int, out: Path
) -> list[ProposedTrack] | None:
    """Look at places of each episode of a show; write crops and pictures of unsure tracks.

    Returns None if the show's locator is not ``embedding``. Raises BadInput, MissingModel,
    UnreadableVideo.
    """
    named = named_exemplars(workspace.config.workspace, show.id)
    if show_locator(workspace.config.cutouts, show, named) != "embedding":
        return None
    decided = {d.track_id for d in load_decisions_on_tracks(workspace.config.workspace)}
    tracks: list[ProposedTrack] = []
    looks: list[Floats] = []
    network = load_network()
    for episode in show.episodes:
        cast = show.with_cast_of(episode.path.name)
        inputs = build_locator_inputs(workspace, cast, cast.roster())
        assert inputs is not None
        locator = EmbeddingLocator(inputs, Path())  # type: ignore[arg-type]
        for seconds, frames in _bursts(episode.path, places):
            for sighting in _unsure(locator, frames):
                track_id = f"{show.id}-{episode.path.stem}-{seconds}-{slugify(sighting.name)}"
                if track_id in decided:
                    continue
                crops, picture = _write_pictures(sighting, out, track_id)
                features = np.mean([encode_exemplar(network, out / crop) for crop in crops], axis=0)
                looks.append(normalize(features - typical_features(network)))
                best = sighting.matches[sighting.best]
                tracks.append(
                    ProposedTrack(
                        show=show.id,
                        track_id=track_id,
                        group=0,
                        guess=sighting.name,
                        similarity=round(best.value, 4),
                        problem=best.problem,
                        crops=crops,
                        picture=picture,
                    )
                )
    if not tracks:
        return []
    groups = group_by_look(np.stack(looks))
    numbered = [t.model_copy(update={"group": g}) for t, g in zip(tracks, groups, strict=True)]
    return sorted(numbered, key=lambda track: (track.group, track.track_id))


def _bursts(path: Path, places: int) -> Iterator[tuple[int, list[RgbImage]]]:
    """Yield a few frames from evenly spaced places of an episode, with milliseconds."""
    with open_container(path) as container:
        duration = Fraction(container.duration or 0, 1_000_000)
    for place in range(places):
        start = duration * (2 * place + 1) / (2 * places)
        read = read_frames_every(path, start, start + _FRAMES * _INTERVAL, _INTERVAL)
        frames = [image for _, image in read]
        if frames:
            yield round(start * 1000), frames


def _unsure(locator: EmbeddingLocator, frames: Sequence[RgbImage]) -> Iterator[_Sighting]:
    """Yield the tracks that are nearly somebody; one that the bank accepts needs no name."""
    limits = locator.limits()
    for name, limit in limits.items():
        matches = locator.propose(frames, name)
        best = max(match.value for match in matches)
        if any(match.problem for match in matches) and best >= limit - NEAR_MISS:
            yield _Sighting(name, frames, matches)


def _write_pictures(sighting: _Sighting, out: Path, track_id: str) -> tuple[tuple[str, ...], str]:
    """Write the crops of a track, and its best frame with the box drawn in the picture."""
    out.mkdir(parents=True, exist_ok=True)
    crops = []
    for number, (frame, match) in enumerate(zip(sighting.frames, sighting.matches, strict=True)):
        x0, y0, x1, y1 = (round(side) for side in match.box)
        name = f"{track_id}-{number}.png"
        Image.fromarray(frame[y0:y1, x0:x1]).save(out / name)
        crops.append(name)
    picture = Image.fromarray(sighting.frames[sighting.best])
    draw = ImageDraw.Draw(picture)
    match = sighting.matches[sighting.best]
    draw.rectangle(match.box, outline=(255, 40, 40), width=3)
    draw.text((match.box[0] + 4, match.box[1] + 2), f"{match.character}? {match.shown}", fill="red")
    picture.save(out / f"{track_id}.jpg", "JPEG", quality=85)
    return tuple(crops), f"{track_id}.jpg"
