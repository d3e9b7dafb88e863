"""The files beside an episode, and the two files of a project, as MiMix reads them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from miniature.episode_plan import LEAD_FRAMES, RATE, Shot, dialogue, shows
from miniature.figures import CASTS, NAMED_FIGURES
from miniature.scenes import BACKGROUNDS, FRAMES, HEIGHT, WIDTH

Alpha = NDArray[np.uint8]

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_SUBTITLE_MARGIN = 2

_SETTINGS = f"""\
# Written by `python -m miniature.episodes`. The clips are scenes of the miniature world, as it is
# drawn; what is left out has MiMix's own value.
library: library.yaml
workspace: workspace
scenes:
  detectors: [adaptive, content, gradual]   # nothing wipes here, and a jump crosses half the frame
overlays:
  remaining_text: keep         # stripes and antennas look like letters; subtitles are cropped
clips:
  frames: {FRAMES}
  width: {WIDTH}
  height: {HEIGHT}
  scene_margin_seconds: "{LEAD_FRAMES / RATE}" # a clip is a scene from its first to its last frame
  min_source_width: 96         # a crop of subtitles leaves less than the whole width
  min_source_height: 60
  min_motion: 0                # a figure that stands still moves its legs only
duplicates:
  min_frame_similarity: 1      # scenes before the same drawn background look alike: at the usual
  min_motion_similarity: 1     # limits half of all clips were rejected
cutouts:
  backend: masks               # the truth's; `grabcut` or `selfie` show what a segmenter costs
  locator_cartoon: boxes
  locator_realistic: boxes
  # These checks find a segmenter's mistakes. Figures of 40 pixels that push and jump at 16 frames a
  # second fail them with true masks as well.
  min_frame_iou: 0
  max_jump: 1
  max_flicker: 1
  max_pieces: 8
composites:
  feather: 0                   # the masks' edges are soft already; 1.5 pixels would blur an arm
"""


def show_id(style: str) -> str:
    """Return the id of the show of a style."""
    return shows()[style].lower().replace(" ", "-")


def write_library(path: Path, styles: Sequence[str]) -> None:
    """Write ``library.yaml``: the shows of the styles with their characters."""
    _write_shows(path, [_show_entry(style) for style in styles])


def write_library_with_crossovers(path: Path, films: Mapping[Path, str]) -> None:
    """Write a library of both shows and of films in which their characters meet.

    ``films``: the style of the scenes of each video, whose path is relative to the library's. Each
    is a show of its own, so that none is held out for validation.
    """
    crossovers = [
        {
            "id": film.stem,
            "title": film.stem.replace("-", " ").capitalize(),
            "style": style,
            "guests": [figure.name for figure in NAMED_FIGURES],
            "episodes": [{"path": film.as_posix()}],
        }
        for film, style in films.items()
    ]
    _write_shows(path, [*map(_show_entry, shows()), *crossovers])


def _show_entry(style: str) -> dict[str, object]:
    return {
        "id": show_id(style),
        "title": shows()[style],
        "style": style,
        "characters": [
            {"name": figure.name, "description": figure.description()} for figure in CASTS[style]
        ],
        "episodes": [{"path": f"{show_id(style)}/*.mp4"}],
    }


def _write_shows(path: Path, entries: Sequence[Mapping[str, object]]) -> None:
    path.write_text(yaml.safe_dump({"shows": list(entries)}, sort_keys=False))


def write_settings(path: Path) -> None:
    """Write ``mimix.yaml``."""
    path.write_text(_SETTINGS)


def subtitle_frames(shot: Shot) -> tuple[int, int]:
    """Return the frames in which a shot's line is shown, the second number exclusive."""
    first, end = shot.clear
    return first + _SUBTITLE_MARGIN, end - _SUBTITLE_MARGIN


def subtitle_at(plan: Sequence[Shot], frame: int) -> str:
    """Return the subtitle of a frame; empty without one."""
    for shot in plan:
        first, end = subtitle_frames(shot)
        if first <= frame < end:
            return dialogue(shot.scene)
    return ""


class MasksWriter:
    """Writes the masks file of an episode (``mimix_core.stages.cutouts.backends.episode_masks``).

    Use it as a context manager. The same masks give the same bytes.
    """

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)
        self._add("masks.json", json.dumps({"rate": str(RATE), "first": 0}).encode())

    def write(self, frame: int, alphas: Mapping[str, Alpha]) -> None:
        """Append the alphas of a frame's figures, uint8 [height, width] by name."""
        for name, alpha_HW in alphas.items():
            if alpha_HW.any():
                written, png = cv2.imencode(".png", alpha_HW)
                if not written:
                    raise ValueError(f"frame {frame} of {name} cannot be encoded as PNG")
                self._add(f"{name}/{frame:05}.png", png.tobytes())

    def _add(self, name: str, content: bytes) -> None:
        self._archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), content)

    def __enter__(self) -> MasksWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()


class EpisodeTruth:
    """What is known of an episode: its plan, and the boxes of its frames as they are rendered."""

    def __init__(self, plan: Sequence[Shot]) -> None:
        self._plan = plan
        self._boxes: list[dict[str, object]] = []

    def add_frame(self, frame: int, alphas: Mapping[str, Alpha]) -> None:
        """Record the boxes of a frame's figures, of the pixels that are at least half theirs."""
        for name, alpha_HW in alphas.items():
            solid = alpha_HW >= 128
            if solid.any():
                rows, columns = (np.flatnonzero(solid.any(axis)) for axis in (1, 0))
                box = [
                    columns[0] / WIDTH,
                    rows[0] / HEIGHT,
                    (columns[-1] + 1) / WIDTH,
                    (rows[-1] + 1) / HEIGHT,
                ]
                sides = [round(float(side), 6) for side in box]
                self._boxes.append({"time": _seconds(frame), "character": name, "box": sides})

    def write(self, stem: Path) -> None:
        """Write subtitles, action script, boxes and truth beside the video ``stem``.mp4."""
        contents = {
            ".srt": self._subtitles(),
            ".yaml": _to_yaml(self._script()),
            ".boxes.yaml": _to_yaml({"boxes": self._boxes}),
            ".truth.json": json.dumps({"shots": [_shot_truth(shot) for shot in self._plan]}),
        }
        for ending, content in contents.items():
            Path(f"{stem}{ending}").write_text(content)

    def _subtitles(self) -> str:
        blocks = []
        for number, shot in enumerate(self._plan, start=1):
            start, end = (_srt_time(frame) for frame in subtitle_frames(shot))
            blocks.append(f"{number}\n{start} --> {end}\n{dialogue(shot.scene)}\n")
        return "\n".join(blocks)

    def _script(self) -> dict[str, list[dict[str, object]]]:
        actions: list[dict[str, object]] = []
        context: list[dict[str, object]] = []
        for shot in self._plan:
            start, end = (_seconds(frame) for frame in shot.clear)
            span: dict[str, object] = {"start": start, "end": end}
            actions += [
                span | {"character": figure.name, "action": phrase}
                for figure, phrase in zip(shot.scene.cast, shot.scene.phrases(), strict=True)
            ]
            context.append(span | {"text": BACKGROUNDS[shot.scene.background]})
        return {"actions": actions, "context": context}


def _to_yaml(lists: Mapping[str, Sequence[Mapping[str, object]]]) -> str:
    """Write lists of flat entries, one entry a line; JSON's strings and numbers are YAML's."""
    lines = []
    for key, entries in lists.items():
        lines.append(f"{key}:")
        for entry in entries:
            pairs = ", ".join(f"{name}: {json.dumps(value)}" for name, value in entry.items())
            lines.append(f"  - {{{pairs}}}")
    return "\n".join(lines) + "\n"


def _shot_truth(shot: Shot) -> dict[str, object]:
    scene = shot.scene
    return {
        "first": shot.first,
        "end": shot.end,
        "fade_in": shot.fade_in,
        "fade_out": shot.fade_out,
        "background": BACKGROUNDS[scene.background],
        "style": scene.style,
        "actions": [
            {"character": figure.name, "action": phrase}
            for figure, phrase in zip(scene.cast, scene.phrases(), strict=True)
        ],
    }


def _seconds(frame: int) -> str:
    """Return a frame's time, exactly: 1/16 s has four decimals."""
    return f"{frame / RATE:.4f}"


def _srt_time(frame: int) -> str:
    milliseconds = round(frame * 1000 / RATE)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02},{rest % 1000:03}"
