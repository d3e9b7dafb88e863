"""Good videos in several containers, of which broken and hostile files are made."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from mimix_core.media import find_ffmpeg
from tests.media_factory import Shot, write_sound, write_video

FRAMES = 168
"""Frames of the good videos: 7 s, one clip each."""


@dataclass(frozen=True)
class SourceFiles:
    """Good files to be edited, created in ``folder`` on first use.

    ``web``, the URL of a server, and ``secret``, a path, must never be opened because of a file.
    """

    folder: Path
    web: str
    secret: Path

    def good(self, path: Path, first_shot: int = 0, **options: object) -> Path:
        """Write two shots with motion; a different ``first_shot`` gives different images.

        The shots before them are too short for a clip, but not as short as the cuts of a fast wipe.
        """
        shots = [Shot(20)] * first_shot + [Shot(130), Shot(FRAMES - 130)]
        return write_video(path, shots, **options).path  # type: ignore[arg-type]

    def remux(self, source: Path, name: str, *options: str) -> bytes:
        """Convert ``source`` to a file of that name with the ffmpeg command."""
        target = self.folder / name
        command = [find_ffmpeg(), "-v", "error", "-y", "-bitexact", "-i", str(source)]
        subprocess.run([*command, *options, "-bitexact", str(target)], check=True)
        return target.read_bytes()

    @cached_property
    def source(self) -> Path:
        return self.good(self.folder / "source.mp4", b_frames=0)

    @cached_property
    def index_last(self) -> bytes:
        return self.remux(self.source, "last.mp4", "-c", "copy")

    @cached_property
    def index_first(self) -> bytes:
        return self.remux(self.source, "first.mp4", "-c", "copy", "-movflags", "+faststart")

    @cached_property
    def fragmented(self) -> bytes:
        flags = "+frag_keyframe+empty_moov+default_base_moof"
        return self.remux(self.source, "fragments.mp4", "-c", "copy", "-movflags", flags)

    @cached_property
    def matroska(self) -> bytes:
        return self.remux(self.source, "m.mkv", "-c", "copy", "-cluster_time_limit", "1000")

    @cached_property
    def transport(self) -> bytes:
        return self.remux(self.source, "t.ts", "-c", "copy", "-muxdelay", "0")

    @cached_property
    def avi(self) -> bytes:
        return self.remux(self.source, "a.avi", "-c:v", "mpeg4", "-q:v", "4")

    @cached_property
    def flash(self) -> bytes:
        return self.remux(self.source, "f.flv", "-c", "copy")

    @cached_property
    def sound(self) -> Path:
        return write_sound(self.folder / "sound.mov", 3, beep_at=1)

    @cached_property
    def cover(self) -> Path:
        path = self.folder / "cover.png"
        Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(path)
        return path
