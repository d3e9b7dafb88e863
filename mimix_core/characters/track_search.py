"""Search episodes for tracks that a locator is not sure of, and write their pictures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw

from mimix_core.characters.bank import Floats, encode_exemplar, normalize
from mimix_core.characters.proposals import ProposedTrack, group_by_look
from mimix_core.domain.character_names import slugify
from mimix_core.media.container import open_container
from mimix_core.media.images import RgbImage
from mimix_core.networks.efficientnet import load_network, typical_features

_FRAMES, _INTERVAL = 3, Fraction(1, 2)
"""Frames of a proposed track, and the seconds between two."""

NEAR_MISS = 0.15
"""A window that misses its limit by more is not worth a person's time."""

ReadFrames = Callable[[Path, Fraction, Fraction, Fraction], Iterable[tuple[Fraction, RgbImage]]]
"""Yields the frames of a video from one time to another, each interval, with their times."""


class TrackMatch(Protocol):
    """Where a character is most likely in one frame, and what is missing to be sure."""

    @property
    def character(self) -> str: ...
    @property
    def box(self) -> tuple[float, float, float, float]: ...
    @property
    def value(self) -> float: ...
    @property
    def shown(self) -> str: ...
    @property
    def problem(self) -> str: ...


class TrackLocator(Protocol):
    """Find the most likely track of a character in frames, and say from what it is sure."""

    def limits(self) -> Mapping[str, float]: ...
    def propose(self, frames_NHWC: Sequence[RgbImage], name: str, /) -> Sequence[TrackMatch]: ...


@dataclass(frozen=True)
class _Sighting:
    """The most likely track of one character at one place of an episode."""

    name: str
    frames: Sequence[RgbImage]
    matches: Sequence[TrackMatch]

    @property
    def best(self) -> int:
        return max(range(len(self.matches)), key=lambda i: self.matches[i].value)


@dataclass(frozen=True)
class TrackSearch:
    """Search for tracks. ``places``: looked at in each episode; ``out``: folder of the pictures.

    ``decided``: ids of tracks on which people have decided already.
    """

    places: int
    out: Path
    decided: Collection[str]
    read_frames: ReadFrames

    def search(
        self, show: str, episodes: Iterable[tuple[Path, TrackLocator]]
    ) -> list[ProposedTrack]:
        """Look at places of each episode of a show; write crops and pictures of unsure tracks.

        Returns them by look. Raises BadInput, MissingModel, UnreadableVideo.
        """
        tracks: list[ProposedTrack] = []
        looks: list[Floats] = []
        network = load_network()
        for path, locator in episodes:
            for seconds, frames in self._bursts(path):
                for sighting in _unsure(locator, frames):
                    track_id = f"{show}-{path.stem}-{seconds}-{slugify(sighting.name)}"
                    if track_id in self.decided:
                        continue
                    track = self._write_track(show, track_id, sighting)
                    exemplars = [encode_exemplar(network, self.out / crop) for crop in track.crops]
                    look = np.mean(exemplars, axis=0)
                    looks.append(normalize(look - typical_features(network)))
                    tracks.append(track)
        if not tracks:
            return []
        groups = group_by_look(np.stack(looks))
        numbered = [t.model_copy(update={"group": g}) for t, g in zip(tracks, groups, strict=True)]
        return sorted(numbered, key=lambda track: (track.group, track.track_id))

    def _bursts(self, path: Path) -> Iterator[tuple[int, list[RgbImage]]]:
        """Yield a few frames from evenly spaced places of an episode, with milliseconds."""
        with open_container(path) as container:
            duration = Fraction(container.duration or 0, 1_000_000)
        for place in range(self.places):
            start = duration * (2 * place + 1) / (2 * self.places)
            read = self.read_frames(path, start, start + _FRAMES * _INTERVAL, _INTERVAL)
            frames = [image for _, image in read]
            if frames:
                yield round(start * 1000), frames

    def _write_track(self, show: str, track_id: str, sighting: _Sighting) -> ProposedTrack:
        """Write the crops of a track, and its best frame with the box drawn in the picture."""
        self.out.mkdir(parents=True, exist_ok=True)
        crops = []
        for number, (frame, match) in enumerate(
            zip(sighting.frames, sighting.matches, strict=True)
        ):
            x0, y0, x1, y1 = (round(side) for side in match.box)
            name = f"{track_id}-{number}.png"
            Image.fromarray(frame[y0:y1, x0:x1]).save(self.out / name)
            crops.append(name)
        picture = Image.fromarray(sighting.frames[sighting.best])
        draw = ImageDraw.Draw(picture)
        best = sighting.matches[sighting.best]
        draw.rectangle(best.box, outline=(255, 40, 40), width=3)
        text = f"{best.character}? {best.shown}"
        draw.text((best.box[0] + 4, best.box[1] + 2), text, fill="red")
        picture.save(self.out / f"{track_id}.jpg", "JPEG", quality=85)
        return ProposedTrack(
            show=show,
            track_id=track_id,
            group=0,
            guess=sighting.name,
            similarity=round(best.value, 4),
            problem=best.problem,
            crops=tuple(crops),
            picture=f"{track_id}.jpg",
        )


def _unsure(locator: TrackLocator, frames: Sequence[RgbImage]) -> Iterator[_Sighting]:
    """Yield the tracks that are nearly somebody; one that the bank accepts needs no name."""
    for name, limit in locator.limits().items():
        matches = locator.propose(frames, name)
        best = max(match.value for match in matches)
        if any(match.problem for match in matches) and best >= limit - NEAR_MISS:
            yield _Sighting(name, frames, matches)
