"""Reading videos with PyAV: local files only, frames in order of their integer PTS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, dropwhile, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mimix_core.media.container import moving_pictures, nothing_decoded, open_container, words
from mimix_core.media.crop_resize import shown_rgb
from mimix_core.media.deinterlace import whole_frames
from mimix_core.media.packet_decoder import Damage, decoded
from mimix_core.media.probe import DamagedVideo, UnreadableVideo, VideoInfo, describe
from mimix_core.media.scan_type import Fields

_FIRST_STEP_BACK = Fraction(1, 2)
"""Seconds; four times as much with each further try to find a keyframe early enough."""


@dataclass(frozen=True)
class Video:
    """An open video. ``first`` is its first frame (``av.VideoFrame``), ``rest`` what follows it.

    ``fields``: how its frames are made of the source's fields. ``damage`` fills while frames are
    decoded.
    """

    container: Any
    stream: Any
    info: VideoInfo
    first: Any
    rest: Iterator[Any]
    fields: Fields = Fields.PROGRESSIVE
    damage: Damage = field(default_factory=Damage)

    def frames(self) -> Iterator[Any]:
        """All frames from the first on, with strictly rising PTS. To be called once.

        Raises, after the last frame that can be decoded: TruncatedVideo when the file ends well
        before the end it promises, DamagedVideo when decoding breaks off or time goes back,
        UnreadableVideo when the picture changes its size.
        """
        return chain([self.first], self.rest)

    def frames_from(self, pts: int) -> Iterator[Any]:
        """Frames from one at or before ``pts`` on: PTS and pixels as ``frames`` gives them.

        Starts at the last keyframe that can do so. Telecined film starts from its beginning: which
        frames are left out is known only from there. Raises as ``frames``.
        """
        if self.fields == Fields.TELECINE:
            return self._again()
        goal, step = pts, _FIRST_STEP_BACK / self.info.time_base
        while goal > self.first.pts:
            frames = self._sought(goal)
            try:
                found = list(islice(frames, 2))
            except UnreadableVideo:
                # In MPEG program streams the first picture after a seek may bear the time of the
                # next one. Other damage is met again, in its place, from further back.
                found = []
            if found and found[0].pts <= pts:
                return chain(found, frames)
            goal -= round(step)
            step *= 4
        return self._again()

    def _sought(self, goal: int) -> Iterator[Any]:
        """Frames from a keyframe near ``goal`` on; none when none can be found from there."""
        try:
            self.container.seek(goal, stream=self.stream, backward=True)
        except av.FFmpegError:
            # Not every format can: the caller looks further back, down to the file's beginning.
            return iter(())
        frames = decoded(self.container, self.stream, Damage())
        # What is shown before the keyframe may refer to frames that were not decoded.
        keyed = dropwhile(lambda frame: not frame.key_frame, frames)
        if self.fields == Fields.PROGRESSIVE:
            return keyed
        # Deinterlacing looks at the frame before, which the first one here lacks.
        return islice(whole_frames(keyed, self.fields, Damage(), Damage()), 1, None)

    def _again(self) -> Iterator[Any]:
        try:
            self.container.seek(0)
            self.container.seek(min(0, self.first.pts), stream=self.stream, backward=True)
        except av.FFmpegError as error:
            raise UnreadableVideo(f"cannot seek ({words(error)})") from error
        frames = decoded(self.container, self.stream, Damage())
        return whole_frames(frames, self.fields, Damage(), Damage())


@contextmanager
def open_video(
    path: Path, *, threads: int = 0, fields: Fields = Fields.PROGRESSIVE
) -> Iterator[Video]:
    """Open a local video file; ``threads`` decode it (0: one a core).

    ``fields``: what ``find_fields`` says of it; frames then come out deinterlaced. Raises
    UnreadableVideo, NoVideoStream when there is media but no moving pictures, TooLargeVideo.
    """
    with _opened(path, threads, fields) as video:
        if video is not None:
            yield video
            return
    # Now that the decoder and its threads are gone: they log too, and would wait for this thread.
    raise nothing_decoded(path)


@contextmanager
def _opened(path: Path, threads: int, fields: Fields) -> Iterator[Video | None]:
    """None where there is not one frame."""
    with open_container(path) as container:
        stream = moving_pictures(container, path)
        stream.thread_count = threads
        stream.thread_type = "AUTO"
        harmed = Damage()
        coded = decoded(container, stream, harmed)
        first = _first(coded)
        if first is None:
            yield None
            return
        info = describe(stream, first)
        damage = harmed if fields == Fields.PROGRESSIVE else Damage()
        whole = whole_frames(chain([first], coded), fields, harmed, damage)
        yield Video(container, stream, info, next(whole), whole, fields, damage)


def _first(coded: Iterator[Any]) -> Any:
    """None where there is not one frame."""
    try:
        return next(coded, None)
    except DamagedVideo:
        return None


def read_rgb(path: Path, *, threads: int = 2) -> NDArray[np.uint8]:
    """All frames of a (short) video as shown: uint8 RGB, shape [frames, height, width, 3]."""
    with open_video(path, threads=threads) as video:
        return np.stack([shown_rgb(frame, video.info) for frame in video.frames()])
